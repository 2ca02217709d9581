//! Settings with which every transaction that changes something begins.

/// Longest wait for a lock, most of all for the checkpoint's row while a lost session still holds it.
pub(super) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";
/// A transaction whose client falls silent between two statements is ended after this time, and releases the
/// checkpoint's row. In the middle of a COPY no timeout of the server applies: there keepalives detect that the client
/// is gone.
pub(super) const IDLE_TIMEOUT: &str = "SET LOCAL idle_in_transaction_session_timeout = '30s'";
/// Raises `synchronous_commit` if it would confirm commits that a crash can lose, because segments of the log are
/// removed once a commit is confirmed. A setting that also waits for replicas stays. Checked in each transaction,
/// because the setting of a running session can change.
pub(super) const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', true) \
                                  WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";
