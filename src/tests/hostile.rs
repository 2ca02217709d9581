//! Clients that are broken, slow or hostile.

mod disconnect;
mod flood;
mod input;
mod slow;
mod smuggling;
pub(crate) mod support;
