//! How the process is asked to stop: by signals from outside, by a fatal failure from inside.
//!
//! Both advance the same [`Stage`], which never goes back. Each part of the server holds a [`StopToken`] for the stage
//! at which it stops; nobody polls a flag. Only `cli::serve` knows in which order the parts end.

use std::io;
use std::sync::{Arc, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::support::exit::Failure;
use crate::support::sync::{Mutex, MutexGuard, watch};

/// How far the process has come in its shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving; no stop was asked for.
    Running,
    /// Accept nothing new, answer the requests in flight, sync, flush for a limited time, exit.
    Drain,
    /// Like `Drain`, but without the flush: the log keeps the remaining events for the next start.
    Hurry,
}

/// The one stop switch of the process, which all clones share.
#[derive(Debug, Clone)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Raised by signals and failures, never lowered.
    stage: watch::Sender<Stage>,
    /// The first fatal failure, until `cli::serve` takes it for its exit status.
    failure: Mutex<Option<Failure>>,
}

impl Shutdown {
    /// A switch at [`Stage::Running`].
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                stage: watch::channel(Stage::Running).0,
                failure: Mutex::new(None),
            }),
        }
    }

    /// The stage that was reached.
    pub fn stage(&self) -> Stage {
        *self.inner.stage.borrow()
    }

    /// Asks for an orderly stop.
    pub fn drain(&self) {
        self.advance(Stage::Drain);
    }

    /// Asks for an orderly stop that skips the flush.
    pub fn hurry(&self) {
        self.advance(Stage::Hurry);
    }

    /// Asks for an orderly stop because a part cannot go on. Keeps the first failure: it mostly causes the later ones.
    pub fn fail(&self, failure: Failure) {
        self.lock_failure().get_or_insert(failure);
        self.drain();
    }

    /// The failure that stopped the process, if one did. Later calls return `None`.
    pub fn take_failure(&self) -> Option<Failure> {
        self.lock_failure().take()
    }

    /// A token that stops at [`Stage::Drain`].
    pub fn drain_token(&self) -> StopToken {
        StopToken {
            stage: self.inner.stage.subscribe(),
            stops_at: Stage::Drain,
        }
    }

    /// A token that stops at [`Stage::Hurry`].
    pub fn hurry_token(&self) -> StopToken {
        StopToken {
            stage: self.inner.stage.subscribe(),
            stops_at: Stage::Hurry,
        }
    }

    /// Lets SIGTERM and SIGINT advance the stage: the first to [`Stage::Drain`], the next to [`Stage::Hurry`]. SIGHUP,
    /// sent by a closed terminal or by somebody who expects a reload, is ignored.
    ///
    /// The handlers are in place on return. The task ends after the second signal; later ones change nothing, because
    /// the work left is short and must not be interrupted. The handler of SIGHUP stays too, so that SIGHUP never ends
    /// the process.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn listen_for_signals(&self) -> io::Result<JoinHandle<()>> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        Ok(tokio::spawn(self.clone().follow_signals(terminate, interrupt, hangup)))
    }

    async fn follow_signals(self, mut terminate: Signal, mut interrupt: Signal, mut hangup: Signal) {
        while self.stage() < Stage::Hurry {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hangup.recv() => {
                    tracing::info!(signal = "SIGHUP", "SIGHUP: ignored; settings are read at start only");
                    continue;
                }
            };
            if self.stage() == Stage::Running {
                tracing::info!(signal = name, "{name}: draining; a second signal skips the flush");
                self.drain();
            } else {
                tracing::info!(
                    signal = name,
                    "{name}: skipping the flush; what is left stays safe in the log"
                );
                self.hurry();
            }
        }
    }

    fn advance(&self, to: Stage) {
        self.inner.stage.send_if_modified(|stage| {
            let further = *stage < to;
            *stage = to.max(*stage);
            further
        });
    }

    fn lock_failure(&self) -> MutexGuard<'_, Option<Failure>> {
        // The value is replaced whole, so a panic elsewhere cannot have left it half written.
        self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells one part of the server when to stop.
#[derive(Debug, Clone)]
pub struct StopToken {
    stage: watch::Receiver<Stage>,
    stops_at: Stage,
}

impl StopToken {
    /// Whether the token's stage was reached.
    pub fn is_stopped(&self) -> bool {
        *self.stage.borrow() >= self.stops_at
    }

    /// Returns once the token's stage was reached, or the [`Shutdown`] and all its clones were dropped.
    pub async fn stopped(&mut self) {
        let stops_at = self.stops_at;
        drop(self.stage.wait_for(|stage| *stage >= stops_at).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::exit::ExitStatus;

    #[test]
    fn stages_only_go_forward() {
        let shutdown = Shutdown::new();
        let (drain, hurry) = (shutdown.drain_token(), shutdown.hurry_token());
        assert!(!drain.is_stopped());
        shutdown.drain();
        assert!(drain.is_stopped());
        assert!(!hurry.is_stopped());
        shutdown.hurry();
        shutdown.drain();
        assert_eq!(shutdown.stage(), Stage::Hurry);
        assert!(hurry.is_stopped());
        assert!(drain.is_stopped());
    }

    #[test]
    fn the_first_failure_stops_the_process_and_is_kept() {
        let shutdown = Shutdown::new();
        shutdown.fail(Failure::new(ExitStatus::Io, anyhow::anyhow!("sync failed")));
        shutdown.fail(Failure::new(ExitStatus::Software, anyhow::anyhow!("its echo")));
        assert_eq!(shutdown.stage(), Stage::Drain);
        assert_eq!(shutdown.take_failure().unwrap().status, ExitStatus::Io);
        assert!(shutdown.take_failure().is_none());
    }

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_hurries() {
        use rustix::process::{Signal, getpid, kill_process};
        let shutdown = Shutdown::new();
        let listening = shutdown.listen_for_signals().unwrap();
        kill_process(getpid(), Signal::HUP).unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        shutdown.drain_token().stopped().await;
        assert_eq!(shutdown.stage(), Stage::Drain);
        kill_process(getpid(), Signal::HUP).unwrap();
        kill_process(getpid(), Signal::INT).unwrap();
        listening.await.unwrap();
        assert_eq!(shutdown.stage(), Stage::Hurry);
        // Without a handler this signal would end the test's process.
        kill_process(getpid(), Signal::HUP).unwrap();
    }

    #[tokio::test]
    async fn a_token_wakes_up_for_its_stage_and_for_a_lost_switch() {
        let shutdown = Shutdown::new();
        let mut hurry = shutdown.hurry_token();
        let waiting = tokio::spawn(async move { hurry.stopped().await });
        tokio::task::yield_now().await;
        shutdown.drain();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        shutdown.hurry();
        waiting.await.unwrap();

        let mut orphan = Shutdown::new().drain_token();
        orphan.stopped().await;
    }
}
