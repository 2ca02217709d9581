//! What storing rows costs at least: COPY of bytes that are ready, in one session that does nothing else.
//!
//! It gets what the flush of a server would: the same columns, transactions of 20,000 rows, pieces of 128 KiB. It moves no checkpoint,
//! counts nothing and has no log.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::{Client, CopyInSink, Statement};

use super::database::Postgres;
use super::traffic::{CHANNELS, NAMES, USERS, mix};
use crate::postgres;

/// Rows of one COPY statement, which is one transaction.
const STATEMENT_ROWS: u64 = 20_000;
const PIECE_BYTES: usize = 128 << 10;
/// PostgreSQL counts from the year 2000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const NULL: i32 = -1;
const COPY: &str = "COPY events (ts, event_name, channel, user_id, event_id, campaign_id, tags, metadata) FROM STDIN BINARY";
/// The partitions that the flush would make on demand.
const MAKE_PARTITIONS: &str = "SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
        to_char(month, 'YYYY_MM'), month, month + interval '1 month')
    FROM generate_series(date_trunc('month', now() - interval '1 day'), now() + interval '1 day', '1 month') month";

/// Rows as COPY takes them.
pub(crate) struct Rows {
    /// The pieces of each statement.
    statements: Vec<Vec<Bytes>>,
    /// How many there are.
    pub(crate) count: u64,
}

impl Rows {
    /// Rows a microsecond apart from `start` on, as [`super::requests::Requests`] makes them.
    pub(crate) fn encode(start: SystemTime, count: u64) -> Self {
        let since_epoch = start.duration_since(UNIX_EPOCH).expect("after 1970");
        let start = i64::try_from(since_epoch.as_micros()).expect("not so late") - EPOCH_MICROS;
        let numbers: Vec<_> = (0..count).collect();
        let statements = numbers.chunks(usize::try_from(STATEMENT_ROWS).expect("a small number"));
        let statements = statements.map(|numbers| {
            let mut bytes = BytesMut::new();
            bytes.put_slice(b"PGCOPY\n\xff\r\n\0");
            bytes.put_i64(0);
            for &number in numbers {
                put_row(&mut bytes, start, number);
            }
            bytes.put_i16(-1);
            in_pieces(bytes.freeze())
        });
        Self {
            statements: statements.collect(),
            count,
        }
    }
}

fn put_row(out: &mut BytesMut, start: i64, number: u64) {
    let random = mix(number % 16_000);
    out.put_i16(8);
    out.put_i32(8);
    out.put_i64(start + i64::try_from(number).expect("a small number"));
    put_text(out, NAMES[(random % NAMES.len() as u64) as usize]);
    put_text(out, CHANNELS[(random >> 8) as usize % CHANNELS.len()]);
    put_text(out, &format!("user-{:07}", mix(number) % USERS));
    for _ in 0..4 {
        out.put_i32(NULL);
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i32(i32::try_from(text.len()).expect("a short text"));
    out.put_slice(text.as_bytes());
}

fn in_pieces(mut bytes: Bytes) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        pieces.push(bytes.split_to(bytes.len().min(PIECE_BYTES)));
    }
    pieces
}

/// A session with a database of its own, which has the schema that a server's has.
pub(crate) struct RawCopy {
    client: Client,
    copy: Statement,
    /// Where.
    pub(crate) url: String,
}

impl RawCopy {
    /// Makes the database.
    pub(crate) fn new(postgres: &Postgres) -> Self {
        let url = postgres.fresh_database();
        postgres.execute_each(&url, MAKE_PARTITIONS);
        let (client, copy) = postgres.block_on(async {
            let client = postgres::connect(&url).await;
            let copy = client.prepare(COPY).await.expect("the table is there");
            (client, copy)
        });
        Self { client, copy, url }
    }

    /// Stores rows.
    pub(crate) fn store(&self, postgres: &Postgres, rows: &Rows) {
        postgres.block_on(async {
            for pieces in &rows.statements {
                let sink = self.client.copy_in(&self.copy).await;
                let sink: CopyInSink<Bytes> = sink.expect("the database is up");
                let mut sink = std::pin::pin!(sink);
                for piece in pieces {
                    let fed = sink.feed(piece.clone()).await;
                    fed.expect("the database is up");
                }
                sink.finish().await.expect("the rows are well-formed");
            }
        });
    }
}
