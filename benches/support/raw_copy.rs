//! The least cost of storing rows: COPY of prepared bytes, in one session that does nothing else.
//!
//! The session gets what the flush would send: the same columns, transactions of 20,000 rows, chunks of 128 KiB. It
//! moves no checkpoint, keeps no rollups and has no log.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use fast_ingest::event::{EventRef, Timestamp};
use futures_util::SinkExt as _;
use tokio_postgres::{Client, Statement};

use super::database::Postgres;
use super::traffic::{CHANNELS, NAMES, USERS, mix};
use crate::{copy, postgres};

/// Rows of one COPY statement, which is one transaction.
const STATEMENT_ROWS: u64 = 20_000;
/// The size that the store's sink uses.
const CHUNK_BYTES: usize = 128 * 1024;
/// Makes the partitions that the flush would make on demand.
const MAKE_PARTITIONS: &str = "SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
        to_char(month, 'YYYY_MM'), month, month + interval '1 month')
    FROM generate_series(date_trunc('month', now() - interval '1 day'), now() + interval '1 day', '1 month') month";

/// A prepared COPY of all columns.
pub(crate) async fn prepare(client: &Client, table: &str) -> Statement {
    let copy = format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", copy::COLUMNS);
    client.prepare(&copy).await.expect("the table is there")
}

/// The chunks of one COPY; rows are appended one after the other.
#[derive(Default)]
pub(crate) struct Chunks {
    full: Vec<Bytes>,
    last: BytesMut,
}

impl Chunks {
    /// The chunks of these events.
    pub(crate) fn of<'a>(events: impl Iterator<Item = EventRef<'a>>) -> Vec<Bytes> {
        let mut chunks = Self::begin();
        events.for_each(|event| chunks.put(&event));
        chunks.end()
    }

    fn begin() -> Self {
        let mut chunks = Self::default();
        copy::put_header(&mut chunks.last);
        chunks
    }

    fn put(&mut self, event: &EventRef<'_>) {
        copy::put_row(&mut self.last, event);
        if self.last.len() >= CHUNK_BYTES {
            self.full.push(self.last.split().freeze());
        }
    }

    fn end(mut self) -> Vec<Bytes> {
        copy::put_trailer(&mut self.last);
        self.full.push(self.last.freeze());
        self.full
    }
}

/// Sends a COPY; returns the number of rows that the server took.
pub(crate) async fn send(client: &Client, copy: &Statement, chunks: impl IntoIterator<Item = Bytes>) -> u64 {
    let rows = client.copy_in(copy).await;
    let mut rows = std::pin::pin!(rows.expect("COPY begins"));
    for chunk in chunks {
        rows.feed(chunk).await.expect("taken");
    }
    rows.finish().await.expect("stored")
}

/// Rows as COPY takes them.
pub(crate) struct Rows {
    /// The chunks of each statement.
    statements: Vec<Vec<Bytes>>,
    /// Number of rows.
    pub(crate) count: u64,
}

impl Rows {
    /// Rows a microsecond apart from `start` on, as [`super::requests::Requests`] makes them.
    pub(crate) fn encode(start: SystemTime, count: u64) -> Self {
        let since_epoch = start.duration_since(UNIX_EPOCH).expect("after 1970");
        let start = i64::try_from(since_epoch.as_micros()).expect("not so late");
        let numbers: Vec<_> = (0..count).collect();
        let statements = numbers.chunks(usize::try_from(STATEMENT_ROWS).expect("a small number"));
        let statements = statements.map(|numbers| {
            let mut chunks = Chunks::begin();
            for &number in numbers {
                put_event(&mut chunks, start, number);
            }
            chunks.end()
        });
        Self {
            statements: statements.collect(),
            count,
        }
    }
}

fn put_event(chunks: &mut Chunks, start: i64, number: u64) {
    let random = mix(number % 16_000);
    let offset = i64::try_from(number).expect("a small number");
    chunks.put(&EventRef {
        event_name: NAMES[(random % NAMES.len() as u64) as usize],
        channel: CHANNELS[(random >> 8) as usize % CHANNELS.len()],
        user_id: &format!("user-{:07}", mix(number) % USERS),
        timestamp: Timestamp::from_micros(start + offset),
        event_id: None,
        campaign_id: None,
        tags: None,
        metadata: None,
    });
}

/// A session on a database of its own, with the schema that a server has.
pub(crate) struct RawCopy {
    client: Client,
    copy: Statement,
    /// URL of the database.
    pub(crate) url: String,
}

impl RawCopy {
    /// Makes the database and connects.
    pub(crate) fn new(postgres: &Postgres) -> Self {
        let url = postgres.fresh_database();
        postgres.execute_each(&url, MAKE_PARTITIONS);
        let (client, copy) = postgres.block_on(async {
            let client = postgres::connect(&url).await;
            let copy = prepare(&client, "events").await;
            (client, copy)
        });
        Self { client, copy, url }
    }

    /// Stores rows in one session.
    pub(crate) fn store(&self, postgres: &Postgres, rows: &Rows) {
        postgres.block_on(async {
            for chunks in &rows.statements {
                send(&self.client, &self.copy, chunks.iter().cloned()).await;
            }
        });
    }
}
