//! `fast-ingest verify` and `fast-ingest rollup rebuild`: check the rollups against the events, and rebuild them.
//!
//! Both work day by day, and may run beside a server.

use anyhow::anyhow;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::RollupCommand;
use super::args::DatabaseArgs;
use super::migrate;
use crate::event::Timestamp;
use crate::event::bucket::Day;
use crate::rollup::users::NewKey;
use crate::store::settings::StoreLocation;
use crate::store::{self, RollupStore, StoreError, migrations};
use crate::support::exit::{ExitStatus, Failure, say};
use crate::support::words::plural;
use crate::upkeep::rebuild::{self, Rebuilt, Rules, rebuild_day_and_rest};
use crate::upkeep::settings::RollupCap;
use crate::upkeep::verify::{Fault, verify_day};

/// Most differences that are printed one by one: enough to see their kind.
const DIFFERENCES_TOLD_MAX: u64 = 20;

/// The flags of `fast-ingest verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Flags that choose the database.
    #[command(flatten)]
    database: DatabaseArgs,
    /// Flags that choose the days.
    #[command(flatten)]
    days: DayArgs,
}

/// The flags of `fast-ingest rollup rebuild`.
#[derive(Debug, Clone, Args)]
pub struct RebuildArgs {
    /// Flags that choose the database.
    #[command(flatten)]
    database: DatabaseArgs,
    /// Flags that choose the days.
    #[command(flatten)]
    days: DayArgs,
    /// The cap on rollups.
    #[command(flatten)]
    rollups: RollupCap,
    /// Remove the rollups of days that have no events left; by default they are kept, because they are the only history
    /// of such days
    #[arg(long)]
    forget: bool,
}

/// A range of UTC days.
#[derive(Debug, Clone, Args)]
struct DayArgs {
    /// First day, in UTC; by default the first one stored
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<Day>,
    /// Last day, included; by default the last one stored
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<Day>,
}

/// Compares the rollups with the stored events.
///
/// # Errors
///
/// When they differ (65), or the database cannot be read.
pub fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let location = migrate::locate(&args.database)?;
    let nothing = async |_: &mut dyn RollupStore, _: &mut Verified| Ok(());
    let steps = (nothing, verify_one, nothing);
    on_each_day(&location, &args.days, Verified::default(), steps)?.conclude()
}

/// Runs a rollup command.
///
/// # Errors
///
/// When the database fails.
pub fn run(command: RollupCommand) -> Result<(), Failure> {
    let RollupCommand::Rebuild(args) = command;
    let location = migrate::locate(&args.database)?;
    let rules = Rules {
        pairs_max: args.rollups.pairs_per_day_max,
        forget: args.forget,
    };
    // A new key requires a rebuild of all days.
    let is_whole = args.days.from.is_none() && args.days.to.is_none();
    let make_key = async |store: &mut dyn RollupStore, (_, new_key): &mut (Rebuilt, NewKey)| {
        if is_whole {
            *new_key = rebuild::make_user_key(store).await?;
        }
        Ok(())
    };
    let rebuild_one = async |store: &mut dyn RollupStore, day, (rebuilt, _): &mut (Rebuilt, NewKey), _: &_| {
        rebuilt.add(rebuild_day_and_rest(store, day, rules).await?);
        Ok(())
    };
    let set_rebuilt = async |store: &mut dyn RollupStore, (_, new_key): &mut (Rebuilt, NewKey)| {
        if *new_key == NewKey::Made {
            rebuild::set_rebuilt(store).await?;
        }
        Ok(())
    };
    let outcome = (Rebuilt::default(), NewKey::NotNeeded);
    let steps = (make_key, rebuild_one, set_rebuilt);
    let (rebuilt, new_key) = on_each_day(&location, &args.days, outcome, steps)?;
    match new_key {
        NewKey::NotNeeded => {}
        NewKey::Made => say("user ids are hashed with a secret of this database from now on")?,
        NewKey::KeptForOldDays => say(
            "user ids stay hashed without a secret: some days have rollups but no events to count again, and sets with different hashes \
             do not merge; --forget removes the rollups of such days, after which another rebuild makes the secret",
        )?,
    }
    let (days, events) = (plural(rebuilt.days, "day"), plural(rebuilt.events, "event"));
    say(format_args!("rebuilt {days}, {events}"))?;
    if rebuilt.kept > 0 {
        let days = plural(rebuilt.kept, "day");
        say(format_args!(
            "kept the rollups of {days} whose events are gone; --forget removes them"
        ))?;
    }
    if rebuilt.forgotten > 0 {
        let days = plural(rebuilt.forgotten, "day");
        say(format_args!("removed the rollups of {days} whose events are gone"))?;
    }
    Ok(())
}

/// The totals of verifying so far.
#[derive(Debug, Default)]
struct Verified {
    counted: Rebuilt,
    differences: u64,
    days_with_differences: u64,
    /// Differences that are days whose events are gone.
    days_gone: u64,
}

