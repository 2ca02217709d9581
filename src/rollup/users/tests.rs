use proptest::prelude::*;

use super::*;

fn users(range: std::ops::Range<u64>) -> impl Iterator<Item = UserHash> {
    range.map(|n| UserKey::PUBLIC.hash(&format!("user-{n}")))
}

fn set(range: std::ops::Range<u64>, exact_max: usize) -> UserSet {
    let mut union = UserUnion::new(exact_max);
    users(range).for_each(|user| union.add(user));
    union.finish()
}

#[test]
fn a_set_is_exact_up_to_its_limit_and_survives_encoding() {
    for (n, exact_max, is_exact) in [
        (0, 0, true),
        (1, 1, true),
        (100, 100, true),
        (101, 100, false),
        (50_000, 600, false),
    ] {
        let set = set(0..n, exact_max);
        assert_eq!(set.is_exact(), is_exact, "{n} of {exact_max}");
        let decoded = UserSet::decode(&set.encode()).unwrap();
        assert_eq!(decoded.count(), set.count());
        assert_eq!(decoded.encode(), set.encode());
        if is_exact {
            assert_eq!(set.count(), UniqueUsers::exactly(n));
        }
        let repeated = users(0..n).chain(users(0..n / 2)).collect();
        assert_eq!(UserSet::of(repeated, exact_max).encode(), set.encode());
    }
}

#[test]
fn the_bytes_depend_on_the_users_alone() {
    let whole = set(0..30_000, 100);
    let mut shuffled = UserUnion::new(100);
    for part in [20_000..30_000, 5..90, 0..10_000, 9_000..21_000, 0..1] {
        let exact_max = if part.start == 9_000 { 0 } else { 100 };
        shuffled.add_set(set(part, exact_max));
    }
    users(0..10).for_each(|user| shuffled.add(user));
    let mut touched = UserUnion::new(100);
    touched.add_set(set(0..20_000, 100));
    users(15_000..30_000).for_each(|user| touched.add(user));
    assert_eq!(touched.finish().encode(), whole.encode());
    assert_eq!(shuffled.finish().encode(), whole.encode());
    let mut alone = UserUnion::new(100);
    alone.add_set(whole.clone());
    assert_eq!(alone.finish().encode(), whole.encode());
}

#[test]
fn the_reported_error_holds() {
    let mut within_one = 0;
    let mut within_two = 0;
    let trials = 200;
    for trial in 0..trials {
        let n = 20_000 + trial * 37;
        let start = trial * 1_000_000;
        let counted = set(start..start + n, 100).count();
        assert!(counted.error > 0.0 && counted.error <= 0.01, "{counted:?}");
        let off = (counted.count as f64 - n as f64).abs() / n as f64;
        within_one += u64::from(off <= counted.error);
        within_two += u64::from((counted.low..=counted.high).contains(&n));
    }
    // 68 and 95 of 100 are expected; the hashes are fixed, so the outcome is the same in every run.
    assert!(within_one >= trials * 60 / 100, "{within_one} of {trials}");
    assert!(within_two >= trials * 93 / 100, "{within_two} of {trials}");
}

#[test]
fn hashes_that_agree_in_most_bits_are_spread_over_the_table() {
    let place = |hash: u64| {
        let mut hasher = AlreadyHashed::default();
        hasher.write_u64(hash);
        hasher.finish()
    };
    // The table looks at the lowest bits, then at the highest seven.
    for chosen in [|n: u64| n << 40, |n: u64| n, |n: u64| n << 20] {
        let lowest: HashSet<u64> = (0..4096).map(|n| place(chosen(n)) & 0xfff).collect();
        let highest: HashSet<u64> = (0..4096).map(|n| place(chosen(n)) >> 57).collect();
        // Chance leaves 2,589 of 4,096 places taken and none of 128 free.
        assert!(
            lowest.len() > 2_000 && highest.len() > 100,
            "{} {}",
            lowest.len(),
            highest.len()
        );
    }
}

#[test]
fn what_is_no_set_is_refused() {
    let mut other_size = vec![KIND_SKETCH];
    let mut small = CpcSketch::new(LG_K - 1).unwrap();
    small.update(1u64);
    other_size.extend(small.serialize());
    for bytes in [
        &[][..],
        &[2],
        &[KIND_EXACT, 1],
        &[0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[KIND_SKETCH, 9, 9],
        &other_size,
    ] {
        assert!(UserSet::decode(bytes).is_err(), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Holds for any order, and whichever parts were sets before.
    #[test]
    fn any_set_reads_back_and_is_its_parts(
        ids in prop::collection::vec(0..400_u64, 0..300),
        cut: prop::sample::Index,
        exact_max in 0..300usize,
    ) {
        let hashes: Vec<_> = ids.iter().map(|id| UserKey::PUBLIC.hash(&id.to_string())).collect();
        let whole = UserSet::of(hashes.clone(), exact_max);
        let bytes = whole.encode();
        let read = UserSet::decode(&bytes).unwrap();
        prop_assert_eq!(read.encode(), bytes.clone());
        prop_assert_eq!(read.count(), whole.count());
        prop_assert_eq!(read.is_exact(), whole.is_exact());

        let (left, right) = hashes.split_at(cut.index(hashes.len() + 1));
        let mut union = UserUnion::new(exact_max);
        union.add_set(UserSet::decode(&UserSet::of(right.to_vec(), exact_max).encode()).unwrap());
        left.iter().for_each(|user| union.add(*user));
        prop_assert_eq!(union.finish().encode(), bytes);
    }

    #[test]
    fn arbitrary_bytes_are_errors_or_sets(
        kind in prop_oneof![Just(KIND_EXACT), any::<u8>()],
        content in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = [&[kind][..], &content].concat();
        if let Ok(set) = UserSet::decode(&bytes) {
            prop_assert_eq!(set.encode(), bytes);
        }
    }

    /// Not every changed bit of a sketch can be seen, but none of them may end the process.
    #[test]
    fn a_changed_set_is_an_error_or_another_set(n in 0..300_u64, exact_max in 0..300usize, flipped: prop::sample::Index) {
        let mut bytes = set(0..n, exact_max).encode();
        let bit = flipped.index(8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(set) = UserSet::decode(&bytes) {
            set.count();
            set.encode();
        }
    }
}
