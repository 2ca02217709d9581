//! What clients know of a log, and one stay of a server on a simulated disk, whose log is compared with that.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use super::*;
use crate::support::sync::{Mutex, oneshot, ring};
use crate::testing::disk::forwarding::{ForwardingDisk, Hook};
use crate::testing::disk::simulated::SimulatedDisk;
use crate::wal::gate::Gate;
use crate::wal::reader::LogReader;
use crate::wal::record;

/// Where the log is on every simulated disk.
pub(super) const DIR: &str = "/wal";

/// What was sent, acknowledged and flushed, over all stays.
#[derive(Debug, Default, Clone)]
pub(super) struct Ledger {
    /// Users in the order of their sequences that were sent, and not found missing since.
    pub(super) sent: Vec<u64>,
    /// How many users were ever sent, lost ones included: no number is used twice.
    pub(super) issued: u64,
    /// How many of `sent`, from the first on, were acknowledged or found by a start.
    pub(super) acked: usize,
    /// Sequences up to here are in the database: their segments may be gone.
    pub(super) flushed_through: usize,
    /// Whether the log is synced later than requests are answered, so that an acknowledgement promises nothing.
    pub(super) is_interval: bool,
    pub(super) tally: Tally,
}

/// What a ledger has seen, for the last line of a test.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) acked: usize,
    pub(super) torn_tails: usize,
    /// Refused because the disk was full.
    pub(super) turned_away: usize,
    pub(super) lost: usize,
    pub(super) doubled: usize,
    pub(super) phantom: usize,
}

/// What a server does with the log during one stay.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The sizes of the requests in lots. The first lot comes before any sync, one more with each sync.
    pub(super) lots: Vec<Vec<usize>>,
    pub(super) segment_bytes: u64,
    /// How many events at the end are not yet in the database when it stops.
    pub(super) unflushed: usize,
}

impl Plan {
    pub(super) fn of(lots: &[&[usize]]) -> Self {
        Self {
            lots: lots.iter().map(|lot| lot.to_vec()).collect(),
            segment_bytes: 1500,
            unflushed: 1,
        }
    }
}

/// Requests that come while a sync is under way: one lot for each sync. Without them every group would be as large as
/// the ring.
#[derive(Debug, Clone, Default)]
struct Arrivals(Arc<Mutex<Option<Coming>>>);

#[derive(Debug)]
struct Coming {
    ring: ring::Sender<Submission>,
    lots: VecDeque<Vec<Submission>>,
}

impl Arrivals {
    /// Sends the first lot on its way, and lets each sync bring the next; the ring closes after the last.
    fn begin(&self, ring: ring::Sender<Submission>, lots: Vec<Vec<Submission>>) {
        let lots = lots.into();
        *self.0.lock().unwrap() = Some(Coming { ring, lots });
        self.next();
    }

    fn next(&self) {
        let mut arrivals = self.0.lock().unwrap();
        let Some(coming) = arrivals.as_mut() else {
            return;
        };
        for submission in coming.lots.pop_front().unwrap_or_default() {
            // A log thread that has just failed takes no more: it counts as refused.
            coming.ring.send(submission).ok();
        }
        if coming.lots.is_empty() {
            *arrivals = None;
        }
    }

    /// Drops what has not come yet.
    fn end(&self) {
        *self.0.lock().unwrap() = None;
    }
}

impl Hook for Arrivals {
    fn sync(&self) -> io::Result<()> {
        self.next();
        Ok(())
    }
}

pub(crate) fn settings(segment_bytes: u64, sync: SyncMode) -> WalSettings {
    WalSettings {
        dir: PathBuf::from(DIR),
        sync,
        ring_slots: 64,
        bytes_max: 1 << 30,
        segment_bytes,
        keep_bytes: 0,
        disk_free_min: 0,
    }
}

/// One stay of a server on the disk: it must find what was acknowledged, then it takes records, flushes some, and ends.
/// An error when the disk fails, or when the log refuses to start.
pub(super) fn stay(disk: &SimulatedDisk, ledger: &mut Ledger, plan: &Plan) -> Result<(), WalError> {
    let outcome = live(disk, ledger, plan);
    assert_eq!(
        disk.touched_after_failure(),
        0,
        "nothing is written or synced where that has failed"
    );
    outcome
}

