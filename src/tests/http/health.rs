//! `GET /health` on the wire, and the command that asks for it.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::http::{Setup, TestServer, get};

fn health(server: &TestServer) -> (u16, Value) {
    let answer = server.exchange(get("/health"));
    (answer.status, answer.json())
}

#[test]
fn health_is_ok_degraded_or_unavailable() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    let (status, body) = health(&server);
    assert_eq!(
        (status, &body["status"], &body["flush"]["state"]),
        (200, &json!("degraded"), &json!("starting"))
    );

    server.progress.set_running();
    server.durable.send_modify(|mark| mark.through = 10);
    server.progress.set_flushed_through(7);
    let (status, mut body) = health(&server);
    assert_eq!(status, 200);
    let lag = body["flush"].as_object_mut().unwrap().remove("lag_seconds");
    assert!(lag.unwrap().as_f64().unwrap() > 0.0, "{body}");
    let expected = json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "store": "stub",
        "queue": { "depth": 0, "capacity": 16 },
        "log": { "bytes": 0, "durable_through": 10 },
        "flush": { "state": "running", "flushed_through": 7, "lag_events": 3 },
        "log_lines_dropped": 0,
    });
    assert_eq!(body, expected);

    server.progress.set_retrying("password for secret-user refused");
    let (status, body) = health(&server);
    assert_eq!(
        (status, &body["status"], &body["flush"]["state"]),
        (200, &json!("degraded"), &json!("retrying"))
    );
    assert!(!body.to_string().contains("secret-user"));

    server.progress.set_stopped("the schema of secret-host does not fit");
    let (_, body) = health(&server);
    assert_eq!(
        (&body["status"], &body["flush"]["state"]),
        (&json!("degraded"), &json!("stopped"))
    );
    assert!(body["reason"].as_str().unwrap().contains("needs a person"));
    assert!(!body.to_string().contains("secret-host"));

    server.gate.set_disk_low(true);
    let (status, body) = health(&server);
    assert_eq!((status, &body["status"]), (503, &json!("unavailable")));
    assert!(body["reason"].as_str().unwrap().contains("no space"));
    server.gate.set_disk_low(false);
    assert_eq!(health(&server).0, 200, "healthy again");
    server.gate.poison();
    assert_eq!(health(&server).0, 503);
}

#[test]
fn the_health_command_ends_with_0_or_69() {
    let (server, _) = TestServer::acknowledging(Setup::default());
    server.progress.set_running();
    let ask_with = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fast-ingest"));
        command
            .arg("health")
            .env_remove("FAST_INGEST_URL")
            .env_remove("FAST_INGEST_HOST")
            .env_remove("PORT")
            .envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let ask = |variable, value: String| ask_with(&[(variable, &value)]);
    let url = format!("http://{}/", server.address);
    assert_eq!(
        ask("FAST_INGEST_URL", url.clone()),
        (Some(0), "ok\n".to_owned(), String::new())
    );
    let port = server.address.port().to_string();
    assert_eq!(ask("PORT", port.clone()).0, Some(0));
    // As in the image, where the compose file leaves the URL unset.
    let everywhere = [
        ("FAST_INGEST_HOST", "0.0.0.0"),
        ("FAST_INGEST_URL", ""),
        ("PORT", &port),
    ];
    assert_eq!(ask_with(&everywhere).0, Some(0));
    // No server listens on this address of the loopback network.
    let elsewhere = [("FAST_INGEST_HOST", "127.0.0.2"), ("PORT", &port)];
    let (status, _, err) = ask_with(&elsewhere);
    assert_eq!(status, Some(69), "{err}");
    assert!(err.contains("http://127.0.0.2:"), "{err}");
    let (status, _, err) = ask_with(&[("PORT", ""), ("FAST_INGEST_HOST", "")]);
    assert_ne!(status, Some(2), "empty is unset: {err}");
    server.gate.poison();
    let (status, out, err) = ask("FAST_INGEST_URL", url.clone());
    assert_eq!((status, out.as_str()), (Some(69), ""));
    assert!(err.contains("unavailable") && err.lines().count() == 1, "{err}");
    drop(server);
    let (status, _, err) = ask("FAST_INGEST_URL", url);
    assert_eq!(status, Some(69), "{err}");
    assert_eq!(ask("FAST_INGEST_URL", "https://localhost".to_owned()).0, Some(69));
}
