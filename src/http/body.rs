//! Request bodies: admitted before they are read, bounded in bytes and time, collected into one buffer.
//!
//! A body with a declared length reserves exactly that. A chunked one reserves a little and then more as it grows, so that a
//! crowd of small chunked requests does not use up the budget that a few large ones would need.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::http::request::Parts;
use tokio::time::timeout;

use super::error::ApiError;
use crate::intake::{Admission, Intake};

/// What a chunked body reserves at first: most single events fit.
const CHUNKED_ROOM_START: usize = 16 * 1024;
/// How much more a chunked body reserves when it outgrows its room.
const CHUNKED_ROOM_GROWTH: usize = 4;
/// Up to this many bytes of a refused body are read and thrown away, so that the connection stays usable: cheaper for both
/// sides than a new connection. Longer ones close it.
const DISCARD_BYTES_MAX: u64 = 256 * 1024;
/// How long a refused body may take to be thrown away.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// Leave to read a body, and how long it may become.
#[derive(Debug)]
pub(super) struct Room<'a> {
    intake: &'a Intake,
    bytes: usize,
    bytes_max: usize,
    admission: Admission,
}

impl<'a> Room<'a> {
    /// Asks for room before the body is read.
    pub(super) fn reserve(
        intake: &'a Intake,
        body: &RequestBody,
        bytes_max: usize,
    ) -> Result<Self, ApiError> {
        let bytes = match body.declared_bytes() {
            Some(declared) => usize::try_from(declared)
                .ok()
                .filter(|&bytes| bytes <= bytes_max)
                .ok_or(ApiError::BodyTooLarge { bytes_max })?,
            None => CHUNKED_ROOM_START.min(bytes_max),
        };
        let admission = intake.admit(bytes)?;
        Ok(Self {
            intake,
            bytes,
            bytes_max,
            admission,
        })
    }

    /// Room for at least `needed` bytes.
    fn grown_to(self, needed: usize) -> Result<Self, ApiError> {
        let Self {
            intake,
            bytes,
            bytes_max,
            admission,
        } = self;
        if needed <= bytes {
            return Ok(Self {
                intake,
                bytes,
                bytes_max,
                admission,
            });
        }
        if needed > bytes_max {
            return Err(ApiError::BodyTooLarge { bytes_max });
        }
        let bytes = needed.max(bytes * CHUNKED_ROOM_GROWTH).min(bytes_max);
        // Given back first: the settings only promise that one request of the largest size fits, not one and a quarter.
        drop(admission);
        let admission = intake.admit(bytes)?;
        Ok(Self {
            intake,
            bytes,
            bytes_max,
            admission,
        })
    }
}

/// The body of one request, read or not.
#[derive(Debug)]
pub(super) struct RequestBody {
    incoming: Incoming,
    /// The client waits for `100 Continue`, which hyper sends as soon as the body is first asked for.
    awaits_continue: bool,
    /// Set once no more of it will be read.
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Read to its end.
    Complete,
    /// Malformed, cut off or too slow.
    GivenUp,
}

impl RequestBody {
    /// The body that follows `head`.
    pub(super) fn new(head: &Parts, incoming: Incoming) -> Self {
        Self {
            incoming,
            awaits_continue: head.headers.contains_key(EXPECT),
            end: None,
        }
    }

    /// Reads the whole body into one buffer, without copying it if it comes in one piece.
    pub(super) async fn read(
        &mut self,
        room: Room<'_>,
        time_max: Duration,
    ) -> Result<(Bytes, Admission), ApiError> {
        let collected = {
            let mut collect = pin!(self.collect(room));
            match poll_twice(collect.as_mut()).await {
                Some(collected) => collected,
                None => timeout(time_max, collect)
                    .await
                    .unwrap_or(Err(ApiError::BodyTimeout)),
            }
        };
        if matches!(collected, Err(ApiError::BodyTimeout)) {
            self.end = Some(End::GivenUp);
        }
        collected
    }

    /// Brings the body to its end, so that the connection can carry another request. Says whether it can.
    pub(super) async fn finish(&mut self) -> bool {
        if self.incoming.is_end_stream() {
            return true;
        }
        if let Some(end) = self.end {
            return end == End::Complete;
        }
        // A client that was never told to continue may send the body or not: where the next request begins is unknown.
        let is_small = self
            .declared_bytes()
            .is_some_and(|left| left <= DISCARD_BYTES_MAX);
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

    async fn collect(&mut self, room: Room<'_>) -> Result<(Bytes, Admission), ApiError> {
        let Some(first) = self.next_data().await? else {
            return Ok((Bytes::new(), room.admission));
        };
        let mut room = room.grown_to(first.len())?;
        if self.incoming.is_end_stream() {
            return Ok((first, room.admission));
        }
        let Some(second) = self.next_data().await? else {
            return Ok((first, room.admission));
        };
        let mut whole = Vec::with_capacity(room.bytes);
        whole.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(piece) = next {
            room = room.grown_to(whole.len() + piece.len())?;
            whole.reserve_exact(room.bytes - whole.len());
            whole.extend_from_slice(&piece);
            next = self.next_data().await?;
        }
        Ok((Bytes::from(whole), room.admission))
    }

    /// The next piece of the body; trailers are ignored.
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
                }
            }
        }
    }
}

/// Polls `future` twice, without waiting in between.
///
/// hyper hands a body over only after it was asked for once, so the first poll never succeeds and the second nearly always does.
/// That spares almost every request the timer that a slow body needs.
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
