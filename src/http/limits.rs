//! How often who may do what: token buckets for accounts, homeservers, IP addresses and mail
//! addresses, in bounded memory.
//!
//! A request that one bucket refuses takes nothing out of the others. What a request costs is
//! said by the handler; the rates are the operator's.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::caller::Caller;
use crate::{
    config,
    domain::{
        bucket::{Bucket, Rate},
        ids::UserId,
        phone::PhoneNumber,
        refusal::Refusal,
        server_name::{ServerName, host_key},
        threepid::Address,
        time::Millis,
    },
};

const SHARDS: usize = 16;
/// Sixteen shards of so many buckets of 16 bytes are a few MiB at most.
const BUCKETS_IN_SHARD: usize = 8192;

/// The buckets of everybody.
pub struct Limits {
    rates: config::Limits,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, Bucket>>; SHARDS],
}

/// A bucket to take from: whose it is, how large, and how much.
struct Take {
    key: u64,
    rate: Rate,
    cost: u32,
}

impl Limits {
    /// All buckets full.
    pub fn new(rates: config::Limits) -> Self {
        Self { rates, hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// An attempt to register, by anybody.
    pub fn register(&self, caller: Caller, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("register ip", caller.network(), self.rates.register_per_ip, 1)])
    }

    /// A registration that the homeserver confirmed. Counted only then, or strangers could use up
    /// what a homeserver's users have.
    pub fn registered(&self, server: &ServerName, now: Millis) -> Result<(), Refusal> {
        let host = host_key(server.as_str());
        self.take(now, &[self.of("register homeserver", host, self.rates.register_per_homeserver, 1)])
    }

    /// A request for a token to an address.
    pub fn request_token(
        &self,
        caller: Caller,
        account: &UserId,
        address: &Address,
        now: Millis,
    ) -> Result<(), Refusal> {
        let rates = &self.rates;
        let homeserver = host_key(account.server_name());
        self.take(
            now,
            &[
                self.of("request ip", caller.network(), rates.request_token_per_ip, 1),
                self.of("request account", account.as_str(), rates.request_token_per_account, 1),
                self.of("request homeserver", homeserver, rates.request_token_per_homeserver, 1),
                self.of(
                    "request account and address",
                    (account.as_str(), address.as_str()),
                    rates.request_token_per_account_and_address,
                    1,
                ),
                self.of("request address", address.as_str(), rates.request_token_per_address, 1),
            ],
        )
    }

    /// A token presented by an account.
    pub fn submit_token(&self, caller: Caller, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = &self.rates;
        let homeserver = host_key(account.server_name());
        self.take(
            now,
            &[
                self.of("submit ip", caller.network(), rates.submit_token_per_ip, 1),
                self.of("submit account", account.as_str(), rates.submit_token_per_account, 1),
                self.of("submit homeserver", homeserver, rates.submit_token_per_homeserver, 1),
            ],
        )
    }

