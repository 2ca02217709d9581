//! `fast-ingest serve`: the composition root. Starts the parts in the order of their dependence and stops them in
//! reverse.
//!
//! ```text
//! start:  log (lock, recovery) → store (schema, first look at the checkpoint) → port → signals → log thread → flush thread → rollup thread → accept
//! stop:   accept, connections, rollup thread → log thread (ring drained, synced) → flush thread (for a while) → lock
//! ```

mod announce;

use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::migrate;
use super::settings::{ServeArgs, Settings};
use crate::flush::progress::Progress;
use crate::flush::{FlushError, FlushStop, Flusher};
use crate::http::applied::Applied;
use crate::http::hosts::Hosts;
use crate::http::settings::HttpSettings;
use crate::http::{App, server};
use crate::intake::{self, Clock, Intake};
use crate::store::settings::{StoreLocation, StoreSettings};
use crate::store::{self, EventStore, StoreError};
use crate::support::budget::Budget;
use crate::support::exit::{ExitStatus, Failure, OrExit};
use crate::support::shutdown::Shutdown;
use crate::support::sync::ring::Receiver;
use crate::support::words::plural;
use crate::upkeep::keeper::Keeper;
use crate::upkeep::upgrade;
use crate::wal::committer::Committer;
use crate::wal::disk::RealDisk;
use crate::wal::gate::Gate;
use crate::wal::submission::Submission;
use crate::wal::{self, OpenedLog, WalError};

/// File descriptors for everything but client connections and SQLite's: segments, directories, database connections,
/// those of the runtimes. With a reserve, because a log that cannot open its next segment is a failed log.
const OTHER_FILES: u64 = 128;

/// Longest wait for the first look at the database. After that the database counts as down, and the server listens.
const FIRST_LOOK_TIME: Duration = Duration::from_secs(10);

/// Runs the server until a signal or a failure stops it.
///
/// # Errors
///
/// Why the server could not start or had to stop, with its exit status.
pub fn run(args: ServeArgs) -> Result<(), Failure> {
    let mut settings = args.resolve().or_exit(ExitStatus::Config)?;
    settings.http.connections_max = allow_open_files(settings.http.connections_max, settings.store.query_connections)?;
    let opened = wal::open(RealDisk, &settings.wal).map_err(log_failure)?;
    prepare_embedded_database(&settings.store.location, settings.rollup.cap.pairs_per_day_max)?;
    let runtime = Builder::new_multi_thread()
        .thread_name("http")
        .enable_all()
        .build()
        .or_exit(ExitStatus::Software)?;
    let store = runtime.block_on(open_store(&settings.store))?;
    let shutdown = Shutdown::new();
    let served = serve(&runtime, &settings, opened, &store, &shutdown);
    // A name lookup that hangs in a blocking thread must not delay the exit.
    runtime.shutdown_background();
    served?;
    shutdown.take_failure().map_or(Ok(()), Err)
}

fn serve(
    runtime: &Runtime,
    settings: &Settings,
    opened: OpenedLog,
    store: &Arc<dyn EventStore>,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let progress = Progress::new(opened.log.subscribe(), opened.log.known_flushed_through());
    let (flush_stop, flush_stopped) = watch::channel(FlushStop::Running);
    let mut flusher = Flusher::new(
        Arc::clone(&opened.log),
        Arc::clone(store),
        settings.flush,
        Arc::clone(&progress),
        flush_stopped,
    );
    // Before any client can connect: no event may come into a log that does not match the database.
    runtime
        .block_on(async { timeout(FIRST_LOOK_TIME, flusher.look_first()).await })
        .unwrap_or(Ok(()))
        .map_err(flush_failure)?;
    let listener = listen(runtime, settings)?;
    let address = listener.local_addr().or_exit(ExitStatus::Io)?;
    let _signals = runtime
        .block_on(async { shutdown.listen_for_signals() })
        .or_exit(ExitStatus::Software)?;
    announce::start(&opened, settings, &progress);

    let OpenedLog {
        log, committer, gate, ..
    } = opened;
    let budget = byte_budget(&settings.http);
    let (intake, ring) = Intake::new(settings.wal.ring_slots, budget, Arc::clone(&gate));
    let applied = Applied::new(log.life(), shutdown.drain_token());
    drop(log);
    let log_thread = start_log_thread(committer, ring, Arc::clone(&gate), shutdown)?;
    let flush_thread = start_flush_thread(flusher, shutdown)?;
    let keeper = Keeper::new(Arc::clone(store), settings.rollup, shutdown.drain_token());
    let rollup_thread = start_rollup_thread(keeper, shutdown)?;
    let flush_stop = Arc::new(flush_stop);
    runtime.spawn(close_gate_on_drain(shutdown.clone(), Arc::clone(&gate)));
    runtime.spawn(skip_flush_on_hurry(shutdown.clone(), Arc::clone(&flush_stop)));

    tracing::info!(%address, store = store.name(), "ready: listening on http://{address}");
    let app = Arc::new(App {
        hosts: Hosts::new(address.ip(), &settings.http.allowed_hosts),
        settings: settings.http.clone(),
        intake,
        clock: Clock::SYSTEM,
        gate,
        store: Arc::clone(store),
        progress: Arc::clone(&progress),
        applied,
    });
    let serving = server::serve(listener, app, shutdown.drain_token(), server::DRAIN_TIME_MAX);
    announce::cut(runtime.block_on(serving));
    // The server held the last sender of the ring and has dropped it: the log thread drains the ring, syncs and ends.
    join(log_thread);
    announce::last_flush(&progress, settings.drain_timeout);
    stop_flush(&flush_stop, settings.drain_timeout);
    join(flush_thread);
    // The drain has stopped it already; it drops the step under way.
    join(rollup_thread);
    announce::end(&progress);
    Ok(())
}

