//! The stop switch under signals and failures that come at the same time.

use shuttle::future::block_on;
use shuttle::thread;

use super::{check, roll};
use crate::support::exit::{ExitStatus, Failure};
use crate::support::shutdown::{Shutdown, Stage};

#[test]
fn stages_only_go_forward_and_every_token_wakes_up() {
    check(|| {
        let shutdown = Shutdown::new();
        let mut waiting = Vec::new();
        for (mut token, stage) in [
            (shutdown.drain_token(), Stage::Drain),
            (shutdown.hurry_token(), Stage::Hurry),
        ] {
            let switch = shutdown.clone();
            waiting.push(thread::spawn(move || {
                block_on(token.stopped());
                assert!(token.is_stopped());
                assert!(switch.stage() >= stage, "not before its stage");
            }));
        }
        let watcher = {
            let switch = shutdown.clone();
            thread::spawn(move || {
                let mut before = Stage::Running;
                for _ in 0..5 {
                    let now = switch.stage();
                    assert!(now >= before, "{now:?} after {before:?}");
                    before = now;
                }
            })
        };
        // The two signals, and parts that fail meanwhile.
        let signals = {
            let switch = shutdown.clone();
            thread::spawn(move || {
                switch.drain();
                switch.hurry();
            })
        };
        let failing: Vec<_> = (0..2)
            .map(|_| {
                let switch = shutdown.clone();
                thread::spawn(move || {
                    let error = anyhow::anyhow!("on purpose");
                    switch.fail(Failure::new(ExitStatus::Io, error));
                    assert!(switch.stage() >= Stage::Drain);
                })
            })
            .collect();
        for thread in waiting.into_iter().chain(failing).chain([watcher, signals]) {
            thread.join().unwrap();
        }
        assert_eq!(shutdown.stage(), Stage::Hurry);
        assert!(shutdown.take_failure().is_some());
        assert!(shutdown.take_failure().is_none(), "only the first is kept");
    });
}

#[test]
fn a_lost_switch_wakes_up_its_tokens() {
    check(|| {
        let shutdown = Shutdown::new();
        let mut token = shutdown.hurry_token();
        let waiting = thread::spawn(move || block_on(token.stopped()));
        let other = shutdown.clone();
        let drains = roll(2) == 0;
        let dropping = thread::spawn(move || {
            if drains {
                other.drain();
            }
            drop(other);
        });
        drop(shutdown);
        dropping.join().unwrap();
        waiting.join().unwrap();
    });
}
