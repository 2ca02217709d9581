//! Why the log refuses a request.

/// Why a request is refused for now. Nothing of it was or will be stored, except where a variant says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Bodies and records in flight have used up their byte budget.
    #[error("too many bytes in flight")]
    BudgetFull,
    /// The ring has no free slot.
    #[error("the queue to the write-ahead log is full")]
    RingFull,
    /// The write-ahead log is at its cap, or the disk at its free-space floor.
    #[error("the write-ahead log has no space left")]
    LogFull,
    /// Log and database do not belong together, and a person has to decide.
    #[error("the write-ahead log and the database do not belong together")]
    Mismatch,
    /// A write or sync failed. Where the log thread had the record, whether the events of the request survive is
    /// unknown.
    #[error("the write-ahead log has failed")]
    Poisoned,
    /// The log thread has ended before the request reached it.
    #[error("the write-ahead log has ended")]
    LogEnded,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// The machine's clock is set before this program was made, so nobody can say which events are from the future.
    #[error("the server's clock is not set yet")]
    ClockUnset,
}
