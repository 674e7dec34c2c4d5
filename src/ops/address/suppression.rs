//! Addresses that opted out of messages (design, P20).
//!
//! Only a keyed hash of each address is stored, so the list cannot be read back.

use crate::{
    domain::{
        audit::{By, Deed, Entry, subject_of_address},
        secret::Key32,
        threepid::Address,
        time::Millis,
    },
    ops::{Core, Failure},
    store::{StoreError, Tables, Transaction},
};

/// The keyed hash of an address in the list.
fn hash(address: &Address, key: &Key32) -> [u8; 32] {
    key.mac(&[b"suppressed", address.medium().as_str().as_bytes(), address.as_str().as_bytes()])
}

/// Since when the address has opted out.
pub fn suppressed_since<T: Transaction>(
    tables: &Tables<T>,
    address: &Address,
) -> Result<Option<Millis>, StoreError> {
    tables.suppressed_since(&hash(address, &tables.session_key()?))
}

/// As [`suppressed_since`], in the latest state.
pub fn since(core: &Core, address: &Address) -> Result<Option<Millis>, Failure> {
    Ok(suppressed_since(&core.store.read(), address)?)
}

/// Opts an address out of messages. Queued mails are not sent either.
pub async fn suppress(core: &Core, address: Address, by: By) -> Result<(), Failure> {
    let now = core.clock.now();
    let written = core.store.write(move |tables| {
        let key = tables.session_key()?;
        let hash = hash(&address, &key);
        if tables.suppressed_since(&hash)?.is_none() {
            tables.suppress(&hash, now)?;
            let subject = Some(subject_of_address(&key, &address));
            tables.put_audit(&Entry { at: now, deed: Deed::Suppression, by, subject })?;
        }
        Ok(())
    });
    Ok(written.await?)
}

/// Lifts the opt-out of an address. Returns since when it had opted out. Uses only the database, so that it
/// also runs offline.
pub async fn lift(core: &Core, address: Address, by: By) -> Result<Option<Millis>, Failure> {
    let now = core.clock.now();
    let lifted = core.store.write(move |tables| {
        let key = tables.session_key()?;
        let hash = hash(&address, &key);
        let Some(since) = tables.suppressed_since(&hash)? else { return Ok(None) };
        tables.lift_suppression(&hash)?;
        let subject = Some(subject_of_address(&key, &address));
        tables.put_audit(&Entry { at: now, deed: Deed::SuppressionLifted, by, subject })?;
        Ok(Some(since))
    });
    Ok(lifted.await?)
}
