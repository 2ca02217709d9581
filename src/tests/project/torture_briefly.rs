//! A few cycles of every plan of the fault harness. `make torture` runs any number of them.

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

#[test]
fn whatever_happens_to_postgresql_clients_notice_nothing_and_all_is_stored_once() {
    briefly("database", 18);
}

#[test]
fn what_a_users_own_constraints_refuse_is_set_aside_once_and_all_else_is_stored() {
    briefly("constraints", 12);
}

#[test]
fn whatever_happens_to_its_connections_all_is_stored_once() {
    briefly("network", 12);
}

#[test]
fn sessions_that_end_by_themselves_cost_no_event_and_no_read() {
    briefly("idle", 9);
}

#[test]
fn requests_that_cost_more_than_they_look_like_cost_nobody_else() {
    briefly("bounds", 6);
}

#[test]
fn a_log_at_its_cap_refuses_stores_nothing_of_it_and_opens_again() {
    briefly("slow-database", 2);
}

#[test]
fn servers_with_logs_of_their_own_share_a_database() {
    briefly("two-logs", 6);
}

#[test]
fn a_copied_log_stores_nothing_twice() {
    briefly("twins", 3);
}

#[test]
fn of_a_log_and_its_copy_one_goes_on_and_the_other_is_refused_with_all_it_has() {
    briefly("copies", 10);
}

#[test]
fn an_older_log_is_refused_and_an_older_database_gets_again_what_the_log_has() {
    briefly("restores", 9);
}

#[test]
fn a_failover_that_loses_commits_loses_no_event_that_the_log_has() {
    briefly("failover", 2);
}

#[test]
fn a_directory_belongs_to_one_process() {
    briefly("one-directory", 6);
}

#[test]
fn a_failing_system_call_ends_the_server_and_loses_nothing() {
    briefly("disk-errors", 15);
}

#[test]
fn a_full_disk_loses_nothing_and_is_served_again() {
    briefly("disk-full", 2);
}

#[test]
fn a_directory_that_goes_away_is_not_acknowledged_into() {
    briefly("moved", 3);
}

#[test]
fn a_stderr_that_takes_no_lines_harms_nothing_but_the_log() {
    briefly("sink", 8);
}

#[test]
fn a_real_power_cut_loses_nothing_acknowledged() {
    briefly("power", 10);
}
