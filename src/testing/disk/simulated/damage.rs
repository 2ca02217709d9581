//! What a power cut leaves of the bytes and names that were not synced.

use super::inode::{Inode, Pending, put};

/// Deterministic numbers from a seed (splitmix64, Steele and others 2014).
#[derive(Debug, Clone, Default)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number from 0 to `sides` - 1.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// True once in `sides` rolls on average.
    pub(crate) fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn up_to(&mut self, most: usize) -> usize {
        self.roll(most as u64 + 1) as usize
    }
}

/// How a power cut strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Nothing that was pending survives.
    Lost,
    /// Everything that was pending survives.
    Kept,
    /// Writes survive in order up to some point, now and then torn inside a sector.
    Prefix,
    /// The length survives, the data does not.
    Zeros,
    /// Each sector, independently of the others, is old, new, in between, zero or garbage; so is the length.
    Mixed,
}

impl Damage {
    pub(crate) const ALL: [Self; 5] = [Self::Lost, Self::Kept, Self::Prefix, Self::Zeros, Self::Mixed];

    /// A random kind of damage, most often [`Self::Prefix`].
    pub(crate) fn thrown(dice: &mut Dice) -> Self {
        match dice.roll(8) {
            0 => Self::Lost,
            1 => Self::Kept,
            2..=4 => Self::Prefix,
            5 => Self::Zeros,
            _ => Self::Mixed,
        }
    }

    /// The file as the device has it afterwards.
    pub(crate) fn survivors(self, inode: &Inode, dice: &mut Dice) -> Vec<u8> {
        let mut image = inode.durable().to_vec();
        let pending = inode.pending();
        let (old, new) = (inode.durable_length(), inode.seen().len());
        let length = match self {
            Self::Lost => old,
            Self::Kept => {
                for write in pending {
                    put(&mut image, write.offset, &write.bytes);
                }
                new
            }
            Self::Prefix => persist_prefix(pending, &mut image, dice)
                .map_or_else(|| if dice.one_in(2) { old } else { new }, |end| end.max(old).min(new)),
            Self::Zeros => new,
            Self::Mixed => {
                persist_sectors(pending, &mut image, dice);
                match dice.roll(3) {
                    0 => old,
                    1 => new,
                    _ => old.min(new) + dice.up_to(old.abs_diff(new)),
                }
            }
        };
        image.resize(length, 0);
        image
    }

    /// The changes that reach the device, in order.
    pub(crate) fn surviving<'a, T>(self, changes: &'a [T], dice: &mut Dice) -> Vec<&'a T> {
        match self {
            Self::Lost => Vec::new(),
            Self::Kept => changes.iter().collect(),
            Self::Prefix => changes[..dice.up_to(changes.len())].iter().collect(),
            Self::Zeros | Self::Mixed => changes.iter().filter(|_| dice.one_in(2)).collect(),
        }
    }
}

/// Persists a random number of the first writes; returns where the last one ends, if there was one.
fn persist_prefix(pending: &[Pending], image: &mut Vec<u8>, dice: &mut Dice) -> Option<usize> {
    let whole = dice.up_to(pending.len());
    let mut end = None;
    for write in &pending[..whole] {
        put(image, write.offset, &write.bytes);
        end = Some(write.end());
    }
    if let Some(torn) = pending.get(whole).filter(|_| dice.one_in(4)) {
        let bytes = &torn.bytes[..dice.up_to(torn.bytes.len())];
        put(image, torn.offset, bytes);
        end = Some(torn.offset + bytes.len());
    }
    end
}

/// Decides the fate of each sector independently.
fn persist_sectors(pending: &[Pending], image: &mut Vec<u8>, dice: &mut Dice) {
    let mut sectors: Vec<_> = pending.iter().map(Pending::sector).collect();
    sectors.sort_unstable();
    sectors.dedup();
    for sector in sectors {
        let mut writes: Vec<_> = pending.iter().filter(|write| write.sector() == sector).collect();
        let fate = dice.roll(8);
        if fate == 7 {
            writes.truncate(dice.up_to(writes.len()));
        }
        for write in writes {
            let mut bytes = write.bytes.clone();
            match fate {
                0 | 1 => continue,
                5 => bytes.fill(0),
                6 => bytes.fill_with(|| dice.roll(256) as u8),
                7 if dice.one_in(4) => bytes.truncate(dice.up_to(bytes.len())),
                _ => {}
            }
            put(image, write.offset, &bytes);
        }
    }
}
