//! Rollups on real databases: races, crashes, caps, keys, checks.

mod cardinality;
mod crashes;
mod overflow;
mod races;
mod user_key;
mod verify;
