//! `sslmode`: which connections are encrypted, and which certificates are trusted.

use std::path::Path;

use fast_ingest::store::settings::{StoreLocation, StoreSettings};
use fast_ingest::store::{self, StoreError};

use crate::support::database::Database;
use crate::support::postgres::{self, Cluster};

const CERTIFICATE: &str = include_str!("../fixtures/tls/server.pem");
const KEY: &str = include_str!("../fixtures/tls/server.key");
const SELF_SIGNED: &str = include_str!("../fixtures/tls/self.pem");
const SELF_SIGNED_KEY: &str = include_str!("../fixtures/tls/self.key");
const UNNAMED: &str = include_str!("../fixtures/tls/unnamed.pem");
const UNNAMED_KEY: &str = include_str!("../fixtures/tls/unnamed.key");

/// Switches a running server to TLS. Its files must belong to its own user, so the server writes them itself.
async fn switch_to_tls(admin: &tokio_postgres::Client, certificate: &str, key: &str) {
    for (file, text) in [("server.crt", certificate), ("server.key", key)] {
        let copy = format!(
            "COPY (SELECT string_to_table('{}', E'\\n')) TO PROGRAM 'umask 077; cat >{file}'",
            text.trim()
        );
        admin.batch_execute(&copy).await.unwrap();
    }
    admin.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
}

/// Opens a session through the store and asks the server whether it is encrypted.
async fn is_encrypted(database: &Database, host: &str, parameters: &str) -> Result<bool, StoreError> {
    let observer = database.session().await;
    let url = format!(
        "{}?{parameters}&application_name=probed",
        database.url().replace("127.0.0.1", host)
    );
    let settings = StoreSettings {
        location: StoreLocation::Postgres(url),
        ..database.settings()
    };
    let _sink = store::open(&settings)?.open_sink().await?;
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'probed' \
               ORDER BY backend_start DESC LIMIT 1";
    Ok(observer.query_one(sql, &[]).await.unwrap().get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_encrypts_and_verifies_what_it_says() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let database = Database::postgres_on(&cluster).await;

    assert!(
        !is_encrypted(&database, "localhost", "").await.unwrap(),
        "prefer makes do without"
    );
    let error = is_encrypted(&database, "localhost", "sslmode=require")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Unavailable(text) if text.contains("localhost:")),
        "{error}"
    );

    let admin = postgres::connect(&cluster.url("postgres")).await;
    switch_to_tls(&admin, CERTIFICATE, KEY).await;
    // The postmaster takes a moment to notice a reload.
    for _ in 0..1_000 {
        if is_encrypted(&database, "localhost", "sslmode=require").await.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }

    let (ours, other) = (root("ca.pem"), root("other-ca.pem"));
    let encrypted = [
        ("127.0.0.1", String::new(), true),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("localhost", "sslmode=disable".to_owned(), false),
        ("127.0.0.1", format!("sslmode=verify-ca&{ours}"), true),
        ("localhost", format!("sslmode=verify-full&{ours}"), true),
    ];
    for (host, parameters, expected) in encrypted {
        let outcome = is_encrypted(&database, host, &parameters).await;
        assert!(
            matches!(outcome, Ok(encrypted) if encrypted == expected),
            "{host} {parameters}: {outcome:?}"
        );
    }
    let refused = [
        ("127.0.0.1", format!("sslmode=verify-full&{ours}")),
        ("localhost", format!("sslmode=verify-full&{other}")),
        ("localhost", format!("sslmode=verify-ca&{other}")),
        ("localhost", format!("sslmode=require&{other}")),
        ("localhost", "sslmode=verify-full".to_owned()),
    ];
    for (host, parameters) in refused {
        let error = is_encrypted(&database, host, &parameters).await.expect_err(&parameters);
        assert!(
            error.to_string().contains("certificate"),
            "{host} {parameters}: {error}"
        );
    }
}

/// The parameter that names a file of the fixtures.
fn root(name: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/fixtures/tls");
    format!("sslrootcert={}", fixtures.join(name).display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_signed_itself_is_believed_where_it_is_named() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let database = Database::postgres_on(&cluster).await;
    let admin = postgres::connect(&cluster.url("postgres")).await;
    let (of_itself, unnamed) = (root("self.pem"), root("unnamed.pem"));
    let believed = None;
    let table = [
        (
            (SELF_SIGNED, SELF_SIGNED_KEY),
            [
                ("127.0.0.1", "verify-ca", &of_itself, believed),
                ("localhost", "verify-full", &of_itself, believed),
                ("127.0.0.1", "verify-full", &of_itself, Some("subjectAltName")),
                ("localhost", "verify-full", &unnamed, Some("this very certificate")),
            ],
        ),
        (
            (UNNAMED, UNNAMED_KEY),
            [
                ("127.0.0.1", "verify-ca", &unnamed, believed),
                ("localhost", "verify-ca", &unnamed, believed),
                ("localhost", "verify-full", &unnamed, Some("subjectAltName")),
                ("localhost", "verify-ca", &of_itself, Some("this very certificate")),
            ],
        ),
    ];
    for ((certificate, key), cases) in table {
        switch_to_tls(&admin, certificate, key).await;
        // The postmaster takes a moment to notice a reload; the first case tells when it has.
        let (host, mode, root, _) = cases[0];
        for _ in 0..1_000 {
            let parameters = format!("sslmode={mode}&{root}");
            if is_encrypted(&database, host, &parameters).await.is_ok() {
                break;
            }
        }
        for (host, mode, root, refusal) in cases {
            let parameters = format!("sslmode={mode}&{root}");
            match (is_encrypted(&database, host, &parameters).await, refusal) {
                (Ok(is_encrypted), None) => assert!(is_encrypted),
                (Err(error), Some(words)) => {
                    let text = error.to_string();
                    assert!(text.contains(words), "{host} {parameters}: {text}");
                    assert!(!text.contains("OtherError"), "{text}");
                }
                (outcome, _) => panic!("{host} {parameters}: {outcome:?}"),
            }
        }
    }
}

/// The pool and the cancel request connect in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_migrations_are_encrypted_too() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let admin = postgres::connect(&cluster.url("postgres")).await;
    switch_to_tls(&admin, CERTIFICATE, KEY).await;
    // From here on the server refuses unencrypted connections.
    admin
        .batch_execute(
            "COPY (SELECT 'hostssl all all 127.0.0.1/32 trust') TO PROGRAM 'cat >pg_hba.conf'; SELECT pg_reload_conf()",
        )
        .await
        .unwrap();
    let url = cluster.url("postgres");
    let mut plain = Ok(());
    for _ in 0..1_000 {
        plain = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(drop);
        if plain.is_err() {
            break;
        }
    }
    assert!(plain.is_err(), "the server still takes what is not encrypted");
    let database = Database::postgres_at(url).await;
    let query = crate::support::database::query("view", 0, 1, None);
    assert_eq!(database.store().metrics(&query).await.unwrap().total.total_events, 0);
}
