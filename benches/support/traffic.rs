//! Steady traffic: events in order of time, spread evenly over names, channels and users. An event's number determines
//! it.

use std::ops::Range;
use std::time::{Instant, SystemTime};

use fast_ingest::event::bucket::DAY_MICROS;
use fast_ingest::event::{EventRef, Timestamp, codec};
use fast_ingest::store::EventStore;
use fast_ingest::wal::batch::Batch;
use fast_ingest::wal::id::{Mark, WalId};
use uuid::Uuid;

/// Days that the traffic covers.
pub(crate) const DAYS: i64 = 90;
/// Names of events.
pub(crate) const NAMES: [&str; 8] = [
    "page_view",
    "click",
    "search",
    "sign_up",
    "add_to_cart",
    "purchase",
    "share",
    "log_out",
];
pub(crate) const CHANNELS: [&str; 4] = ["web", "ios", "android", "email"];
pub(crate) const USERS: u64 = 1_000_000;
/// Rows of one transaction of the flush when it is behind.
const BATCH_ROWS: u64 = 20_000;

/// A number of events, spread over a range of time.
pub(crate) struct Traffic {
    /// Number of events.
    pub(crate) events: u64,
    /// When they happen, in microseconds.
    pub(crate) range: Range<i64>,
}

impl Traffic {
    /// Events of [`DAYS`] up to an instant.
    pub(crate) fn ending_at(now: i64, events: u64) -> Self {
        Self {
            events,
            range: now - DAYS * DAY_MICROS..now,
        }
    }

    /// As dense as a hundred million events in [`DAYS`], and so old that minutes are already merged into quarters.
    pub(crate) fn dense(now: i64, events: u64) -> Self {
        let end = now - 3 * DAY_MICROS;
        let micros_each = DAYS * DAY_MICROS / 100_000_000;
        let length = i64::try_from(events).expect("a small number") * micros_each;
        Self {
            events,
            range: end - length..end,
        }
    }

    /// Stores the events through a sink; goes on where an earlier run stopped.
    pub(crate) async fn load_into(&self, store: &dyn EventStore) {
        let wal_id = WalId(Uuid::from_u128(1));
        let mut sink = store.open_sink().await.expect("the database is up");
        let loaded = sink.checkpoint(wal_id).await.expect("a checkpoint");
        if loaded.is_none() {
            sink.create_checkpoint(wal_id, 0, Mark::default())
                .await
                .expect("a new log");
        }
        let (mut next, started) = (loaded.map_or(0, |row| row.flushed_through), Instant::now());
        let mut batch = Batch::new(wal_id, next);
        while next < self.events {
            let end = self.events.min(next + BATCH_ROWS);
            batch.reset(next);
            self.fill(&mut batch, next..end);
            sink.flush(batch.view()).await.expect("stored");
            if next / (self.events / 10).max(1) != end / (self.events / 10).max(1) {
                eprintln!(
                    "{}: {end} of {} events after {:.0?}",
                    store.name(),
                    self.events,
                    started.elapsed()
                );
            }
            next = end;
        }
    }

    /// Appends the events of a range of numbers to a batch.
    pub(crate) fn fill(&self, batch: &mut Batch, numbers: Range<u64>) {
        let mut encoded = Vec::new();
        for number in numbers {
            let random = mix(number);
            let user_id = format!("user-{:07}", (random >> 8) % USERS);
            let span = i128::from(self.range.end - self.range.start);
            let offset = span * i128::from(number) / i128::from(self.events);
            let micros = self.range.start + i64::try_from(offset).expect("within the range");
            let event = EventRef {
                event_name: NAMES[(random % 8) as usize],
                channel: CHANNELS[(random >> 3) as usize % CHANNELS.len()],
                user_id: &user_id,
                timestamp: Timestamp::from_micros(micros),
                event_id: None,
                campaign_id: None,
                tags: None,
                metadata: None,
            };
            encoded.clear();
            codec::encode(&event, &mut encoded);
            batch.push(&encoded);
        }
    }
}

/// The present in microseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("the clock is right");
    i64::try_from(since.as_micros()).expect("not so soon")
}

/// A pseudo-random number that depends on its argument only (SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
