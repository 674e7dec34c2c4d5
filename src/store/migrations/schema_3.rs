//! Schema 3: accounts find their tokens and addresses, tokens know when they were used, peppers how
//! far they are, sessions and associations in which language their person is written to.

use redb::{Key, ReadableTable, Table, WriteTransaction};
use serde::Deserialize;

use super::{put_meta, schema_2::SessionRow2};
use crate::{
    domain::{language::Language, lookup::PepperState, time::Millis},
    store::{
        StoreError,
        accounts::account_number,
        codec::{decode, encode},
        progress,
        rows::{AssociationRow, PepperRow, SessionRow, TokenRow, user_id},
        tables::{ACCOUNT_ADDRESSES, ACCOUNT_TOKENS, ASSOCIATIONS, META, PEPPERS, SESSIONS, TOKENS},
    },
};

/// What nobody was asked about before.
const LANGUAGE: Language = Language::En;

/// How many rows are held in memory at once.
const STEP: usize = 4096;

/// A value of `tokens` in schema 2.
#[derive(Deserialize)]
struct TokenRow2<'a> {
    user_id: &'a str,
    created: Millis,
}

/// A value of `associations` in schema 2.
#[derive(Deserialize)]
struct AssociationRow2 {
    user_id: String,
    ts: u64,
}

/// A value of `peppers` in schema 2.
#[derive(Deserialize)]
struct PepperRow2 {
    text: String,
    created: Millis,
}

pub fn migrate(transaction: &WriteTransaction, now: Millis) -> Result<(), StoreError> {
    change(&mut transaction.open_table(SESSIONS).map_err(StoreError::new)?, |_, row| {
        let old: SessionRow2 = decode(row)?;
        encode(&SessionRow {
            medium: old.medium,
            address: old.address,
            index_key: old.index_key,
            account: old.account,
            client_secret: old.client_secret,
            code: old.code,
            previous_code: None,
            delivered_attempt: old.delivered_attempt,
            next_link: old.next_link,
            language: LANGUAGE,
            modified: old.modified,
            wrong_tokens: old.wrong_tokens,
            progress: old.progress,
        })
    })?;
    let mut account_tokens = transaction.open_table(ACCOUNT_TOKENS).map_err(StoreError::new)?;
    change(&mut transaction.open_table(TOKENS).map_err(StoreError::new)?, |hash, row| {
        let TokenRow2 { user_id: owner, created } = decode(row)?;
        let key = (account_number(&user_id(owner)?), hash);
        account_tokens.insert(key, ()).map_err(StoreError::new)?;
        encode(&TokenRow { user_id: owner, created, used: now.start_of_day() })
    })?;
    let mut account_addresses = transaction.open_table(ACCOUNT_ADDRESSES).map_err(StoreError::new)?;
    change(&mut transaction.open_table(ASSOCIATIONS).map_err(StoreError::new)?, |(medium, address), row| {
        let AssociationRow2 { user_id: owner, ts } = decode(row)?;
        let key = (account_number(&user_id(&owner)?), medium, address);
        account_addresses.insert(key, ()).map_err(StoreError::new)?;
        encode(&AssociationRow { user_id: owner, ts, language: LANGUAGE })
    })?;
    // Whatever was deleted before has left its bytes in the file.
    put_meta(transaction, "removed", &true)?;
    // There was never more than one.
    change(&mut transaction.open_table(PEPPERS).map_err(StoreError::new)?, |_, row| {
        let PepperRow2 { text, created } = decode(row)?;
        encode(&PepperRow { text, created, state: PepperState::Current })
    })?;
    // What was removed before has left its bytes in the file, which nobody has rewritten yet.
    let mut meta = transaction.open_table(META).map_err(StoreError::new)?;
    meta.insert("removed", encode(&now)?.as_slice()).map_err(StoreError::new)?;
    Ok(())
}

/// Changes every value of a table.
fn change<K: Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    mut to_new: impl for<'a> FnMut(K::SelfType<'a>, &[u8]) -> Result<Vec<u8>, StoreError>,
) -> Result<(), StoreError> {
    let mut reached: Option<Vec<u8>> = None;
    loop {
        let mut step = Vec::new();
        {
            let rows = match &reached {
                None => table.iter().map_err(StoreError::new)?,
                Some(last) => {
                    let after = (std::ops::Bound::Excluded(K::from_bytes(last)), std::ops::Bound::Unbounded);
                    table.range::<K::SelfType<'_>>(after).map_err(StoreError::new)?
                }
            };
            for row in rows.take(STEP) {
                let (key, row) = row.map_err(StoreError::new)?;
                let bytes = K::as_bytes(&key.value()).as_ref().to_vec();
                step.push((bytes, to_new(key.value(), row.value())?));
            }
        }
        for (key, row) in &step {
            table.insert(K::from_bytes(key), row.as_slice()).map_err(StoreError::new)?;
        }
        progress::step();
        let Some((last, _)) = step.pop() else { return Ok(()) };
        reached = Some(last);
    }
}
