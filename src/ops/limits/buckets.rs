//! Token buckets in bounded memory. One request takes from several buckets at once, or from none.
//!
//! The caller decides whose bucket it is and what it limits.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::domain::{
    bucket::{Bucket, Pace, coarse},
    refusal::Refusal,
    time::Millis,
};

const SHARDS: usize = 16;
/// At 24 bytes for each bucket, sixteen shards take a few MiB at most.
const MAX_BUCKETS_PER_SHARD: usize = 8192;

/// All buckets. A bucket that is not stored is full.
#[derive(Default)]
pub struct Buckets([Mutex<HashMap<u64, Paced>>; SHARDS]);

/// A bucket, and how many microseconds it takes to refill one. A changed rate changes that, and must not change how
/// many are missing: otherwise a stricter limit would forgive those who are the reason for it.
#[derive(Clone, Copy, Default)]
struct Paced {
    bucket: Bucket,
    /// Zero if it is unknown, for a bucket that was stored.
    micros_for_one: f64,
}

impl Paced {
    /// The bucket, with as many missing at this pace as at the previous one.
    fn at(&mut self, pace: Pace, now: Millis) -> &mut Bucket {
        let micros_for_one = pace.micros_for_one();
        if self.micros_for_one != micros_for_one {
            if self.micros_for_one > 0.0 {
                self.bucket = self.bucket.stretched(micros_for_one / self.micros_for_one, now);
            }
            self.micros_for_one = micros_for_one;
        }
        &mut self.bucket
    }
}

/// A bucket to take from, and how much.
pub struct Take {
    /// The hash of the subject that it limits.
    pub key: u64,
    /// Its size, and how fast it fills.
    pub pace: Pace,
    /// How much to take.
    pub cost: u64,
    /// How much to leave for others.
    pub reserve: u64,
    /// Whether others take from it too. Then a refusal names a coarse wait.
    pub is_shared: bool,
}

/// A bucket has too little left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Which of the buckets refused first.
    pub first: usize,
    /// How long until none of them refuses.
    pub retry_after: Duration,
}

impl From<Exhausted> for Refusal {
    fn from(Exhausted { retry_after, .. }: Exhausted) -> Self {
        Self::LimitExceeded { retry_after }
    }
}

impl Buckets {
    /// Takes from all of the buckets, or from none if one of them refuses.
    ///
    /// # Errors
    /// If one of them refuses.
    pub fn take(&self, now: Millis, takes: &[Take]) -> Result<(), Exhausted> {
        let refuses = |take: &Take| {
            let mut shard = self.shard(take.key);
            make_room(&mut shard, take.key, now);
            let bucket = shard.entry(take.key).or_default().at(take.pace, now);
            bucket.take_leaving(take.pace, take.cost, take.reserve, now).is_err()
        };
        let Some(first) = takes.iter().position(refuses) else { return Ok(()) };
        self.give_back(&takes[..first]);
        let waits = takes[first..].iter().map(|take| self.wait(take, now));
        Err(Exhausted { first, retry_after: waits.max().unwrap_or_default() })
    }

    /// Gives back what [`Buckets::take`] took.
    pub fn give_back(&self, takes: &[Take]) {
        for take in takes {
            if let Some(bucket) = self.shard(take.key).get_mut(&take.key) {
                bucket.bucket.give_back(take.pace, take.cost, take.reserve);
            }
        }
    }

    /// Takes all that is left in a bucket.
    pub(in crate::ops) fn drain(&self, key: u64, pace: Pace, now: Millis) {
        let mut shard = self.shard(key);
        make_room(&mut shard, key, now);
        shard.entry(key).or_default().at(pace, now).drain(pace, now);
    }

    /// How long until the bucket allows the request.
    fn wait(&self, take: &Take, now: Millis) -> Duration {
        let mut shard = self.shard(take.key);
        let Some(bucket) = shard.get_mut(&take.key) else { return Duration::ZERO };
        let bucket = bucket.at(take.pace, now);
        let Err(wait) = bucket.take_leaving(take.pace, take.cost, take.reserve, now) else {
            bucket.give_back(take.pace, take.cost, take.reserve);
            return Duration::ZERO;
        };
        if take.is_shared { coarse(wait) } else { wait }
    }

