//! One run of a log under requests that come at the same time, a flush that follows and retires, and maybe a drain or a
//! fault; and what must be true of the log afterwards.

use std::path::Path;
use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};

use super::roll;
use crate::cli::serve::close_gate_on_drain;
use crate::intake::Intake;
use crate::support::budget::Budget;
use crate::support::shutdown::Shutdown;
use crate::testing::disk::simulated::{Damage, Dice, Fault, FaultKind, SimulatedDisk};
use crate::wal::batch::Batch;
use crate::wal::gate::Gate;
use crate::wal::id::Sequence;
use crate::wal::reader::LogReader;
use crate::wal::refusal::Refusal;
use crate::wal::settings::{SyncMode, WalSettings};
use crate::wal::submission::EncodedRecord;
use crate::wal::tests::ledger::{encode_sized, read, settings};
use crate::wal::{Log, OpenedLog, WalError, open};

/// Bytes of a body. The record of its event is never larger.
const BODY_BYTES: usize = 500;
/// Small enough for a rotation after every other group.
const SEGMENT_BYTES: u64 = 300;
/// Requests of each connection, one after the other.
const REQUESTS: u64 = 2;
const CONNECTIONS: u64 = 3;

/// What happens in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    pub(crate) sync: SyncMode,
    pub(crate) ring_slots: usize,
    /// Where the gate closes.
    pub(crate) bytes_max: u64,
    /// Whether the drain begins at some time, and not only at the end.
    pub(crate) drains: bool,
    /// Whether the disk may fail.
    pub(crate) fails: bool,
}

/// A request and its answer.
struct Request {
    users: Vec<u64>,
    answer: Result<Sequence, Refusal>,
    /// What a power cut would have left when the answer came.
    synced: SimulatedDisk,
}

/// What the flush has seen.
struct Tailed {
    users: Vec<u64>,
    /// How far it had read, and what a power cut would have left then.
    looks: Vec<(usize, SimulatedDisk)>,
    outcome: Result<(), WalError>,
}

/// Runs the course and judges the outcome.
pub(crate) fn run(course: Course) {
    let disk = SimulatedDisk::new();
    let settings = WalSettings {
        ring_slots: course.ring_slots,
        bytes_max: course.bytes_max,
        ..settings(SEGMENT_BYTES, course.sync)
    };
    let OpenedLog {
        log, committer, gate, ..
    } = open(disk.clone(), &settings).unwrap();
    let fault = course.fails.then(some_fault);
    if let Some(fault) = fault {
        disk.arm(fault, roll(u64::MAX));
    }
    let budget = Budget::new(1 << 20);
    let (intake, ring) = Intake::new(course.ring_slots, Arc::clone(&budget), Arc::clone(&gate));
    let intake = Arc::new(intake);
    let shutdown = Shutdown::new();

    let writer = thread::spawn(move || committer.run(&ring));
    let flush = {
        let (log, disk) = (Arc::clone(&log), disk.clone());
        thread::spawn(move || tail(&log, &disk))
    };
    let closing = {
        let closing = close_gate_on_drain(shutdown.clone(), Arc::clone(&gate));
        thread::spawn(move || block_on(closing))
    };
    let stopping = course.drains.then(|| {
        let shutdown = shutdown.clone();
        thread::spawn(move || shutdown.drain())
    });
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|connection| connect(connection, &intake, &disk, &gate))
        .collect();
    drop(intake);

    let mut requests = Vec::new();
    for connection in connections {
        requests.extend(connection.join().unwrap());
    }
    let outcome = writer.join().unwrap();
    let tailed = flush.join().unwrap();
    if let Some(stopping) = stopping {
        stopping.join().unwrap();
    } else {
        // After a full disk, the log thread may not have looked again yet.
        let was_full = disk.fired() > 0 && fault.is_some_and(|fault| fault.kind.is_full());
        if !was_full || outcome.is_err() {
            judge_gate(&gate, outcome.is_err());
        }
    }
    shutdown.drain();
    closing.join().unwrap();

    assert_eq!(budget.reserved(), 0, "every byte in flight is given back");
    if disk.fired() == 0 {
        outcome.as_ref().unwrap();
        assert_eq!(gate.bytes_used(), segment_bytes(&disk), "the gate counts the segments");
        judge_answers_of_a_good_disk(&requests, &tailed, course);
    } else if fault.is_some_and(|fault| fault.kind != FaultKind::SyncDirError) {
        // The flush also uses the directory, and may still retire a segment while the log thread fails.
        assert_eq!(disk.touched_after_failure(), 0, "a failed file is left alone");
    }
    judge_promises(&requests, &tailed, course.sync);
    judge_refusals(&requests, &disk);
    if outcome.is_ok() && tailed.outcome.is_ok() {
        // At the end, answered requests are on the device even if their answer came before the sync.
        judge_survivors(&requests, &lost_power(&disk));
    }
}

