//! Validation sessions, found by their ID, their index key, their address, and the account that asked.

use std::ops::Bound;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{account_number, read_user_id};
use crate::{
    domain::{
        code::CodeHash,
        ids::{Sid, UserId},
        language::Language,
        secret::SecretHash,
        session::{Progress, Session},
        threepid::{Address, Medium},
        time::Millis,
    },
    store::{
        Scan, StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// A value of `sessions`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionRow {
    pub medium: Medium,
    pub address: String,
    pub index_key: [u8; 32],
    pub account: Option<String>,
    pub client_secret: SecretHash,
    pub code: Option<CodeHash>,
    pub previous_code: Option<CodeHash>,
    pub delivered_attempt: Option<u64>,
    pub next_link: Option<String>,
    pub language: Language,
    pub modified: Millis,
    pub wrong_tokens: u8,
    pub progress: Progress,
}

impl SessionRow {
    fn of(session: &Session) -> Self {
        Self {
            medium: session.address.medium(),
            address: session.address.as_str().to_owned(),
            index_key: session.index_key,
            account: session.account.as_ref().map(|user| user.as_str().to_owned()),
            client_secret: session.client_secret,
            code: session.code,
            previous_code: session.previous_code,
            delivered_attempt: session.delivered_attempt,
            next_link: session.next_link.clone(),
            language: session.language,
            modified: session.modified,
            wrong_tokens: session.wrong_tokens,
            progress: session.progress,
        }
    }
}

pub(in crate::store) fn read(sid: &str, row: &[u8]) -> Result<(Sid, Session), StoreError> {
    let row: SessionRow = decode(row)?;
    let session = Session {
        address: Address::kept(row.medium, &row.address),
        index_key: row.index_key,
        account: row.account.as_deref().map(read_user_id).transpose()?,
        client_secret: row.client_secret,
        code: row.code,
        previous_code: row.previous_code,
        delivered_attempt: row.delivered_attempt,
        next_link: row.next_link,
        language: row.language,
        modified: row.modified,
        wrong_tokens: row.wrong_tokens,
        progress: row.progress,
    };
    Ok((read_sid(sid)?, session))
}

fn read_sid(text: &str) -> Result<Sid, StoreError> {
    Sid::parse(text).ok_or_else(|| StoreError::unreadable("malformed session ID"))
}

impl<T: Transaction> Tables<T> {
    /// The validation session with this ID.
    pub fn session(&self, sid: &Sid) -> Result<Option<Session>, StoreError> {
        let row = self.sessions.get(sid.as_str())?;
        row.map(|row| Ok(read(sid.as_str(), row.value())?.1)).transpose()
    }

    /// The session with this index key, see [`Session::index_key`].
    pub fn session_by_index(&self, key: &[u8; 32]) -> Result<Option<(Sid, Session)>, StoreError> {
        let Some(row) = self.session_index.get(key)? else { return Ok(None) };
        let sid = read_sid(decode(row.value())?)?;
        Ok(self.session(&sid)?.map(|session| (sid, session)))
    }

    /// The sessions of an address.
    pub fn sessions_of_address(&self, address: &Address) -> Result<Vec<(Sid, Session)>, StoreError> {
        let (medium, text) = (address.medium().number(), address.as_str());
        let mut sessions = Vec::new();
        for row in self.address_sessions.range((medium, text, "")..)? {
            let (key, _) = row?;
            let (found_medium, found_text, sid) = key.value();
            if (found_medium, found_text) != (medium, text) {
                break;
            }
            let sid = read_sid(sid)?;
            sessions.extend(self.session(&sid)?.map(|session| (sid, session)));
        }
        Ok(sessions)
    }

    /// The sessions that an account asked for.
    pub fn sessions_of_account(&self, user: &UserId) -> Result<Vec<(Sid, Session)>, StoreError> {
        let number = account_number(user);
        let mut sessions = Vec::new();
        for row in self.account_sessions.range((number, "")..)? {
            let (key, _) = row?;
            let (account, sid) = key.value();
            if account != number {
                break;
            }
            let sid = read_sid(sid)?;
            let found = self.session(&sid)?.filter(|session| session.account.as_ref() == Some(user));
            sessions.extend(found.map(|session| (sid, session)));
        }
        Ok(sessions)
    }
}

impl Scan<'_> {
    /// At most `limit` sessions after `after`, in the order of their IDs.
    pub fn sessions_after(
        &self,
        after: Option<&Sid>,
        limit: usize,
    ) -> Result<Vec<(Sid, Session)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |sid| Bound::Excluded(sid.as_str()));
        let rows = self.sessions.range::<&str>((from, Bound::Unbounded))?.take(limit);
        rows.map(|row| {
            let (sid, row) = row?;
            read(sid.value(), row.value())
        })
        .collect()
    }
}

impl Writes<'_> {
    /// Stores a session. Replaces the one that had its index key before.
    pub fn put_session(&mut self, sid: &Sid, session: &Session) -> Result<(), StoreError> {
        let previous = self.session_index.get(&session.index_key)?;
        let previous = previous.map(|row| read_sid(decode(row.value())?)).transpose()?;
        if let Some(previous) = previous.filter(|previous| previous.as_str() != sid.as_str()) {
            self.remove_session_row(&previous)?;
        }
        let entry = encode(&sid.as_str())?;
        self.tables.session_index.insert(&session.index_key, entry.as_slice())?;
        let row = encode(&SessionRow::of(session))?;
        let is_new = self.tables.sessions.insert(sid.as_str(), row.as_slice())?.is_none();
        // A session never changes its address or account.
        if is_new {
            let (medium, text) = (session.address.medium().number(), session.address.as_str());
            self.tables.address_sessions.insert((medium, text, sid.as_str()), ())?;
            if let Some(account) = &session.account {
                self.tables.account_sessions.insert((account_number(account), sid.as_str()), ())?;
            }
        }
        Ok(())
    }

    /// Removes a session. Returns whether there was one.
    pub fn remove_session(&mut self, sid: &Sid) -> Result<bool, StoreError> {
        let Some(session) = self.remove_session_row(sid)? else { return Ok(false) };
        self.tables.session_index.remove(&session.index_key)?;
        Ok(true)
    }

    /// Removes the row of a session and its index entries, except that of its index key.
    fn remove_session_row(&mut self, sid: &Sid) -> Result<Option<Session>, StoreError> {
        let Some(session) = self.session(sid)? else { return Ok(None) };
        let (medium, text) = (session.address.medium().number(), session.address.as_str());
        self.tables.sessions.remove(sid.as_str())?;
        self.tables.address_sessions.remove((medium, text, sid.as_str()))?;
        if let Some(account) = &session.account {
            self.tables.account_sessions.remove((account_number(account), sid.as_str()))?;
        }
        Ok(Some(session))
    }
}
