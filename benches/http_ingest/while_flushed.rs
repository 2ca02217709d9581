//! What clients see while the embedded SQLite stores what they sent before: flush and accept path share the machine.
//!
//! Each turn ends when everything is stored, so that the bare server has its turn alone. The flush counts in our CPU
//! here, and the bare server has no counterpart of it, so the rows have no target.

use super::TURN;
use super::contest::{Pair, cpu_micros, rate};
use crate::support::process;
use crate::support::requests::Kind;
use crate::support::servers::{Data, Server};
use crate::support::table::{Table, Target};

const ROUNDS: usize = 3;

pub(super) fn measure(connections: usize, table: &mut Table) {
    let on_sqlite = || Server::ours(Data::fresh(), None, &[]);
    let mut pair = Pair::start(Kind::Single, connections, on_sqlite);
    let requests = pair.warm_up(TURN);
    pair.ours.server.wait_until_flushed();
    let comparison = pair.compare(
        ROUNDS,
        |ours| ours.turn_until_flushed(requests),
        |bare| bare.turn(requests, |server| process::cpu(server.pid())),
    );
    let mut add = |name: &str, unit, value| {
        let name = format!("{name}, while SQLite is flushed");
        table.add(comparison.row(&name, unit, value, Target::None));
    };
    add("requests a second", "/s", rate);
    add("CPU a request of the whole process", "µs", cpu_micros);
}
