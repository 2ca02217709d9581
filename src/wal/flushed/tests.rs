use super::*;
use crate::testing::disk::simulated::{Damage, Dice, SimulatedDisk};
use crate::wal::disk::RealDisk;
use crate::wal::id::EventOutcomes;

const LOG: WalId = WalId(Uuid::from_u128(1));
const DATABASE: DatabaseId = DatabaseId(Uuid::from_u128(2));

/// The [`Commits`] that remember these commits.
pub(crate) fn commits_of(commits: impl IntoIterator<Item = Commit>) -> Commits {
    let mut remembered = Commits::default();
    for commit in commits {
        remembered.push(commit);
    }
    remembered
}

/// The commit that moves the checkpoint to `through`, by tens.
fn commit(through: Sequence) -> Commit {
    Commit {
        database: DATABASE,
        wal_id: LOG,
        is_known: true,
        confirmed_through: through - 10,
        through,
        mark: Mark {
            life: LifeId(Uuid::from_u128(3)),
            token: Uuid::from_u128(u128::from(through)),
        },
    }
}

fn row(commit: &Commit) -> CheckpointRow {
    CheckpointRow {
        flushed_through: commit.through,
        mark: commit.mark,
        counts: EventOutcomes::default(),
    }
}

fn open(dir: &Path) -> FlushedFile<std::fs::File> {
    open_on(&RealDisk, dir)
}

fn open_on<D: Disk>(disk: &D, dir: &Path) -> FlushedFile<D::File> {
    let found = read(disk, dir, LOG).unwrap();
    FlushedFile::open(disk, dir, LOG, found).unwrap()
}

fn may_have_made(commits: &Commits, commit: &Commit) -> bool {
    commits.may_have_made(LOG, DATABASE, &row(commit))
}

#[test]
fn commits_are_read_back_and_the_oldest_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(dir.path());
    assert_eq!(file.commits().home(), None);
    let length = || dir.path().join(NAME).metadata().unwrap().len();
    assert_eq!(length(), FILE_BYTES as u64, "no note needs space");
    let total = SLOTS + 100;
    for number in 1..=total {
        file.note(commit(10 * number)).unwrap();
        file.sync().unwrap();
        if number == 3 {
            // A file that is opened again continues in the same place.
            file = open(dir.path());
        }
    }
    assert_eq!(length(), FILE_BYTES as u64);
    for file in [file, open(dir.path())] {
        let commits = file.commits();
        assert_eq!(commits.home(), Some(&commit(10 * total)));
        assert!(may_have_made(commits, &commit(10 * total)));
        assert!(may_have_made(commits, &commit(10 * 101)), "the oldest");
        assert!(may_have_made(commits, &commit(10 * 100)), "none so old");
        let mut foreign = commit(10 * 101);
        foreign.mark.token = Uuid::from_u128(7);
        assert!(!may_have_made(commits, &foreign));
        foreign.through -= 10;
        assert!(may_have_made(commits, &foreign), "nobody can tell any more");
        foreign.database = DatabaseId(Uuid::from_u128(9));
        let elsewhere = commits.may_have_made(LOG, foreign.database, &row(&commit(10 * total)));
        assert!(elsewhere, "no commit was tried there");
    }
}

#[test]
fn a_database_is_home_only_once_it_is_known_to_have_the_log() {
    let tried = Commit {
        database: DatabaseId(Uuid::from_u128(9)),
        is_known: false,
        ..commit(30)
    };
    let commits = commits_of([commit(10), commit(20), tried]);
    assert_eq!(commits.home(), Some(&commit(20)));
}

#[test]
fn a_torn_entry_makes_it_lenient_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(dir.path());
    for number in 1..=3 {
        file.note(commit(10 * number)).unwrap();
        file.sync().unwrap();
    }
    let path = dir.path().join(NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER_BYTES + 2 * ENTRY_BYTES + 57] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut file = open(dir.path());
    assert_eq!(file.commits().home(), Some(&commit(30)));
    let mut foreign = commit(30);
    foreign.mark.token = Uuid::from_u128(7);
    assert!(may_have_made(file.commits(), &foreign), "it may have been in the hole");
    file.note(commit(40)).unwrap();
    assert_eq!(open(dir.path()).commits().home(), Some(&commit(40)));
}

