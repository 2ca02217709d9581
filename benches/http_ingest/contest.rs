//! Two servers under the same load, by turns.

use std::time::{Duration, SystemTime};

use super::LAYER;
use crate::support::client::{Client, Outcome, Pace};
use crate::support::database::settle;
use crate::support::requests::{Kind, Requests};
use crate::support::servers::{Data, Server};
use crate::support::table::{Row, Target};
use crate::support::{median, process};

/// No server listens there.
const UNREACHABLE: &str = "postgres://nobody@127.0.0.1:1/nothing";
/// Requests of each connection before anything is measured.
const WARM_UP_REQUESTS: u64 = 20;

/// Ours, with nothing to flush.
pub(super) fn accepting_alone() -> Server {
    Server::ours(Data::fresh(), Some(UNREACHABLE), &[])
}

/// How a row names this kind of request.
pub(super) fn name_of(kind: Kind) -> String {
    match kind {
        Kind::Single => "single".to_owned(),
        Kind::Bulk(events) => format!("bulk of {events}"),
    }
}

/// Both servers, each with its load.
pub(super) struct Pair {
    pub(super) kind: Kind,
    pub(super) connections: usize,
    pub(super) ours: Contender,
    pub(super) bare: Contender,
}

/// A server and its load.
pub(super) struct Contender {
    pub(super) server: Server,
    pub(super) client: Client,
}

/// Figures of one turn.
pub(super) struct Turn {
    outcome: Outcome,
    /// CPU time of the server.
    pub(super) cpu: Duration,
}

impl Pair {
    pub(super) fn start(kind: Kind, connections: usize, ours: fn() -> Server) -> Self {
        Self {
            kind,
            connections,
            ours: Contender::new(ours(), kind, connections),
            bare: Contender::new(Server::bare(), kind, connections),
        }
    }

    /// Fills caches; returns how many requests ours answers in `turn`.
    pub(super) fn warm_up(&mut self, turn: Duration) -> u64 {
        let requests = WARM_UP_REQUESTS * self.connections as u64;
        let outcome = self.ours.client.run(requests, Pace::Closed);
        self.bare.client.run(requests, Pace::Closed);
        (outcome.rate() * turn.as_secs_f64()) as u64 + self.connections as u64
    }

    pub(super) fn compare(
        &mut self,
        rounds: usize,
        turn_of_ours: impl Fn(&mut Contender) -> Turn,
        turn_of_bare: impl Fn(&mut Contender) -> Turn,
    ) -> Comparison {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(turn_of_ours(&mut self.ours));
            bare.push(turn_of_bare(&mut self.bare));
        }
        Comparison {
            what: format!("{}, {} connections", name_of(self.kind), self.connections),
            ours,
            bare,
        }
    }
}

impl Contender {
    fn new(server: Server, kind: Kind, connections: usize) -> Self {
        let now = SystemTime::now();
        let requests = |index| Requests::new(kind, index, connections, now);
        let client = Client::connect(server.address, connections, requests);
        Self { server, client }
    }

    /// Sends this many requests, as fast as they are answered; `cpu` says which CPU time of the server counts.
    pub(super) fn turn(&mut self, requests: u64, cpu: impl Fn(&Server) -> Duration) -> Turn {
        let before = cpu(&self.server);
        let outcome = self.client.run(requests, Pace::Closed);
        let cpu = cpu(&self.server) - before;
        Turn { outcome, cpu }
    }

    /// Sends this many requests and waits until everything is stored. All CPU time of the server counts.
    pub(super) fn turn_until_flushed(&mut self, requests: u64) -> Turn {
        let cpu = || process::cpu(self.server.pid());
        let before = cpu();
        let outcome = self.client.run(requests, Pace::Closed);
        self.server.wait_until_flushed();
        settle(cpu);
        let cpu = cpu() - before;
        Turn { outcome, cpu }
    }
}

/// All turns.
pub(super) struct Comparison {
    /// Description of the load.
    pub(super) what: String,
    ours: Vec<Turn>,
    bare: Vec<Turn>,
}

impl Comparison {
    /// The median of our turns.
    pub(super) fn ours(&self, value: fn(&Turn) -> f64) -> f64 {
        median(self.ours.iter().map(value).collect())
    }

    /// The median of the bare server's turns.
    pub(super) fn bare(&self, value: fn(&Turn) -> f64) -> f64 {
        median(self.bare.iter().map(value).collect())
    }

    /// The share of our answers that asked the client to slow down.
    pub(super) fn refused_share(&self) -> f64 {
        let outcomes = || self.ours.iter().map(|turn| &turn.outcome);
        let refused: u64 = outcomes().map(|outcome| outcome.refused).sum();
        let accepted: usize = outcomes().map(|outcome| outcome.latencies.len()).sum();
        refused as f64 / (refused as f64 + accepted as f64)
    }

    /// A row of both medians.
    pub(super) fn row(&self, name: &str, unit: &'static str, value: fn(&Turn) -> f64, target: Target) -> Row {
        Row {
            layer: LAYER.to_owned(),
            what: format!("{}: {name}", self.what),
            unit,
            ours: self.ours(value),
            limit: Some(self.bare(value)),
            target,
        }
    }
}

pub(super) fn rate(turn: &Turn) -> f64 {
    turn.outcome.rate()
}

/// CPU time of the server per request, in microseconds.
pub(super) fn cpu_micros(turn: &Turn) -> f64 {
    turn.cpu.as_secs_f64() * 1e6 / turn.outcome.latencies.len() as f64
}

pub(super) fn p50_millis(turn: &Turn) -> f64 {
    millis(turn.outcome.quantile(0.5))
}

pub(super) fn p99_millis(turn: &Turn) -> f64 {
    millis(turn.outcome.quantile(0.99))
}

pub(super) fn p999_millis(turn: &Turn) -> f64 {
    millis(turn.outcome.quantile(0.999))
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
