//! Rate limits: token buckets for accounts, homeservers, networks and addresses.
//!
//! The operator sets the rates (`[limits]`). Buckets are in memory, so a restart fills them. Lookup budgets
//! survive restarts; they are in [`super::lookup::budget`].

pub mod buckets;
pub mod ceiling;
mod day_shares;

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwap;

use self::{
    buckets::{Buckets, Take},
    day_shares::DayShares,
};
use super::{account::tokens::Authenticated, lookup::budget::Budgets, person::own_page::Recipient};
use crate::{
    config::{self, Config},
    domain::{
        bucket::{Pace, Rate},
        ids::UserId,
        network::Network,
        phone::PhoneNumber,
        refusal::Refusal,
        registrable::registrable_domain,
        server_name::ServerName,
        threepid::Address,
        time::Millis,
    },
    metrics::{Metrics, RequestLimit},
};

/// The part of the messages to phones that links to people's own pages may use up: anybody can request one for any
/// number, and must not use up what codes need.
const VISIT_SHARE: u32 = 4;

/// All rate limits, and the state of their buckets.
pub struct Limits {
    rates: ArcSwap<config::Limits>,
    /// How many links to people's own pages may be requested for phones in a day.
    visit_sms_per_day: u32,
    /// The shares of `invites.daily_ceiling`.
    pub(in crate::ops) inviters: DayShares,
    hasher: RandomState,
    buckets: Buckets,
    metrics: Arc<Metrics>,
}

