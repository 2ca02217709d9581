//! From a `user_id` to the hash that rollups know it by.
//!
//! With a hash that everybody can compute, a client can search for ids that a sketch takes for millions: 130,000 such
//! ids counted as 398 million. So the hash is SipHash-1-3 (J.-P. Aumasson and D. Bernstein, "SipHash: a fast
//! short-input PRF", 2012) under a secret of the database, made with its tables and never shown. Databases of earlier
//! releases have no secret, and use XXH3 until `fast-ingest rollup rebuild` has rebuilt their rollups: sets that were
//! hashed in two ways do not merge.

use std::fmt;
use std::sync::LazyLock;

use siphasher::sip::SipHasher13;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::UserHash;

/// The key that a database hashes user ids with.
#[derive(Clone, Copy)]
pub struct UserKey(Option<SipHasher13>);

/// The key of this process alone, for sets that are never merged with a database's.
static OF_PROCESS: LazyLock<UserKey> = LazyLock::new(|| UserKey::secret(Uuid::new_v4()));

impl UserKey {
    /// No secret, as in earlier releases.
    pub const PUBLIC: Self = Self(None);

    /// A key with a secret, which must be random.
    pub fn secret(secret: Uuid) -> Self {
        Self(Some(SipHasher13::new_with_key(secret.as_bytes())))
    }

    /// A key whose secret ends with the process: for sets that are not stored, and not merged with stored ones.
    pub fn of_process() -> Self {
        *OF_PROCESS
    }

    /// Reads a key as a store writes it: a UUID, or an empty text for [`UserKey::PUBLIC`]; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::PUBLIC);
        }
        Uuid::try_parse(text).ok().map(Self::secret)
    }

    /// The hash of a `user_id`.
    pub fn hash(&self, user_id: &str) -> UserHash {
        UserHash(match &self.0 {
            Some(keyed) => keyed.hash(user_id.as_bytes()),
            None => xxh3_64(user_id.as_bytes()),
        })
    }
}

/// Does not show the secret.
impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Secret" } else { "Public" })
    }
}

/// Whether a database got a secret for the users' hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKey {
    /// The database has one already.
    NotNeeded,
    /// The database has one now.
    Made,
    /// It got none: some days have rollups but no events, so they cannot be counted again, and sets that were hashed in
    /// two ways do not merge.
    KeptForOldDays,
}

#[cfg(test)]
mod tests {
    use datasketches::cpc::CpcSketch;

    use super::super::UserSet;
    use super::*;

    /// Ids that each change a sketch of public hashes, found by trying, as an attacker would: `tries` tries end with a
    /// sketch of as many users, made of few ids.
    fn forged(tries: u32) -> Vec<String> {
        let mut sketch = CpcSketch::new(13).unwrap();
        let changes = |id: &String| {
            let before = sketch.estimate();
            sketch.update(UserKey::PUBLIC.hash(id).0);
            sketch.estimate() > before
        };
        (0..tries).map(|n| n.to_string()).filter(changes).collect()
    }

    #[test]
    fn forged_ids_gain_nothing_where_there_is_a_secret() {
        let tries = 300_000;
        let ids = forged(tries);
        let counted = |key: UserKey| {
            let users = ids.iter().map(|id| key.hash(id)).collect();
            UserSet::of(users, 0).count().count as f64 / ids.len() as f64
        };
        assert!(counted(UserKey::PUBLIC) > 3.0, "the attack works");
        for _ in 0..3 {
            let gain = counted(UserKey::secret(Uuid::new_v4()));
            assert!((0.95..1.05).contains(&gain), "{gain}");
        }
    }

    #[test]
    fn a_secret_is_told_by_nobody_and_read_as_written() {
        let secret = Uuid::new_v4();
        let (key, same) = (UserKey::secret(secret), UserKey::parse(&secret.to_string()));
        assert_eq!(same.unwrap().hash("ann"), key.hash("ann"));
        assert_ne!(key.hash("ann"), UserKey::PUBLIC.hash("ann"));
        assert_ne!(key.hash("ann"), UserKey::of_process().hash("ann"));
        assert_eq!(UserKey::parse("").unwrap().hash("ann"), UserKey::PUBLIC.hash("ann"));
        assert!(UserKey::parse("none").is_none());
        assert_eq!(format!("{key:?}"), "Secret");
    }
}
