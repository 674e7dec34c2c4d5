//! Schema 2: sessions store their index key and the code that was sent. Invitations and the outbox are new.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{code::CodeHash, secret::SecretHash, session::Progress, threepid::Medium, time::Millis},
    store::{
        StoreError,
        codec::{decode, encode},
        tables::{SESSION_INDEX, SESSIONS},
    },
};

/// A value of `sessions` in schema 1.
#[derive(Deserialize)]
struct SessionRow1 {
    medium: Medium,
    address: String,
    account: Option<String>,
    client_secret: SecretHash,
    delivered_attempt: Option<u64>,
    next_link: Option<String>,
    modified: Millis,
    wrong_tokens: u8,
    progress: Progress,
}

/// A value of `sessions` in schema 2.
#[derive(Serialize, Deserialize)]
pub struct SessionRow2 {
    pub medium: Medium,
    pub address: String,
    pub index_key: [u8; 32],
    pub account: Option<String>,
    pub client_secret: SecretHash,
    pub code: Option<CodeHash>,
    pub delivered_attempt: Option<u64>,
    pub next_link: Option<String>,
    pub modified: Millis,
    pub wrong_tokens: u8,
    pub progress: Progress,
}

pub fn migrate(transaction: &WriteTransaction, _: Millis) -> Result<(), StoreError> {
    let index = transaction.open_table(SESSION_INDEX.redb())?;
    let mut sessions = transaction.open_table(SESSIONS.redb())?;
    for entry in index.iter()? {
        let (key, sid) = entry?;
        let sid: &str = decode(sid.value())?;
        let old = sessions.get(sid)?;
        let Some(old) = old.map(|row| decode::<SessionRow1>(row.value())).transpose()? else { continue };
        let row = encode(&old.with_index_key(*key.value()))?;
        sessions.insert(sid, row.as_slice())?;
    }
    Ok(())
}

impl SessionRow1 {
    fn with_index_key(self, index_key: [u8; 32]) -> SessionRow2 {
        SessionRow2 {
            medium: self.medium,
            address: self.address,
            index_key,
            account: self.account,
            client_secret: self.client_secret,
            code: None,
            delivered_attempt: self.delivered_attempt,
            next_link: self.next_link,
            modified: self.modified,
            wrong_tokens: self.wrong_tokens,
            progress: self.progress,
        }
    }
}
