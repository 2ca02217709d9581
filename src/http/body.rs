//! Request bodies: admitted before they are read, bounded in bytes and time, collected into one buffer.
//!
//! Room is reserved in step with the bytes that have arrived, never for bytes that were only declared: a client that
//! declares a large body and stays silent keeps nobody else out. Whether all of a declared body would fit is checked at
//! once, so that a full server refuses early.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::http::request::Parts;
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::ApiError;
use super::watchdog::Activity;
use crate::intake::{Admission, Intake};

/// Bytes that are reserved before the first byte of a body has come, unless the body is shorter: most requests fit and
/// need no second reservation.
const ROOM_START: usize = 16 * 1024;
/// Bytes reserved for each byte that has arrived. Doubling keeps all copies of a growing buffer as cheap as one copy of
/// the whole.
const ROOM_GROWTH: usize = 2;
/// A body may be silent for the time limit of the whole body, divided by this. A live sender is never silent for so
/// long (10 s of the default 30 s cover several lost packets in a row), and a dead one should not hold its room until
/// the limit.
const SILENCE_DIVISOR: u32 = 3;
/// Up to this many bytes of a refused body are read and discarded, so that the connection stays usable: cheaper for
/// both sides than a new connection. Longer bodies close it.
const DISCARD_BYTES_MAX: u64 = 256 * 1024;
/// How long discarding a refused body may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// Permission to read a body, and how long the body may become.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes that `admission` has reserved.
    bytes: usize,
    /// The route's limit.
    bytes_max: usize,
    /// How long the body can become: as declared, or up to the limit.
    bytes_expected: usize,
    admission: Admission,
}

impl Room {
    /// Asks for room before the body is read.
    pub(super) fn reserve(intake: &Intake, body: &RequestBody<'_>, bytes_max: usize) -> Result<Self, ApiError> {
        let declared = body.declared_bytes().map(usize::try_from);
        let bytes_expected = match declared {
            Some(Ok(declared)) if declared <= bytes_max => declared,
            Some(_) => return Err(ApiError::BodyTooLarge { bytes_max }),
            None => bytes_max,
        };
        let bytes = bytes_expected.min(ROOM_START);
        if declared.is_some() && bytes < bytes_expected {
            intake.check_room(bytes_expected)?;
        }
        let admission = intake.admit(bytes)?;
        Ok(Self {
            bytes,
            bytes_max,
            bytes_expected,
            admission,
        })
    }

    /// Reserves room for `arrived` bytes, and some more.
    fn grow_for(&mut self, arrived: usize) -> Result<(), ApiError> {
        if arrived <= self.bytes {
            return Ok(());
        }
        if arrived > self.bytes_max {
            return Err(ApiError::BodyTooLarge {
                bytes_max: self.bytes_max,
            });
        }
        // hyper never hands over more than was declared, but nothing here depends on it.
        let bytes = (arrived * ROOM_GROWTH).min(self.bytes_expected).max(arrived);
        self.admission.grow_to(bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}

/// Time limits of one body: as a whole, and without a byte.
#[derive(Debug, Clone, Copy)]
struct Pace {
    ends: Instant,
    silence_max: Duration,
}

/// The body of one request, read or not.
#[derive(Debug)]
pub(super) struct RequestBody<'a> {
    incoming: Incoming,
    /// Is notified when the handler waits for more of the body.
    activity: &'a Activity,
    /// The client waits for `100 Continue`, which hyper sends when the body is first polled.
    awaits_continue: bool,
    /// Set once no more of the body will be read.
    end: Option<End>,
    /// Trailers followed the body.
    has_trailers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Read to its end.
    Complete,
    /// Malformed, cut off or too slow.
    GivenUp,
}

impl<'a> RequestBody<'a> {
    /// The body that follows `head`.
    pub(super) fn new(head: &Parts, incoming: Incoming, activity: &'a Activity) -> Self {
        Self {
            incoming,
            activity,
            awaits_continue: head.headers.contains_key(EXPECT),
            end: None,
            has_trailers: false,
        }
    }

