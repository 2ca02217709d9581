//! What `serve` does where it ends for a reason that only a person can mend.
//!
//! A supervisor that restarts whatever ends would start it for ever, and bury the reason under its repetitions. Some
//! can be told which exit statuses to leave alone; Docker cannot, so there the process itself stays until it is told to
//! stop. It serves nothing meanwhile and holds neither port nor data directory: it looks unhealthy, and `wal inspect`
//! works beside it.

use std::io;
use std::process;

use tokio::runtime::Builder;

use super::serve;
use super::settings::ServeArgs;
use crate::cli::args::{WHEN_REFUSED, WhenRefused};
use crate::support::exit::{ExitStatus, Failure};
use crate::support::shutdown::Shutdown;

/// The flag that is read by hand where the command line is at fault.
const FLAG: &str = "--when-refused";

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// What kept it from starting or made it stop, with its exit status.
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

/// Ends the process because its command line, or a variable, cannot be read, or because help was asked for.
pub(super) fn end(error: &clap::Error) -> ! {
    // Nobody is left to be told.
    error.print().ok();
    if error.exit_code() == ExitStatus::Usage as i32 {
        stay(ExitStatus::Usage);
    }
    process::exit(error.exit_code());
}

/// What `serve` does that ends before there are settings, with its reason told already. What it is told to do is read
/// by hand then, from the command line and the environment.
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

/// Says so and returns on SIGTERM or SIGINT, or at once where the system does not let us wait for them: then it is the
/// supervisor's again.
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
