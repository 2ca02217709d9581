//! `--when-refused`: what `serve` does when it ends for a reason that only a person can fix.
//!
//! A supervisor that restarts every process would start it for ever, and bury the reason under its repetitions. Some
//! supervisors can be configured to not restart after certain exit statuses. Docker cannot, so there the process itself
//! waits until it is stopped. Meanwhile it serves nothing and holds neither port nor data directory: health checks
//! fail, and `wal inspect` works beside it.

use std::io;
use std::process;

use tokio::runtime::Builder;

use super::serve;
use super::settings::ServeArgs;
use crate::cli::args::{WHEN_REFUSED, WhenRefused};
use crate::support::exit::{ExitStatus, Failure};
use crate::support::shutdown::Shutdown;

/// The flag, which is read here without clap when the command line itself is wrong.
const FLAG: &str = "--when-refused";

/// Runs the server until it is stopped. With `--when-refused wait`, waits after an error that a person has to fix.
///
/// # Errors
///
/// Why the server could not start or had to stop, with its exit status.
pub fn serve(args: ServeArgs) -> Result<(), Failure> {
    let when_refused = args.when_refused;
    let outcome = serve::run(args);
    if let Err(failure) = &outcome
        && when_refused == WhenRefused::Wait
        && failure.status.needs_a_person()
    {
        let status = failure.status as u8;
        wait_for_stop(|| {
            tracing::error!(
                status,
                "waiting to be stopped, because a restart would end the same way (exit status {status}): {failure}"
            );
        });
    }
    outcome
}

/// Ends the process because its command line or a variable is wrong, or because help was asked for.
pub(super) fn end(error: &clap::Error) -> ! {
    // If even printing fails, there is nowhere left to report it.
    error.print().ok();
    if error.exit_code() == ExitStatus::Usage as i32 {
        stay(ExitStatus::Usage);
    }
    process::exit(error.exit_code());
}

/// Waits to be stopped, if this is a `serve` with `--when-refused wait` and a person has to fix the error, which must
/// be printed already. For errors before there are settings: it reads the command line and the environment without
/// clap.
pub fn stay(status: ExitStatus) {
    let words: Vec<_> = std::env::args_os().collect();
    let serves = words.iter().any(|word| word == "serve");
    let typed = words.iter().zip(words.iter().skip(1));
    let by_flag = typed
        .filter(|(flag, _)| *flag == FLAG)
        .any(|(_, value)| value == "wait");
    let in_one = words.iter().any(|word| *word == *format!("{FLAG}=wait"));
    let by_variable = std::env::var_os(WHEN_REFUSED).is_some_and(|value| value == "wait");
    if serves && status.needs_a_person() && (by_flag || in_one || by_variable) {
        wait_for_stop(|| {
            crate::support::exit::say_aside(format_args!(
                "fast-ingest: waiting to be stopped, because a restart would end the same way (exit status {})",
                status as u8
            ));
        });
    }
}

/// Calls `say_so` and returns on SIGTERM or SIGINT; returns at once if the system does not let us wait for signals, and
/// leaves the restarts to the supervisor.
fn wait_for_stop(say_so: impl FnOnce()) {
    let waiting = || -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let shutdown = Shutdown::new();
        runtime.block_on(async {
            let _signals = shutdown.listen_for_signals()?;
            say_so();
            shutdown.drain_token().stopped().await;
            Ok(())
        })
    };
    waiting().ok();
}
