//! The functions that the fuzzers call with their bytes: one per target, which panics when the product breaks a
//! promise.
//!
//! They are in the library, so that they reach its inside and so that stable tests run them too: over the committed
//! corpus, over inputs that once crashed, and over random bytes. The fuzzers themselves, in `fuzz/`, only pass their
//! input on. Each target has an oracle that was written from the documents and shares no code with what it judges.

mod copy;
mod input;
mod log_format;
mod metrics_query;
mod mutated_segment;
mod parse;
mod segment;
#[cfg(test)]
mod tests;

pub use self::copy::copy;
pub use self::metrics_query::metrics_query;
pub use self::mutated_segment::mutated_segment;
pub use self::parse::parse;
pub use self::segment::segment;
