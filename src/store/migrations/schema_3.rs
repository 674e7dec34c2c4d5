//! Schema 3: tokens and addresses are found by account. Tokens store their last use, peppers their state,
//! sessions and associations their language.

use redb::{Key, ReadableTable, Table, WriteTransaction};
use serde::Deserialize;

use super::schema_2::SessionRow2;
use crate::{
    domain::{language::Language, lookup::PepperState, time::Millis},
    store::{
        StoreError,
        codec::{decode, encode},
        lookup_index::PepperRow,
        progress,
        rows::{
            account_number, association::AssociationRow, read_user_id, session::SessionRow, token::TokenRow,
        },
        tables::{ACCOUNT_ADDRESSES, ACCOUNT_TOKENS, ASSOCIATIONS, META, PEPPERS, SESSIONS, TOKENS},
    },
};

/// The language of rows that stored none.
const DEFAULT_LANGUAGE: Language = Language::En;

/// How many rows are held in memory at once.
const CHANGE_BATCH: usize = 4096;

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
    change(&mut transaction.open_table(SESSIONS.redb())?, |_, row| {
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
            language: DEFAULT_LANGUAGE,
            modified: old.modified,
            wrong_tokens: old.wrong_tokens,
            progress: old.progress,
        })
    })?;
    let mut account_tokens = transaction.open_table(ACCOUNT_TOKENS.redb())?;
    change(&mut transaction.open_table(TOKENS.redb())?, |hash, row| {
        let TokenRow2 { user_id: owner, created } = decode(row)?;
        let key = (account_number(&read_user_id(owner)?), hash);
        account_tokens.insert(key, ())?;
        encode(&TokenRow { user_id: owner, created, used: now.start_of_day() })
    })?;
    let mut account_addresses = transaction.open_table(ACCOUNT_ADDRESSES.redb())?;
    change(&mut transaction.open_table(ASSOCIATIONS.redb())?, |(medium, address), row| {
        let AssociationRow2 { user_id: owner, ts } = decode(row)?;
        let key = (account_number(&read_user_id(&owner)?), medium, address);
        account_addresses.insert(key, ())?;
        encode(&AssociationRow { user_id: owner, ts, language: DEFAULT_LANGUAGE })
    })?;
    // Schema 2 had only one pepper.
    change(&mut transaction.open_table(PEPPERS.redb())?, |_, row| {
        let PepperRow2 { text, created } = decode(row)?;
        encode(&PepperRow { text, created, state: PepperState::Current })
    })?;
    // The file may hold bytes of rows that were removed before: no rewrite has run yet.
    let mut meta = transaction.open_table(META.redb())?;
    meta.insert("removed", encode(&now)?.as_slice())?;
    Ok(())
}

/// Changes every value of a table.
fn change<K: Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    mut to_new: impl for<'a> FnMut(K::SelfType<'a>, &[u8]) -> Result<Vec<u8>, StoreError>,
) -> Result<(), StoreError> {
    let mut cursor: Option<Vec<u8>> = None;
    loop {
        let mut batch = Vec::new();
        {
            let rows = match &cursor {
                None => table.iter()?,
                Some(last) => {
                    let after = (std::ops::Bound::Excluded(K::from_bytes(last)), std::ops::Bound::Unbounded);
                    table.range::<K::SelfType<'_>>(after)?
                }
            };
            for row in rows.take(CHANGE_BATCH) {
                let (key, row) = row?;
                let bytes = K::as_bytes(&key.value()).as_ref().to_vec();
                batch.push((bytes, to_new(key.value(), row.value())?));
            }
        }
        for (key, row) in &batch {
            table.insert(K::from_bytes(key), row.as_slice())?;
        }
        progress::step();
        let Some((last, _)) = batch.pop() else { return Ok(()) };
        cursor = Some(last);
    }
}
