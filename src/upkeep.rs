//! What keeps the rollups of a store in shape, beside the flush: merging what it leaves, checking sums against the
//! events, making them afresh.
//!
//! * [`keeper`] is the loop of a serving process: it runs the transactions of [`compact`], and rebuilds days that
//!   overflowed and are over.
//! * [`recount`] counts the events of a day as they are stored; [`verify`] compares that with the rollups, and
//!   [`rebuild`] replaces them.
//! * [`upgrade`] is the way from whatever schema and rollups a database has to those of this release.
//!
//! Each step is one transaction on [`crate::store::RollupStore`], so an end at any point leaves rollups that queries
//! can believe.

pub mod compact;
pub mod keeper;
pub mod rebuild;
pub mod recount;
pub mod settings;
pub mod upgrade;
pub mod verify;
