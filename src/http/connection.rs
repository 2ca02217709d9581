//! One connection: hyper under our time limits, an orderly stop, and a close that does not destroy the last answer.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::error::ApiError;
use super::watchdog::{Activity, WatchedStream};
use super::{App, router};
use crate::support::shutdown::StopToken;

/// Longest request head. Generous: ours need a few hundred bytes. Beyond it hyper answers 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// hyper's read and write buffers. Large bodies come in pieces of this size; with all connections busy it bounds their
/// memory.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long an idle connection stays open in a drain, so that a request that was on its way when the drain began is
/// still answered.
const LAST_CALL: Duration = Duration::from_millis(100);
/// How long a closed connection is still read, so that the client gets the answer: many clients send all of their body
/// before they read one.
const LINGER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the client may be silent meanwhile. A client that sends nothing more has had the time to read the answer.
const LINGER_SILENCE_MAX: Duration = Duration::from_secs(1);
/// How many bytes are read meanwhile: more than a body that is too large by mistake, and still cheap to discard.
const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Requests go to the router.
    Api,
    /// The connection is beyond the cap: its first request is answered 503, then it is closed.
    Refusal,
}

/// Serves a connection until either side ends it.
///
/// A client that closes its sending side after a whole request gets its answer only if the answer comes soon: it looks
/// like a client that has gone, and a dashboard's abandoned query must be cancelled (`watchdog`).
pub(super) async fn serve(stream: TcpStream, app: Arc<App>, service: Service, mut stop: StopToken) {
    let activity = Activity::new();
    // Only this task reads and writes it; the atomic only makes the shared borrow legal.
    let is_last_call = AtomicBool::new(false);
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let (app, activity, is_last_call) = (&app, &activity, &is_last_call);
        activity.request_began();
        async move {
            let mut response = match service {
                Service::Api => router::answer(app, activity, request).await,
                Service::Refusal => ApiError::TooManyConnections.into_response(),
            };
            if is_last_call.load(Ordering::Relaxed) {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            activity.request_ended();
            Ok::<_, Infallible>(response)
        }
    });
    let watched = WatchedStream::new(stream, Arc::clone(&activity));
    let mut connection = protocol(service).serve_connection(TokioIo::new(watched), answer);
    let mut limit_reached = pin!(activity.limit_reached(&app.settings));
    let mut last_call_over = pin!(async {
        stop.stopped().await;
        is_last_call.store(true, Ordering::Relaxed);
        sleep(LAST_CALL).await;
    });
    let mut closing = false;
    loop {
        tokio::select! {
            // The stop first: an answer written after it must say that it is the last.
            biased;
            () = &mut last_call_over, if !closing => {
                closing = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                if activity.is_between_requests() {
                    // No answer is outstanding, so there is nothing to linger for.
                    return;
                }
            }
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "connection ended: {error}");
                }
                break;
            }
            limit = &mut limit_reached => {
                tracing::debug!(limit, "connection cut: {limit}");
                return;
            }
        }
    }
    linger(connection.into_parts().io.into_inner().into_stream()).await;
}

fn protocol(service: Service) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .keep_alive(service == Service::Api)
        // `WatchedStream` hides the end of the client's data from hyper while an answer is outstanding.
        .half_close(false)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        // Small answers go out in one piece without a list of slices.
        .writev(false)
        // The watchdog enforces this limit, without a timer for each request.
        .header_read_timeout(None);
    // Not set on purpose. `max_headers`: its default of 100 costs nothing, any explicit value an allocation for each
    // request. `pipeline_flush`: it holds answers back while unparsed bytes wait, and loses the answers when those
    // bytes turn out to be malformed.
    builder
}

/// Closes our side, then reads and discards what the client still sends.
///
/// A socket closed with unread bytes sends a reset, and a reset makes the client's system discard an answer that the
/// client has not read yet. So the client gets a moment to read it and close.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let discard = async {
        let mut scratch = vec![0; 16 * 1024];
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX {
            match timeout(LINGER_SILENCE_MAX, stream.read(&mut scratch)).await {
                Ok(Ok(0) | Err(_)) | Err(_) => break,
                Ok(Ok(length)) => discarded += length,
            }
        }
    };
    // Timed out or not, the connection is dropped now.
    drop(timeout(LINGER_TIME_MAX, discard).await);
}
