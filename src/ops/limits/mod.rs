//! Rate limits: token buckets for accounts, homeservers, networks and addresses.
//!
//! The operator sets the rates (`[limits]`). Buckets are in memory, so a restart fills them. Lookup budgets
//! survive restarts; they are in [`super::lookup::budget`].

pub mod buckets;
pub mod ceiling;

use std::hash::{BuildHasher, Hash, RandomState};

use self::buckets::{Buckets, Take};
use super::{lookup::budget::Budgets, person::own_page::Recipient};
use crate::{
    config,
    domain::{
        bucket::Rate,
        ids::UserId,
        network::Network,
        phone::PhoneNumber,
        refusal::Refusal,
        server_name::{ServerName, host_key},
        threepid::Address,
        time::Millis,
    },
};

/// All rate limits, and the state of their buckets.
pub struct Limits {
    rates: config::Limits,
    hasher: RandomState,
    buckets: Buckets,
}

impl Limits {
    /// All buckets full.
    pub fn new(rates: config::Limits) -> Self {
        Self { rates, hasher: RandomState::new(), buckets: Buckets::default() }
    }

    /// Counts an attempt to register.
    pub fn register(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("register ip", network, self.rates.register_per_ip, 1)])
    }

    /// Counts a registration that the homeserver confirmed. Unconfirmed ones do not count: otherwise anyone
    /// could use up the limit of a homeserver's users.
    pub fn registered(&self, server: &ServerName, now: Millis) -> Result<(), Refusal> {
        let host = host_key(server.as_str());
        self.take(now, &[self.of("register homeserver", host, self.rates.register_per_homeserver, 1)])
    }

    /// Counts a request for a validation token to an address.
    pub fn request_token(
        &self,
        network: Network,
        account: &UserId,
        address: &Address,
        now: Millis,
    ) -> Result<(), Refusal> {
        let rates = &self.rates;
        let homeserver = host_key(account.server_name());
        self.take(
            now,
            &[
                self.of("request ip", network, rates.request_token_per_ip, 1),
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

    /// Counts a token that an account presents.
    pub fn submit_token(&self, network: Network, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = &self.rates;
        let homeserver = host_key(account.server_name());
        self.take(
            now,
            &[
                self.of("submit ip", network, rates.submit_token_per_ip, 1),
                self.of("submit account", account.as_str(), rates.submit_token_per_account, 1),
                self.of("submit homeserver", homeserver, rates.submit_token_per_homeserver, 1),
            ],
        )
    }

    /// Counts a token that a person presents with a mailed link.
    pub fn submit_link(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("submit ip", network, self.rates.submit_token_per_ip, 1)])
    }

    /// Counts a bind, which may queue calls to homeservers.
    pub fn bind(&self, network: Network, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = &self.rates;
        self.take(
            now,
            &[
                self.of("bind ip", network, rates.bind_per_ip, 1),
                self.of("bind account", account.as_str(), rates.bind_per_account, 1),
            ],
        )
    }

    /// Counts an unbind, which may fetch the keys of a homeserver.
    pub fn unbind(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("unbind ip", network, self.rates.unbind_per_ip, 1)])
    }

    /// Counts a copy of an account's data, or its erasure.
    pub fn rights(&self, network: Network, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = &self.rates;
        self.take(
            now,
            &[
                self.of("rights ip", network, rates.rights_per_ip, 1),
                self.of("rights account", account.as_str(), rates.rights_per_account, 1),
            ],
        )
    }

    /// Counts a view of a person's own page, or a button pressed on it.
    pub fn own_page(&self, address: &Address, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("own page", address.as_str(), self.rates.own_page_per_address, 1)])
    }

    /// Counts a copy of what is stored about an address, for its owner.
    pub fn copy_of(&self, address: &Address, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("rights address", address.as_str(), self.rates.rights_per_account, 1)])
    }

    /// Counts an invitation to an address. The answer reveals whether the address is bound, so it also costs a
    /// lookup.
    pub fn invite(
        &self,
        budgets: &Budgets,
        network: Network,
        account: &UserId,
        address: &Address,
        now: Millis,
    ) -> Result<(), Refusal> {
        let rates = &self.rates;
        let homeserver = host_key(account.server_name());
        budgets.take(account, network, 1, now)?;
        let taken = self.take(
            now,
            &[
                self.of("invite ip", network, rates.invite_per_ip, 1),
                self.of("invite account", account.as_str(), rates.invite_per_account, 1),
                self.of("invite homeserver", homeserver, rates.invite_per_homeserver, 1),
                self.of("invite address", address.as_str(), rates.invite_per_address, 1),
            ],
        );
        taken.inspect_err(|_| budgets.give_back(account, network, 1))
    }

    /// Counts a signature with an invitation's key.
    pub fn sign(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("sign ip", network, self.rates.sign_per_ip, 1)])
    }

    /// Counts a request for a message to a phone, whether or not one is sent. `account` is `None` for a
    /// homeserver that delegates validation.
    pub fn ask_for_sms(
        &self,
        network: Network,
        account: Option<&UserId>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let rates = &self.rates;
        let mut takes = Vec::new();
        match account {
            Some(account) => {
                let homeserver = host_key(account.server_name());
                takes.push(self.of("sms account", account.as_str(), rates.sms_per_account, 1));
                takes.push(self.of("sms homeserver", homeserver, rates.sms_per_homeserver, 1));
                takes.push(self.of("sms ip", network, rates.sms_per_ip, 1));
            }
            // The homeserver asks for all its users from one IP address.
            None => takes.push(self.of("sms delegate", network, rates.sms_per_homeserver, 1)),
        }
        self.take(now, &takes)
    }

    /// Counts a message to a phone that is about to be sent. Requests that send nothing do not count: otherwise
    /// they would use up the limit of the number or the country.
    pub fn send_sms(&self, number: &PhoneNumber, now: Millis) -> Result<(), Refusal> {
        let to_number = self.of("sms number", number.address().as_str(), self.rates.sms_per_number, 1);
        self.take(now, &[to_number, self.of_country(number)])
    }

    /// Counts a request for the link to a person's own page, for any address.
    pub fn visit(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("visit ip", network, self.rates.visit_per_ip, 1)])
    }

    /// Counts a link to this address, whether or not anything is stored about it: the limit must not reveal
    /// that. It does not count against the codes sent to the same number: otherwise anyone could use up that limit.
    pub fn visit_to(&self, network: Network, to: &Recipient, now: Millis) -> Result<(), Refusal> {
        let (rates, address) = (&self.rates, to.address().as_str());
        let mut takes = vec![self.of("visit address", address, rates.visit_per_address, 1)];
        if let Recipient::Phone(_) = to {
            takes.push(self.of("sms ip", network, rates.sms_per_ip, 1));
        }
        self.take(now, &takes)
    }

    /// Counts a link that is about to be sent as a message to a phone. Others do not count: numbers that get
    /// nothing must not use up the limit of the country.
    pub fn visit_sms(&self, number: &PhoneNumber, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of_country(number)])
    }

    fn of_country(&self, number: &PhoneNumber) -> Take {
        // Countries that share a calling code are counted apart: the United States and Jamaica do.
        let country = (number.calling_code(), number.region());
        self.of("sms country", country, self.rates.sms_per_country, 1)
    }

    fn of(&self, kind: &'static str, subject: impl Hash, rate: Rate, cost: u64) -> Take {
        Take { key: self.hasher.hash_one((kind, subject)), pace: rate.into(), cost }
    }

    fn take(&self, now: Millis, takes: &[Take]) -> Result<(), Refusal> {
        self.buckets.take(now, takes)
    }
}