    /// Reads the whole body into one buffer, without copying it if it comes in one piece. All of it may take
    /// `time_max`.
    pub(super) async fn read(&mut self, mut room: Room, time_max: Duration) -> Result<(Bytes, Admission), ApiError> {
        let pace = Pace {
            ends: Instant::now() + time_max,
            silence_max: time_max / SILENCE_DIVISOR,
        };
        let Some(first) = self.next_in_time(pace).await? else {
            return Ok((Bytes::new(), room.admission));
        };
        room.grow_for(first.len())?;
        if self.incoming.is_end_stream() {
            return Ok((first, room.admission));
        }
        let Some(second) = self.next_in_time(pace).await? else {
            return Ok((first, room.admission));
        };
        let mut whole = Vec::with_capacity(room.bytes);
        whole.extend_from_slice(&first);
        drop(first);
        let mut next = Some(second);
        while let Some(piece) = next {
            room.grow_for(whole.len() + piece.len())?;
            whole.reserve_exact(room.bytes - whole.len());
            whole.extend_from_slice(&piece);
            next = self.next_in_time(pace).await?;
        }
        Ok((Bytes::from(whole), room.admission))
    }

    /// Reads and discards the rest of a short body. Returns whether the connection can carry another request.
    pub(super) async fn finish(&mut self) -> bool {
        // For hyper only an empty line with CR LF ends trailers. Other parsers also take LF alone: for them the rest of
        // what hyper read as trailers was the next request.
        if self.has_trailers {
            return false;
        }
        if self.incoming.is_end_stream() {
            return true;
        }
        if let Some(end) = self.end {
            return end == End::Complete;
        }
        // A client that got no `100 Continue` may send the body or not, so it is unknown where the next request begins.
        let is_small = self.declared_bytes().is_some_and(|left| left <= DISCARD_BYTES_MAX);
        if self.awaits_continue || !is_small {
            return false;
        }
        let discard = async { while let Ok(Some(_)) = self.next_data().await {} };
        timeout(DISCARD_TIME_MAX, discard).await.is_ok() && self.end == Some(End::Complete)
    }

    /// Bytes still to come by `Content-Length`; `None` for a chunked body.
    fn declared_bytes(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The next piece of the body, unless it is too slow.
    async fn next_in_time(&mut self, pace: Pace) -> Result<Option<Bytes>, ApiError> {
        let activity = self.activity;
        let next = {
            let mut next = pin!(self.next_data());
            match poll_twice(next.as_mut()).await {
                Some(next) => Ok(next),
                None => {
                    // Noted at each pending poll: hyper may have read bytes that are no piece of the body yet.
                    let next = poll_fn(|context| {
                        let polled = next.as_mut().poll(context);
                        if polled.is_pending() && activity.await_body() {
                            context.waker().wake_by_ref();
                        }
                        polled
                    });
                    let silent_until = Instant::now() + pace.silence_max;
                    // This runs in the connection's task, after hyper's reads. Bytes that never become a body, such as
                    // the endless zeros of a chunk size, can let those reads use up the task's budget in tokio each
                    // time, and a timer under that budget would never fire.
                    unconstrained(timeout_at(silent_until.min(pace.ends), next))
                        .await
                        .map_err(|_| silent_until < pace.ends)
                }
            }
        };
        next.unwrap_or_else(|is_silent| {
            self.end = Some(End::GivenUp);
            Err(if is_silent {
                ApiError::BodySilent(pace.silence_max)
            } else {
                ApiError::BodyTimeout
            })
        })
    }

    /// The next piece of the body; the content of trailers is ignored.
    async fn next_data(&mut self) -> Result<Option<Bytes>, ApiError> {
        self.awaits_continue = false;
        loop {
            match self.incoming.frame().await {
                None => {
                    self.end = Some(End::Complete);
                    return Ok(None);
                }
                Some(Err(_)) => {
                    self.end = Some(End::GivenUp);
                    return Err(ApiError::BodyBroken);
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                    self.has_trailers = true;
                }
            }
        }
    }
}

/// Polls `future` twice, without waiting in between.
///
/// hyper reads a body only after the first poll asked for it, so the first poll never succeeds and the second nearly
/// always does. So almost no request needs the timer for a slow body.
async fn poll_twice<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut polled = false;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if polled => Poll::Ready(None),
        Poll::Pending => {
            polled = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