/// Creates or upgrades the embedded database. A PostgreSQL database has an operator: `migrate up` upgrades it.
fn prepare_embedded_database(location: &StoreLocation, pairs_max: usize) -> Result<(), Failure> {
    let StoreLocation::Sqlite(path) = location else {
        return Ok(());
    };
    match upgrade::up_within(location, pairs_max) {
        Ok(_) => Ok(()),
        Err(error) => {
            let Failure { status, error } = migrate::failure(location, error);
            let context = format!("cannot prepare the embedded database {}", path.display());
            Err(Failure::new(status, error.context(context)))
        }
    }
}

/// Opens the store and checks its schema. A PostgreSQL server that is down does not prevent the start.
async fn open_store(settings: &StoreSettings) -> Result<Arc<dyn EventStore>, Failure> {
    let store = store::open(settings).or_exit(ExitStatus::Config)?;
    match store.check_schema().await {
        Ok(()) => {}
        Err(StoreError::Unavailable(reason) | StoreError::Unclear { message: reason, .. }) => {
            tracing::warn!("database unavailable, starting without it, events wait in the log: {reason}");
        }
        Err(error) => return Err(Failure::new(ExitStatus::Config, error)),
    }
    // A rebuild that is under way, or was interrupted, must not keep events out.
    if let Err(StoreError::Schema(reason)) = store.check_rollups().await {
        tracing::warn!("queries count events, which is slow: {reason}");
    }
    Ok(store)
}

fn listen(runtime: &Runtime, settings: &Settings) -> Result<TcpListener, Failure> {
    runtime
        .block_on(server::bind(settings.http.address()))
        .map_err(|error| match error.may_pass() {
            true => Failure::new(ExitStatus::Locked, error),
            false => Failure::new(ExitStatus::Config, error),
        })
}

/// The budget for all bodies and records in flight.
fn byte_budget(http: &HttpSettings) -> Arc<Budget> {
    let body_bytes_max = http.body_bytes_max.max(http.event_bytes_max);
    let share = intake::share_for_small(http.inflight_bytes_max, body_bytes_max);
    Budget::with_share_for_small(http.inflight_bytes_max, share)
}

fn start_log_thread(
    committer: Committer<RealDisk>,
    ring: Receiver<Submission>,
    gate: Arc<Gate>,
    shutdown: &Shutdown,
) -> Result<JoinHandle<()>, Failure> {
    spawn_part("wal", shutdown, move || {
        // A panic must close the gate just as an error does.
        let _poison = OnDrop(|| gate.poison());
        committer.run(&ring).map_err(failure_while_running)
    })
}

fn start_flush_thread(flusher: Flusher, shutdown: &Shutdown) -> Result<JoinHandle<()>, Failure> {
    spawn_part("flush", shutdown, move || {
        let outcome = run_on_this_thread(flusher.run())?;
        outcome.map_err(flush_failure)
    })
}

fn start_rollup_thread(keeper: Keeper, shutdown: &Shutdown) -> Result<JoinHandle<()>, Failure> {
    spawn_part("rollup", shutdown, move || run_on_this_thread(keeper.run()))
}

fn run_on_this_thread<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(ExitStatus::Software)?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(outcome)
}

