//! The protocol between requests, log thread, flush and shutdown, in thousands of random orders of its steps.
//!
//! Each check runs the real code on an in-memory disk; only what [`crate::support::sync`] names is replaced. Shuttle
//! chooses which thread takes the next step and when a wait for the ring times out, and fails a run in which no thread
//! can go on: a waiter without an answer needs no assertion. It cannot show what a processor does beyond taking turns;
//! the reasons for the memory orderings are given where they are used.
//!
//! `make model` runs it. A failure prints a schedule, and `SCHEDULE='...' cargo test --lib --features shuttle <name of
//! the check>` takes the same steps again.

mod commit;
mod courses;
mod gate;
mod shutdown;

use std::sync::Arc;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Orders tried by each check when nothing else is said.
const SCHEDULES: usize = 1000;
/// One in this many orders follows priorities that rarely change, which finds bugs that need one very slow thread.
const PCT_SHARE: usize = 5;
/// Changes of priority in such an order.
const PCT_DEPTH: usize = 3;
/// Recovery of a snapshot needs more than shuttle's default of 32 KiB in a debug build.
const STACK_BYTES: usize = 512 * 1024;

/// Runs a scenario in as many orders as the environment's `SCHEDULES` says, or in the one that `SCHEDULE` holds.
fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    if let Ok(schedule) = std::env::var("SCHEDULE") {
        run(ReplayScheduler::new_from_encoded(&schedule), &scenario);
        return;
    }
    let schedules =
        std::env::var("SCHEDULES").map_or(SCHEDULES, |number| number.parse().expect("SCHEDULES is a number"));
    let by_priority = schedules / PCT_SHARE;
    run(RandomScheduler::new(schedules - by_priority), &scenario);
    if by_priority > 0 {
        run(PctScheduler::new(PCT_DEPTH, by_priority), &scenario);
    }
}

fn run(scheduler: impl Scheduler + Send + 'static, scenario: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    let scenario = Arc::clone(scenario);
    Runner::new(scheduler, config).run(move || scenario());
}

/// A number that the scheduler chooses, from 0 to `sides` - 1.
fn roll(sides: u64) -> u64 {
    thread_rng().gen_range(0..sides)
}