/// A client that makes one request after the other.
fn connect(connection: u64, intake: &Arc<Intake>, disk: &SimulatedDisk, gate: &Arc<Gate>) -> JoinHandle<Vec<Request>> {
    let (intake, disk, gate) = (Arc::clone(intake), disk.clone(), Arc::clone(gate));
    thread::spawn(move || {
        let mut requests: Vec<Request> = Vec::new();
        for request in 0..REQUESTS {
            let first = 100 * (connection + 1) + 10 * request;
            let events = 1 + (connection + request) % 2;
            let users: Vec<u64> = (first..first + events).collect();
            let answer = intake
                .admit(BODY_BYTES)
                .and_then(|admission| block_on(intake.submit(admission, record_of(&users))));
            let before = requests.last().map(|request| request.answer);
            if before == Some(Err(Refusal::Poisoned)) {
                assert_eq!(answer, Err(Refusal::Poisoned), "poison is for good");
            }
            if answer == Err(Refusal::Poisoned) {
                assert_eq!(gate.check_open(), answer.map(|_| ()), "the gate is closed");
            }
            requests.push(Request {
                users,
                answer,
                synced: lost_power(&disk),
            });
        }
        requests
    })
}

fn record_of(users: &[u64]) -> EncodedRecord {
    let mut record = EncodedRecord::with_capacity_for(BODY_BYTES);
    for user in users {
        encode_sized(*user, record.buffer());
    }
    record.set_event_count(users.len() as u32);
    record
}

/// Follows the log as the flush does, and retires what it has read now and then.
fn tail(log: &Arc<Log<SimulatedDisk>>, disk: &SimulatedDisk) -> Tailed {
    let mut tailed = Tailed {
        users: Vec::new(),
        looks: Vec::new(),
        outcome: Ok(()),
    };
    let mut durable = log.subscribe();
    let mut reader = LogReader::new(Arc::clone(log), 0);
    let mut through = 0;
    let mut is_over = false;
    loop {
        let mark = *durable.borrow_and_update();
        assert!(mark.through >= through, "the watermark never goes back");
        through = mark.through;
        tailed.outcome = look(log, &mut reader, &mut tailed.users);
        if tailed.outcome.is_err() {
            return tailed;
        }
        let read_through = tailed.users.len();
        assert!(read_through as u64 >= through, "everything durable can be read");
        tailed.looks.push((read_through, lost_power(disk)));
        if roll(2) == 0 {
            tailed.outcome = log.retire_through(read_through as Sequence);
        }
        if is_over || tailed.outcome.is_err() {
            return tailed;
        }
        is_over = block_on(durable.changed()).is_err();
    }
}

fn look(
    log: &Arc<Log<SimulatedDisk>>,
    reader: &mut LogReader<SimulatedDisk>,
    users: &mut Vec<u64>,
) -> Result<(), WalError> {
    let mut batch = Batch::new(log.wal_id(), users.len() as Sequence);
    assert!(!reader.fill(&mut batch, 1000, 1 << 20)?);
    users.extend(batch.view().events().map(|event| event.user_id.parse::<u64>().unwrap()));
    Ok(())
}

