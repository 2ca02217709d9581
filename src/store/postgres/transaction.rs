//! What every transaction that changes something begins with.

/// Longest wait for a lock, most of all for the checkpoint's row while a lost session still holds it.
pub(super) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";
/// A transaction whose client falls silent between two statements ends by itself after this time, and lets go of the
/// checkpoint. In the middle of a COPY no timeout of the server applies: there its keepalives find out that the client
/// is gone.
pub(super) const IDLE_TIMEOUT: &str = "SET LOCAL idle_in_transaction_session_timeout = '30s'";
/// A server that is told to confirm what it may still lose is told otherwise, for the log is deleted on its word. One
/// that is told to wait for its replicas as well goes on doing so. Each transaction looks, because a running session
/// may be told another thing.
pub(super) const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', true) \
                                  WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";
