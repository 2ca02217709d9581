//! Time limits of one connection: opening, headers, idling, unread answers, clients that have closed their side.
//!
//! hyper knows only a header timeout, and arms a timer for it with every request. Here the stream and the handler note
//! in an [`Activity`] what the connection is doing and since when, with a few relaxed stores for each request. One
//! timer for each connection fires at the earliest moment at which a limit could be reached, and checks. Bodies have
//! their own limit (`body`), because a slow body is answered, not cut.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::http::settings::HttpSettings;

/// The write limit is for this many bytes of an answer, or for what is left of it. So a client that reads a byte now
/// and then cannot keep an answer open without end, and one that reads a large answer slowly gets all of it.
///
/// Half of the 64 KiB that clients are promised (6.5 KB/s by default): the system reports free space in its send buffer
/// only by a third of it (`server`), so progress is seen in steps, and a longer stretch would have to wait for a second
/// step.
const WRITE_STRETCH_BYTES: u64 = 32 * 1024;

/// How long a request may take after its client has closed its sending side. Such a client and one that has gone look
/// the same until something is sent, and a query for a client that has gone must not go on for ever. Longer than a
/// request may wait for its events (`applied`).
const HALF_CLOSED_TIME_MAX: Duration = Duration::from_secs(12);

/// What a connection is doing, which decides the time limit that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Accepted, nothing received yet. Under the header limit: a client that connects should send a request soon.
    Opening = 0,
    /// Between requests. Under the idle limit once the answer is written out.
    Idle = 1,
    /// Some bytes of a request's head have arrived. Under the header limit from the first byte.
    Head = 2,
    /// A handler has the request. Body, log and database have limits of their own.
    Request = 3,
}

/// What one connection is doing and since when. Written by its stream and its handler, read by its watchdog, all in one
/// task: the atomics are not for other threads, they only make writing through shared references legal.
#[derive(Debug)]
pub(super) struct Activity {
    born: Instant,
    /// Milliseconds from `born` to the begin of the phase, times four, plus the [`Phase`].
    phase: AtomicU64,
    /// Begin of the current stretch of an answer, in milliseconds from `born`, plus one; 0 when all is written.
    writing: AtomicU64,
    /// Bytes written of the current stretch.
    written: AtomicU64,
    /// Whether the handler waits for more of a body than has arrived.
    awaits_body: AtomicBool,
    /// When the client closed its sending side while an answer was outstanding, in milliseconds from `born`, plus one;
    /// 0 before.
    half_closed: AtomicU64,
}

