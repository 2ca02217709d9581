//! What every layer may use and which knows none of them: synchronisation, stopping, waiting between tries, ends of
//! commands, words.

pub(crate) mod backoff;
pub mod budget;
pub mod exit;
pub mod settings;
pub mod shutdown;
pub(crate) mod sync;
pub(crate) mod words;
