//! The audit: which data was handed out or erased, by whom, and when (design, P19).

use crate::{
    domain::{
        audit::{By, Deed, Entry, subject_of_address},
        threepid::Address,
        time::Millis,
    },
    ops::{Core, Failure},
};

/// What stands for an address in the audit.
pub fn subject_of(core: &Core, address: &Address) -> [u8; 32] {
    subject_of_address(&core.session_key, address)
}

pub(in crate::ops) fn entry(core: &Core, by: By, subject: [u8; 32]) -> Entry {
    Entry { at: core.clock.now(), deed: Deed::Erasure, by, subject: Some(subject) }
}

/// Notes that data was handed out.
pub(in crate::ops) async fn note_export(
    core: &Core,
    subject: [u8; 32],
    by: By,
    now: Millis,
) -> Result<(), Failure> {
    let entry = Entry { at: now, deed: Deed::Export, by, subject: Some(subject) };
    Ok(core.store.write(move |tables| tables.put_audit(&entry)).await?)
}