impl Activity {
    /// The activity of a connection that was just accepted.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            phase: AtomicU64::new(Phase::Opening as u64),
            writing: AtomicU64::new(0),
            written: AtomicU64::new(0),
            awaits_body: AtomicBool::new(false),
            half_closed: AtomicU64::new(0),
        })
    }

    /// Notes that a handler has the request now.
    pub(super) fn request_began(&self) {
        self.awaits_body.store(false, Ordering::Relaxed);
        if self.half_closed_since().is_some() {
            // One of several requests that came before the end: each has the full time.
            self.note_half_closed();
        }
        self.enter(Phase::Request);
    }

    /// Notes that the handler waits for more of the body. Returns whether nothing more can come because the client has
    /// closed its side: then the stream has to be polled once more, and reports the end.
    pub(super) fn await_body(&self) -> bool {
        self.awaits_body.store(true, Ordering::Relaxed);
        self.half_closed_since().is_some()
    }

    /// Notes that the handler has answered. Writing the answer is under the write limit.
    pub(super) fn request_ended(&self) {
        self.enter(Phase::Idle);
        if !self.is_writing() {
            self.begin_stretch();
        }
    }

    /// Whether the last answer is written out and no request has begun since.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.phase().0, Phase::Opening | Phase::Idle) && !self.is_writing()
    }

    /// Returns when a time limit has been reached.
    pub(super) async fn limit_reached(&self, settings: &HttpSettings) -> &'static str {
        loop {
            match self.check(settings, Instant::now()) {
                Ok(next_check) => sleep_until(next_check).await,
                Err(limit) => return limit,
            }
        }
    }

    /// When to check again, or the name of the limit that has been reached.
    fn check(&self, settings: &HttpSettings, now: Instant) -> Result<Instant, &'static str> {
        let (phase, since) = self.phase();
        let phase_limit = match phase {
            Phase::Opening | Phase::Head => Some((settings.header_timeout, "header timeout")),
            Phase::Idle if self.is_writing() => None,
            Phase::Idle => Some((settings.idle_timeout, "idle timeout")),
            Phase::Request => None,
        };
        let phase_due = phase_limit.map(|(limit, name)| (since + limit, name));
        let write_due = self
            .writing_since()
            .map(|since| (since + settings.write_timeout, "write timeout"));
        let half_closed_due = self
            .half_closed_since()
            .filter(|_| phase == Phase::Request)
            .map(|since| (since + HALF_CLOSED_TIME_MAX, "client gone"));

        // A phase that begins after this check cannot be due before the shortest limit from now.
        let shortest = settings
            .header_timeout
            .min(settings.idle_timeout)
            .min(settings.write_timeout)
            .min(HALF_CLOSED_TIME_MAX);
        let mut next_check = now + shortest;
        for (due, name) in [phase_due, write_due, half_closed_due].into_iter().flatten() {
            if due <= now {
                return Err(name);
            }
            next_check = next_check.min(due);
        }
        Ok(next_check)
    }

    fn enter(&self, phase: Phase) {
        self.phase
            .store(self.now_millis() << 2 | phase as u64, Ordering::Relaxed);
    }

    fn phase(&self) -> (Phase, Instant) {
        let packed = self.phase.load(Ordering::Relaxed);
        let phase = match packed & 3 {
            0 => Phase::Opening,
            1 => Phase::Idle,
            2 => Phase::Head,
            _ => Phase::Request,
        };
        (phase, self.born + Duration::from_millis(packed >> 2))
    }

    fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Relaxed) != 0
    }

    fn writing_since(&self) -> Option<Instant> {
        self.instant(&self.writing)
    }

    fn half_closed_since(&self) -> Option<Instant> {
        self.instant(&self.half_closed)
    }

    fn instant(&self, millis_plus_one: &AtomicU64) -> Option<Instant> {
        let millis = millis_plus_one.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.born + Duration::from_millis(millis))
    }

    /// To be called when the client has closed its sending side. Returns whether to hide the end from hyper for now,
    /// which would otherwise drop the answer to a request.
    fn holds_back_end(&self) -> bool {
        let is_owed = match self.phase().0 {
            Phase::Opening | Phase::Head => false,
            Phase::Idle => self.is_writing(),
            // Until the handler waits for more of the body: hyper reads on as soon as it has a whole body, before the
            // handler has all of it.
            Phase::Request => !self.awaits_body.load(Ordering::Relaxed),
        };
        if is_owed && self.half_closed_since().is_none() {
            self.note_half_closed();
        }
        is_owed
    }

    fn note_half_closed(&self) {
        self.half_closed.store(self.now_millis() + 1, Ordering::Relaxed);
    }

    fn begin_stretch(&self) {
        self.writing.store(self.now_millis() + 1, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
    }

    /// Notes that bytes arrived. Only the first bytes of a head begin its phase: later ones must not extend its time.
    fn note_read(&self) {
        self.awaits_body.store(false, Ordering::Relaxed);
        if matches!(self.phase().0, Phase::Opening | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    fn note_write(&self, write: &Poll<io::Result<usize>>) {
        // A write outside of an answer of ours counts too: hyper's own refusals, or `100 Continue`.
        if !self.is_writing() {
            self.begin_stretch();
        }
        if let Poll::Ready(Ok(bytes)) = write {
            let written = self.written.load(Ordering::Relaxed) + *bytes as u64;
            self.written.store(written, Ordering::Relaxed);
            if written >= WRITE_STRETCH_BYTES {
                self.begin_stretch();
            }
        }
    }

    /// Notes the end of writing: hyper flushes when it has nothing left to write.
    fn note_flush(&self, flush: &Poll<io::Result<()>>) {
        if flush.is_ready() && self.is_writing() {
            self.writing.store(0, Ordering::Relaxed);
            if self.phase().0 == Phase::Idle {
                self.enter(Phase::Idle);
            }
        }
    }

    fn now_millis(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }
}

/// A stream that notes its progress in an [`Activity`].
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl WatchedStream {
    /// Wraps `stream`.
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    /// Unwraps the stream; its progress is no longer noted.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (filled_before, has_room) = (buffer.filled().len(), buffer.remaining() > 0);
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > filled_before {
            self.activity.note_read();
        } else if has_room && matches!(read, Poll::Ready(Ok(()))) && self.activity.holds_back_end() {
            // `poll_flush` wakes the task again once the answer is written.
            return Poll::Pending;
        }
        read
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.note_write(&write);
        write
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.activity.note_write(&write);
        write
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.stream).poll_flush(context);
        self.activity.note_flush(&flush);
        if self.activity.half_closed_since().is_some() && self.activity.is_between_requests() {
            context.waker().wake_by_ref();
        }
        flush
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
