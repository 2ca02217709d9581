//! Bugs planted on purpose, to prove that the fault harness notices such bugs. Only builds with the feature `mutants`, which
//! `make mutants` makes for itself, can have one; everywhere else [`planted`] is a constant `false` and costs nothing.

/// Environment variable with the name of the bug to have.
#[cfg(feature = "mutants")]
const PLANTED_BUG: &str = "PLANTED_BUG";

/// The bugs, each one that some system of this kind once had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Segments are removed before the commit of their events.
    RetireBeforeCommit,
    /// The checkpoint is moved from wherever it stands.
    NoCompareAndSet,
    /// The checkpoint is compared, but of whichever log.
    CompareAndSetOfAnyLog,
    /// A full disk of the database is taken for a fault of the events.
    QuarantineOnDiskFull,
    /// What is in flight is bounded by number, not by bytes.
    NoByteBudget,
    /// After a commit in doubt the batch is stored again, behind whatever the checkpoint says.
    StoreAgainAfterDoubt,
}

/// Whether this build has the bug.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

/// Whether this process has the bug.
#[cfg(feature = "mutants")]
pub(crate) fn planted(bug: Bug) -> bool {
    use std::sync::LazyLock;
    static NAME: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(PLANTED_BUG).ok());
    NAME.as_ref()
        .is_some_and(|name| *name == format!("{bug:?}"))
}
