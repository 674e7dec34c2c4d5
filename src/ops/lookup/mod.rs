//! Lookups: finding the Matrix ID of an address, never the reverse (specification, Identity Service API,
//! "Association lookup"; design, P2 and P3).
//!
//! [`run`] is the only way to look up. It takes from the lookup budgets (P16) and writes the row of the lookup
//! log (P14), so no caller can forget either.

pub mod alarm;
pub mod budget;
pub mod pepper;

use std::net::IpAddr;

use super::{Core, Failure, account::tokens::Authenticated};
use crate::{
    domain::{
        lookup::{Algorithm, LookupHash, parse_clear},
        network::Network,
        refusal::Refusal,
    },
    store::{Index, ReadTransaction},
};

/// The algorithms that clients may use.
pub fn algorithms(core: &Core) -> &'static [&'static str] {
    if core.config.lookup.allow_none { &["sha256", "none"] } else { &["sha256"] }
}

/// The current pepper.
pub fn pepper(core: &Core) -> String {
    core.store.read().pepper().to_owned()
}

/// A lookup as the client sent it.
pub struct Lookup<'a, T> {
    /// The name of the algorithm.
    pub algorithm: &'a str,
    /// The pepper that the client hashed with.
    pub pepper: &'a str,
    /// The addresses, in the form that the algorithm requires.
    pub addresses: &'a [T],
}

/// Looks up addresses. Calls `found` with each address that has an association, as the client sent it, and its
/// Matrix ID. The order may differ from the request. An address that was sent twice is found once.
///
/// # Errors
/// `UnknownToken` if the account was erased or logged out meanwhile. `InvalidParam` for an algorithm that is
/// not offered, or more than `lookup.max_addresses` addresses. `InvalidPepper` for any pepper but the current
/// one and, for ten minutes, the previous one. `LimitExceeded` if a budget has too little left.
pub fn run<T: AsRef<str>>(
    core: &Core,
    account: &Authenticated,
    caller: IpAddr,
    lookup: &Lookup<'_, T>,
    mut found: impl FnMut(&str, &str),
) -> Result<(), Failure> {
    account.recheck(core)?;
    let Lookup { algorithm, pepper, addresses } = *lookup;
    let algorithm = Algorithm::parse(algorithm).filter(|known| algorithms(core).contains(&known.as_str()));
    let algorithm = algorithm.ok_or_else(|| {
        Refusal::InvalidParam("This algorithm is not offered here; see GET /hash_details".to_owned())
    })?;
    let (snapshot, now) = (core.store.read(), core.clock.now());
    let Some(index) = snapshot.index_under(pepper, now) else {
        let lookup_pepper = snapshot.pepper().to_owned();
        return Err(Refusal::InvalidPepper { algorithm: algorithm.as_str(), lookup_pepper }.into());
    };
    let max = core.config.lookup.max_addresses;
    if addresses.len() > max {
        return Err(Refusal::InvalidParam(format!("Ask for at most {max} addresses at once")).into());
    }
    core.budgets.take(account.budget_keys(), Network::of(caller), addresses.len(), now)?;
    alarm::count(core, addresses.len(), now);
    let mut row = core.logs.lookup_row(account.user_id(), caller, algorithm, addresses.len(), now);
    search(index, algorithm, lookup, |address, user_id| {
        row.add(address, user_id.is_some());
        if let Some(user_id) = user_id {
            found(address, user_id);
        }
    })?;
    core.logs.add_lookup(row);
    Ok(())
}

/// Calls `each` once with each address that can be looked up, and the Matrix ID if there is one.
fn search<'a, T: AsRef<str>>(
    index: &Index<ReadTransaction>,
    algorithm: Algorithm,
    lookup: &Lookup<'a, T>,
    mut each: impl FnMut(&'a str, Option<&str>),
) -> Result<(), Failure> {
    let hash = |address: &'a str| match algorithm {
        Algorithm::Sha256 => LookupHash::from_base64(address),
        Algorithm::None => parse_clear(address).map(|address| LookupHash::of(&address, lookup.pepper)),
    };
    let addresses = lookup.addresses.iter().map(AsRef::as_ref);
    let mut hashes: Vec<_> = addresses.filter_map(|address| Some((hash(address)?, address))).collect();
    // Sorted like the B-tree, so that neighbouring reads share pages.
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
