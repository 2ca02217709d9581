//! What the process says about itself: log lines, and the progress figures behind `/health`.

pub mod progress;

mod logs;

pub use logs::{LogFormat, init_logs};
pub use progress::Progress;
