//! The shares of `invites.daily_ceiling`, so that one homeserver cannot use it up for all, and strangers not for the
//! homeservers that the operator names.
//!
//! A named homeserver may use all of the ceiling. The others may use half of it together, or all if none is named. Shares
//! are in memory: a restart forgives them, but not the ceiling.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    config::Config,
    domain::{ids::UserId, registrable::registrable_domain, server_name::host_key},
};

/// One registrable domain may use up this part of what homeservers without a name may.
const DOMAIN_PART: u32 = 4;
/// If the operator names homeservers, the others may use up this part of the ceiling.
const UNNAMED_PART: u32 = 2;

/// The shares of one day.
pub struct DayShares {
    max_unnamed: u32,
    /// The homeservers that the operator names, by [`host_key`].
    named: HashSet<String>,
    today: Arc<Mutex<Today>>,
}

/// At most as many domains as the ceiling allows invitations.
#[derive(Default)]
struct Today {
    day: u64,
    used: HashMap<String, u32>,
    used_by_all: u32,
}

/// The share of one registrable domain.
pub struct DayShare {
    max_unnamed: u32,
    domain: String,
    today: Arc<Mutex<Today>>,
}

impl DayShares {
    pub(super) fn new(config: &Config) -> Self {
        let named: HashSet<_> = config.named_homeservers().map(host_key).collect();
        let ceiling = config.invites.daily_ceiling.get();
        let max_unnamed = if named.is_empty() { ceiling } else { (ceiling / UNNAMED_PART).max(1) };
        Self { max_unnamed, named, today: Arc::default() }
    }

    /// The share that an account uses. `None` if the operator names its homeserver.
    pub(in crate::ops) fn of(&self, account: &UserId) -> Option<DayShare> {
        let is_named = self.named.contains(&host_key(account.server_name()));
        (!is_named).then(|| DayShare {
            max_unnamed: self.max_unnamed,
            domain: registrable_domain(account.server_name()),
            today: self.today.clone(),
        })
    }
}

impl DayShare {
    /// Whether nothing is left of the share on this day, or of what homeservers without a name share.
    pub(in crate::ops) fn is_used_up(&self, day: u64) -> bool {
        let max = (self.max_unnamed / DOMAIN_PART).max(1);
        let today = self.on(day);
        today.used_by_all >= self.max_unnamed || today.used.get(&self.domain).is_some_and(|used| *used >= max)
    }

    /// Uses one of the share.
    pub(super) fn count(&self, day: u64) {
        let mut today = self.on(day);
        today.used_by_all += 1;
        *today.used.entry(self.domain.clone()).or_default() += 1;
    }

    fn on(&self, day: u64) -> MutexGuard<'_, Today> {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != day {
            *today = Today { day, ..Today::default() };
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
    fn one_domain_uses_up_a_quarter_whatever_its_accounts_and_homeservers() {
        let mut config = Config::default();
        config.invites.daily_ceiling = NonZeroU32::new(1000).expect("a ceiling");
        let shares = DayShares::new(&config);
        assert_eq!(sent(&shares, "@a:hs1.evil.test", 1), 250);
        assert_eq!(sent(&shares, "@b:hs2.evil.test:8448", 1), 0);
        assert_eq!(sent(&shares, "@a:hs.test", 1), 250);
        assert_eq!(sent(&shares, "@a:hs1.evil.test", 2), 250, "the next day");
    }

    #[test]
    fn half_of_the_day_is_left_to_named_homeservers_whatever_the_number_of_other_domains() {
        let mut config = Config::default();
        config.invites.daily_ceiling = NonZeroU32::new(1000).expect("a ceiling");
        config.lookup.homeserver_budgets = vec![HomeserverBudget {
            homeserver: "big.test".to_owned(),
            burst: NonZeroU64::MAX,
            per_day: NonZeroU64::MAX,
        }];
        let shares = DayShares::new(&config);
        let all_sent =
            |day| (0..9).map(|number| sent(&shares, &format!("@a:evil{number}.test"), day)).collect();
        let sent_by_each: Vec<_> = all_sent(1);
        assert_eq!(sent_by_each, [125, 125, 125, 125, 0, 0, 0, 0, 0]);
        assert_eq!(sent(&shares, "@a:big.test", 1), usize::MAX);
        assert_eq!(all_sent(2).iter().sum::<usize>(), 500, "the next day");
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
