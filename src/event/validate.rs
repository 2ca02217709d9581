//! The rules an event must keep.