    /// A token presented by a person with a link.
    pub fn submit_link(&self, caller: Caller, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("submit ip", caller.network(), self.rates.submit_token_per_ip, 1)])
    }

    /// A request to publish an association, which may have homeservers told of invitations.
    pub fn bind(&self, caller: Caller, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = &self.rates;
        self.take(
            now,
            &[
                self.of("bind ip", caller.network(), rates.bind_per_ip, 1),
                self.of("bind account", account.as_str(), rates.bind_per_account, 1),
            ],
        )
    }

    /// A request to remove an association, which may make us ask a homeserver for its keys.
    pub fn unbind(&self, caller: Caller, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("unbind ip", caller.network(), self.rates.unbind_per_ip, 1)])
    }

    /// A copy of an account's data, or its erasure.
    pub fn rights(&self, caller: Caller, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = &self.rates;
        self.take(
            now,
            &[
                self.of("rights ip", caller.network(), rates.rights_per_ip, 1),
                self.of("rights account", account.as_str(), rates.rights_per_account, 1),
            ],
        )
    }

    /// A lookup of so many addresses.
    pub fn lookup(
        &self,
        caller: Caller,
        account: &UserId,
        addresses: usize,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.take(now, &self.of_lookup(caller, account, u32::try_from(addresses).unwrap_or(u32::MAX).max(1)))
    }

    fn of_lookup(&self, caller: Caller, account: &UserId, cost: u32) -> [Take; 3] {
        let rates = &self.rates;
        let homeserver = host_key(account.server_name());
        [
            self.of("lookup ip", caller.network(), rates.lookup_per_ip, cost),
            self.of("lookup account", account.as_str(), rates.lookup_per_account, cost),
            self.of("lookup homeserver", homeserver, rates.lookup_per_homeserver, cost),
        ]
    }

    /// An invitation to an address. It says whether the address leads to a Matrix ID, so it costs a
    /// lookup as well.
    pub fn invite(
        &self,
        caller: Caller,
        account: &UserId,
        address: &Address,
        now: Millis,
    ) -> Result<(), Refusal> {
        let rates = &self.rates;
        let homeserver = host_key(account.server_name());
        let [ip, user, server] = self.of_lookup(caller, account, 1);
        self.take(
            now,
            &[
                self.of("invite ip", caller.network(), rates.invite_per_ip, 1),
                self.of("invite account", account.as_str(), rates.invite_per_account, 1),
                self.of("invite homeserver", homeserver, rates.invite_per_homeserver, 1),
                self.of("invite address", address.as_str(), rates.invite_per_address, 1),
                ip,
                user,
                server,
            ],
        )
    }

    /// A signature with an invitation's key, for anybody.
    pub fn sign(&self, caller: Caller, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("sign ip", caller.network(), self.rates.sign_per_ip, 1)])
    }

    /// A message to a telephone that an account, or a homeserver without one, asks for, whether or
    /// not one is due.
    pub fn ask_for_sms(&self, caller: Caller, account: Option<&UserId>, now: Millis) -> Result<(), Refusal> {
        let rates = &self.rates;
        let mut takes = Vec::new();
        match account {
            Some(account) => {
                let homeserver = host_key(account.server_name());
                takes.push(self.of("sms account", account.as_str(), rates.sms_per_account, 1));
                takes.push(self.of("sms homeserver", homeserver, rates.sms_per_homeserver, 1));
                takes.push(self.of("sms ip", caller.network(), rates.sms_per_ip, 1));
            }
            // It speaks for many people, all from its own address.
            None => takes.push(self.of("sms delegate", caller.network(), rates.sms_per_homeserver, 1)),
        }
        self.take(now, &takes)
    }

    /// A message that leaves. Counted only then, or repeated requests, which send nothing, could use
    /// up what a number or a country has.
    pub fn send_sms(&self, number: &PhoneNumber, now: Millis) -> Result<(), Refusal> {
        // Countries with one calling code are as different as the United States and Jamaica.
        let country = (number.calling_code(), number.region());
        self.take(
            now,
            &[
                self.of("sms number", number.address().as_str(), self.rates.sms_per_number, 1),
                self.of("sms country", country, self.rates.sms_per_country, 1),
            ],
        )
    }

    fn of(&self, kind: &'static str, subject: impl Hash, rate: Rate, cost: u32) -> Take {
        Take { key: self.hasher.hash_one((kind, subject)), rate, cost }
    }

    /// Takes from all of the buckets or from none.
    fn take(&self, now: Millis, takes: &[Take]) -> Result<(), Refusal> {
        for (taken, take) in takes.iter().enumerate() {
            let mut shard = self.shard(take.key);
            make_room(&mut shard, take.key, now);
            let refused = shard.entry(take.key).or_default().take(take.rate, take.cost, now).err();
            drop(shard);
            if let Some(retry_after) = refused {
                for before in &takes[..taken] {
                    if let Some(bucket) = self.shard(before.key).get_mut(&before.key) {
                        bucket.give_back(before.rate, before.cost);
                    }
                }
                return Err(Refusal::LimitExceeded { retry_after });
            }
        }
        Ok(())
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, Bucket>> {
        self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a shard is full, forgets the buckets that are full again, and an eighth of all if that is
/// not enough: the fullest ones, since forgetting those forgives the least. An eighth at once, so
/// that looking through them all is rare.
fn make_room(shard: &mut HashMap<u64, Bucket>, key: u64, now: Millis) {
    if shard.len() < BUCKETS_IN_SHARD || shard.contains_key(&key) {
        return;
    }
    shard.retain(|_, bucket| !bucket.is_full(now));
    if shard.len() > BUCKETS_IN_SHARD / 8 * 7 {
        let mut buckets: Vec<Bucket> = shard.values().copied().collect();
        let (_, eighth, _) = buckets.select_nth_unstable(BUCKETS_IN_SHARD / 8);
        let eighth = *eighth;
        shard.retain(|_, bucket| *bucket > eighth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_emptiest_buckets_survive() {
        let limits = Limits::new(config::Limits::default());
        let rate = Rate::new(10, 10);
        let now = Millis(1_000_000_000);
        let spent = limits.of("test", "spender", rate, 10);
        limits.take(now, &[spent]).expect("a full bucket gives its burst");
        for subject in 0..(SHARDS * BUCKETS_IN_SHARD * 2) {
            limits.take(now, &[limits.of("test", subject, rate, 1)]).expect("each has a bucket of its own");
        }
        let kept: usize = limits.shards.iter().map(|shard| shard.lock().expect("not poisoned").len()).sum();
        assert!(kept <= SHARDS * BUCKETS_IN_SHARD);
        assert!(limits.take(now, &[limits.of("test", "spender", rate, 1)]).is_err());
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let limits = Limits::new(config::Limits::default());
        let (wide, narrow) = (Rate::new(2, 1), Rate::new(1, 1));
        let now = Millis(1_000_000_000);
        let both = || [limits.of("wide", "a", wide, 1), limits.of("narrow", "a", narrow, 1)];
        limits.take(now, &both()).expect("both are full");
        limits.take(now, &both()).expect_err("the narrow one is empty");
        limits.take(now, &[limits.of("wide", "a", wide, 1)]).expect("the wide one was given back");
    }
}
