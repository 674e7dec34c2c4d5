//! Reading the logs: for the operator's eyes, and for the person who asks how often their address
//! was looked up.
//!
//! Files are read line by line, also while the server writes them, and never as a whole.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader},
    net::IpAddr,
    path::Path,
};

use serde::Deserialize;

use super::{
    files::{LogKind, folder, of_kind},
    lookups::clear_hash,
};
use crate::{
    domain::{day::Day, ids::UserId, lookup::LookupHash, threepid::Address, time::Millis},
    ops::{
        Core,
        export::{LookedUp, LookupMade},
    },
};

/// Who looked up how much: a row of the log of lookups without its addresses.
#[derive(Debug, Deserialize)]
pub struct LookupSummary<'a> {
    /// When.
    pub ts: Millis,
    /// The Matrix ID that asked.
    #[serde(borrow)]
    pub account: Cow<'a, str>,
    /// The IP address that it asked from.
    pub ip: IpAddr,
    /// In which form the addresses were sent.
    #[serde(borrow)]
    pub algorithm: Cow<'a, str>,
    /// How many addresses were asked for.
    pub addresses: u64,
    /// How many of them led to a Matrix ID.
    pub matches: u64,
}

/// Calls `each` with every row of a log from a day on, the oldest day first, as the JSON that it is.
///
/// # Errors
/// If a file cannot be read, or `each` fails.
pub fn rows(
    data_dir: &Path,
    kind: LogKind,
    since: Day,
    mut each: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    for file in of_kind(&folder(data_dir), kind)?.iter().filter(|file| file.day >= since) {
        let Some(content) = file.open()? else { continue };
        let (mut content, mut line) = (BufReader::with_capacity(64 * 1024, content), Vec::new());
        while content.read_until(b'\n', &mut line)? > 0 {
            // The last one may be half written at this moment, and one that a full disk has cut
            // says nothing.
            if let Some(text) = line.strip_suffix(b"\n").and_then(|text| std::str::from_utf8(text).ok())
                && text.starts_with('{')
                && text.ends_with('}')
            {
                each(text)?;
            }
            line.clear();
        }
    }
    Ok(())
}

/// What an account looked up, as far as the log of lookups goes. It waits for the disk.
///
/// # Errors
/// If a file cannot be read.
pub fn lookups_by(core: &Core, user: &UserId) -> io::Result<Vec<LookupMade>> {
    let mut lookups = Vec::new();
    rows(&core.config.data_dir, LogKind::Lookup, Day(0), |row| {
        let lookup = serde_json::from_str::<LookupSummary<'_>>(row).ok();
        lookups.extend(lookup.filter(|lookup| lookup.account == user.as_str()).map(|lookup| LookupMade {
            at: lookup.ts.0,
            ip: Some(lookup.ip.to_string()),
            addresses: lookup.addresses,
            found: lookup.matches,
        }));
        Ok(())
    })?;
    Ok(lookups)
}

/// When an address was looked up, as far as a full log knows: under the peppers that are not yet forgotten,
/// and in the clear. It waits for the disk.
///
/// # Errors
/// If a file cannot be read.
pub fn lookups_of(core: &Core, address: &Address) -> io::Result<Vec<LookedUp>> {
    #[derive(Deserialize)]
    struct Full<'a> {
        ts: Millis,
        #[serde(borrow)]
        found: Vec<&'a str>,
    }
    let mut hashes = vec![clear_hash(core.session_key(), address)];
    for index in core.store.read().peppers() {
        hashes.push(LookupHash::of(address, &index.pepper).to_base64());
    }
    let mut lookups = Vec::new();
    rows(&core.config.data_dir, LogKind::Lookup, Day(0), |row| {
        // Most rows have none of them, and finding that out is cheaper than parsing.
        if let Some(hash) = hashes.iter().find(|hash| row.contains(hash.as_str()))
            && let Ok(full) = serde_json::from_str::<Full<'_>>(row)
        {
            lookups.push(LookedUp { at: full.ts.0, found: full.found.contains(&hash.as_str()) });
        }
        Ok(())
    })?;
    Ok(lookups)
}
