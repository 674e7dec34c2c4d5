//! Bounds how often the keys of unproven names are fetched from one domain. A host has 65,535 ports, and each makes a
//! name that is fetched for itself. So what a host bears must not depend on the number of its names.
//!
//! Proven names do not count. So nobody keeps a homeserver's keys from being fetched by naming ports of its host.

use std::hash::{BuildHasher, Hash, RandomState};

use super::places::{owner_of, prefix_48};
use crate::{
    domain::{bucket::Rate, network::Network, refusal::Refusal, server_name::ServerName, time::Millis},
    ops::limits::buckets::{Buckets, Take},
};

/// How many fetches all callers may cause at one registrable domain in a minute.
const MAX_A_MINUTE: u32 = 64;
/// How many of these the IPv4 address or the /48 of one caller may cause.
const MAX_OF_CALLER_A_MINUTE: u32 = 4;

/// The fetches of the last minute.
#[derive(Default)]
pub struct KeyFetches {
    hasher: RandomState,
    buckets: Buckets,
}

impl KeyFetches {
    /// Counts a fetch of the keys of an unproven name.
    ///
    /// # Errors
    /// `LimitExceeded` if the caller or all callers have used up what the domain of the name bears.
    pub fn count(&self, server: &ServerName, caller: Network, now: Millis) -> Result<(), Refusal> {
        let domain = owner_of(server.as_str());
        let of_caller = (&domain, prefix_48(caller.address()));
        let takes = [self.one_of(of_caller, MAX_OF_CALLER_A_MINUTE), self.one_of(&domain, MAX_A_MINUTE)];
        Ok(self.buckets.take(now, &takes)?)
    }

    fn one_of(&self, subject: impl Hash, a_minute: u32) -> Take {
        let pace = Rate::new(a_minute, 60 * a_minute).into();
        Take { key: self.hasher.hash_one(subject), pace, cost: 1, reserve: 0, is_shared: true }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    #[test]
    fn a_host_bears_64_fetches_a_minute_and_4_for_one_caller_whatever_its_ports() {
        let fetches = KeyFetches::default();
        let admitted = |from: &str, host: &str, now| {
            let caller = Network::of(from.parse().expect("an address"));
            let names =
                (1..=65_535).map(|port| ServerName::parse(&format!("{host}:{port}")).expect("a name"));
            names.take_while(|name| fetches.count(name, caller, now).is_ok()).count()
        };
        assert_eq!(admitted("192.0.2.1", "example.org", NOW), 4);
        assert_eq!(admitted("192.0.2.1", "x.Example.org", NOW), 0, "a host below costs nothing");
        assert_eq!(admitted("192.0.2.1", "example.net", NOW), 4);
        let others =
            |now| (2..100).map(|n| admitted(&format!("192.0.2.{n}"), "example.org", now)).sum::<usize>();
        assert_eq!(others(NOW), 60);
        assert_eq!(others(NOW.after(Duration::from_secs(60))), 64);
    }
}