async fn verify_one(
    store: &mut dyn RollupStore,
    day: Day,
    verified: &mut Verified,
    bar: &ProgressBar,
) -> Result<(), DayError> {
    let verdict = verify_day(store, day).await?;
    verified.counted.add_day(verdict.events);
    verified.days_with_differences += u64::from(!verdict.differences.is_empty());
    for difference in &verdict.differences {
        verified.differences += 1;
        let is_gone = matches!(difference.fault, Fault::EventsGone { .. });
        verified.days_gone += u64::from(is_gone);
        if verified.differences <= DIFFERENCES_TOLD_MAX {
            // Hides the bar while the line is printed.
            bar.suspend(|| say(difference))?;
        }
    }
    Ok(())
}

impl Verified {
    fn conclude(self) -> Result<(), Failure> {
        let Self {
            counted: Rebuilt { days, events, .. },
            differences,
            days_with_differences,
            days_gone,
        } = self;
        if differences == 0 {
            let (days, events) = (plural(days, "day"), plural(events, "event"));
            return say(format_args!("verified {events} in {days}: no difference"));
        }
        let untold = differences.saturating_sub(DIFFERENCES_TOLD_MAX);
        if untold > 0 {
            say(format_args!("and {untold} more"))?;
        }
        let summary = if differences == days_gone {
            anyhow!(
                "{} with rollups but without events; `fast-ingest rollup rebuild --forget` removes these rollups",
                plural(days_gone, "day")
            )
        } else {
            anyhow!(
                "{} in {}; `fast-ingest rollup rebuild` rebuilds the rollups",
                plural(differences, "difference"),
                plural(days_with_differences, "day")
            )
        };
        Err(Failure::new(ExitStatus::Data, summary))
    }
}

/// Why a step on a day failed: the store, or printing.
enum DayError {
    Store(StoreError),
    Said(Failure),
}

impl From<StoreError> for DayError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for DayError {
    fn from(failure: Failure) -> Self {
        Self::Said(failure)
    }
}

/// Runs `each` on every stored day in a range, `first` before them and `last` after them. Shows a bar if stderr is a
/// terminal. Returns the `outcome` that the steps have changed.
fn on_each_day<T>(
    location: &StoreLocation,
    range: &DayArgs,
    mut outcome: T,
    (first, each, last): (
        impl AsyncFn(&mut dyn RollupStore, &mut T) -> Result<(), StoreError>,
        impl AsyncFn(&mut dyn RollupStore, Day, &mut T, &ProgressBar) -> Result<(), DayError>,
        impl AsyncFn(&mut dyn RollupStore, &mut T) -> Result<(), StoreError>,
    ),
) -> Result<T, Failure> {
    if let (Some(from), Some(to)) = (range.from, range.to)
        && from > to
    {
        let text = "--from must not be a later day than --to";
        return Err(Failure::new(ExitStatus::Config, anyhow!(text)));
    }
    let store_failure = |error| match error {
        // A rollup that cannot be decoded.
        StoreError::Data { .. } => Failure::new(ExitStatus::Data, error),
        error => migrate::failure(location, error),
    };
    let settings = migrations::upkeep_settings(location.clone());
    migrations::block_on(async {
        let store = store::open(&settings)?;
        store.check_schema().await?;
        store.check_rollups().await?;
        let mut rollups = store.open_rollups().await?;
        first(&mut *rollups, &mut outcome).await?;
        let days = rebuild::days(&mut *rollups, range.from, range.to).await?;
        let bar = progress_bar(days.len() as u64);
        for day in days {
            if let Err(problem) = each(&mut *rollups, day, &mut outcome, &bar).await {
                bar.finish_and_clear();
                return Ok(Err((day, problem)));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        last(&mut *rollups, &mut outcome).await?;
        Ok(Ok(outcome))
    })
    .map_err(store_failure)?
    .map_err(|(day, problem)| match problem {
        DayError::Said(failure) => failure,
        DayError::Store(error) => {
            let Failure { status, error } = store_failure(error);
            Failure::new(status, error.context(format!("stopped at day {}", day)))
        }
    })
}

/// A bar on stderr, hidden unless that is a terminal.
fn progress_bar(days: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {percent:>3} %  {pos} of {len} days, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(days), ProgressDrawTarget::stderr()).with_style(style)
}

/// Parses a day such as `2026-02-01`.
fn day(text: &str) -> Result<Day, String> {
    let midnight = Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z"));
    midnight
        .map(Day::of)
        .map_err(|_| "expected a day from 1970-01-01 on, for example 2026-02-01".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_and_written_the_same() {
        assert_eq!(
            day("2026-02-01").map(|day| day.to_string()).as_deref(),
            Ok("2026-02-01")
        );
        for text in ["", "2026-02-30", "2026-2-1", "1969-12-31", "2026-02-01T00:00:00Z"] {
            assert!(day(text).is_err(), "{text}");
        }
    }

    #[test]
    fn many_differences_end_in_their_number() {
        let verified = |differences, days_with_differences| Verified {
            counted: Rebuilt {
                days: 9,
                events: 9,
                ..Rebuilt::default()
            },
            differences,
            days_with_differences,
            days_gone: 0,
        };
        verified(0, 0).conclude().unwrap();
        for (verified, expected) in [
            (verified(1, 1), "1 difference in 1 day; "),
            (verified(3, 2), "3 differences in 2 days; "),
        ] {
            let failure = verified.conclude().unwrap_err();
            assert_eq!(failure.status, ExitStatus::Data);
            assert!(failure.to_string().starts_with(expected), "{failure}");
        }
    }
}
