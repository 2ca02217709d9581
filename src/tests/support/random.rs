//! Numbers that look random and that another run can repeat.

use std::hash::{BuildHasher, RandomState};

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// A generator seeded by `TEST_SEED`, or at random; prints the seed, which the output of a failed test shows.
    pub(crate) fn from_environment() -> Self {
        let given = std::env::var("TEST_SEED").ok();
        let seed = given.map_or_else(Self::any_seed, |seed| seed.parse().expect("TEST_SEED is a number"));
        eprintln!("TEST_SEED={seed}");
        Self::seeded(seed)
    }

    /// A random seed.
    pub(crate) fn any_seed() -> u64 {
        RandomState::new().hash_one(0_u8)
    }

    /// A generator with this seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// True in this many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the choices.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).unwrap()]
    }

    /// Shuffles the items.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let index = self.below(end as u64 + 1);
            items.swap(end, usize::try_from(index).unwrap());
        }
    }

    /// A generator for another thread: each thread's numbers are independent of the threads' speed.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }
}
