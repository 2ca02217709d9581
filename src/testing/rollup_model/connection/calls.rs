//! The store's calls.

use std::collections::BTreeSet;
use std::ops::Range;

use async_trait::async_trait;

use super::*;

#[async_trait]
impl RollupStore for Connection {
    async fn begin(&mut self, wait: bool) -> Result<bool, StoreError> {
        let fate = self.call().await?;
        while self.model.lock().is_locked {
            if !wait {
                return Ok(false);
            }
            tokio::task::yield_now().await;
        }
        self.begin_with(true);
        match fate {
            Fate::Done => Ok(true),
            Fate::AnswerLost => Err(self.broken()),
        }
    }

    async fn begin_reading(&mut self) -> Result<(), StoreError> {
        let fate = self.call().await?;
        self.begin_with(false);
        match fate {
            Fate::Done => Ok(()),
            Fate::AnswerLost => Err(self.broken()),
        }
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        let fate = self.call().await?;
        let transaction = self.transaction.take().expect("begun");
        if transaction.has_lock {
            let mut shared = self.model.lock();
            shared.is_locked = false;
            if let Some(commits) = &mut shared.commits_until_fault {
                *commits -= 1;
                if *commits == 0 {
                    drop(shared);
                    return Err(self.broken());
                }
            }
            if let Some(interrupt) = shared.before_commit.take() {
                interrupt(&mut shared.tables);
            }
            let mut tables = transaction.tables;
            let mut later = shared.tables.deltas.split_off(&transaction.next_delta);
            tables.deltas.append(&mut later);
            tables.next_delta = shared.tables.next_delta;
            tables.events = std::mem::take(&mut shared.tables.events);
            shared.tables = tables;
        }
        match fate {
            Fate::Done => Ok(()),
            Fate::AnswerLost => Err(self.broken()),
        }
    }

    async fn take_deltas(&mut self, rows_max: usize) -> Result<Vec<Delta>, StoreError> {
        // The latest first: nothing may depend on their order.
        let take = |tables: &mut Tables| {
            let taken = std::iter::from_fn(|| tables.deltas.pop_last());
            taken.take(rows_max).map(|(_, delta)| delta).collect()
        };
        self.on_tables(true, take).await
    }

    async fn take_minutes(&mut self, before: Timestamp, rows_max: usize) -> Result<Vec<Part>, StoreError> {
        let take = |tables: &mut Tables| {
            let is_due = |bucket: Bucket| bucket.width == Width::Minute && bucket.start < before;
            let places = tables.parts.keys().copied();
            let mut due: Vec<_> = places.filter(|(_, bucket)| is_due(*bucket)).collect();
            due.sort_by_key(|(series, bucket)| (*bucket, *series));
            due.truncate(rows_max);
            let part = |place: (SeriesId, Bucket)| Part {
                series: place.0,
                bucket: place.1,
                tally: tables.parts.remove(&place).unwrap(),
            };
            due.into_iter().map(part).collect()
        };
        self.on_tables(true, take).await
    }

    async fn series_ids(&mut self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError> {
        let number = |tables: &mut Tables| keys.iter().map(|key| tables.series_id(key)).collect();
        self.on_tables(true, number).await
    }

    async fn parts_at(&mut self, keys: &[(SeriesId, Bucket)]) -> Result<Vec<Part>, StoreError> {
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "asked twice for one part");
        self.on_tables(false, |tables| {
            let part = |key: &(SeriesId, Bucket)| {
                let tally = tables.parts.get(key)?.clone();
                let (series, bucket) = *key;
                Some(Part { series, bucket, tally })
            };
            keys.iter().rev().filter_map(part).collect()
        })
        .await
    }

    async fn put_parts(&mut self, parts: &[Part]) -> Result<(), StoreError> {
        let put = |tables: &mut Tables| {
            for part in parts {
                let place = (part.series, part.bucket);
                tables.parts.insert(place, part.tally.clone());
            }
        };
        self.on_tables(true, put).await
    }

