//! The accept loop: it counts connections, answers 503 to those beyond the cap, and drains requests in flight.

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
/// will send it again; a complete request is acknowledged within milliseconds.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Connections beyond the cap that are answered 503 at the same time; any further one is closed at once. They last for
/// seconds and hold no body, so a few are enough to inform honest clients.
pub const REFUSALS_MAX: usize = 64;
/// Connections that may wait to be accepted: a burst of all that are allowed by default.
const BACKLOG_MAX: u32 = 1024;
/// Send buffer of a connection: the part of an unread answer that the system holds. By default Linux lets the buffer
/// grow to megabytes and reports progress only by a third of it, so that a slow reader would look like a stopped one.
/// Linux doubles this figure and counts its own overhead in: progress comes in steps of about 40 to 48 KiB, more than
/// the watchdog's stretch and less than what clients are promised.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;
/// First pause after a failed accept, doubled each time, so that the loop does not spin when it is out of file
/// descriptors.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause after a failed accept.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The server cannot listen on the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}; {advice}")]
pub struct BindError {
    address: SocketAddr,
    advice: &'static str,
    cause: io::Error,
}

impl BindError {
    /// Whether trying again may help: the other process on the port may end, or the interface may come up.
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
                "another process listens there, maybe an old server that is still stopping; choose another with --port, or start again"
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

/// Serves until `stop`, then accepts the connections that wait already, closes the listener, lets requests in flight
/// finish for at most `drain_max`, and cuts the rest. Returns how many connections were cut.
pub async fn serve(listener: TcpListener, app: Arc<App>, mut stop: StopToken, drain_max: Duration) -> usize {
    let acceptor = Acceptor::new(app, stop.clone());
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
                acceptor.serve(stream, &mut connections);
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
    // For their clients, the connections in the backlog are made, and may have carried a request before the stop:
    // closing the listener would leave it without an answer. They get the last call like all others.
    match waiting(listener) {
        Ok(streams) => streams
            .into_iter()
            .for_each(|stream| acceptor.serve(stream, &mut connections)),
        Err(error) => {
            tracing::warn!(%error, "connections not accepted yet end without an answer: {error}");
        }
    }
    drain(connections, drain_max).await
}

/// The connections that wait to be accepted. Closes the listener; the system refuses clients that connect between the
/// last accept and the close.
fn waiting(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    // tokio's own listener would only see connections that its reactor knows of already.
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
            // None left, or accepting fails.
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
    // Released only when the socket is closed, after lingering.
    drop(permit);
}

/// Counts connections and starts them.
struct Acceptor {
    app: Arc<App>,
    stop: StopToken,
    connections: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Acceptor {
    fn new(app: Arc<App>, stop: StopToken) -> Self {
        let connections_max = app.settings.connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            app,
            stop,
            connections: Arc::new(Semaphore::new(connections_max)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        }
    }

    /// Serves one more connection, if there is room for it. Connections are counted only after they are accepted:
    /// otherwise a client in the backlog of a full server would hang unanswered.
    fn serve(&self, stream: TcpStream, connections: &mut JoinSet<()>) {
        if let Some((service, permit)) = self.admit() {
            let (app, stop) = (Arc::clone(&self.app), self.stop.clone());
            connections.spawn(serve_one(stream, app, service, stop, permit));
        }
    }

    /// The service for one more connection; `None`: close it.
    fn admit(&self) -> Option<(Service, OwnedSemaphorePermit)> {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return Some((Service::Api, permit));
        }
        let permit = Arc::clone(&self.refusals).try_acquire_owned().ok()?;
        Some((Service::Refusal, permit))
    }
}

/// Whether accepting failed only because the client went away.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Logs a connection that panicked; others go on. The panic hook has printed the panic, but not as a log line.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a defect of the server ended a connection, please report it: {error}");
    }
}
