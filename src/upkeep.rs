//! Maintenance of a store's rollups, beside the flush: merging the deltas, checking rollups against the events,
//! rebuilding them.
//!
//! * [`keeper`] is the loop of a serving process: it runs the transactions of [`compact`], and rebuilds past days that
//!   overflowed.
//! * [`recount`] counts the events of a day as they are stored; [`verify`] compares that with the rollups, and
//!   [`rebuild`] replaces them.
//! * [`upgrade`] brings the schema and rollups of an older release to those of this one.
//!
//! Each step is one transaction on [`crate::store::RollupStore`], so a stop at any point leaves rollups that queries
//! can rely on.

pub mod compact;
pub mod keeper;
pub mod rebuild;
pub mod recount;
pub mod settings;
pub mod upgrade;
pub mod verify;
