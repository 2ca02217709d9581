//! The binary: read the command line, dispatch, turn one failure into one line and an exit status.

use std::process::ExitCode;

use fast_ingest::cli::{self, Command, Typed};
use fast_ingest::support::exit::{ExitStatus, Failure};
use fast_ingest::telemetry;

/// Records are made by one thread and dropped by another, at every request: mimalloc hands them back without a lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Typed {
        cli,
        empty_variables,
        unknown_variables,
    } = match cli::parse() {
        Ok(typed) => typed,
        Err(failure) => return end_early(&failure),
    };
    if let Err(error) = telemetry::init_logs(cli.log_format, &cli.log) {
        return end_early(&Failure::new(ExitStatus::Config, anyhow::Error::msg(error)));
    }
    if !empty_variables.is_empty() && matches!(cli.command, Command::Serve(_)) {
        tracing::info!("empty variables count as unset: {}", empty_variables.join(", "));
    }
    if !unknown_variables.is_empty() && matches!(cli.command, Command::Serve(_)) {
        tracing::warn!("unknown variables, perhaps misspelt: {}", unknown_variables.join(", "));
    }
    let outcome = match cli.command {
        Command::Serve(args) => cli::refusal::serve(*args),
        Command::Migrate(command) => cli::migrate::run(command),
        Command::Import(args) => cli::import::run(*args),
        Command::Metrics(args) => cli::metrics::run(&args),
        Command::Verify(args) => cli::rollup::verify(&args),
        Command::Rollup(command) => cli::rollup::run(command),
        Command::Wal(command) => cli::wal::run(command),
        Command::Health(args) => cli::health::run(&args),
    };
    match outcome {
        Ok(()) => {
            telemetry::flush_logs();
            ExitCode::SUCCESS
        }
        Err(failure) => end(&failure),
    }
}

/// Like [`end`], for a failure before the settings are known.
fn end_early(failure: &Failure) -> ExitCode {
    let code = end(failure);
    cli::refusal::stay(failure.status);
    code
}

fn end(failure: &Failure) -> ExitCode {
    telemetry::say_last(&format!("fast-ingest: {failure}"));
    ExitCode::from(failure.status as u8)
}
