//! `[lookup]`: lookups of addresses, and how many addresses may be looked up.

use std::num::{NonZeroU32, NonZeroU64};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{at_least_one, default_days};
use crate::domain::{retention::Period, server_name::ServerName};

/// Rules for lookups of addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lookup {
    /// How many addresses one lookup request may contain, 1 to 10000.
    pub max_addresses: usize,
    /// Whether clients may look up unhashed addresses (algorithm "none").
    pub allow_none: bool,
    /// How many addresses an account may look up per day, after the first max_addresses; ten times that, after the first three times max_addresses, for all users of a registrable domain together, and for all callers from an IPv4 address or an IPv6 /48.
    pub daily_budget: NonZeroU64,
    /// Homeservers with a budget of their own instead of the one of their domain, like { homeserver = "matrix.example.org", burst = 100000, per_day = 50000 }.
    pub homeserver_budgets: Vec<HomeserverBudget>,
    /// Networks with a budget of their own for all callers in them together, like { network = "203.0.113.0/24", burst = 100000, per_day = 50000 }.
    pub network_budgets: Vec<NetworkBudget>,
    /// If all accounts together look up more addresses than this in one day (UTC), this server logs a warning and sets the metric bindery_lookup_alarm; it refuses nothing.
    pub alarm_per_day: NonZeroU64,
    /// How many days until a new pepper replaces the current one in lookup hashes, 1 to 365.
    pub pepper_rotation_days: NonZeroU32,
}

/// The lookup budget of a homeserver that the operator names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HomeserverBudget {
    /// The homeserver.
    pub homeserver: String,
    /// How many addresses its users may look up at once.
    pub burst: NonZeroU64,
    /// How many are refilled in a day.
    pub per_day: NonZeroU64,
}

/// The lookup budget of a network that the operator names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkBudget {
    /// The network.
    #[schemars(with = "String")]
    pub network: IpNet,
    /// How many addresses its callers may look up at once.
    pub burst: NonZeroU64,
    /// How many are refilled in a day.
    pub per_day: NonZeroU64,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            max_addresses: 10_000,
            allow_none: false,
            daily_budget: NonZeroU64::from(at_least_one(5000)),
            homeserver_budgets: Vec::new(),
            network_budgets: Vec::new(),
            alarm_per_day: NonZeroU64::from(at_least_one(200_000)),
            pepper_rotation_days: default_days(Period::Pepper),
        }
    }
}

/// A budget is stored until it is full again, also under a hash of the caller's IP address. So it must fill within
/// the period of the access log.
const MAX_DAYS_TO_FILL: u64 = 60;

impl Lookup {
    /// The problems of these values, for [`super::Config::check`].
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| problems.extend((!holds).then_some(problem));
        let max = self.max_addresses;
        require(
            (1..=10_000).contains(&max),
            format!("lookup.max_addresses: {max} is not between 1 and 10000"),
        );
        let days = max as u64 / self.daily_budget.get();
        require(
            days <= MAX_DAYS_TO_FILL,
            format!(
                "lookup.daily_budget: a used-up budget of max_addresses would take {days} days to refill, so raise it or lower lookup.max_addresses; the policy says: a hash of a caller's IP address is kept for sixty days at most"
            ),
        );
        let homeservers = self.homeserver_budgets.iter().map(|budget| {
            (
                "lookup.homeserver_budgets",
                &budget.homeserver as &dyn std::fmt::Display,
                budget.burst,
                budget.per_day,
            )
        });
        let networks = self.network_budgets.iter().map(|budget| {
            (
                "lookup.network_budgets",
                &budget.network as &dyn std::fmt::Display,
                budget.burst,
                budget.per_day,
            )
        });
        for (key, named, burst, per_day) in homeservers.chain(networks) {
            require(
                burst.get() >= max as u64,
                format!("{key}: the burst of '{named}' is smaller than lookup.max_addresses; raise it"),
            );
            let days = burst.get() / per_day.get();
            require(
                days <= MAX_DAYS_TO_FILL,
                format!(
                    "{key}: a used-up budget of '{named}' would take {days} days to refill, so raise its per_day; the policy says: a hash of a caller's IP address is kept for sixty days at most"
                ),
            );
        }
        for HomeserverBudget { homeserver, .. } in &self.homeserver_budgets {
            require(
                ServerName::parse(homeserver).is_some(),
                format!(
                    "lookup.homeserver_budgets: '{homeserver}' is not a server name; write a host with an optional port, like 'matrix.example.org'"
                ),
            );
        }
        for NetworkBudget { network, .. } in &self.network_budgets {
            require(
                network.addr().is_ipv4() || network.prefix_len() <= 64,
                format!(
                    "lookup.network_budgets: '{network}' is smaller than a /64, which counts as one caller"
                ),
            );
        }
        problems
    }
}
