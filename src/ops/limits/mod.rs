//! Rate limits: token buckets for accounts, homeservers, networks and addresses.
//!
//! The operator sets the rates (`[limits]`). Buckets are in memory, so a restart fills them. Lookup budgets
//! survive restarts; they are in [`super::lookup::budget`].

pub mod buckets;
pub mod ceiling;

use std::hash::{BuildHasher, Hash, RandomState};

use self::buckets::{Buckets, Take};
use super::{lookup::budget::Budgets, person::own_page::Destination};
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

/// The buckets of everybody.
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

    /// An attempt to register, by anybody.
    pub fn register(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("register ip", network, self.rates.register_per_ip, 1)])
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

    /// A token presented by an account.
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

    /// A token presented by a person with a link.
    pub fn submit_link(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("submit ip", network, self.rates.submit_token_per_ip, 1)])
    }

    /// A request to publish an association, which may have homeservers told of invitations.
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

    /// A request to remove an association, which may make us ask a homeserver for its keys.
    pub fn unbind(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("unbind ip", network, self.rates.unbind_per_ip, 1)])
    }

    /// A copy of an account's data, or its erasure.
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

    /// A look at the page of one's own data, or a button of it.
    pub fn own_page(&self, address: &Address, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("own page", address.as_str(), self.rates.own_page_per_address, 1)])
    }

    /// A copy of what is stored about an address, for its owner.
    pub fn copy_of(&self, address: &Address, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("rights address", address.as_str(), self.rates.rights_per_account, 1)])
    }

    /// An invitation to an address. Its answer says whether the address leads to a Matrix ID, so it costs a
    /// lookup as well.
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

    /// A signature with an invitation's key, for anybody.
    pub fn sign(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("sign ip", network, self.rates.sign_per_ip, 1)])
    }

    /// A message to a telephone that an account, or a homeserver without one, asks for, whether or
    /// not one is due.
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
            // It speaks for many people, all from its own address.
            None => takes.push(self.of("sms delegate", network, rates.sms_per_homeserver, 1)),
        }
        self.take(now, &takes)
    }

    /// A message that leaves. Counted only then, or repeated requests, which send nothing, could use
    /// up what a number or a country has.
    pub fn send_sms(&self, number: &PhoneNumber, now: Millis) -> Result<(), Refusal> {
        let to_number = self.of("sms number", number.address().as_str(), self.rates.sms_per_number, 1);
        self.take(now, &[to_number, self.of_country(number)])
    }

    /// Somebody who asks for the link to their page, whatever address they name.
    pub fn visit(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of("visit ip", network, self.rates.visit_per_ip, 1)])
    }

    /// A link to this address, whether or not anything is stored about it: nobody may learn that from
    /// what is left. What messages with codes to the same number have is another matter, or strangers could
    /// use that up.
    pub fn visit_to(&self, network: Network, to: &Destination, now: Millis) -> Result<(), Refusal> {
        let (rates, address) = (&self.rates, to.address().as_str());
        let mut takes = vec![self.of("visit address", address, rates.visit_per_address, 1)];
        if let Destination::Telephone(_) = to {
            takes.push(self.of("sms ip", network, rates.sms_per_ip, 1));
        }
        self.take(now, &takes)
    }

    /// A link that leaves as a message. Counted only then, or strangers could use up what a country
    /// has with numbers that nothing is sent to.
    pub fn visit_sms(&self, number: &PhoneNumber, now: Millis) -> Result<(), Refusal> {
        self.take(now, &[self.of_country(number)])
    }

    fn of_country(&self, number: &PhoneNumber) -> Take {
        // Countries with one calling code are as different as the United States and Jamaica.
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
