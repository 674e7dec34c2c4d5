//! The audit: which data was shown, exported or removed, by whom, and when (design, P19).

use crate::{
    domain::{
        audit::{By, Deed, Entry, earlier_subject_of_address, subject_of_address},
        threepid::Address,
        time::Millis,
    },
    ops::{Core, Failure},
    store::{StoreError, Tables, Transaction},
};

/// How many entries one step reads.
const READ_BATCH: usize = 1024;

/// The keyed hash of an address in new entries.
pub fn subject_of(core: &Core, address: &Address) -> [u8; 32] {
    subject_of_address(&core.session_key, address)
}

/// The keyed hashes under which the audit has an address.
pub fn subjects_of(core: &Core, address: &Address) -> Vec<[u8; 32]> {
    vec![subject_of(core, address), earlier_subject_of_address(&core.session_key, address)]
}

/// The entries about a subject, the oldest first.
pub(super) fn about<T: Transaction>(
    tables: &Tables<T>,
    subjects: &[[u8; 32]],
) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    for subject in subjects {
        entries.extend(tables.audit_about(subject)?);
    }
    entries.sort_by_key(|entry| entry.at);
    Ok(entries)
}

pub(in crate::ops) fn entry(core: &Core, by: By, deed: Deed, subject: [u8; 32]) -> Entry {
    Entry { at: core.clock.now(), deed, by, subject: Some(subject) }
}

/// Records that the operator reads a log, before it is read. `subject` is the account that the rows are about.
pub async fn note_log_reading(core: &Core, subject: Option<[u8; 32]>) -> Result<(), Failure> {
    let entry = Entry { at: core.clock.now(), deed: Deed::LogReading, by: By::Operator, subject };
    Ok(core.store.write(move |tables| tables.put_audit(&entry)).await?)
}

/// Lists the entries since a time, or only those about one person, the oldest first.
pub async fn list(
    core: &Core,
    since: Millis,
    subjects: Option<Vec<[u8; 32]>>,
) -> Result<Vec<Entry>, Failure> {
    let mut entries = match subjects {
        Some(subjects) => about(&core.store.read(), &subjects)?,
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
