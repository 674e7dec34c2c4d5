//! How fast the last mail to each registrable domain was, and the lane that the next one takes.
//!
//! Strangers choose recipients, and the relay may be slow about a domain. Such domains, and those that nothing is known
//! about, leave connections to the domains that were quick.

use std::{collections::HashMap, time::Duration};

/// A mail that takes longer makes its domain a slow one. A relay that filters needs a second or two.
pub const MAX_QUICK_MAIL: Duration = Duration::from_secs(5);
/// How many domains are remembered, about 400 KB.
const MAX_DOMAINS: usize = 4096;

/// The lane of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The relay accepted the last mail to the domain quickly.
    Quick,
    /// Nothing is known about the domain.
    New,
    /// The last mail to the domain was slow, or got no answer.
    Slow,
}

/// How fast a mail was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// The relay accepted it in time.
    Quick,
    /// It was answered late, or not at all.
    Slow,
    /// It was not sent because its recipient has opted out. The next mail to a new domain must not tell that (design,
    /// section 4, rule 12), so it counts as quick, unless the domain is known to be slow.
    Assumed,
}

struct Domain {
    is_slow: bool,
    /// The greater, the later was its last mail.
    last_used: u64,
}

/// The domains to which mails were sent last.
#[derive(Default)]
pub struct DomainSpeeds {
    domains: HashMap<String, Domain>,
    uses: u64,
}

impl DomainSpeeds {
    /// The lane of a queued mail to this domain. Whether the mail has failed before does not count: the relay may have
    /// been down.
    pub fn lane(&self, domain: &str) -> Lane {
        match self.domains.get(domain) {
            Some(Domain { is_slow: false, .. }) => Lane::Quick,
            Some(Domain { is_slow: true, .. }) => Lane::Slow,
            None => Lane::New,
        }
    }

    /// Remembers how fast a mail to this domain was.
    pub fn remember(&mut self, domain: &str, speed: Speed) {
        if self.domains.len() >= MAX_DOMAINS && !self.domains.contains_key(domain) {
            self.evict();
        }
        self.uses += 1;
        let entry = self.domains.entry(domain.to_owned());
        let known = entry.or_insert(Domain { is_slow: false, last_used: 0 });
        known.last_used = self.uses;
        if speed != Speed::Assumed {
            known.is_slow = speed == Speed::Slow;
        }
    }

    /// Evicts the domain whose last mail was the longest ago. A domain that many people use is never that one.
    fn evict(&mut self) {
        let oldest = self.domains.iter().min_by_key(|(_, domain)| domain.last_used);
        if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
            self.domains.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mail_decides_and_one_that_was_not_sent_changes_no_known_domain() {
        let mut speeds = DomainSpeeds::default();
        assert_eq!(speeds.lane("a.test"), Lane::New);
        for (speed, lane) in [
            (Speed::Assumed, Lane::Quick),
            (Speed::Slow, Lane::Slow),
            (Speed::Assumed, Lane::Slow),
            (Speed::Quick, Lane::Quick),
            (Speed::Assumed, Lane::Quick),
        ] {
            speeds.remember("a.test", speed);
            assert_eq!(speeds.lane("a.test"), lane, "{speed:?}");
        }
    }

    #[test]
    fn memory_is_bounded_and_evicts_the_domain_that_was_used_the_longest_ago() {
        let mut speeds = DomainSpeeds::default();
        speeds.remember("slow.test", Speed::Slow);
        for number in 0..3 * MAX_DOMAINS {
            speeds.remember("used.test", Speed::Quick);
            speeds.remember(&format!("{number}.test"), Speed::Quick);
        }
        assert_eq!(speeds.domains.len(), MAX_DOMAINS);
        assert_eq!((speeds.lane("used.test"), speeds.lane("slow.test")), (Lane::Quick, Lane::New));
    }
}
