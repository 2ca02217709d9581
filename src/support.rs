//! Helpers that every layer may use and that know no layer: backoff, byte budgets, exit statuses, settings, shutdown,
//! synchronisation, words.

pub(crate) mod backoff;
pub mod budget;
pub mod exit;
pub mod settings;
pub mod shutdown;
pub(crate) mod sync;
pub(crate) mod words;
