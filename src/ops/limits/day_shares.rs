//! The share of `invites.daily_ceiling` that the accounts of one registrable domain may use up, so that one homeserver
//! cannot use it up for all.
//!
//! A homeserver that the operator names has no share. Shares are in memory: a restart forgives them, but not the ceiling.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    config::Config,
    domain::{ids::UserId, registrable::registrable_domain, server_name::host_key},
};

/// One registrable domain may use up this part.
const PART: u32 = 4;

/// The shares of one day.
pub struct DayShares {
    max: u32,
    /// The homeservers that the operator names, by [`host_key`].
    named: HashSet<String>,
    today: Arc<Mutex<Today>>,
}

/// At most as many domains as the ceiling allows invitations.
#[derive(Default)]
struct Today {
    day: u64,
    used: HashMap<String, u32>,
}

/// The share of one registrable domain.
pub struct DayShare {
    max: u32,
    domain: String,
    today: Arc<Mutex<Today>>,
}

impl DayShares {
    pub(super) fn new(config: &Config) -> Self {
        let budgets = config.lookup.homeserver_budgets.iter().map(|budget| &budget.homeserver);
        let named = config.homeservers.allow.iter().chain(budgets).map(|name| host_key(name)).collect();
        let max = (config.invites.daily_ceiling.get() / PART).max(1);
        Self { max, named, today: Arc::default() }
    }

    /// The share that an account uses. `None` if the operator names its homeserver.
    pub(in crate::ops) fn of(&self, account: &UserId) -> Option<DayShare> {
        let is_named = self.named.contains(&host_key(account.server_name()));
        (!is_named).then(|| DayShare {
            max: self.max,
            domain: registrable_domain(account.server_name()),
            today: self.today.clone(),
        })
    }
}

impl DayShare {
    /// Whether nothing is left of the share on this day.
    pub(in crate::ops) fn is_used_up(&self, day: u64) -> bool {
        self.on(day).used.get(&self.domain).is_some_and(|used| *used >= self.max)
    }

    /// Uses one of the share.
    pub(super) fn count(&self, day: u64) {
        *self.on(day).used.entry(self.domain.clone()).or_default() += 1;
    }

    fn on(&self, day: u64) -> MutexGuard<'_, Today> {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != day {
            *today = Today { day, used: HashMap::new() };
        }
        today
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use super::*;
    use crate::config::HomeserverBudget;

    /// How many invitations of these accounts are left to each in turn.
    fn sent(shares: &DayShares, account: &str, day: u64) -> usize {
        let account = UserId::parse(account).expect("a user ID");
        let Some(share) = shares.of(&account) else { return usize::MAX };
        (0..)
            .take_while(|_| {
                !share.is_used_up(day) && {
                    share.count(day);
                    true
                }
            })
            .count()
    }

    #[test]
    fn one_domain_uses_up_a_quarter_whatever_its_accounts_and_homeservers_and_named_ones_have_no_share() {
        let mut config = Config::default();
        config.invites.daily_ceiling = NonZeroU32::new(1000).expect("a ceiling");
        config.lookup.homeserver_budgets = vec![HomeserverBudget {
            homeserver: "big.test".to_owned(),
            burst: NonZeroU64::MAX,
            per_day: NonZeroU64::MAX,
        }];
        let shares = DayShares::new(&config);
        assert_eq!(sent(&shares, "@a:hs1.evil.test", 1), 250);
        assert_eq!(sent(&shares, "@b:hs2.evil.test:8448", 1), 0);
        assert_eq!(sent(&shares, "@a:hs.test", 1), 250);
        assert_eq!(sent(&shares, "@a:big.test", 1), usize::MAX);
        assert_eq!(sent(&shares, "@a:hs1.evil.test", 2), 250, "the next day");
        config.homeservers.allow = vec!["hs1.evil.test".to_owned()];
        assert_eq!(sent(&DayShares::new(&config), "@a:hs1.evil.test", 2), usize::MAX);
    }

    #[test]
    fn a_ceiling_of_a_few_leaves_one_to_each_domain() {
        let mut config = Config::default();
        config.invites.daily_ceiling = NonZeroU32::MIN;
        assert_eq!(sent(&DayShares::new(&config), "@a:hs.test", 1), 1);
    }
}
