//! The whole flush into PostgreSQL, against a bare COPY of the same rows into a table of the same kind.
//!
//! The bare COPY has its rows encoded before the clock starts, keeps no checkpoint and no rollups, and commits once per
//! batch: what one session of this server can take in.

use std::time::Instant;

use criterion::Criterion;
use fast_ingest::store::settings::StoreLocation;
use tokio::runtime::Builder;
use tokio_postgres::{Client, Statement};

use crate::postgres::{self, Cluster};
use crate::support::batches::Contest;
use crate::support::raw_copy::{self, Chunks};
use crate::support::store::Flush;
use crate::support::table::Table;

/// The rows of the bench all fall into a few minutes, so one partition is as good as one a month.
const BARE_TABLE: &str = "
    CREATE TABLE bare (LIKE events INCLUDING ALL) PARTITION BY RANGE (ts);
    CREATE TABLE bare_only PARTITION OF bare FOR VALUES FROM (MINVALUE) TO (MAXVALUE)";

/// Measures batches of all sizes.
pub(crate) fn run(criterion: &mut Criterion, table: &mut Table) {
    let cluster = Cluster::start_with_fsync(true);
    // The bare COPY has a runtime to itself, too.
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let url = runtime.block_on(cluster.create_database());
    let mut flush = Flush::open(StoreLocation::Postgres(url.clone()));
    let (bare, copy) = runtime.block_on(connect_bare(&url));
    let contest = Contest {
        layer: "flush_postgres",
        limit: "bare_copy",
        ratio_min: 0.9,
    };
    contest.run(
        criterion,
        table,
        |batch| flush.time(batch),
        |batch| {
            let chunks = Chunks::of(batch.events());
            let started = Instant::now();
            let stored = runtime.block_on(raw_copy::send(&bare, &copy, chunks));
            let took = started.elapsed();
            assert_eq!(stored, batch.len() as u64);
            took
        },
    );
}

async fn connect_bare(url: &str) -> (Client, Statement) {
    let client = postgres::connect(url).await;
    let made = client.batch_execute(BARE_TABLE).await;
    made.expect("the table of events exists");
    let copy = raw_copy::prepare(&client, "bare").await;
    (client, copy)
}
