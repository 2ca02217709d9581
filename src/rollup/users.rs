//! Sets of users that merge: exact while small, a sketch of bounded size and known error beyond.
//!
//! A user is known by a 64-bit hash of its id under the database's [`UserKey`]. Among a hundred thousand users the
//! chance that two share one is below one in three billion, so a set of hashes counts as exact. The sketch is Apache
//! DataSketches' CPC (K. Lang, "Back to the Future: an Even More Nearly Optimal Cardinality Estimation Algorithm",
//! 2017) with 2^13 rows: a relative standard error of 0.77 % in at most 5 KB, 0.4 KB for some hundred users.
//! HyperLogLog at the same error takes 8 KB and 1.5 KB, and its union is slower (measured with the same crate: 94 µs
//! against 49 µs for reading and merging a full sketch).
//!
//! Encoded form: one byte for the kind, then the content.
//!
//! | kind | content |
//! |------|---------|
//! | 0    | the hashes, ascending, 8 bytes each, little-endian |
//! | 1    | a CPC sketch (lg K = 13, default seed, updated with the hash as a 64-bit integer) in the bytes of Apache DataSketches 5 and up: what its other libraries and its PostgreSQL extension read |

mod key;

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

use datasketches::common::NumStdDev;
use datasketches::cpc::{CpcSketch, CpcUnion};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use self::key::{NewKey, UserKey};

/// Rows of the sketch, as a power of two. 12 would miss the promised one percent (1.08 %).
const LG_K: u8 = 13;
const KIND_EXACT: u8 = 0;
const KIND_SKETCH: u8 = 1;

/// A user in rollups: the hash of a `user_id` by [`UserKey::hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserHash(u64);

/// Number of distinct users, and how far it can be trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UniqueUsers {
    /// The number, or the best estimate of it.
    pub count: u64,
    /// Relative standard error of the estimate: 0 means that the number is exact.
    pub error: f64,
    /// Two standard errors down: the true number is at least this 97.5 % of the time. Equals `count` when exact.
    pub low: u64,
    /// Two standard errors up.
    pub high: u64,
}

impl UniqueUsers {
    /// A number that was counted.
    pub fn exactly(count: u64) -> Self {
        Self {
            count,
            error: 0.0,
            low: count,
            high: count,
        }
    }

    /// The numbers, limited to that of events: each user has at least one, which an estimate does not know.
    pub fn at_most(self, events: u64) -> Self {
        Self {
            count: self.count.min(events),
            low: self.low.min(events),
            high: self.high.min(events),
            ..self
        }
    }
}

/// Bytes that are not a set of users: another program wrote them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rollup's set of users cannot be read: {0}")]
pub struct DamagedSet(String);

/// A set of users.
#[derive(Debug, Clone)]
pub struct UserSet(Form);

#[derive(Debug, Clone)]
enum Form {
    /// Ascending, without repetition.
    Exact(Vec<u64>),
    /// Always the result of a union: sketches that were fed directly carry more state than their content, and would not
    /// be equal in bytes when they are equal in content.
    Sketch(Box<CpcSketch>),
}

impl UserSet {
    /// The empty set.
    pub fn empty() -> Self {
        Self(Form::Exact(Vec::new()))
    }

    /// The set of these users, who may occur more than once: a sketch if there are more than `exact_max`.
    pub fn of(mut users: Vec<UserHash>, exact_max: usize) -> Self {
        users.sort_unstable();
        users.dedup();
        if users.len() <= exact_max {
            return Self(Form::Exact(users.into_iter().map(|user| user.0).collect()));
        }
        let mut union = UserUnion::new(0);
        users.into_iter().for_each(|user| union.add(user));
        union.finish()
    }

    /// Number of users.
    pub fn count(&self) -> UniqueUsers {
        match &self.0 {
            Form::Exact(hashes) => UniqueUsers::exactly(hashes.len() as u64),
            Form::Sketch(sketch) => {
                let estimate = sketch.estimate();
                let one_up = sketch.upper_bound(NumStdDev::One);
                let one_down = sketch.lower_bound(NumStdDev::One);
                UniqueUsers {
                    count: estimate.round() as u64,
                    error: (one_up - estimate).max(estimate - one_down) / estimate,
                    low: sketch.lower_bound(NumStdDev::Two).floor() as u64,
                    high: sketch.upper_bound(NumStdDev::Two).ceil() as u64,
                }
            }
        }
    }

    /// Whether the users are known one by one.
    pub fn is_exact(&self) -> bool {
        matches!(self.0, Form::Exact(_))
    }

