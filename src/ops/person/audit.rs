//! The audit: which data was exported or erased, by whom, and when (design, P19).

use crate::{
    domain::{
        audit::{By, Deed, Entry, subject_of_address},
        threepid::Address,
        time::Millis,
    },
    ops::{Core, Failure},
};

/// How many entries one step reads.
const READ_BATCH: usize = 1024;

/// The keyed hash of an address in the audit.
pub fn subject_of(core: &Core, address: &Address) -> [u8; 32] {
    subject_of_address(&core.session_key, address)
}

pub(in crate::ops) fn entry(core: &Core, by: By, deed: Deed, subject: [u8; 32]) -> Entry {
    Entry { at: core.clock.now(), deed, by, subject: Some(subject) }
}

/// Lists the entries since a time, or only those about one subject, the oldest first.
pub async fn list(core: &Core, since: Millis, subject: Option<[u8; 32]>) -> Result<Vec<Entry>, Failure> {
    let mut entries = match subject {
        Some(subject) => core.store.read().audit_about(&subject)?,
        None => every_entry(core).await?,
    };
    entries.retain(|entry| entry.at >= since);
    Ok(entries)
}

async fn every_entry(core: &Core) -> Result<Vec<Entry>, Failure> {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let batch = core.store.scan(move |scan| scan.audit_after(after, READ_BATCH)).await?;
        let Some((last, _)) = batch.last() else { return Ok(entries) };
        after = Some(*last);
        entries.extend(batch.into_iter().map(|(_, entry)| entry));
    }
}
