//! `fast-ingest import`: sends events from files to a running server, so that repeating it never stores an event twice.
//!
//! ```text
//!  source ──→ reader ──→ bounded channel ──→ worker × connections ──→ ledger
//!  decompress  lines, event ids,             POST, retry, halve,      what is accepted,
//!  and split   batches (OS thread)           drop refused lines       how the run ends
//! ```
//!
//! Memory is bounded by connections × batch size. Batches finish out of order; progress in a file is therefore the line
//! up to which everything is accepted.

mod batch;
mod client;
mod compression;
mod event_id;
mod ledger;
mod outage;
mod progress;
mod reader;
mod refused;
mod run;
mod source;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::request::ServerArgs;
use crate::support::exit::{ExitStatus, Failure, OrExit, say};
use crate::support::settings::{bytes, count_between, positive_duration};
use batch::BatchLimits;
use client::{Connection, Endpoint};
use progress::Display;
use refused::RefusedLog;
use run::Run;
use source::Source;

/// Each paragraph is one line, because clap wraps it to the terminal.
const LONG_HELP: &str = "\
Each line of a file is one event, in the form of POST /events. Blank lines are skipped.\n\n\
A line without an event_id is given one, made from its text and its line number: after any failure \
run the same command again, and nothing is stored twice. For the same reason correct a refused line \
in place: adding or removing a line gives new ids to all lines after it. Lines that are equal byte \
by byte and have the same line number in different files are one event: if they are several events, \
give them ids of their own, or use --no-event-id.\n\n\
Exit status: 0 all accepted, or skipped on request; 65 a line was refused; 69 the server did not \
answer; 74 a file could not be read or written; 78 the URL is not that of a fast-ingest server; \
130 stopped by Ctrl-C.";

/// The flags of `fast-ingest import`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = LONG_HELP)]
pub struct ImportArgs {
    /// Files of newline-delimited JSON; plain, or compressed by gzip or zstd, whatever their names; `-` reads standard
    /// input to its end
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Flags that choose the server.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Requests in flight at once, each on its own connection; a few are enough to keep the server's log busy
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = count_between::<1, 256, u16>)]
    pub connections: u16,

    /// Most events in one request; the default is what a server accepts by default
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = count_between::<1, { u32::MAX as u64 }, u32>)]
    pub batch_events: u32,

    /// Most bytes in one request, unless a single line is longer; well below the 4 MiB that a server accepts by default
    #[arg(long, default_value = "1MiB", value_name = "BYTES", value_parser = bytes::<usize>)]
    pub batch_bytes: usize,

    /// Send lines without adding ids. A request whose answer got lost is sent again, so its events may be stored twice
    #[arg(long)]
    pub no_event_id: bool,

    /// Write refused lines with the reasons to this file and go on, instead of stopping at the first one
    ///
    /// The file has one JSON object a line: file, line, errors (field, code, message) and event (the line as text; null
    /// if it was too long to keep). Each run overwrites the file.
    #[arg(long, value_name = "FILE")]
    pub skip_invalid: Option<PathBuf>,

    /// How long to retry while the server answers no request; longer than a server's restart
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = positive_duration)]
    pub give_up_after: Duration,

    /// Show no progress and no summary, only problems
    #[arg(long, short)]
    pub quiet: bool,
}

/// Imports all files. If it cannot, the error says how far it got.
///
/// # Errors
///
/// A [`Failure`] with one of the statuses that the help lists.
pub fn run(args: ImportArgs) -> Result<(), Failure> {
    let endpoint = Endpoint::parse(&args.server.url()).or_exit(ExitStatus::Config)?;
    let sources = source::check(&args.files)?;
    let refused_log = match &args.skip_invalid {
        Some(path) => Some(RefusedLog::create(path, &args.files)?),
        None => None,
    };
    let display = Display::start(&sources, args.quiet);
    let run = Arc::new(Run::new(&args, &sources, refused_log, display));
    // One thread is enough: workers wait for the network, and the reader's thread does the JSON work.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(ExitStatus::Software)?;
    let ended = runtime.block_on(send_all(&args, &endpoint, sources, &run));
    // Do not wait for a name lookup that may still run on a helper thread.
    runtime.shutdown_background();
    run.display.finish();
    ended?;
    let summary = run.result()?;
    if !args.quiet {
        say(summary)?;
    }
    Ok(())
}

async fn send_all(args: &ImportArgs, endpoint: &Endpoint, sources: Vec<Source>, run: &Arc<Run>) -> Result<(), Failure> {
    let interrupts = signal(SignalKind::interrupt()).or_exit(ExitStatus::Software)?;
    let limits = BatchLimits {
        events: args.batch_events as usize,
        bytes: args.batch_bytes,
        event_ids: !args.no_event_id,
    };
    // One waiting batch for each one in flight: workers need not wait for the disk, and memory stays bounded.
    let (sender, inputs) = mpsc::channel(usize::from(args.connections));
    reader::spawn(sources, limits, sender).or_exit(ExitStatus::Software)?;
    let inputs = Arc::new(Mutex::new(inputs));
    let mut workers = JoinSet::new();
    for _ in 0..args.connections {
        let connection = Connection::new(endpoint);
        workers.spawn(worker::work(connection, Arc::clone(&inputs), Arc::clone(run)));
    }
    let mut helpers = JoinSet::new();
    helpers.spawn(stop_on_interrupt(interrupts, Arc::clone(run)));
    helpers.spawn(report(Arc::clone(run)));
    while let Some(worker) = workers.join_next().await {
        worker.or_exit(ExitStatus::Software)?;
    }
    Ok(())
}

/// On the first Ctrl-C, requests in flight may finish for a short time; the second ends them at once.
async fn stop_on_interrupt(mut interrupts: Signal, run: Arc<Run>) {
    interrupts.recv().await;
    run.interrupt();
    interrupts.recv().await;
    run.abandon();
}

async fn report(run: Arc<Run>) {
    let accepted = || run.events_accepted();
    progress::report(&run.display, &run.sources, run.started, accepted).await;
}