    async fn mark_stale(&mut self, days: &[(SeriesId, Day)]) -> Result<(), StoreError> {
        let mark = |tables: &mut Tables| {
            for day in days {
                tables.days.insert(*day, None);
            }
        };
        self.on_tables(true, mark).await
    }

    async fn stale_days(&mut self, before: Day, rows_max: usize) -> Result<Vec<(SeriesId, Day)>, StoreError> {
        let stale = |tables: &mut Tables| {
            let stale = |((series, day), sum): (&(SeriesId, Day), &Option<Tally>)| {
                (sum.is_none() && *day < before).then_some((*series, *day))
            };
            let newest_first = tables.days.iter().rev().filter_map(stale);
            newest_first.take(rows_max).collect()
        };
        self.on_tables(false, stale).await
    }

    async fn parts_of_day(&mut self, series: SeriesId, day: Day) -> Result<Vec<Part>, StoreError> {
        let read = |tables: &mut Tables| {
            let parts = parts_of(tables, day).into_iter();
            parts.filter(|part| part.series == series).collect()
        };
        self.on_tables(false, read).await
    }

    async fn put_days(&mut self, days: &[(SeriesId, Day, Tally)]) -> Result<(), StoreError> {
        let put = |tables: &mut Tables| {
            for (series, day, tally) in days {
                tables.days.insert((*series, *day), Some(tally.clone()));
            }
        };
        self.on_tables(true, put).await
    }

