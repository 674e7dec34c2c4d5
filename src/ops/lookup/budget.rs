//! Lookup budgets: how many addresses an account, the users of a homeserver, and the callers from an IP address
//! may look up (design, P16). An address costs the same whether or not it is found.
//!
//! Budgets are held in memory, because every lookup takes from three of them. `tasks::budgets` stores them
//! every few seconds, so a restart loses only the last few.

use std::{
    collections::HashMap,
    hash::Hasher,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use siphasher::sip::SipHasher13;

use crate::{
    config::Lookup,
    domain::{
        bucket::{Bucket, Pace},
        ids::UserId,
        network::Network,
        refusal::Refusal,
        secret::Key32,
        server_name::host_key,
        time::Millis,
    },
    ops::{
        Core, Failure,
        limits::buckets::{Buckets, Take},
    },
    store::{Store, StoreError},
};

/// How much larger a budget is that many people share.
const SHARED_FACTOR: u64 = 10;

/// How many budgets are stored in one transaction.
const STORE_BATCH: usize = 1024;

/// All lookup budgets.
pub struct Budgets {
    of_one: Pace,
    of_many: Pace,
    /// The keys of the hashes under which the database stores budgets, instead of names.
    keys: (u64, u64),
    buckets: Buckets,
    /// The budgets as they are stored.
    stored: Mutex<HashMap<u64, Bucket>>,
}

impl Budgets {
    /// Loads the stored budgets.
    pub(in crate::ops) async fn load(rules: &Lookup, key: &Key32, store: &Store) -> Result<Self, StoreError> {
        let (burst, per_day) = (rules.max_addresses as u64, rules.daily_budget.get());
        let stored: HashMap<u64, Bucket> = store.scan(|scan| scan.budgets()).await?.into_iter().collect();
        let buckets = Buckets::default();
        stored.iter().for_each(|(key, bucket)| buckets.put(*key, *bucket));
        Ok(Self {
            of_one: Pace::daily(burst, per_day),
            of_many: Pace::daily(burst.saturating_mul(SHARED_FACTOR), per_day.saturating_mul(SHARED_FACTOR)),
            keys: keys(key),
            buckets,
            stored: Mutex::new(stored),
        })
    }

    /// Takes the cost of looking up `addresses` addresses. A lookup of none costs one. `network` is what counts
    /// as one caller.
    ///
    /// # Errors
    /// `LimitExceeded`. Then nothing was taken.
    pub fn take(
        &self,
        account: &UserId,
        network: Network,
        addresses: usize,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.buckets.take(now, &self.of(account, network, addresses))
    }

    /// Gives back what [`Budgets::take`] took.
    pub fn give_back(&self, account: &UserId, network: Network, addresses: usize) {
        self.buckets.give_back(&self.of(account, network, addresses));
    }

    fn of(&self, account: &UserId, network: Network, addresses: usize) -> [Take; 3] {
        let cost = addresses.max(1) as u64;
        let homeserver = host_key(account.server_name());
        let network = match network.address() {
            IpAddr::V4(address) => self.key(b'4', &address.octets()),
            IpAddr::V6(address) => self.key(b'6', &address.octets()),
        };
        [
            Take { key: self.key(b'@', account.as_str().as_bytes()), pace: self.of_one, cost },
            Take { key: self.key(b':', homeserver.as_bytes()), pace: self.of_many, cost },
            Take { key: network, pace: self.of_many, cost },
        ]
    }

    /// The keyed hash of a subject. It must be the same after a restart.
    fn key(&self, kind: u8, subject: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(&[kind]);
        hasher.write(subject);
        hasher.finish()
    }

    /// The budgets that differ from the stored ones. `None` for a budget that is full again.
    fn changes(&self, now: Millis) -> Vec<(u64, Option<Bucket>)> {
        let to_fill: Duration = self.of_one.time_to_fill().max(self.of_many.time_to_fill());
        let in_use = self.buckets.in_use(to_fill, now);
        let stored = self.stored();
        let full = stored.keys().filter(|key| !in_use.contains_key(key)).map(|key| (*key, None));
        let is_new = |(key, bucket): &(&u64, &Bucket)| stored.get(key) != Some(bucket);
        let changed = in_use.iter().filter(is_new).map(|(key, bucket)| (*key, Some(*bucket)));
        full.chain(changed).collect()
    }

    fn stored(&self) -> MutexGuard<'_, HashMap<u64, Bucket>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Derived keys, because these hashes are much shorter than those of session tokens.
fn keys(key: &Key32) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = key.mac(&[b"budgets"]);
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p]))
}

/// Stores the budgets that have changed since the last call.
pub async fn store_changes(core: &Core) -> Result<(), Failure> {
    let budgets = &core.budgets;
    for batch in budgets.changes(core.clock.now()).chunks(STORE_BATCH) {
        let changes = batch.to_vec();
        let written = core.store.write(move |tables| {
            changes.iter().try_for_each(|(key, bucket)| match bucket {
                Some(bucket) => tables.put_budget(*key, *bucket),
                None => tables.remove_budget(*key),
            })
        });
        written.await?;
        let mut stored = budgets.stored();
        for (key, bucket) in batch {
            match bucket {
                Some(bucket) => stored.insert(*key, *bucket),
                None => stored.remove(key),
            };
        }
    }
    Ok(())
}
