//! Random lives of a log from one seed: random sizes, requests, retires, faults and power cuts. After each life the log
//! is compared with the ledger.
//!
//! `FAST_INGEST_SEEDS` says how many, `FAST_INGEST_SEED` which is the first; a failing seed is printed with the command
//! that repeats it.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::ledger::{Ledger, Plan, stay};
use super::*;
use crate::testing::disk::simulated::{Damage, Dice, Fault, FaultKind, SimulatedDisk};

const SEEDS: u64 = 5_000;
/// From this number of seeds on, a run uses all cores.
const SEEDS_OF_A_LONG_RUN: u64 = 20_000;

/// What happened in all lives.
#[derive(Debug, Default)]
struct Counts {
    cuts: usize,
    cuts_with_loss: usize,
    torn_tails: usize,
    /// In the order of [`FaultKind::RETURNED`].
    fired: [usize; FaultKind::RETURNED.len()],
    acked: usize,
    lost: usize,
    doubled: usize,
    phantom: usize,
}

impl Counts {
    fn add(mut self, other: &Self) -> Self {
        self.cuts += other.cuts;
        self.cuts_with_loss += other.cuts_with_loss;
        self.torn_tails += other.torn_tails;
        for (sum, fired) in self.fired.iter_mut().zip(other.fired) {
            *sum += fired;
        }
        self.acked += other.acked;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.phantom += other.phantom;
        self
    }
}

/// A few lots of a few requests, some of them bulks.
fn plan(dice: &mut Dice, segment_bytes: u64) -> Plan {
    let lots = (0..1 + dice.roll(5))
        .map(|_| {
            (0..1 + dice.roll(3))
                .map(|_| match dice.roll(6) {
                    0 => 2 + dice.roll(8) as usize,
                    _ => 1,
                })
                .collect()
        })
        .collect();
    Plan {
        lots,
        segment_bytes,
        unflushed: dice.roll(12) as usize,
    }
}

/// The lives of one seed.
fn live(seed: u64, counts: &mut Counts) {
    let mut dice = Dice(seed);
    let segment_bytes = 200 << dice.roll(5);
    let mut disk = SimulatedDisk::new();
    let mut ledger = Ledger::default();
    for _ in 0..2 + dice.roll(3) {
        let plan = plan(&mut dice, segment_bytes);
        let mut armed = None;
        if dice.one_in(2) {
            let index = dice.roll(FaultKind::RETURNED.len() as u64) as usize;
            let kind = FaultKind::RETURNED[index];
            // A start cuts a tail once, and removes files hardly more often.
            let places = match kind {
                FaultKind::TruncateError => 1,
                FaultKind::RemoveError | FaultKind::RenameError | FaultKind::CreateNoSpace => 3,
                _ => 12,
            };
            let fault = Fault {
                kind,
                at: 1 + dice.roll(places) as usize,
                lasts: dice.one_in(2),
            };
            disk.arm(fault, dice.roll(u64::MAX));
            armed = Some(index);
        }
        if dice.one_in(2) {
            disk.cut_power_at(1 + dice.roll(30) as usize);
        }
        let outcome = stay(&disk, &mut ledger, &plan);
        let fired = armed.map_or(0, |index| {
            counts.fired[index] += disk.fired();
            disk.fired()
        });
        match outcome {
            Ok(()) => {}
            Err(WalError::Io { .. }) if fired > 0 || disk.is_power_gone() => {}
            Err(error) => panic!("the log does not start: {error}"),
        }
        if disk.is_power_gone() || dice.one_in(3) {
            let damage = Damage::thrown(&mut dice);
            let (survived, lost) = disk.after_power_cut(damage, &mut dice);
            counts.cuts += 1;
            counts.cuts_with_loss += usize::from(lost > 0);
            disk = survived;
        } else {
            disk = disk.after_process_death();
        }
    }
    stay(&disk, &mut ledger, &plan(&mut dice, segment_bytes)).expect("a healed disk serves");
    let tally = ledger.tally;
    counts.torn_tails += tally.torn_tails;
    counts.acked += tally.acked;
    counts.lost += tally.lost;
    counts.doubled += tally.doubled;
    counts.phantom += tally.phantom;
}

fn run(seeds: impl Iterator<Item = u64>) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        let lived = catch_unwind(AssertUnwindSafe(|| live(seed, &mut counts)));
        if let Err(panic) = lived {
            eprintln!(
                "seed {seed} failed; again: FAST_INGEST_SEED={seed} FAST_INGEST_SEEDS=1 cargo test --lib wal::tests::swarm"
            );
            resume_unwind(panic);
        }
    }
    counts
}

fn number_from_environment(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    Some(given.parse().expect("a number of seeds, or a seed"))
}

#[test]
fn no_seed_loses_doubles_or_makes_up_an_event() {
    let seeds = number_from_environment("FAST_INGEST_SEEDS").unwrap_or(SEEDS);
    let first = number_from_environment("FAST_INGEST_SEED").unwrap_or(1);
    let threads = match thread::available_parallelism() {
        Ok(cores) if seeds >= SEEDS_OF_A_LONG_RUN => cores.get() as u64,
        _ => 1,
    };
    let counts = thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|thread| {
                let share = (first..first + seeds).skip(thread as usize);
                scope.spawn(move || run(share.step_by(threads as usize)))
            })
            .collect();
        runs.into_iter().fold(Counts::default(), |sum, run| {
            sum.add(&run.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    });
    let fired: Vec<_> = FaultKind::RETURNED.iter().zip(counts.fired).collect();
    // Written to stderr itself, because output of a passing test is captured: the figures are the point of a long run.
    writeln!(
        std::io::stderr(),
        "{seeds} seeds from {first}: {} power cuts, {} lost something, {} torn tails cut, faults fired {fired:?}, {} events \
         acknowledged, {} lost, {} doubled, {} phantom",
        counts.cuts,
        counts.cuts_with_loss,
        counts.torn_tails,
        counts.acked,
        counts.lost,
        counts.doubled,
        counts.phantom
    )
    .unwrap();
    assert_eq!((counts.lost, counts.doubled, counts.phantom), (0, 0, 0));
    // A run of few seeds repeats a failure and need not be representative.
    if seeds >= 1_000 {
        assert!(fired.iter().all(|(_, fired)| *fired > 0), "{fired:?}");
        assert!(counts.torn_tails > 0);
        assert!(counts.cuts_with_loss * 10 >= counts.cuts * 3, "{counts:?}");
    }
}