    /// Appends the encoded form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Form::Exact(hashes) => {
                out.push(KIND_EXACT);
                out.extend(hashes.iter().flat_map(|hash| hash.to_le_bytes()));
            }
            Form::Sketch(sketch) => {
                out.push(KIND_SKETCH);
                out.extend(sketch.serialize());
            }
        }
    }

    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Reads the encoded form.
    ///
    /// # Errors
    ///
    /// When the bytes are not what [`UserSet::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DamagedSet> {
        let damaged = |what: &str| DamagedSet(what.to_owned());
        let (&kind, content) = bytes.split_first().ok_or_else(|| damaged("no bytes"))?;
        match kind {
            KIND_EXACT => {
                let (hashes, rest) = content.as_chunks::<8>();
                let hashes: Vec<u64> = hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
                if !rest.is_empty() || !hashes.is_sorted_by(|a, b| a < b) {
                    return Err(damaged("hashes that do not ascend"));
                }
                Ok(Self(Form::Exact(hashes)))
            }
            KIND_SKETCH => {
                let sketch = CpcSketch::deserialize(content).map_err(|error| DamagedSet(error.to_string()))?;
                if sketch.lg_k() != LG_K {
                    return Err(damaged("a sketch of another size"));
                }
                Ok(Self(Form::Sketch(Box::new(sketch))))
            }
            _ => Err(damaged("an unknown kind")),
        }
    }
}

/// A union of users and of sets of users that is being built.
#[derive(Debug)]
pub struct UserUnion {
    /// Most users that are told apart one by one.
    exact_max: usize,
    state: State,
}

enum State {
    Exact(HashSet<u64, BuildHasherDefault<AlreadyHashed>>),
    Sketch {
        /// Takes hashes and the first sketch.
        sketch: Box<CpcSketch>,
        /// Whether `sketch` is the result of a union, untouched since.
        is_union: bool,
        /// Takes the other sketches.
        union: Option<CpcUnion>,
    },
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(hashes) => write!(f, "Exact({})", hashes.len()),
            Self::Sketch { .. } => f.write_str("Sketch"),
        }
    }
}

impl UserUnion {
    /// An empty union. Stays exact up to `exact_max` users, as long as no sketch is added.
    pub fn new(exact_max: usize) -> Self {
        Self {
            exact_max,
            state: State::Exact(HashSet::default()),
        }
    }

    /// Adds a user.
    pub fn add(&mut self, user: UserHash) {
        match &mut self.state {
            State::Exact(hashes) => {
                hashes.insert(user.0);
                if hashes.len() > self.exact_max {
                    self.sketch();
                }
            }
            State::Sketch { sketch, is_union, .. } => {
                sketch.update(user.0);
                *is_union = false;
            }
        }
    }

    /// Adds a set.
    pub fn add_set(&mut self, users: UserSet) {
        match users.0 {
            Form::Exact(hashes) => {
                for hash in hashes {
                    self.add(UserHash(hash));
                }
            }
            Form::Sketch(added) => {
                let (sketch, is_union, union) = self.sketch();
                if sketch.is_empty() && union.is_none() {
                    (*sketch, *is_union) = (added, true);
                } else {
                    merge(union.get_or_insert_with(new_union), &added);
                }
            }
        }
    }

    /// The set of everything that was added.
    pub fn finish(self) -> UserSet {
        match self.state {
            State::Exact(hashes) => {
                let mut hashes: Vec<u64> = hashes.into_iter().collect();
                hashes.sort_unstable();
                UserSet(Form::Exact(hashes))
            }
            State::Sketch {
                sketch,
                is_union: true,
                union: None,
            } => UserSet(Form::Sketch(sketch)),
            State::Sketch { sketch, union, .. } => {
                let mut union = union.unwrap_or_else(new_union);
                merge(&mut union, &sketch);
                UserSet(Form::Sketch(Box::new(union.to_sketch())))
            }
        }
    }

    /// Changes to a sketch, unless the union is one already.
    fn sketch(&mut self) -> (&mut Box<CpcSketch>, &mut bool, &mut Option<CpcUnion>) {
        if let State::Exact(hashes) = &self.state {
            let mut sketch = Box::new(CpcSketch::new(LG_K).expect("lg K is in range"));
            for hash in hashes {
                sketch.update(*hash);
            }
            self.state = State::Sketch {
                sketch,
                is_union: false,
                union: None,
            };
        }
        match &mut self.state {
            State::Sketch {
                sketch,
                is_union,
                union,
            } => (sketch, is_union, union),
            State::Exact(_) => unreachable!("replaced above"),
        }
    }
}

/// Hashes elements that are hashes already. In old databases everybody can compute these: a client could choose user
/// ids that collide in the table. So each is mixed with a secret of the process.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

static SECRET: LazyLock<u64> = LazyLock::new(|| fastrand::u64(..));

impl Hasher for AlreadyHashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only 64-bit hashes are put into the set");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        xxh3_64_with_seed(&self.0.to_le_bytes(), *SECRET)
    }
}

fn new_union() -> CpcUnion {
    CpcUnion::new(LG_K).expect("lg K is in range")
}

fn merge(union: &mut CpcUnion, sketch: &CpcSketch) {
    union.update(sketch).expect("all of ours share one seed");
}

#[cfg(test)]
mod tests;