    /// Every bucket that is not full. Drops the full ones. A bucket that seems to need longer than `to_fill`
    /// counts as empty, because the clock was set back.
    pub(in crate::ops) fn in_use(&self, to_fill: Duration, now: Millis) -> HashMap<u64, Bucket> {
        let mut in_use = HashMap::new();
        for shard in &self.0 {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|key, Paced { bucket, .. }| {
                *bucket = bucket.no_emptier_than(to_fill, now);
                let keep = !bucket.is_full(now);
                if keep {
                    in_use.insert(*key, *bucket);
                }
                keep
            });
        }
        in_use
    }

    /// Restores a bucket that was stored.
    pub(in crate::ops) fn put(&self, key: u64, bucket: Bucket) {
        let mut shard = self.shard(key);
        if shard.len() < MAX_BUCKETS_PER_SHARD {
            shard.insert(key, Paced { bucket, micros_for_one: 0.0 });
        }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, Paced>> {
        self.0[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evicts buckets if the shard is full: those that are full again, and if that is not enough, the fullest
/// eighth. Losing a full bucket forgives the least. An eighth at a time, so that scanning all of them is rare.
fn make_room(shard: &mut HashMap<u64, Paced>, key: u64, now: Millis) {
    if shard.len() < MAX_BUCKETS_PER_SHARD || shard.contains_key(&key) {
        return;
    }
    shard.retain(|_, paced| !paced.bucket.is_full(now));
    if shard.len() > MAX_BUCKETS_PER_SHARD / 8 * 7 {
        let mut buckets: Vec<Bucket> = shard.values().map(|paced| paced.bucket).collect();
        let (_, eighth, _) = buckets.select_nth_unstable(MAX_BUCKETS_PER_SHARD / 8);
        let eighth = *eighth;
        shard.retain(|_, paced| paced.bucket > eighth);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;
    use crate::domain::bucket::Rate;

    const NOW: Millis = Millis(1_000_000_000);

    fn take(key: u64, burst: u32, per_hour: u32, cost: u64) -> Take {
        Take { key, pace: Rate::new(burst, per_hour).into(), cost, reserve: 0, is_shared: false }
    }

    #[test]
    fn memory_is_bounded_and_the_emptiest_buckets_survive() {
        let (buckets, hasher) = (Buckets::default(), RandomState::new());
        let spender = hasher.hash_one("spender");
        buckets.take(NOW, &[take(spender, 10, 10, 10)]).expect("a full bucket gives its burst");
        for subject in 0..(SHARDS * MAX_BUCKETS_PER_SHARD * 2) {
            let key = hasher.hash_one(subject);
            buckets.take(NOW, &[take(key, 10, 10, 1)]).expect("each has a bucket of its own");
        }
        let kept = buckets.in_use(Duration::MAX, NOW);
        assert!(kept.len() <= SHARDS * MAX_BUCKETS_PER_SHARD && kept.contains_key(&spender));
        assert!(buckets.take(NOW, &[take(spender, 10, 10, 1)]).is_err());
    }

    #[test]
    fn a_refusal_takes_nothing_and_names_the_longest_wait() {
        let buckets = Buckets::default();
        let all = || [take(1, 3, 1, 1), take(2, 1, 60, 1), take(3, 1, 30, 1)];
        buckets.take(NOW, &all()).expect("all are full");
        let refusal = buckets.take(NOW, &all()).expect_err("two are empty");
        assert_eq!(refusal, Exhausted { first: 1, retry_after: Duration::from_secs(120) });
        for _ in 0..2 {
            buckets.take(NOW, &[take(1, 3, 1, 1)]).expect("it was given back");
        }
        buckets.take(NOW, &[take(1, 3, 1, 1)]).expect_err("three and no more");
        let shared = Take { is_shared: true, ..take(3, 1, 30, 1) };
        let refusal = buckets.take(NOW, &[shared]).expect_err("it is empty");
        assert_eq!(refusal, Exhausted { first: 0, retry_after: Duration::from_secs(300) });
    }

    #[test]
    fn a_changed_rate_keeps_what_is_missing() {
        for (burst, per_hour) in [(10, 1), (10, 1000), (5, 60), (40, 60)] {
            let buckets = Buckets::default();
            buckets.take(NOW, &[take(1, 10, 60, 7)]).expect("ten are there");
            let left = u64::from(burst).saturating_sub(7);
            for _ in 0..left {
                buckets.take(NOW, &[take(1, burst, per_hour, 1)]).expect("what is left");
            }
            let refusal = buckets.take(NOW, &[take(1, burst, per_hour, 1)]).expect_err("no more");
            let retry_after = refusal.retry_after;
            let one = Duration::from_secs(3600 / u64::from(per_hour));
            assert!(
                retry_after.abs_diff(one) < Duration::from_secs(2),
                "{burst} {per_hour}: {retry_after:?}"
            );
        }
    }
}
