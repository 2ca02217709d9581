//! A throw-away PostgreSQL, fsync on, whose CPU time is counted over all of its processes, those that have ended
//! included.
//!
//! Its data is in `TMPDIR`, or `/tmp`; that should be a real disk.

use fast_ingest::upkeep::upgrade;
use std::thread;
use std::time::{Duration, Instant};

use fast_ingest::store::settings::StoreLocation;
use tokio::runtime::{Builder, Runtime};

use super::process;
use crate::postgres::{self, Cluster};

/// A server that uses less than this share of one CPU for [`QUIET_FOR`] has nothing left to do.
const QUIET_SHARE: f64 = 0.05;
const QUIET_FOR: Duration = Duration::from_millis(200);
/// Work that goes on for longer is not left over from a load but housekeeping.
const QUIET_WITHIN: Duration = Duration::from_secs(2);

/// A running server.
pub(crate) struct Postgres {
    cluster: Cluster,
    runtime: Runtime,
    postmaster: u32,
}

impl Postgres {
    /// Starts an empty server.
    pub(crate) fn start() -> Self {
        let cluster = Cluster::start_with_fsync(true);
        let port = cluster.port().to_string();
        let postmaster =
            process::pid_with_argument("postgres", &port).expect("it was started with its port as an argument");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = Self {
            cluster,
            runtime,
            postmaster,
        };
        server.check_cpu();
        server
    }

    /// Makes a database with the schema of this release and returns its URL.
    pub(crate) fn fresh_database(&self) -> String {
        let url = self.runtime.block_on(self.cluster.create_database());
        upgrade::up(&StoreLocation::Postgres(url.clone())).expect("an empty database takes its schema");
        url
    }

    /// CPU time of all processes of the server since it was started.
    pub(crate) fn cpu(&self) -> Duration {
        process::cpu_of_family(self.postmaster)
    }

    /// Runs statements.
    pub(crate) fn execute(&self, url: &str, statements: &str) {
        self.runtime.block_on(async {
            let client = postgres::connect(url).await;
            let done = client.batch_execute(statements).await;
            done.expect("the database is up");
        });
    }

    /// Runs a query and then, as statements, the text in the first column of each row.
    pub(crate) fn execute_each(&self, url: &str, query: &str) {
        let statements: Vec<String> = self.runtime.block_on(async {
            let client = postgres::connect(url).await;
            let rows = client.query(query, &[]).await.expect("the database is up");
            rows.iter().map(|row| row.get(0)).collect()
        });
        self.execute(url, &statements.join(";"));
    }

    /// Counts the events in a database, one by one.
    pub(crate) fn count_events(&self, url: &str) -> u64 {
        self.runtime.block_on(async {
            let client = postgres::connect(url).await;
            let row = client.query_one("SELECT count(*) FROM events", &[]).await;
            let events: i64 = row.expect("the database is up").get(0);
            u64::try_from(events).expect("a count")
        })
    }

    /// Runs a future on the thread that also drives the connections.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Burns a known time in a session of its own, and checks that it is counted while the session runs and after it
    /// has ended. A cost that is not seen would look like a success.
    fn check_cpu(&self) {
        let before = self.cpu();
        let started = Instant::now();
        let url = self.cluster.url("postgres");
        let burn = "DO $$ BEGIN WHILE clock_timestamp() < now() + interval '200 ms' LOOP END LOOP; END $$";
        self.execute(&url, burn);
        // The session ends, and the postmaster notices, only after our answer.
        thread::sleep(Duration::from_millis(50));
        let (counted, elapsed) = (self.cpu() - before, started.elapsed());
        assert!(
            counted >= Duration::from_millis(100) && counted < 3 * elapsed,
            "{counted:?} of CPU were counted in {elapsed:?}, of which 200 ms were busy"
        );
    }
}

/// Waits until the work left over from a load is done, so that it counts for that load and not for the next one.
pub(crate) fn settle(cpu: impl Fn() -> Duration) {
    let started = Instant::now();
    while started.elapsed() < QUIET_WITHIN {
        let before = cpu();
        thread::sleep(QUIET_FOR);
        if cpu().saturating_sub(before) < QUIET_FOR.mul_f64(QUIET_SHARE) {
            return;
        }
    }
}
