//! A few cycles of every plan of the fault harness. `make torture` runs as many as one likes.

use crate::torture::Plan;

#[track_caller]
fn briefly(plan: &str, cycles: u32) {
    Plan::named(plan).expect("a plan").run_briefly(cycles);
}

#[test]
fn kill_9_under_load_loses_and_doubles_nothing_on_postgresql() {
    briefly("kill", 20);
}

#[test]
fn kill_9_under_load_loses_and_doubles_nothing_on_sqlite() {
    briefly("kill-sqlite", 8);
}

#[test]
fn sigterm_under_load_leaves_no_answer_open() {
    briefly("term", 12);
}

#[test]
fn a_kill_at_any_system_call_loses_and_doubles_nothing() {
    briefly("syscalls", 100);
}
