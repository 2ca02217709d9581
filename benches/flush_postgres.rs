//! The whole flush into PostgreSQL, against a bare COPY of the same rows into a table of the same kind.
//!
//! The bare one has its rows in the form of COPY before the clock starts, keeps no checkpoint and no rollups, and commits once a batch:
//! what one session of this server can take in.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use criterion::Criterion;
use fast_ingest::batch::BatchView;
use fast_ingest::config::StoreLocation;
use futures_util::SinkExt as _;
use tokio::runtime::Builder;
use tokio_postgres::{Client, Statement};

use crate::postgres::{self, Cluster};
use crate::support::batches::{Contest, WAL_ID};
use crate::support::store;
use crate::support::table::Table;

/// As the store's sink has it.
const CHUNK_BYTES: usize = 128 * 1024;

/// The rows of the bench all fall into a few minutes, so one partition is as good as one a month.
const BARE_TABLE: &str = "
    CREATE TABLE bare (LIKE events INCLUDING ALL) PARTITION BY RANGE (ts);
    CREATE TABLE bare_only PARTITION OF bare FOR VALUES FROM (MINVALUE) TO (MAXVALUE)";

/// Measures batches of all sizes.
pub(crate) fn run(criterion: &mut Criterion, table: &mut Table) {
    let cluster = Cluster::start_with_fsync(true);
    // The flush has such a runtime to itself.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let url = runtime.block_on(cluster.create_database());
    let store = runtime.block_on(store::open(StoreLocation::Postgres(url.clone())));
    let sink = runtime.block_on(store.open_sink());
    let mut sink = sink.expect("the server answers");
    let created = runtime.block_on(sink.create_checkpoint(WAL_ID, 0));
    created.expect("a new log");
    let bare = runtime.block_on(BareCopy::connect(&url));
    let contest = Contest {
        layer: "flush_postgres",
        limit: "bare_copy",
        ratio_min: 0.9,
    };
    contest.run(
        criterion,
        table,
        |batch| {
            let started = Instant::now();
            runtime.block_on(sink.flush(batch)).expect("stored");
            started.elapsed()
        },
        |batch| {
            let chunks = in_chunks(batch);
            let started = Instant::now();
            let stored = runtime.block_on(bare.store(chunks));
            let took = started.elapsed();
            assert_eq!(stored, batch.len() as u64);
            took
        },
    );
}

struct BareCopy {
    client: Client,
    copy: Statement,
}

impl BareCopy {
    async fn connect(url: &str) -> Self {
        let client = postgres::connect(url).await;
        let made = client.batch_execute(BARE_TABLE).await;
        made.expect("the events are there to be like");
        let copy = format!(
            "COPY bare ({}) FROM STDIN (FORMAT binary)",
            crate::copy::COLUMNS
        );
        let copy = client.prepare(&copy).await.expect("made above");
        Self { client, copy }
    }

    /// Returns the number of rows that the server took.
    async fn store(&self, chunks: Vec<Bytes>) -> u64 {
        let rows = self.client.copy_in(&self.copy).await;
        let mut rows = std::pin::pin!(rows.expect("COPY begins"));
        for chunk in chunks {
            rows.feed(chunk).await.expect("taken");
        }
        rows.finish().await.expect("stored")
    }
}

fn in_chunks(batch: BatchView<'_>) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut chunk = BytesMut::new();
    crate::copy::put_header(&mut chunk);
    for event in batch.events() {
        crate::copy::put_row(&mut chunk, &event);
        if chunk.len() >= CHUNK_BYTES {
            chunks.push(chunk.split().freeze());
        }
    }
    crate::copy::put_trailer(&mut chunk);
    chunks.push(chunk.freeze());
    chunks
}
