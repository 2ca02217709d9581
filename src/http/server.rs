//! The accept loop: connections are counted, an excess is told so, and a drain waits for what is in flight.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::App;
use super::connection::{self, Service};
use crate::support::shutdown::StopToken;

/// How long a drain should wait for requests in flight. A client that has not sent its body by then gets no answer and
/// will send it again; what was admitted is acknowledged within milliseconds.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Connections beyond the cap that are answered 503 at the same time; any further one is closed at once. They last for
/// seconds and hold no body, so a few are enough to tell honest clients what is going on.
pub const REFUSALS_MAX: usize = 64;
/// Connections that may wait to be accepted: a burst of all that are allowed by default.
const BACKLOG_MAX: u32 = 1024;
/// What the system may hold of an answer that is not read. Left alone, Linux lets it grow to megabytes for each
/// connection and reports progress only by the third of it, so that a slow reader would look like one that has stopped.
/// Linux doubles this figure and counts its own overhead in: progress comes in lumps of about 40 to 48 KiB, more than
/// the watchdog asks for and less than it promises.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// First pause after a failed accept, doubled each time: out of file descriptors, the loop must not spin.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause after a failed accept.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}; {advice}")]
pub struct BindError {
    address: SocketAddr,
    advice: &'static str,
    cause: io::Error,
}

impl BindError {
    /// Whether it may be over soon: the port's user may go, and an interface come.
    pub fn may_pass(&self) -> bool {
        matches!(
            self.cause.kind(),
            io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
        )
    }
}

/// Opens the listening socket.
///
/// # Errors
///
/// [`BindError`] names the address and the flag to change.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address).map_err(|cause| {
        let advice = match cause.kind() {
            io::ErrorKind::AddrNotAvailable => {
                "no interface has this address; choose another with --host"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need privileges; choose another with --port"
            }
            io::ErrorKind::AddrInUse => {
                "another process listens there, maybe the server that this one follows; choose another with --port, or start again"
            }
            _ => "choose another with --port",
        };
        BindError {
            address,
            advice,
            cause,
        }
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuseaddr(true)?;
    // Inherited by the connections.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_MAX)
}

/// Serves until `stop`, then takes in who has connected already, closes the listener, lets requests in flight finish
/// for at most `drain_max`, and cuts the rest. Returns how many connections were cut.
pub async fn serve(listener: TcpListener, app: Arc<App>, mut stop: StopToken, drain_max: Duration) -> usize {
    let door = Door::new(app, stop.clone());
    let mut connections = JoinSet::new();
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.stopped() => break,
            Some(ended) = connections.join_next() => {
                log_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                pause = ACCEPT_PAUSE_MIN;
                door.take_in(stream, &mut connections);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "cannot accept connections: {error}");
                tokio::select! {
                    () = stop.stopped() => break,
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
    // To their clients these connections are made, and a request may have been sent on them before the stop: closing
    // the listener would leave it without an answer. They get the last call like all others.
    match waiting(listener) {
        Ok(streams) => streams
            .into_iter()
            .for_each(|stream| door.take_in(stream, &mut connections)),
        Err(error) => {
            tracing::warn!(%error, "connections not accepted yet end without an answer: {error}");
        }
    }
    drain(connections, drain_max).await
}

/// The connections that wait to be accepted. Closes the listener; who connects between the last look and that is
/// refused by the system.
fn waiting(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    // tokio's own listener would only see what its reactor has been told of.
    let listener = listener.into_std()?;
    let mut streams = Vec::new();
    // Bounded, because others may go on connecting.
    for _ in 0..BACKLOG_MAX {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                streams.push(TcpStream::from_std(stream)?);
            }
            Err(error) if is_the_clients(&error) => {}
            // None left, or none that can be had.
            Err(_) => break,
        }
    }
    Ok(streams)
}

async fn drain(mut connections: JoinSet<()>, drain_max: Duration) -> usize {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if timeout(drain_max, all_ended).await.is_ok() {
        return 0;
    }
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

async fn serve_one(stream: TcpStream, app: Arc<App>, service: Service, stop: StopToken, permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection lost before its first request: {error}");
        return;
    }
    connection::serve(stream, app, service, stop).await;
    // Held until the socket is closed, lingering included.
    drop(permit);
}

/// Counts connections and starts them.
struct Door {
    app: Arc<App>,
    stop: StopToken,
    connections: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Door {
    fn new(app: Arc<App>, stop: StopToken) -> Self {
        let connections_max = app.settings.connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            app,
            stop,
            connections: Arc::new(Semaphore::new(connections_max)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        }
    }

    /// Serves one more connection, if there is room for it. Accepted first, counted second: a client that waits in the
    /// backlog of a full server would hang unanswered.
    fn take_in(&self, stream: TcpStream, connections: &mut JoinSet<()>) {
        if let Some((service, permit)) = self.enter() {
            let (app, stop) = (Arc::clone(&self.app), self.stop.clone());
            connections.spawn(serve_one(stream, app, service, stop, permit));
        }
    }

    /// What to do with one more connection; `None`: close it.
    fn enter(&self) -> Option<(Service, OwnedSemaphorePermit)> {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return Some((Service::Api, permit));
        }
        let permit = Arc::clone(&self.refusals).try_acquire_owned().ok()?;
        Some((Service::Refusal, permit))
    }
}

/// Whether accepting failed because the client went away, which says nothing about us.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A panic ends only its own connection. The panic hook has printed it; this line makes it findable among ours.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended by a defect of the server: {error}");
    }
}
