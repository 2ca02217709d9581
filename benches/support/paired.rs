//! Two contenders by turns, so that other load on the machine meets both of them.

use super::median;

/// The middle value of each contender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Medians {
    /// Median of what is measured.
    pub(crate) ours: f64,
    /// Median of what it is compared with.
    pub(crate) limit: f64,
}

/// Runs this many turns of both; each turn returns what it measured. One turn of each goes before, fills caches and
/// does not count.
pub(crate) fn medians(rounds: usize, mut ours: impl FnMut() -> f64, mut limit: impl FnMut() -> f64) -> Medians {
    ours();
    limit();
    let (mut of_ours, mut of_limit) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // The second contender may find caches warm, or work that the first one left: the order alternates.
        if round % 2 == 0 {
            of_ours.push(ours());
            of_limit.push(limit());
        } else {
            of_limit.push(limit());
            of_ours.push(ours());
        }
    }
    Medians {
        ours: median(of_ours),
        limit: median(of_limit),
    }
}
