//! Addresses that opted out of messages (design, P20): on the person's own page, or with the stop link that is in
//! every mail ([`crate::domain::stop_link`]).
//!
//! Only keyed hashes of addresses are stored, so the list cannot be read back.

use crate::{
    domain::{
        audit::{By, Deed, Entry},
        secret::Key32,
        stop_link::StopToken,
        threepid::Address,
        time::Millis,
    },
    ops::{Core, Failure},
    store::{StoreError, Tables, Transaction},
};

/// The key of an address in the rows from before there were stop links. New rows have
/// [`StopToken::suppression_hash`].
fn earlier_hash(address: &Address, key: &Key32) -> [u8; 32] {
    key.mac(&[b"suppressed", address.medium().as_str().as_bytes(), address.as_str().as_bytes()])
}

/// Who opts out or in: the owner of an address, known by the address or only by the token of a stop link.
///
/// An address with an earlier row has no stop link, because Bindery sends no mail to it.
#[derive(Clone)]
struct Owner {
    token: StopToken,
    earlier: Option<[u8; 32]>,
}

impl Owner {
    fn of(address: &Address, key: &Key32) -> Self {
        Self { token: StopToken::of(address, key), earlier: Some(earlier_hash(address, key)) }
    }

    fn with_link(token: StopToken) -> Self {
        Self { token, earlier: None }
    }

    fn hashes(&self, key: &Key32) -> impl Iterator<Item = [u8; 32]> {
        [self.token.suppression_hash(key)].into_iter().chain(self.earlier)
    }

    fn suppressed_since<T: Transaction>(&self, tables: &Tables<T>) -> Result<Option<Millis>, StoreError> {
        for hash in self.hashes(&tables.session_key()?) {
            if let Some(since) = tables.suppressed_since(&hash)? {
                return Ok(Some(since));
            }
        }
        Ok(None)
    }

    async fn suppress(self, core: &Core, by: By) -> Result<(), Failure> {
        let now = core.clock.now();
        let written = core.store.write(move |tables| {
            if self.suppressed_since(tables)?.is_some() {
                return Ok(());
            }
            let key = tables.session_key()?;
            tables.suppress(&self.token.suppression_hash(&key), now)?;
            tables.put_audit(&self.entry(Deed::Suppression, by, &key, now))
        });
        Ok(written.await?)
    }

    async fn lift(self, core: &Core, by: By) -> Result<Option<Millis>, Failure> {
        let now = core.clock.now();
        let lifted = core.store.write(move |tables| {
            let Some(since) = self.suppressed_since(tables)? else { return Ok(None) };
            let key = tables.session_key()?;
            for hash in self.hashes(&key) {
                tables.lift_suppression(&hash)?;
            }
            tables.put_audit(&self.entry(Deed::SuppressionLifted, by, &key, now))?;
            Ok(Some(since))
        });
        Ok(lifted.await?)
    }

    fn entry(&self, deed: Deed, by: By, key: &Key32, at: Millis) -> Entry {
        Entry { at, deed, by, subject: Some(self.token.audit_subject(key)) }
    }
}

/// Since when the address has opted out.
pub fn suppressed_since<T: Transaction>(
    tables: &Tables<T>,
    address: &Address,
) -> Result<Option<Millis>, StoreError> {
    Owner::of(address, &tables.session_key()?).suppressed_since(tables)
}

/// As [`suppressed_since`], in the latest state.
pub fn since(core: &Core, address: &Address) -> Result<Option<Millis>, Failure> {
    Ok(suppressed_since(&core.store.read(), address)?)
}

/// Opts an address out of messages. Queued mails are not sent either.
pub async fn suppress(core: &Core, address: Address, by: By) -> Result<(), Failure> {
    Owner::of(&address, &core.session_key).suppress(core, by).await
}

/// Lifts the opt-out of an address. Returns since when it had opted out. Uses only the database, so that it
/// also runs offline.
pub async fn lift(core: &Core, address: Address, by: By) -> Result<Option<Millis>, Failure> {
    Owner::of(&address, &core.session_key).lift(core, by).await
}

/// The stop link of an address, for every mail to it.
pub fn stop_link(core: &Core, address: &Address) -> String {
    format!("{}{}", core.config.public_base_url, stop_path(core, address))
}

/// The stop link without the base URL, for a page that only the owner of the address can open.
pub fn stop_path(core: &Core, address: &Address) -> String {
    format!("/stop/{}", StopToken::of(address, &core.session_key).text(&core.session_key))
}

/// Reads the token of a stop link; `None` unless this server made it.
pub fn read_stop_link(core: &Core, text: &str) -> Option<StopToken> {
    StopToken::parse(text, &core.session_key)
}

/// Since when the address of a stop link has opted out.
pub fn stopped_since(core: &Core, token: StopToken) -> Result<Option<Millis>, Failure> {
    Ok(Owner::with_link(token).suppressed_since(&core.store.read())?)
}

/// Opts the address of a stop link out of messages.
pub async fn stop(core: &Core, token: StopToken) -> Result<(), Failure> {
    Owner::with_link(token).suppress(core, By::Owner).await
}

/// Opts the address of a stop link in again.
pub async fn allow(core: &Core, token: StopToken) -> Result<(), Failure> {
    Owner::with_link(token).lift(core, By::Owner).await.map(drop)
}
