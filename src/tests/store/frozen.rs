//! A PostgreSQL that is connected but silent: TCP stays alive, so only our own time limits can notice.

use std::time::Duration;

use fast_ingest::store::settings::{StoreLocation, StoreSettings};
use fast_ingest::store::{self, SinkError, StoreError};
use fast_ingest::wal::batch::Batch;
use fast_ingest::wal::id::Mark;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::database::{Database, FEBRUARY, batch_of, event, wal_id};
use crate::support::postgres::Cluster;

fn batch_for(after: u64, user: &str) -> Batch {
    batch_of(after, &[event("view", user, FEBRUARY)])
}

/// A TCP proxy that can stop moving bytes without closing a connection, like a frozen machine.
struct Proxy {
    port: u16,
    frozen: watch::Sender<bool>,
}

impl Proxy {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let (frozen, state) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = state.clone();
                tokio::spawn(async move {
                    let mut client = client;
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                        _ = state.wait_for(|frozen| *frozen) => {}
                    }
                    // Both sockets stay open until the proxy is gone.
                    while state.changed().await.is_ok() {}
                });
            }
        });
        Self { port: own_port, frozen }
    }

    fn freeze(&self) {
        self.frozen.send(true).expect("the proxy runs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_does_not_hold_the_flush_for_ever() {
    let cluster = tokio::task::spawn_blocking(Cluster::shared).await.unwrap();
    let direct = Database::postgres_at(cluster.create_database().await).await;
    let StoreLocation::Postgres(url) = direct.settings().location else {
        panic!("a PostgreSQL database")
    };
    let proxy = Proxy::before(cluster.port()).await;
    let url = url.replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.port));
    let settings = StoreSettings {
        location: StoreLocation::Postgres(url),
        flush_timeout: Duration::from_millis(500),
        ..direct.settings()
    };
    let store = store::open(&settings).unwrap();
    let mut sink = store.open_sink().await.unwrap();
    sink.create_checkpoint(wal_id(), 0, Mark::default()).await.unwrap();
    sink.flush(batch_for(0, "ann").view()).await.unwrap();
    proxy.freeze();
    let error = sink.flush(batch_for(1, "bob").view()).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Store(StoreError::Unavailable(text)) if text.contains("no answer")),
        "{error}"
    );
    // Only the connection was broken, not the server: the checkpoint says what happened.
    let mut fresh = direct.store().open_sink().await.unwrap();
    assert_eq!(
        fresh.checkpoint(wal_id()).await.unwrap().map(|row| row.flushed_through),
        Some(1)
    );
    fresh.flush(batch_for(1, "bob").view()).await.unwrap();
    assert_eq!(direct.users().await, ["ann", "bob"]);
}
