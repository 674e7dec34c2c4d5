//! Lookup budgets: how many addresses an account, the users of a registrable domain, and the callers from a network
//! may look up (design, P16). An address costs the same whether or not it is found.
//!
//! Of each budget that many share, a third is left for accounts that look up little. Otherwise a few accounts could
//! stop the small lookups of all others. Budgets are held in memory, because every lookup takes from three to five of
//! them. `tasks::budgets` stores them every few seconds, so a restart loses only the last few.

use std::{
    collections::HashMap,
    hash::Hasher,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use crate::{
    config::{HomeserverBudget, Lookup, NetworkBudget},
    domain::{
        bucket::{Bucket, Pace},
        ids::UserId,
        network::Network,
        refusal::Refusal,
        registrable::registrable_domain,
        secret::Key32,
        server_name::host_key,
        time::Millis,
    },
    metrics::{BudgetOf, Metrics},
    ops::{
        Core, Failure,
        limits::buckets::{Buckets, Take},
    },
    store::{Store, StoreError},
};

/// How much larger the burst of a budget is that many people share.
const SHARED_BURST_FACTOR: u64 = 3;

/// How much faster a budget refills that many people share.
const SHARED_REFILL_FACTOR: u64 = 10;

/// How many addresses an account may look up in a day and still take from the third that is left for small lookups.
const SMALL_PER_DAY: u64 = 100;

/// How many budgets are stored in one transaction.
const STORE_BATCH: usize = 1024;

/// How many budgets a lookup takes from at most: of the account, its domain, and three networks.
const MAX_TAKES: usize = 5;

/// The keys of the budgets of an account and its domain. Every lookup needs them, and they depend on the account alone,
/// so [`crate::ops::account::tokens`] caches them. Only [`Budgets::keys_of`] makes them. They are valid for those
/// [`Budgets`], whose hash keys and paces never change.
#[derive(Clone, Copy)]
pub struct AccountBudgetKeys {
    /// The account's own budget.
    own: u64,
    /// What the account may still look up as small lookups.
    small: u64,
    /// The shared budget and its pace: of its homeserver if the operator names that, otherwise of its registrable
    /// domain.
    shared: (u64, Pace),
}

/// All lookup budgets.
pub struct Budgets {
    of_one: Pace,
    of_many: Pace,
    /// The homeservers that the operator names, by [`host_key`].
    homeservers: HashMap<String, Pace>,
    /// The networks that the operator names.
    networks: Vec<(IpNet, Pace)>,
    /// The keys of the hashes under which the database stores budgets, instead of names.
    keys: (u64, u64),
    buckets: Buckets,
    /// What each account may still look up as small lookups. Not stored: a restart forgives a hundred addresses.
    small: Buckets,
    /// The budgets as they are stored.
    stored: Mutex<HashMap<u64, Bucket>>,
    metrics: Arc<Metrics>,
}

impl Budgets {
    /// Loads the stored budgets.
    pub(in crate::ops) async fn load(
        rules: &Lookup,
        key: &Key32,
        store: &Store,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let (burst, per_day) = (rules.max_addresses as u64, rules.daily_budget.get());
        let stored: HashMap<u64, Bucket> = store.scan(|scan| scan.budgets()).await?.into_iter().collect();
        let buckets = Buckets::default();
        stored.iter().for_each(|(key, bucket)| buckets.put(*key, *bucket));
        let named = |HomeserverBudget { homeserver, burst, per_day }: &HomeserverBudget| {
            (host_key(homeserver), Pace::daily(burst.get(), per_day.get()))
        };
        let networks = |NetworkBudget { network, burst, per_day }: &NetworkBudget| {
            (network.trunc(), Pace::daily(burst.get(), per_day.get()))
        };
        Ok(Self {
            of_one: Pace::daily(burst, per_day),
            of_many: Pace::daily(
                burst.saturating_mul(SHARED_BURST_FACTOR),
                per_day.saturating_mul(SHARED_REFILL_FACTOR),
            ),
            homeservers: rules.homeserver_budgets.iter().map(named).collect(),
            networks: rules.network_budgets.iter().map(networks).collect(),
            keys: keys(key),
            buckets,
            small: Buckets::default(),
            stored: Mutex::new(stored),
            metrics,
        })
    }

    /// The keys of the budgets of an account and its domain.
    pub fn keys_of(&self, account: &UserId) -> AccountBudgetKeys {
        let id = account.as_str().as_bytes();
        let host = host_key(account.server_name());
        let shared = match self.homeservers.get(&host) {
            Some(pace) => (self.key(b'h', host.as_bytes()), *pace),
            None => {
                let domain = registrable_domain(account.server_name());
                (self.key(b':', domain.as_bytes()), self.of_many)
            }
        };
        AccountBudgetKeys { own: self.key(b'@', id), small: self.key(b's', id), shared }
    }

    /// Takes the cost of looking up `addresses` addresses. A lookup of none costs one.
    ///
    /// # Errors
    /// `LimitExceeded`. Then nothing was taken.
    pub fn take(
        &self,
        account: &AccountBudgetKeys,
        network: Network,
        addresses: usize,
        now: Millis,
    ) -> Result<(), Refusal> {
        let small = Take {
            key: account.small,
            pace: Pace::daily(SMALL_PER_DAY, SMALL_PER_DAY),
            cost: addresses.max(1) as u64,
            reserve: 0,
            is_shared: false,
        };
        let is_small =
            small.cost <= SMALL_PER_DAY && self.small.take(now, std::slice::from_ref(&small)).is_ok();
        let taken = self.buckets.take(now, &self.of(account, network, addresses, is_small));
        match (&taken, is_small) {
            (Ok(()), true) | (Err(_), false) => {}
            (Ok(()), false) => self.small.drain(small.key, small.pace, now),
            (Err(_), true) => self.small.give_back(&[small]),
        }
        taken.map_err(|exhausted| {
            // The order of `of`.
            self.metrics.count_exhausted(match exhausted.first {
                0 => BudgetOf::Account,
                1 => BudgetOf::Homeserver,
                _ => BudgetOf::Network,
            });
            exhausted.into()
        })
    }

    /// Gives back one address that [`Budgets::take`] took. It cannot tell whether the lookup was a small one, so
    /// an account does not get back what it may still look up as small lookups.
    pub fn give_back_one(&self, account: &AccountBudgetKeys, network: Network) {
        self.buckets.give_back(&self.of(account, network, 1, true));
    }

    /// The budgets of the account, of its homeserver or domain, and of the networks, in this order.
    fn of(
        &self,
        account: &AccountBudgetKeys,
        network: Network,
        addresses: usize,
        is_small: bool,
    ) -> Vec<Take> {
        let cost = addresses.max(1) as u64;
        let shared = |(key, pace): (u64, Pace)| {
            let reserve = if is_small { 0 } else { pace.third() };
            Take { key, pace, cost, reserve, is_shared: true }
        };
        let mut takes = Vec::with_capacity(MAX_TAKES);
        takes.push(Take { key: account.own, pace: self.of_one, cost, reserve: 0, is_shared: false });
        takes.push(shared(account.shared));
        match self.networks.iter().find(|(named, _)| named.contains(&network.address())) {
            Some((named, pace)) => takes.push(shared((self.network_key(b'n', named), *pace))),
            None => takes.extend(
                network.and_around().map(|around| shared((self.network_key(b'i', &around), self.of_many))),
            ),
        }
        takes
    }

    fn network_key(&self, kind: u8, network: &IpNet) -> u64 {
        let prefix = [network.prefix_len()];
        match network.network() {
            IpAddr::V4(address) => self.key(kind, &[&address.octets()[..], &prefix].concat()),
            IpAddr::V6(address) => self.key(kind, &[&address.octets()[..], &prefix].concat()),
        }
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
        let named = self.homeservers.values().chain(self.networks.iter().map(|(_, pace)| pace));
        let paces = named.chain([&self.of_one, &self.of_many]);
        let to_fill: Duration = paces.map(|pace| pace.time_to_fill()).max().unwrap_or_default();
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
