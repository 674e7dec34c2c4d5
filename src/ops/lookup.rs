//! Finding the Matrix ID of an address, never the other way round (specification, Identity
//! Service API, "Association lookup"; design, P2 and P3).

use std::sync::Arc;

use arc_swap::Guard;

use super::{Core, Failure};
use crate::{
    domain::{
        lookup::{Algorithm, LookupHash, parse_clear},
        refusal::Refusal,
        time::Millis,
    },
    store::Snapshot,
};

/// The algorithms that clients may use.
pub fn algorithms(core: &Core) -> &'static [&'static str] {
    if core.config.lookup.allow_none { &["sha256", "none"] } else { &["sha256"] }
}

/// The pepper that clients must use now.
pub fn pepper(core: &Core) -> String {
    core.store.read().pepper().to_owned()
}

/// A lookup that may be answered: what it asks for is supported and its pepper may be used.
pub struct Query<'a, T> {
    algorithm: Algorithm,
    addresses: &'a [T],
    pepper: &'a str,
    /// The state in which the pepper may be used, whatever is committed meanwhile.
    snapshot: Guard<Arc<Snapshot>>,
    now: Millis,
}

impl<'a, T: AsRef<str>> Query<'a, T> {
    /// Checks a request.
    ///
    /// # Errors
    /// `InvalidParam` for an algorithm that is not offered or too many addresses,
    /// `InvalidPepper` for any pepper but the current one and, for a short while, the one before.
    pub fn check(core: &Core, algorithm: &str, pepper: &'a str, addresses: &'a [T]) -> Result<Self, Refusal> {
        let offered = Algorithm::parse(algorithm).filter(|known| algorithms(core).contains(&known.as_str()));
        let algorithm = offered.ok_or_else(|| {
            Refusal::InvalidParam("This algorithm is not offered here; see GET /hash_details".to_owned())
        })?;
        let (snapshot, now) = (core.store.read(), core.clock.now());
        if snapshot.index_under(pepper, now).is_none() {
            let lookup_pepper = snapshot.pepper().to_owned();
            return Err(Refusal::InvalidPepper { algorithm: algorithm.as_str(), lookup_pepper });
        }
        let most = core.config.lookup.max_addresses;
        if addresses.len() > most {
            return Err(Refusal::InvalidParam(format!("Ask for at most {most} addresses at once")));
        }
        Ok(Self { algorithm, addresses, pepper, snapshot, now })
    }

    /// What it costs: the number of addresses it asks for.
    pub fn cost(&self) -> usize {
        self.addresses.len()
    }

    /// In which form the addresses were sent.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Calls `each` once with each address that has the form of one, as it was sent, and the Matrix
    /// ID that it leads to, if it does; in no order.
    ///
    /// # Errors
    /// Only if the database fails.
    pub fn run(&self, mut each: impl FnMut(&'a str, Option<&str>)) -> Result<(), Failure> {
        let Some(index) = self.snapshot.index_under(self.pepper, self.now) else { return Ok(()) };
        let hash = |address: &'a str| match self.algorithm {
            Algorithm::Sha256 => LookupHash::from_base64(address),
            Algorithm::None => parse_clear(address).map(|address| LookupHash::of(&address, self.pepper)),
        };
        let addresses = self.addresses.iter().map(AsRef::as_ref);
        let mut hashes: Vec<_> = addresses.filter_map(|address| Some((hash(address)?, address))).collect();
        // In the order of the tree, neighbours share the way down; and an address that was sent
        // twice is found once.
        hashes.sort_unstable_by_key(|(hash, _)| *hash);
        hashes.dedup_by_key(|(hash, _)| *hash);
        for (hash, address) in hashes {
            let mut is_found = false;
            index.lookup(&hash, |user_id| {
                is_found = true;
                each(address, Some(user_id));
            })?;
            if !is_found {
                each(address, None);
            }
        }
        Ok(())
    }
}