    async fn series_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        let read = |tables: &mut Tables| {
            let on_day = tables.days.keys().filter(|(_, of)| *of == day);
            let keys = on_day.map(|(series, _)| tables.key(*series).clone());
            keys.filter(|key| key.event_name.is_some()).collect()
        };
        self.on_tables(false, read).await
    }

    async fn overflow_on(&mut self, day: Day) -> Result<Option<u64>, StoreError> {
        self.on_tables(false, |tables| tables.overflow.get(&day).copied()).await
    }

    async fn add_overflow(&mut self, day: Day, events: u64) -> Result<(), StoreError> {
        let add = |tables: &mut Tables| *tables.overflow.entry(day).or_default() += events;
        self.on_tables(true, add).await
    }

    async fn days_stored(&mut self) -> Result<Option<(Day, Day)>, StoreError> {
        let read = |tables: &mut Tables| {
            let mut days = days_of_rollups(tables);
            days.extend(tables.events.iter().map(|event| Day::of(event.3)));
            Some((*days.first()?, *days.last()?))
        };
        self.on_tables(false, read).await
    }

    async fn days_kept(&mut self) -> Result<Vec<Day>, StoreError> {
        let read = |tables: &mut Tables| {
            let mut days = days_of_rollups(tables);
            days.extend(tables.overflow.keys());
            days.into_iter().collect()
        };
        self.on_tables(false, read).await
    }

    async fn has_events(&mut self, range: Range<Timestamp>) -> Result<bool, StoreError> {
        let read = |tables: &mut Tables| {
            let mut events = tables.events.iter();
            events.any(|event| range.contains(&event.3))
        };
        self.on_tables(false, read).await
    }

    async fn read_events(
        &mut self,
        range: Range<Timestamp>,
        each: &mut (dyn for<'e> FnMut(&'e str, &'e str, &'e str, Timestamp) + Send),
    ) -> Result<(), StoreError> {
        *self.model.lock().reads.entry(Day::of(range.start)).or_default() += 1;
        let events = self.on_tables(false, |tables| tables.events.clone()).await?;
        for (name, channel, user, timestamp) in events {
            if range.contains(&timestamp) {
                each(&name, &channel, &user, timestamp);
            }
        }
        Ok(())
    }

    async fn pairs_on(&mut self, day: Day, pairs_max: usize) -> Result<Vec<SeriesKey>, StoreError> {
        let read = |tables: &mut Tables| {
            let mut pairs: BTreeMap<SeriesKey, u64> = BTreeMap::new();
            let on_day = tables.events.iter().filter(|event| Day::of(event.3) == day);
            for (name, channel, ..) in on_day {
                let [pair, ..] = series_of(name, channel);
                *pairs.entry(pair).or_default() += 1;
            }
            let mut pairs: Vec<_> = pairs.into_iter().collect();
            // Stable, so ties stay in the order of their names.
            pairs.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
            pairs.truncate(pairs_max);
            pairs.into_iter().map(|(pair, _)| pair).collect()
        };
        self.on_tables(false, read).await
    }

    async fn parts_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, Part)>, StoreError> {
        let read = |tables: &mut Tables| {
            let parts = parts_of(tables, day).into_iter();
            parts.map(|part| (tables.key(part.series).clone(), part)).collect()
        };
        self.on_tables(false, read).await
    }

    async fn sums_on(&mut self, day: Day) -> Result<Vec<(SeriesKey, SeriesId, Tally)>, StoreError> {
        let read = |tables: &mut Tables| {
            let sum = |((series, of), sum): (&(SeriesId, Day), &Option<Tally>)| {
                let sum = sum.clone().filter(|_| *of == day)?;
                Some((tables.key(*series).clone(), *series, sum))
            };
            tables.days.iter().filter_map(sum).collect()
        };
        self.on_tables(false, read).await
    }

    async fn stale_on(&mut self, day: Day) -> Result<Vec<SeriesKey>, StoreError> {
        let read = |tables: &mut Tables| {
            let days = tables.days.iter();
            let stale = days.filter(|((_, of), sum)| *of == day && sum.is_none());
            stale.map(|((series, _), _)| tables.key(*series).clone()).collect()
        };
        self.on_tables(false, read).await
    }

    async fn deltas_on(&mut self, day: Day) -> Result<Vec<Delta>, StoreError> {
        let read = |tables: &mut Tables| {
            let deltas = tables.deltas.values();
            let on_day = deltas.filter(|delta| delta.bucket.day() == day);
            on_day.cloned().collect()
        };
        self.on_tables(false, read).await
    }

    async fn clear_day(&mut self, day: Day) -> Result<(), StoreError> {
        let clear = |tables: &mut Tables| {
            tables.deltas.retain(|_, delta| delta.bucket.day() != day);
            tables.parts.retain(|(_, bucket), _| bucket.day() != day);
            tables.days.retain(|(_, of), _| *of != day);
            tables.overflow.remove(&day);
        };
        self.on_tables(true, clear).await
    }

    async fn unsettled_day(&mut self, _: Day) -> Result<Option<Day>, StoreError> {
        Ok(None)
    }

    async fn settle(&mut self, _: Day) -> Result<(), StoreError> {
        Ok(())
    }

    async fn user_key(&mut self) -> Result<UserKey, StoreError> {
        Ok(UserKey::PUBLIC)
    }

    async fn make_user_key(&mut self) -> Result<NewKey, StoreError> {
        unreachable!("only the stores have keys")
    }

    async fn rebuild_needed(&mut self) -> Result<bool, StoreError> {
        self.on_tables(false, |tables| tables.rebuild_needed).await
    }

    async fn build_from(&mut self) -> Result<Option<Day>, StoreError> {
        self.on_tables(false, |tables| tables.build_from).await
    }

    async fn set_build_from(&mut self, day: Day) -> Result<(), StoreError> {
        self.on_tables(true, |tables| tables.build_from = Some(day)).await
    }

    async fn set_rebuilt(&mut self) -> Result<(), StoreError> {
        self.on_tables(true, |tables| tables.rebuild_needed = false).await
    }
}

fn days_of_rollups(tables: &Tables) -> BTreeSet<Day> {
    let mut days: BTreeSet<Day> = tables.days.keys().map(|(_, day)| *day).collect();
    days.extend(tables.deltas.values().map(|delta| delta.bucket.day()));
    days.extend(tables.parts.keys().map(|(_, bucket)| bucket.day()));
    days
}

fn parts_of(tables: &Tables, day: Day) -> Vec<Part> {
    let parts = tables.parts.iter();
    let on_day = parts.filter(|((_, bucket), _)| bucket.day() == day);
    on_day
        .map(|((series, bucket), tally)| Part {
            series: *series,
            bucket: *bucket,
            tally: tally.clone(),
        })
        .collect()
}
