//! Each phase and its limit, without a socket.

use std::net::Ipv4Addr;

use super::*;

const HEADER: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(75);
const WRITE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(1);

fn settings() -> HttpSettings {
    HttpSettings {
        host: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        allowed_hosts: Vec::new(),
        connections_max: 1,
        bulk_events_max: 1,
        event_age_max: Duration::MAX,
        event_bytes_max: 1024,
        body_bytes_max: 1024,
        inflight_bytes_max: 4096,
        header_timeout: HEADER,
        body_timeout: Duration::from_secs(30),
        idle_timeout: IDLE,
        write_timeout: WRITE,
    }
}

/// Checks that `limit` is reached exactly `after` the phase's begin, and returns when the first check asks to look
/// again.
fn assert_due(activity: &Activity, after: Duration, limit: &str) -> Duration {
    let (_, since) = activity.phase();
    let first = activity.check(&settings(), since).unwrap() - since;
    assert!(activity.check(&settings(), since + after - TICK).is_ok(), "not yet");
    assert_eq!(activity.check(&settings(), since + after), Err(limit));
    first
}

#[test]
fn each_phase_has_its_limit() {
    let activity = Activity::new();
    assert_eq!(assert_due(&activity, HEADER, "header timeout"), HEADER, "opening");
    activity.note_read();
    assert_eq!(assert_due(&activity, HEADER, "header timeout"), HEADER, "head");
    activity.request_began();
    assert!(
        activity.check(&settings(), Instant::now() + 100 * IDLE).is_ok(),
        "a handler has limits of its own"
    );
    activity.request_ended();
    activity.note_flush(&Poll::Ready(Ok(())));
    assert_eq!(
        assert_due(&activity, IDLE, "idle timeout"),
        HEADER,
        "a head may begin right after this check"
    );
}

#[test]
fn only_the_first_bytes_of_a_head_start_its_time() {
    let activity = Activity::new();
    activity.note_read();
    let begin = activity.phase();
    while Instant::now() < begin.1 + 2 * TICK {
        std::hint::spin_loop();
    }
    activity.note_read();
    assert_eq!(activity.phase(), begin);
}

#[test]
fn the_end_of_a_client_is_held_back_while_an_answer_is_owed_but_not_for_ever() {
    let activity = Activity::new();
    assert!(!activity.holds_back_end(), "nothing was asked");
    activity.note_read();
    assert!(!activity.holds_back_end(), "half a head");
    activity.request_began();
    assert!(!activity.await_body());
    assert!(!activity.holds_back_end(), "half a body");
    assert_eq!(activity.half_closed_since(), None);
    activity.note_read();
    assert!(activity.holds_back_end(), "all of it, perhaps");
    assert!(activity.await_body(), "it was not");
    assert!(!activity.holds_back_end());
    activity.request_began();
    assert!(activity.holds_back_end());
    let since = activity.half_closed_since().unwrap();
    let due = since + HALF_CLOSED_TIME_MAX;
    assert!(activity.check(&settings(), due - TICK).is_ok());
    assert_eq!(activity.check(&settings(), due), Err("client gone"));
    activity.request_ended();
    assert!(activity.holds_back_end(), "not written out");
    assert!(activity.check(&settings(), due).is_ok(), "the write limit takes over");
    activity.note_flush(&Poll::Ready(Ok(())));
    assert!(!activity.holds_back_end());
}

fn wrote(bytes: u64) -> Poll<io::Result<usize>> {
    Poll::Ready(Ok(bytes as usize))
}

#[test]
fn an_answer_is_under_the_write_limit_until_it_is_written_out_and_idle_only_then() {
    let activity = Activity::new();
    activity.request_began();
    activity.request_ended();
    let since = activity.writing_since().unwrap();
    assert!(!activity.is_between_requests());
    assert!(activity.check(&settings(), since + WRITE - TICK).is_ok());
    assert_eq!(activity.check(&settings(), since + WRITE), Err("write timeout"));
    activity.note_flush(&Poll::Pending);
    assert!(!activity.is_between_requests());
    activity.note_flush(&Poll::Ready(Ok(())));
    assert!(activity.is_between_requests());
    assert!(activity.check(&settings(), since + WRITE).is_ok());

    // A client that takes longer than the idle limit over an answer is not idle.
    let patient = HttpSettings {
        write_timeout: 100 * IDLE,
        ..settings()
    };
    activity.request_ended();
    assert!(activity.check(&patient, Instant::now() + 2 * IDLE).is_ok());
}

#[test]
fn an_answer_that_trickles_is_due_and_one_that_flows_is_not() {
    let activity = Activity::new();
    activity.request_began();
    activity.note_write(&wrote(1));
    let since = activity.writing_since().unwrap();
    while Instant::now() < since + 2 * TICK {
        std::hint::spin_loop();
    }
    activity.note_write(&Poll::Pending);
    activity.note_write(&wrote(WRITE_STRETCH_BYTES - 2));
    assert_eq!(activity.writing_since(), Some(since), "a byte too few");
    assert_eq!(activity.check(&settings(), since + WRITE), Err("write timeout"));
    activity.note_write(&wrote(1));
    assert!(activity.writing_since() > Some(since));
    assert!(activity.check(&settings(), since + WRITE).is_ok());
}