/// After a database has gone back, the sequences of the noted commits do not ascend any more.
#[test]
fn a_second_way_back_is_told_from_a_foreign_commit() {
    let numbers = (1..=SLOTS + 100).chain([2, 3]);
    let commits = commits_of(numbers.map(|number| commit(10 * number)));
    let mut forgotten = commit(10 * 90);
    forgotten.mark.token = Uuid::from_u128(7);
    assert!(may_have_made(&commits, &forgotten), "its token is evicted");
    let mut foreign = commit(10 * 110);
    foreign.mark.token = Uuid::from_u128(7);
    assert!(!may_have_made(&commits, &foreign));
}

#[test]
fn a_torn_entry_that_is_written_anew_makes_it_strict_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(dir.path());
    for number in 1..=3 {
        file.note(commit(10 * number)).unwrap();
    }
    let path = dir.path().join(NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER_BYTES + 3 * ENTRY_BYTES + 57] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut file = open(dir.path());
    let mut foreign = commit(20);
    foreign.mark.token = Uuid::from_u128(7);
    assert!(may_have_made(file.commits(), &foreign));
    file.note(commit(30)).unwrap();
    assert!(!may_have_made(file.commits(), &foreign));
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
    let dir = Path::new("/log");
    for damage in Damage::ALL {
        for seed in 0..50 {
            let disk = SimulatedDisk::new();
            disk.create_dir(dir).unwrap();
            let open = |disk: &SimulatedDisk| open_on(disk, dir);
            let mut file = open(&disk);
            for number in 1..=5 {
                file.note(commit(10 * number)).unwrap();
                file.sync().unwrap();
            }
            file.note(commit(60)).unwrap();
            let (survived, _) = disk.after_power_cut(damage, &mut Dice(seed));
            let file = open(&survived);
            let commits = file.commits();
            let home = commits.home().unwrap().through;
            assert!([50, 60].contains(&home), "{home}");
            for number in 1..=5 {
                assert!(commits.ring.contains(&commit(10 * number)), "{number}");
            }
        }
    }
}

#[test]
fn a_file_that_is_not_this_logs_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = open(dir.path());
    file.note(commit(10)).unwrap();
    let path = dir.path().join(NAME);
    let whole = std::fs::read(&path).unwrap();

    let other = WalId(Uuid::from_u128(77));
    let error = read(&RealDisk, dir.path(), other).unwrap_err();
    assert!(error.to_string().contains("another log"), "{error}");

    let mut newer = whole.clone();
    newer[8] = 2;
    let checksum = crc32c::crc32c(&newer[..HEADER_CHECKSUM_AT]);
    newer[HEADER_CHECKSUM_AT..HEADER_CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    for (bytes, words) in [
        (newer, "log format 2"),
        (whole[..100].to_vec(), "header is invalid"),
        (vec![0; FILE_BYTES], "header is invalid"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = read(&RealDisk, dir.path(), LOG).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// The layout of the format document, byte for byte.
#[test]
fn golden_bytes() {
    let commit = Commit {
        database: DatabaseId(Uuid::from_bytes([0xd0; 16])),
        wal_id: WalId(Uuid::from_bytes([0xa0; 16])),
        is_known: true,
        confirmed_through: 0x0102,
        through: 0x0304,
        mark: Mark {
            life: LifeId(Uuid::from_bytes([0x11; 16])),
            token: Uuid::from_bytes([0x22; 16]),
        },
    };
    let mut expected = vec![0; 4];
    expected.extend([1, 0, 0, 0]);
    expected.extend([5, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0xd0; 16]);
    expected.extend([0xa0; 16]);
    expected.extend([2, 1, 0, 0, 0, 0, 0, 0]);
    expected.extend([4, 3, 0, 0, 0, 0, 0, 0]);
    expected.extend([0x11; 16]);
    expected.extend([0x22; 16]);
    expected.extend([6, 5, 0, 0, 0, 0, 0, 0]);
    expected.extend([0; 24]);
    let checksum = crc32c::crc32c(&expected[4..]);
    expected[..4].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(commit.encode(5, 0x0506).to_vec(), expected);
    assert_eq!(Commit::decode(&expected), Some((5, commit, 0x0506)));
}
