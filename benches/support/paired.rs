//! Two contenders by turns, so that whatever else the machine does in the meantime meets both of them.

use super::median;

/// The middle value of each contender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Medians {
    /// Of what is measured.
    pub(crate) ours: f64,
    /// Of what it is compared with.
    pub(crate) limit: f64,
}

/// Lets both take so many turns, each of which returns what it measured, after one turn that fills caches and does not
/// count.
pub(crate) fn medians(rounds: usize, mut ours: impl FnMut() -> f64, mut limit: impl FnMut() -> f64) -> Medians {
    ours();
    limit();
    let (mut of_ours, mut of_limit) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Whoever comes second may find something warm, or something that the first one left to be done.
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
