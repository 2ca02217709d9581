//! What the process says about itself: log lines.

mod fields;
mod logs;
mod sink;

pub use logs::{LogFormat, flush_logs, init_logs, log_lines_dropped, say_last};