impl Limits {
    /// All buckets full.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        Self {
            rates: ArcSwap::from_pointee(config.limits.clone()),
            visit_sms_per_day: share(config.sms.daily_ceiling.get()),
            inviters: DayShares::new(config),
            hasher: RandomState::new(),
            buckets: Buckets::default(),
            metrics,
        }
    }

    /// Sets other rates. What was taken from a bucket stays taken.
    pub fn set_rates(&self, rates: config::Limits) {
        self.rates.store(Arc::new(rates));
    }

    /// Counts an attempt to register.
    pub fn register(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.takes()
            .network(RequestLimit::RegisterPerIp, network, self.rates.load().register_per_ip)
            .take(now)
    }

    /// Counts a registration that the homeserver confirmed. Unconfirmed ones do not count: otherwise anyone
    /// could use up the limit of a homeserver's users.
    pub fn registered(&self, server: &ServerName, now: Millis) -> Result<(), Refusal> {
        let domain = registrable_domain(server.as_str());
        self.takes()
            .shared(RequestLimit::RegisterPerHomeserver, domain, self.rates.load().register_per_homeserver)
            .take(now)
    }

    /// Counts a request for a validation token to an address.
    pub fn request_token(
        &self,
        network: Network,
        account: &UserId,
        address: &Address,
        now: Millis,
    ) -> Result<(), Refusal> {
        let (rates, account_and_address) = (self.rates.load(), (account.as_str(), address.as_str()));
        self.takes()
            .network(RequestLimit::RequestTokenPerIp, network, rates.request_token_per_ip)
            .own(RequestLimit::RequestTokenPerAccount, account.as_str(), rates.request_token_per_account)
            .shared(
                RequestLimit::RequestTokenPerHomeserver,
                domain_of(account),
                rates.request_token_per_homeserver,
            )
            .own(
                RequestLimit::RequestTokenPerAccountAndAddress,
                account_and_address,
                rates.request_token_per_account_and_address,
            )
            .shared(RequestLimit::RequestTokenPerAddress, address.as_str(), rates.request_token_per_address)
            .take(now)
    }

    /// Counts a token that an account presents.
    pub fn submit_token(&self, network: Network, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = self.rates.load();
        self.takes()
            .network(RequestLimit::SubmitTokenPerIp, network, rates.submit_token_per_ip)
            .own(RequestLimit::SubmitTokenPerAccount, account.as_str(), rates.submit_token_per_account)
            .shared(
                RequestLimit::SubmitTokenPerHomeserver,
                domain_of(account),
                rates.submit_token_per_homeserver,
            )
            .take(now)
    }

    /// Counts a token that a person presents with a mailed link.
    pub fn submit_link(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.takes()
            .network(RequestLimit::SubmitTokenPerIp, network, self.rates.load().submit_token_per_ip)
            .take(now)
    }

    /// Counts a bind, which may queue calls to homeservers.
    pub fn bind(&self, network: Network, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = self.rates.load();
        self.takes()
            .network(RequestLimit::BindPerIp, network, rates.bind_per_ip)
            .own(RequestLimit::BindPerAccount, account.as_str(), rates.bind_per_account)
            .take(now)
    }

    /// Counts an unbind, which may fetch the keys of a homeserver.
    pub fn unbind(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.takes().network(RequestLimit::UnbindPerIp, network, self.rates.load().unbind_per_ip).take(now)
    }

    /// Counts a copy of an account's data, or its erasure.
    pub fn rights(&self, network: Network, account: &UserId, now: Millis) -> Result<(), Refusal> {
        let rates = self.rates.load();
        self.takes()
            .network(RequestLimit::RightsPerIp, network, rates.rights_per_ip)
            .own(RequestLimit::RightsPerAccount, account.as_str(), rates.rights_per_account)
            .take(now)
    }

    /// Counts a view of a person's own page, or a button pressed on it.
    pub fn own_page(&self, address: &Address, now: Millis) -> Result<(), Refusal> {
        self.takes()
            .own(RequestLimit::OwnPagePerAddress, address.as_str(), self.rates.load().own_page_per_address)
            .take(now)
    }

    /// Counts a copy of what is stored about an address, for its owner.
    pub fn copy_of(&self, address: &Address, now: Millis) -> Result<(), Refusal> {
        self.takes()
            .own(RequestLimit::RightsPerAccount, address.as_str(), self.rates.load().rights_per_account)
            .take(now)
    }

    /// Counts an invitation to an address. The answer reveals whether the address is bound, so it also costs a
    /// lookup.
    pub fn invite(
        &self,
        budgets: &Budgets,
        network: Network,
        account: &Authenticated,
        address: &Address,
        now: Millis,
    ) -> Result<(), Refusal> {
        let (rates, user_id) = (self.rates.load(), account.user_id());
        budgets.take(account.budget_keys(), network, 1, now)?;
        let taken = self
            .takes()
            .network(RequestLimit::InvitePerIp, network, rates.invite_per_ip)
            .own(RequestLimit::InvitePerAccount, user_id.as_str(), rates.invite_per_account)
            .shared(RequestLimit::InvitePerHomeserver, domain_of(user_id), rates.invite_per_homeserver)
            .shared(RequestLimit::InvitePerAddress, address.as_str(), rates.invite_per_address)
            .take(now);
        taken.inspect_err(|_| budgets.give_back_one(account.budget_keys(), network))
    }

    /// Counts a signature with an invitation's key.
    pub fn sign(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.takes().network(RequestLimit::SignPerIp, network, self.rates.load().sign_per_ip).take(now)
    }

    /// Counts a request for a message to a phone, whether or not one is sent. `account` is `None` for a
    /// homeserver that delegates validation.
    pub fn ask_for_sms(
        &self,
        network: Network,
        account: Option<&UserId>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let rates = self.rates.load();
        let takes = match account {
            Some(account) => self
                .takes()
                .own(RequestLimit::SmsPerAccount, account.as_str(), rates.sms_per_account)
                .shared(RequestLimit::SmsPerHomeserver, domain_of(account), rates.sms_per_homeserver)
                .network(RequestLimit::SmsPerIp, network, rates.sms_per_ip),
            // The homeserver asks for all its users from one IP address.
            None => self.takes().network(RequestLimit::SmsPerHomeserver, network, rates.sms_per_homeserver),
        };
        takes.take(now)
    }

    /// Counts a code to a phone that is due. Requests that send nothing because the attempt was delivered before do
    /// not count: otherwise they would use up the limit of the number or the country. A number that has opted out
    /// counts like any other.
    pub fn send_sms(&self, number: &PhoneNumber, now: Millis) -> Result<(), Refusal> {
        let rates = self.rates.load();
        self.takes()
            .shared(RequestLimit::SmsPerNumber, number.address().as_str(), rates.sms_per_number)
            .shared(RequestLimit::SmsPerCountry, country_of(number), rates.sms_per_country)
            .take(now)
    }

    /// Counts a request for the link to a person's own page, for any address.
    pub fn visit(&self, network: Network, now: Millis) -> Result<(), Refusal> {
        self.takes().network(RequestLimit::VisitPerIp, network, self.rates.load().visit_per_ip).take(now)
    }

    /// Counts a link to this address, whether or not anything is stored about it: no limit may reveal that. So
    /// numbers that get nothing count too, but all of them together can use up only a share of what codes need. They
    /// do not count against the codes sent to the same number: otherwise anyone could use up that limit.
    pub fn visit_to(&self, network: Network, to: &Recipient, now: Millis) -> Result<(), Refusal> {
        let (rates, address) = (self.rates.load(), to.address().as_str());
        let mut takes = self.takes().shared(RequestLimit::VisitPerAddress, address, rates.visit_per_address);
        if let Recipient::Phone(number) = to {
            let Rate { burst, per_hour } = rates.sms_per_country;
            let of_links = Rate::new(share(burst.get()), share(per_hour.get()));
            let a_day = Pace::daily(self.visit_sms_per_day.into(), self.visit_sms_per_day.into());
            takes = takes
                .network(RequestLimit::SmsPerIp, network, rates.sms_per_ip)
                .shared(RequestLimit::SmsPerCountry, country_of(number), rates.sms_per_country)
                .shared(RequestLimit::VisitSmsPerCountry, country_of(number), of_links)
                .shared(RequestLimit::VisitSmsPerDay, (), a_day);
        }
        takes.take(now)
    }

    fn takes(&self) -> Takes<'_> {
        Takes { limits: self, takes: Vec::with_capacity(8), names: Vec::with_capacity(8) }
    }
}

