//! A plain recount of events, and the same figures out of the rollups.

use super::*;

/// Users and events of each series in each quarter.
pub(super) type Counts = BTreeMap<(SeriesKey, Bucket), (u64, Vec<u8>)>;

#[derive(Default)]
struct Counting(BTreeMap<(SeriesKey, Bucket), (u64, Option<UserUnion>)>);

impl Counting {
    fn add(&mut self, key: SeriesKey, bucket: Bucket, events: u64, users: UserSet) {
        let (sum, union) = self.0.entry((key, bucket.quarter())).or_default();
        *sum += events;
        let union = union.get_or_insert_with(|| UserUnion::new(PART_EXACT_MAX));
        union.add_set(users);
    }

    fn finish(self) -> Counts {
        let encoded = |(place, (events, users)): (_, (u64, Option<UserUnion>))| {
            (place, (events, users.unwrap().finish().encode()))
        };
        self.0.into_iter().map(encoded).collect()
    }
}

pub(super) fn recounted(rows: &[Row], user_key: UserKey) -> Counts {
    let mut counting = Counting::default();
    for (name, channel, user, micros) in rows {
        let bucket = Bucket::of(Timestamp::from_micros(*micros), Width::Quarter);
        let mut one = UserUnion::new(1);
        one.add(user_key.hash(user));
        let one = one.finish();
        for key in series_of(name, channel) {
            counting.add(key, bucket, 1, one.clone());
        }
    }
    counting.finish()
}

/// The content of parts and deltas on the days of `rows`, in one snapshot.
pub(super) async fn rolled_up(database: &Database, rows: &[Row]) -> Counts {
    let mut counting = Counting::default();
    let mut store = rollups(database).await;
    store.begin_reading().await.unwrap();
    for day in days(rows) {
        for (key, part) in store.parts_on(day).await.unwrap() {
            counting.add(key, part.bucket, part.tally.events, part.tally.users);
        }
        for delta in store.deltas_on(day).await.unwrap() {
            for key in series_of(&delta.event_name, &delta.channel) {
                let Tally { events, users } = delta.tally.clone();
                counting.add(key, delta.bucket, events, users);
            }
        }
    }
    store.commit().await.unwrap();
    counting.finish()
}

pub(super) fn days(rows: &[Row]) -> BTreeSet<Day> {
    let day = |row: &Row| Day::of(Timestamp::from_micros(row.3));
    rows.iter().map(day).collect()
}
