//! A clock that is not set yet: no event is judged against it.

use std::sync::atomic::{AtomicI64, Ordering};

use fast_ingest::event::Timestamp;
use fast_ingest::intake::Clock;

use crate::support::http::{EVENT, Setup, TestServer, get, post};

static MICROS: AtomicI64 = AtomicI64::new(0);

fn set(text: &str) {
    let time = Timestamp::parse(text).unwrap();
    MICROS.store(time.as_micros(), Ordering::Relaxed);
}

#[test]
fn while_the_clock_stands_before_the_release_events_are_refused_for_now_and_not_for_good() {
    let clock = Clock::of(|| Timestamp::from_micros(MICROS.load(Ordering::Relaxed)));
    let (server, stored) = TestServer::acknowledging(Setup {
        clock,
        ..Setup::default()
    });
    server.progress.set_running();
    let bulk = format!("[{EVENT}]");
    let requests = [post("/events", EVENT), post("/events/bulk", &bulk)];
    for unset in ["1970-01-01T00:00:17Z", "2026-11-27T23:59:59Z"] {
        set(unset);
        for request in &requests {
            let answer = server.exchange(request);
            let refused = (answer.status, answer.problem(), answer.header("retry-after"));
            assert_eq!(refused, (503, "clock_unset".to_owned(), Some("10")), "{unset}");
        }
        // `/health` answers the same to a client that asks before it sends.
        let health = server.exchange(get("/health"));
        assert_eq!((health.status, health.header("retry-after")), (503, Some("10")));
        let said = health.json();
        assert_eq!(said["status"], "unavailable");
        assert!(said["reason"].as_str().unwrap().contains("clock"), "{said}");
        // Events stored while the clock was right can still be queried.
        let query = "/metrics?event_name=page_view&from=1769904000&to=1769938201";
        assert_eq!(server.exchange(get(query)).status, 200);
    }
    assert!(stored.is_empty());
    set("2026-11-29T09:30:00Z");
    for request in &requests {
        assert_eq!(server.exchange(request).status, 202);
    }
    assert_eq!(server.exchange(get("/health")).status, 200);
}