/// Starts a named thread whose failure or panic stops the process.
fn spawn_part(
    name: &'static str,
    shutdown: &Shutdown,
    work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<JoinHandle<()>, Failure> {
    let shutdown = shutdown.clone();
    let run = move || match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            tracing::error!("the {name} thread failed, stopping: {failure}");
            shutdown.fail(failure);
        }
        Err(_) => shutdown.fail(Failure::new(
            ExitStatus::Software,
            anyhow!("the {name} thread panicked; this is a defect, please report it with the lines above"),
        )),
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .or_exit(ExitStatus::Software)
}

fn join(part: JoinHandle<()>) {
    part.join().expect("a part catches its own panics");
}

pub(crate) async fn close_gate_on_drain(shutdown: Shutdown, gate: Arc<Gate>) {
    shutdown.drain_token().stopped().await;
    gate.drain();
}

async fn skip_flush_on_hurry(shutdown: Shutdown, flush_stop: Arc<watch::Sender<FlushStop>>) {
    shutdown.hurry_token().stopped().await;
    flush_stop.send_replace(FlushStop::Now);
}

/// Tells the flush to stop within `drain_timeout`, unless a second signal has already told it to stop at once.
fn stop_flush(flush_stop: &watch::Sender<FlushStop>, drain_timeout: Duration) {
    let until = Instant::now() + drain_timeout;
    flush_stop.send_if_modified(|stop| {
        let is_running = *stop == FlushStop::Running;
        if is_running {
            *stop = FlushStop::Drain(until);
        }
        is_running
    });
}

/// Raises the limit of open files to what the connections need, or lowers the connections to what the limit allows.
/// Returns the number of connections.
///
/// Running out of file descriptors would fail the log, so connections must never be able to take the last ones.
fn allow_open_files(connections_max: usize, query_connections: u32) -> Result<usize, Failure> {
    // SQLite opens two files for each connection.
    let reserve = server::REFUSALS_MAX as u64 + 2 * u64::from(query_connections) + OTHER_FILES;
    let needed = reserve.saturating_add(connections_max as u64);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(connections_max);
    }
    limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
    setrlimit(Resource::Nofile, limit)
        .context("cannot raise the limit of open files")
        .or_exit(ExitStatus::Config)?;
    let allowed = limit.current.map_or(needed, |current| current.min(needed));
    match allowed.checked_sub(reserve) {
        None | Some(0) => Err(Failure::new(
            ExitStatus::Config,
            anyhow!(
                "at most {} may be open (ulimit -n); raise that limit to {} or more",
                plural(allowed, "file"),
                reserve + 1
            ),
        )),
        Some(connections) => {
            if allowed < needed {
                tracing::warn!(
                    connections,
                    "serving at most {} instead of {connections_max}: at most {} may be open (ulimit -n)",
                    plural(connections, "connection"),
                    plural(allowed, "file"),
                );
            }
            Ok(connections as usize)
        }
    }
}

/// The failure of a log that cannot be opened, or read by a command.
pub(super) fn log_failure(error: WalError) -> Failure {
    use ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match &error {
        // A restart would not help.
        WalError::Io { cause, .. } if matches!(cause.kind(), PermissionDenied | NotADirectory | ReadOnlyFilesystem) => {
            let advice = "--data-dir must be a directory that this user may write to";
            Failure::new(ExitStatus::Config, anyhow!("{error}; {advice}"))
        }
        _ => failure_while_running(error),
    }
}

/// The failure of a log that was open: any I/O error is the disk's fault then, whatever its kind.
fn failure_while_running(error: WalError) -> Failure {
    match &error {
        WalError::Locked { .. } => Failure::new(ExitStatus::Locked, error),
        WalError::Damage { .. } => Failure::new(ExitStatus::Data, error),
        WalError::NewerVersion { .. } => Failure::new(ExitStatus::Config, error),
        WalError::Io { cause, .. } => {
            let advice = match cause.kind() {
                ErrorKind::StorageFull => "; free some space and start again, what was acknowledged is safe",
                _ => "",
            };
            Failure::new(ExitStatus::Io, anyhow!("{error}{advice}"))
        }
    }
}

fn flush_failure(error: FlushError) -> Failure {
    match error {
        FlushError::Log(error) => failure_while_running(error),
    }
}

/// Runs a closure when it goes out of scope, panics included.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::shutdown::Stage;

    #[test]
    fn a_part_that_panics_stops_the_process_as_a_defect() {
        let shutdown = Shutdown::new();
        let part = spawn_part("wal", &shutdown, || panic!("on purpose")).unwrap();
        join(part);
        assert_eq!(shutdown.stage(), Stage::Drain);
        let failure = shutdown.take_failure().unwrap();
        assert_eq!(failure.status, ExitStatus::Software);
        assert!(failure.to_string().contains("the wal thread panicked"));
    }
}