/// The buckets that a request takes from.
struct Takes<'a> {
    limits: &'a Limits,
    takes: Vec<Take>,
    /// The limit of each of them.
    names: Vec<RequestLimit>,
}

impl Takes<'_> {
    /// Takes one from a bucket of the caller's own.
    fn own(self, limit: RequestLimit, subject: impl Hash, pace: impl Into<Pace>) -> Self {
        self.and(limit, subject, pace.into(), false)
    }

    /// Takes one from a bucket that others use too.
    fn shared(self, limit: RequestLimit, subject: impl Hash, pace: impl Into<Pace>) -> Self {
        self.and(limit, subject, pace.into(), true)
    }

    /// Takes one from the bucket of the network, and from those of the networks around it. Each of them allows
    /// twice as much as the one before: more customers may be in it.
    fn network(self, limit: RequestLimit, network: Network, rate: Rate) -> Self {
        let around = network.and_around().zip([1, 2, 4]);
        around
            .fold(self, |takes, (network, times)| takes.shared(limit, network, Pace::from(rate).times(times)))
    }

    fn and(mut self, limit: RequestLimit, subject: impl Hash, pace: Pace, is_shared: bool) -> Self {
        let key = self.limits.hasher.hash_one((limit, subject));
        self.names.push(limit);
        self.takes.push(Take { key, pace, cost: 1, reserve: 0, is_shared });
        self
    }

    fn take(self, now: Millis) -> Result<(), Refusal> {
        self.limits.buckets.take(now, &self.takes).map_err(|exhausted| {
            self.limits.metrics.count_limited(self.names[exhausted.first]);
            exhausted.into()
        })
    }
}

fn domain_of(account: &UserId) -> String {
    registrable_domain(account.server_name())
}

/// Countries that share a calling code are counted apart: the United States and Jamaica do.
fn country_of(number: &PhoneNumber) -> (u16, Option<&str>) {
    (number.calling_code(), number.region())
}

fn share(of: u32) -> u32 {
    (of / VISIT_SHARE).max(1)
}
