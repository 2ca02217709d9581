//! Requests against the log thread, in the circumstances that change what may happen.

use std::time::Duration;

use super::check;
use super::courses::{Course, run};
use crate::wal::settings::SyncMode;

const CALM: Course = Course {
    sync: SyncMode::Group,
    ring_slots: 64,
    bytes_max: 1 << 30,
    drains: false,
    fails: false,
};

#[test]
fn every_request_is_answered_and_every_ack_is_on_the_device() {
    check(|| run(CALM));
}

#[test]
fn a_full_ring_refuses_and_stores_nothing_of_it() {
    check(|| {
        run(Course { ring_slots: 1, ..CALM });
    });
}

#[test]
fn a_drain_lets_those_inside_finish() {
    check(|| {
        run(Course { drains: true, ..CALM });
    });
}

#[test]
fn a_failing_disk_refuses_everybody_and_breaks_no_promise() {
    check(|| {
        run(Course { fails: true, ..CALM });
    });
}

#[test]
fn a_failing_disk_during_a_drain_with_a_full_ring() {
    check(|| {
        run(Course {
            ring_slots: 1,
            drains: true,
            fails: true,
            ..CALM
        });
    });
}

#[test]
fn a_log_at_its_cap_opens_again_as_segments_go() {
    check(|| {
        run(Course {
            bytes_max: 1400,
            ..CALM
        });
    });
}

#[test]
fn in_interval_mode_an_ack_is_on_the_device_when_the_log_ends() {
    check(|| {
        run(Course {
            sync: SyncMode::Interval(Duration::from_secs(3600)),
            ..CALM
        });
    });
}
