//! Validation sessions, each with the index entry that leads to it.

use std::ops::Bound;

use redb::ReadableTable;

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
    rows::SessionRow,
};
use crate::domain::{ids::Sid, session::Session};

impl<T: Transaction> Tables<T> {
    /// A validation session.
    pub fn session(&self, sid: &Sid) -> Result<Option<Session>, StoreError> {
        let row = self.sessions.get(sid.as_str()).map_err(StoreError::new)?;
        row.map(|row| decode::<SessionRow>(row.value())?.try_into()).transpose()
    }

    /// The session that an index key (see [`Session::index_key`]) leads to.
    pub fn session_by_index(&self, key: &[u8; 32]) -> Result<Option<(Sid, Session)>, StoreError> {
        let Some(row) = self.session_index.get(key).map_err(StoreError::new)? else { return Ok(None) };
        let sid = parse_sid(decode(row.value())?)?;
        Ok(self.session(&sid)?.map(|session| (sid, session)))
    }

    /// At most `most` sessions, those after `after` in the order of their IDs.
    pub fn sessions_after(
        &self,
        after: Option<&Sid>,
        most: usize,
    ) -> Result<Vec<(Sid, Session)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |sid| Bound::Excluded(sid.as_str()));
        let rows = self.sessions.range::<&str>((from, Bound::Unbounded)).map_err(StoreError::new)?;
        rows.take(most)
            .map(|row| {
                let (sid, row) = row.map_err(StoreError::new)?;
                read(sid.value(), row.value())
            })
            .collect()
    }
}

/// A session as it is stored.
pub(super) fn read(sid: &str, row: &[u8]) -> Result<(Sid, Session), StoreError> {
    Ok((parse_sid(sid)?, decode::<SessionRow>(row)?.try_into()?))
}

impl Writes<'_> {
    /// Stores a session, in place of the one that its index key led to before.
    pub fn put_session(&mut self, sid: &Sid, session: &Session) -> Result<(), StoreError> {
        self.written += 1;
        let previous = self
            .tables
            .session_index
            .insert(&session.index_key, encode(&sid.as_str())?.as_slice())
            .map_err(StoreError::new)?;
        let previous: Option<String> = previous.map(|row| decode(row.value())).transpose()?;
        if let Some(previous) = previous.filter(|previous| previous != sid.as_str()) {
            self.tables.sessions.remove(previous.as_str()).map_err(StoreError::new)?;
            self.removed = true;
        }
        let row = encode(&SessionRow::from(session))?;
        self.tables.sessions.insert(sid.as_str(), row.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Forgets a session.
    pub fn remove_session(&mut self, sid: &Sid) -> Result<(), StoreError> {
        let Some(session) = self.session(sid)? else { return Ok(()) };
        self.written += 1;
        self.removed = true;
        self.tables.sessions.remove(sid.as_str()).map_err(StoreError::new)?;
        self.tables.session_index.remove(&session.index_key).map_err(StoreError::new)?;
        Ok(())
    }
}

fn parse_sid(text: &str) -> Result<Sid, StoreError> {
    Sid::parse(text).ok_or_else(|| StoreError::new("a row holds a malformed sid"))
}
