//! What the process says about itself: log lines, and the progress figures behind `/health`.

pub mod progress;

mod fields;
mod logs;
mod looks;
mod sink;

pub use logs::{LogFormat, flush_logs, init_logs, log_lines_dropped, say_last};
pub use looks::Behind;
pub use progress::Progress;
