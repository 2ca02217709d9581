//! Randomness enough to spread retries and hashes, and no more: nothing here is for secrets.

use std::hash::{BuildHasher, RandomState};

/// Any number. Each hasher of the standard library has a random seed.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// A number in `[0, 1)`.
pub(crate) fn fraction() -> f64 {
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_differ_and_stay_below_one() {
        let numbers: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number != numbers[0]));
    }
}