fn live(disk: &SimulatedDisk, ledger: &mut Ledger, plan: &Plan) -> Result<(), WalError> {
    let sync = match ledger.is_interval {
        true => SyncMode::Interval(std::time::Duration::from_secs(3600)),
        false => SyncMode::Group,
    };
    let arrivals = Arrivals::default();
    let watched = ForwardingDisk {
        disk: disk.clone(),
        hook: arrivals.clone(),
    };
    let OpenedLog {
        log,
        committer,
        gate,
        torn_tail,
    } = open(watched, &settings(plan.segment_bytes, sync))?;
    ledger.tally.torn_tails += usize::from(torn_tail.is_some());
    ledger.hold_against(&log)?;

    let (ring, submissions) = ring::unbounded();
    let before = ledger.sent.len();
    let (mut lots, acks) = ledger.submit(&plan.lots, &gate);
    if ledger.is_interval {
        // No sync happens that could bring the second lot.
        lots = vec![lots.into_iter().flatten().collect()];
    }
    arrivals.begin(ring, lots);
    // On this thread, so that the order of operations is the same in every run.
    let outcome = committer.run(&submissions);
    arrivals.end();
    drop(submissions);
    let mut refused = 0;
    let mut at = before;
    for (mut acked, events) in acks {
        let sent = at..at + events;
        at = sent.end;
        match acked.try_recv() {
            // The client was told that its events are not stored, so they must never be found.
            Ok(Err(Refusal::LogFull)) => {
                ledger.tally.turned_away += events;
                ledger.sent.drain(sent.clone());
                at = sent.start;
            }
            Ok(Ok(_)) => {
                assert_eq!(refused, 0, "an answer after a refusal");
                ledger.acked += if ledger.is_interval { 0 } else { events };
                ledger.tally.acked += events;
            }
            Err(oneshot::error::TryRecvError::Empty) => panic!("a waiter was left without answer"),
            _ => refused += 1,
        }
    }
    match &outcome {
        Ok(()) => assert_eq!(refused, 0, "a refusal without a reason"),
        Err(_) => assert_eq!(gate.check_open(), Err(Refusal::Poisoned)),
    }
    outcome?;
    let flushed_through = (log.durable().through as usize).saturating_sub(plan.unflushed);
    ledger.flushed_through = ledger.flushed_through.max(flushed_through);
    log.retire_through(ledger.flushed_through as Sequence)
}

type Answer = oneshot::Receiver<Result<Sequence, Refusal>>;

impl Ledger {
    /// Reads what the log has behind the checkpoint: all that was acknowledged, in order and as sent, and nothing else.
    fn hold_against<D: Disk>(&mut self, log: &Arc<Log<D>>) -> Result<(), WalError> {
        let found = read(log, self.flushed_through)?;
        let sent = self.sent.get(self.flushed_through..).unwrap_or_default();
        let acked = self.acked.saturating_sub(self.flushed_through);
        if found.len() < acked || !sent.starts_with(&found) {
            let distinct: BTreeSet<_> = found.iter().collect();
            let acknowledged = &sent[..acked];
            self.tally.lost += acknowledged.iter().filter(|user| !distinct.contains(user)).count();
            self.tally.doubled += found.len() - distinct.len();
            self.tally.phantom += distinct.iter().filter(|user| !sent.contains(user)).count();
            panic!(
                "found {found:?}, acknowledged {acknowledged:?}, sent {sent:?}: {:?}",
                self.tally
            );
        }
        let recovered = self.flushed_through + found.len();
        assert_eq!(log.recovered_through() as usize, recovered);
        self.sent.truncate(recovered);
        self.acked = recovered;
        Ok(())
    }

    /// Makes the requests and notes their events as sent.
    fn submit(&mut self, lots: &[Vec<usize>], gate: &Arc<Gate>) -> (Vec<Vec<Submission>>, Vec<(Answer, usize)>) {
        let mut acks = Vec::new();
        let mut submissions = Vec::new();
        let budget = Budget::new(usize::MAX);
        for lot in lots {
            let mut requests = Vec::new();
            for &events in lot {
                let mut record = vec![0; record::HEADER_BYTES];
                for _ in 0..events {
                    self.issued += 1;
                    self.sent.push(self.issued);
                    encode_sized(self.issued, &mut record);
                }
                let (ack, acked) = oneshot::channel();
                requests.push(Submission {
                    event_count: events as u32,
                    ack,
                    in_flight: budget.try_reserve(record.len()).unwrap(),
                    space: gate.reserve(record.len() as u64).unwrap(),
                    record,
                });
                acks.push((acked, events));
            }
            submissions.push(requests);
        }
        (submissions, acks)
    }
}

/// All durable users behind `after`; panics when an event is not what was sent.
pub(crate) fn read<D: Disk>(log: &Arc<Log<D>>, after: usize) -> Result<Vec<u64>, WalError> {
    let mut reader = LogReader::new(Arc::clone(log), after as Sequence);
    let mut batch = Batch::new(log.wal_id(), after as Sequence);
    let mut users = Vec::new();
    loop {
        batch.reset((after + users.len()) as Sequence);
        let is_full = reader.fill(&mut batch, 1000, 1 << 20)?;
        let view = batch.view();
        for (event, encoded) in view.events().zip(view.encoded()) {
            let user = event.user_id.parse().unwrap();
            let mut as_sent = Vec::new();
            encode_sized(user, &mut as_sent);
            assert_eq!(encoded, as_sent, "user {user}");
            users.push(user);
        }
        if !is_full {
            return Ok(users);
        }
    }
}

/// Opens the log and reads all its events, as a start and the flush together would.
pub(crate) fn read_all(disk: &SimulatedDisk) -> Result<Vec<u64>, WalError> {
    let opened = open(disk.clone(), &settings(1500, SyncMode::Group))?;
    let oldest = opened.log.directory().oldest_sequence() as usize;
    read(&opened.log, oldest - 1)
}

/// An event whose size and bytes follow from its user.
pub(crate) fn encode_sized(user: u64, out: &mut Vec<u8>) {
    let campaign: String = (0..1 + user * 37 % 170)
        .map(|at| char::from(b'a' + ((user + at) % 26) as u8))
        .collect();
    let event = EventRef {
        event_name: "view",
        channel: "web",
        user_id: &user.to_string(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
        event_id: None,
        campaign_id: Some(&campaign),
        tags: None,
        metadata: None,
    };
    codec::encode(&event, out);
}
