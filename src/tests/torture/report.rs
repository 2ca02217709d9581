//! The faults and findings of a plan, as one line.

use std::collections::BTreeMap;
use std::fmt;

use crate::support::ledger::Audit;

/// Counts over all cycles of a plan.
#[derive(Debug)]
pub(crate) struct Report {
    plan: &'static str,
    faults: BTreeMap<&'static str, u64>,
    /// Further amounts that a plan reports beside the number of its faults.
    amounts: BTreeMap<&'static str, u64>,
    acknowledged: u64,
    lost: u64,
    doubled: u64,
    phantom: u64,
    altered: u64,
    halved: u64,
    unknown_stored: u64,
    examples: Vec<String>,
    skipped: Option<String>,
    /// The peak over all servers of the plan.
    peak: Footprint,
}

/// Resources that a server process uses.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Footprint {
    /// Peak resident memory, in KiB.
    pub(crate) rss_kib: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
}

impl Report {
    pub(crate) fn new(plan: &'static str) -> Self {
        Self {
            plan,
            faults: BTreeMap::new(),
            amounts: BTreeMap::new(),
            acknowledged: 0,
            lost: 0,
            doubled: 0,
            phantom: 0,
            altered: 0,
            halved: 0,
            unknown_stored: 0,
            examples: Vec::new(),
            skipped: None,
            peak: Footprint::default(),
        }
    }

    /// Counts a fault whose effect was seen, not one that was only asked for.
    pub(crate) fn fired(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Adds to an amount that is reported beside the faults.
    pub(crate) fn add_amount(&mut self, what: &'static str, amount: u64) {
        *self.amounts.entry(what).or_default() += amount;
    }

    /// How often a fault took effect.
    pub(crate) fn count(&self, fault: &str) -> u64 {
        self.faults.get(fault).copied().unwrap_or(0)
    }

    /// Number of faults that took effect.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Marks the plan as one that cannot run on this machine: it counts as skipped, never as passed.
    pub(crate) fn skip(&mut self, reason: impl Into<String>) {
        self.skipped = Some(reason.into());
    }

    /// Adds the result of an audit.
    pub(crate) fn add(&mut self, audit: Audit) {
        self.acknowledged += audit.acknowledged;
        self.lost += audit.lost;
        self.doubled += audit.doubled;
        self.phantom += audit.phantom;
        self.altered += audit.altered;
        self.halved += audit.halved;
        self.unknown_stored += audit.unknown_stored;
        self.examples.extend(audit.examples);
    }

    /// Requests that are stored although no client got an answer.
    pub(crate) fn unknown_stored(&self) -> u64 {
        self.unknown_stored
    }

    /// Adds a server's present use of resources.
    pub(crate) fn note_footprint(&mut self, footprint: Footprint) {
        self.peak.rss_kib = self.peak.rss_kib.max(footprint.rss_kib);
        self.peak.threads = self.peak.threads.max(footprint.threads);
        self.peak.files = self.peak.files.max(footprint.files);
    }

    pub(crate) fn is_skipped(&self) -> bool {
        self.skipped.is_some()
    }

    /// Whether every promise held and something was tested, or the plan was skipped.
    pub(crate) fn is_held(&self) -> bool {
        let violations = self.lost + self.doubled + self.phantom + self.altered + self.halved;
        let was_tested = self.faults() > 0 && self.acknowledged > 0;
        self.skipped.is_some() || (violations == 0 && was_tested)
    }

    #[track_caller]
    pub(crate) fn assert_held(&self) {
        assert!(self.is_held(), "{self}: {:#?}", self.examples);
    }

    /// The first violations in words.
    pub(crate) fn examples(&self) -> &[String] {
        &self.examples
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.skipped {
            return write!(f, "{}: skipped, {reason}", self.plan);
        }
        write!(f, "{}: {} faults fired (", self.plan, self.faults())?;
        for (index, (fault, count)) in self.faults.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{fault} {count}")?;
        }
        f.write_str(")")?;
        for (what, amount) in &self.amounts {
            write!(f, ", {amount} {what}")?;
        }
        write!(
            f,
            ", {} events acknowledged, {} lost, {} doubled, {} phantom, {} altered, {} halved; at most {} MiB, {} threads, {} files",
            self.acknowledged,
            self.lost,
            self.doubled,
            self.phantom,
            self.altered,
            self.halved,
            self.peak.rss_kib / 1024,
            self.peak.threads,
            self.peak.files
        )
    }
}