/// Every request has a place in a log without gaps, or was refused for a real reason.
fn judge_answers_of_a_good_disk(requests: &[Request], tailed: &Tailed, course: Course) {
    tailed.outcome.as_ref().unwrap();
    let mut events = 0;
    for request in requests {
        match request.answer {
            Ok(through) => {
                let end = through as usize;
                let found = &tailed.users[end - request.users.len()..end];
                assert_eq!(
                    found, request.users,
                    "a request is whole in the log, where its answer says"
                );
                events += request.users.len();
            }
            Err(Refusal::RingFull) => assert!(course.ring_slots < CONNECTIONS as usize),
            Err(Refusal::LogFull) => assert!(course.bytes_max < 1 << 20),
            Err(Refusal::Draining) => assert!(course.drains),
            Err(refusal) => panic!("{refusal} without a reason"),
        }
    }
    // All are found, none twice, and there is nothing between them.
    assert_eq!(tailed.users.len(), events);
}

/// What was answered or read was on the device at that moment.
fn judge_promises(requests: &[Request], tailed: &Tailed, sync: SyncMode) {
    if sync == SyncMode::Group {
        for request in requests {
            judge_survivors(std::slice::from_ref(request), &request.synced);
        }
    }
    for (read_through, synced) in &tailed.looks {
        let (oldest, users) = contents(synced);
        let whole = &tailed.users[..*read_through];
        assert!(
            users.starts_with(&whole[whole.len().min(oldest)..]),
            "only what is synced is read"
        );
    }
}

/// Every accepted request is on the disk, unless its segment was retired.
fn judge_survivors(requests: &[Request], survived: &SimulatedDisk) {
    let (oldest, users) = contents(survived);
    for request in requests {
        let Ok(through) = request.answer else {
            continue;
        };
        let first = through as usize - request.users.len();
        if first >= oldest {
            let found = users.get(first - oldest..through as usize - oldest);
            assert_eq!(found, Some(request.users.as_slice()), "an ack is a promise");
        }
    }
}

/// Nothing that was refused before the log had it is in the log, even as unsynced bytes.
fn judge_refusals(requests: &[Request], disk: &SimulatedDisk) {
    let (_, users) = contents(&disk.after_process_death());
    for request in requests {
        if request.answer.is_err() && request.answer != Err(Refusal::Poisoned) {
            let found = request.users.iter().find(|user| users.contains(user));
            assert_eq!(found, None, "{:?} and yet stored", request.answer);
        }
    }
}

/// A gate with room is open, unless the log failed.
fn judge_gate(gate: &Gate, has_failed: bool) {
    if has_failed {
        assert_eq!(gate.check_open(), Err(Refusal::Poisoned));
    } else if gate.has_room_to_reopen() {
        assert_eq!(gate.check_open(), Ok(()), "a closed gate opens again");
    }
}

/// The number of retired events, and the users of the rest, as the next start finds them.
fn contents(disk: &SimulatedDisk) -> (usize, Vec<u64>) {
    let opened = open(disk.clone(), &settings(SEGMENT_BYTES, SyncMode::Group)).unwrap();
    let retired = opened.log.directory().oldest_sequence() as usize - 1;
    (retired, read(&opened.log, retired).unwrap())
}

fn lost_power(disk: &SimulatedDisk) -> SimulatedDisk {
    disk.after_power_cut(Damage::Lost, &mut Dice(0)).0
}

fn segment_bytes(disk: &SimulatedDisk) -> u64 {
    let files = disk.files();
    let is_segment = |path: &&std::path::PathBuf| path.extension() == Some("wal".as_ref());
    let bytes = |path: &Path| disk.contents(path).len() as u64;
    files.iter().filter(is_segment).map(|path| bytes(path)).sum()
}

/// A fault of the log thread's operations.
fn some_fault() -> Fault {
    const KINDS: [FaultKind; 8] = [
        FaultKind::SyncError,
        FaultKind::SyncError,
        FaultKind::WriteError,
        FaultKind::ShortWrite,
        FaultKind::WriteNoSpace,
        FaultKind::SyncDirError,
        FaultKind::CreateNoSpace,
        FaultKind::RenameError,
    ];
    Fault {
        kind: KINDS[roll(KINDS.len() as u64) as usize],
        at: 1 + roll(5) as usize,
        lasts: roll(2) == 0,
    }
}
