//! What accepting an event of a bulk costs in total, from the socket to the disk, against only parsing the same body.

use std::time::SystemTime;

use super::contest::Contender;
use super::{BULK, CONNECTIONS_OF_ACCEPT_COST, LAYER, ROUNDS_OF_TARGET};
use crate::support::requests::Requests;
use crate::support::servers::Server;
use crate::support::table::{Row, Table, Target};
use crate::support::{borrowed, paired, process};

/// Bulks of a turn: some tenths of a second.
const BULKS: u64 = 500;

pub(super) fn measure(ours: &mut Contender, table: &mut Table) {
    let events = (BULKS * BULK.events() as u64) as f64;
    let requests = Requests::new(BULK, 0, CONNECTIONS_OF_ACCEPT_COST, SystemTime::now());
    let medians = paired::medians(
        ROUNDS_OF_TARGET,
        || {
            let turn = ours.turn(BULKS, Server::cpu_of_accepting);
            turn.cpu.as_secs_f64() * 1e9 / events
        },
        || {
            let before = process::cpu_of_this_thread();
            for _ in 0..BULKS {
                borrowed::parse_bulk(requests.body());
            }
            let cpu = process::cpu_of_this_thread() - before;
            cpu.as_secs_f64() * 1e9 / events
        },
    );
    table.add(Row {
        layer: LAYER.to_owned(),
        what: format!(
            "bulk of {}, {CONNECTIONS_OF_ACCEPT_COST} connections: server CPU an event, against serde_json",
            BULK.events()
        ),
        unit: "ns",
        ours: medians.ours,
        limit: Some(medians.limit),
        target: Target::RatioAtMost(1.3),
    });
}
