//! `make torture`: runs fault plans for as long as asked, and ends each with one line. Status 1 on any violation.

#![allow(
    clippy::unwrap_used,
    reason = "clippy spares the tests themselves, but not the helpers that they share"
)]
#![allow(dead_code, reason = "the tests use more of the shared helpers than the plans do")]
#![allow(clippy::print_stdout, reason = "what it finds out goes there")]

mod support;
mod torture;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use support::random::Random;
use torture::report::Report;
use torture::{PLANS, Plan};

/// Breaks things around a real server and checks that no promise is broken.
#[derive(Parser)]
#[command(name = "torture")]
struct Args {
    /// Plan to run; all plans by default.
    #[arg(long)]
    plan: Option<String>,
    /// Approximate number of faults to inject; each plan has its own default.
    #[arg(long)]
    cycles: Option<u32>,
    /// Seed of the injected faults and their times; random by default.
    #[arg(long)]
    seed: Option<u64>,
    /// List the plans.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for plan in PLANS {
            println!("{:<16} {}", plan.name, plan.about);
        }
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Plan> = match &args.plan {
        None => PLANS.iter().collect(),
        Some(name) => match Plan::named(name) {
            Some(plan) => vec![plan],
            None => {
                let names: Vec<_> = PLANS.iter().map(|plan| plan.name).collect();
                eprintln!("no plan {name:?}; there are {}", names.join(", "));
                return ExitCode::from(2);
            }
        },
    };
    let held = chosen.iter().filter(|plan| run(plan, &args)).count();
    if held == chosen.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one plan and prints its line; whether all promises held.
fn run(plan: &Plan, args: &Args) -> bool {
    let cycles = args.cycles.unwrap_or(plan.cycles);
    let seed = args.seed.unwrap_or_else(Random::any_seed);
    let mut random = Random::seeded(seed);
    let mut report = Report::new(plan.name);
    let begun = Instant::now();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        (plan.run)(&mut random, cycles, &mut report);
    }));
    let held = outcome.is_ok() && report.is_held();
    for example in report.examples() {
        println!("  {example}");
    }
    let verdict = match (held, report.is_skipped()) {
        (_, true) => "skipped",
        (true, false) => "held",
        (false, false) => "BROKEN",
    };
    let took = Duration::from_secs(begun.elapsed().as_secs());
    println!(
        "{report}; {cycles} cycles, seed {seed}, {}: {verdict}",
        humantime::format_duration(took)
    );
    held
}
