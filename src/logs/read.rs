//! Reads the logs, for the operator's commands and for a person's export.
//!
//! Files are read line by line. The server may write them meanwhile. Only the counts of one day are held in memory
//! at once, because a later row replaces an earlier one.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    net::IpAddr,
    path::Path,
};

use serde::Deserialize;

use super::{
    Logs,
    files::{LogKind, of_kind, open},
    lookups::clear_hash,
    tally::CountedRow,
};
use crate::domain::{day::Day, ids::UserId, lookup::LookupHash, threepid::Address, time::Millis};

/// A row of the log of lookups without its addresses.
#[derive(Debug, Deserialize)]
pub struct LookupSummary<'a> {
    /// When.
    pub ts: Millis,
    /// The Matrix ID that asked.
    #[serde(borrow)]
    pub account: Cow<'a, str>,
    /// The IP address that it asked from.
    pub ip: IpAddr,
    /// The algorithm: the form in which the addresses were sent.
    #[serde(borrow)]
    pub algorithm: Cow<'a, str>,
    /// How many addresses were looked up.
    pub addresses: u64,
    /// How many of them were found.
    pub matches: u64,
}

/// Calls `each` with the JSON of each row of a log, from the day `since` on, the oldest day first.
///
/// # Errors
/// If a file cannot be read, or `each` fails.
pub fn for_each_row(
    folder: &Path,
    kind: LogKind,
    since: Day,
    mut each: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    for file in of_kind(folder, kind)?.iter().filter(|file| file.day >= since) {
        let Some(content) = open(&file.path)? else { continue };
        if kind == LogKind::Lookup {
            for_each_whole_row(content, &mut each)?;
            continue;
        }
        let mut latest = BTreeMap::new();
        for_each_whole_row(content, |text| {
            if let Ok(CountedRow { ip, agent, .. }) = serde_json::from_str(text) {
                latest.insert((ip, agent), text.to_owned());
            }
            Ok(())
        })?;
        latest.values().try_for_each(|text| each(text))?;
    }
    Ok(())
}

/// Calls `each` with the JSON of each row of a file. Skips the last one if it is still being written, and rows that
/// a crash or a full disk has cut.
pub(super) fn for_each_whole_row(
    content: File,
    mut each: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    let (mut content, mut line) = (BufReader::with_capacity(64 * 1024, content), Vec::new());
    while content.read_until(b'\n', &mut line)? > 0 {
        if let Some(text) = line.strip_suffix(b"\n").and_then(|text| std::str::from_utf8(text).ok())
            && text.starts_with('{')
            && text.ends_with('}')
        {
            each(text)?;
        }
        line.clear();
    }
    Ok(())
}

/// A lookup that an account made.
#[derive(Clone, Copy, Debug)]
pub struct LookupMade {
    /// When.
    pub at: Millis,
    /// The IP address it came from.
    pub ip: IpAddr,
    /// How many addresses were looked up.
    pub addresses: u64,
    /// How many of them were found.
    pub found: u64,
}

/// A lookup of an address.
#[derive(Clone, Copy, Debug)]
pub struct LookedUp {
    /// When.
    pub at: Millis,
    /// Whether it was found.
    pub found: bool,
}

impl Logs {
    /// The lookups that an account made, as far as the log goes back. Waits for the disk.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn lookups_by(&self, user: &UserId) -> io::Result<Vec<LookupMade>> {
        let mut lookups = Vec::new();
        for_each_row(&self.shared.folder, LogKind::Lookup, Day(0), |row| {
            let lookup = serde_json::from_str::<LookupSummary<'_>>(row).ok();
            lookups.extend(lookup.filter(|lookup| lookup.account == user.as_str()).map(|lookup| {
                LookupMade {
                    at: lookup.ts,
                    ip: lookup.ip,
                    addresses: lookup.addresses,
                    found: lookup.matches,
                }
            }));
            Ok(())
        })?;
        Ok(lookups)
    }

    /// The lookups of an address, as far as a full log goes back: under these peppers, and in the clear. Waits
    /// for the disk.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn lookups_of(&self, address: &Address, peppers: &[String]) -> io::Result<Vec<LookedUp>> {
        #[derive(Deserialize)]
        struct Full<'a> {
            ts: Millis,
            #[serde(borrow)]
            found: Vec<&'a str>,
        }
        let mut hashes = vec![clear_hash(&self.shared.key, address)];
        hashes.extend(peppers.iter().map(|pepper| LookupHash::of(address, pepper).to_base64()));
        let mut lookups = Vec::new();
        for_each_row(&self.shared.folder, LogKind::Lookup, Day(0), |row| {
            // Search before parsing, because it is cheaper and most rows contain none of the hashes.
            if let Some(hash) = hashes.iter().find(|hash| row.contains(hash.as_str()))
                && let Ok(full) = serde_json::from_str::<Full<'_>>(row)
            {
                lookups.push(LookedUp { at: full.ts, found: full.found.contains(&hash.as_str()) });
            }
            Ok(())
        })?;
        Ok(lookups)
    }
}
