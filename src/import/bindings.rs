//! The associations: those that were published at this server and those of its peers, of which the newest of each address
//! counts.
//!
//! SQLite sorts the rows by the address in the form that Bindery stores, so that those of one address follow each other,
//! however they are written. The memory that this takes does not grow with the number of rows.

use rusqlite::{
    Connection, Row,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};

use super::{
    ImportError, Step,
    cells::{Reason, number, required, text, time, user_id},
    database::Import,
};
use crate::domain::{
    association::Association,
    threepid::{Address, Medium},
    time::Millis,
};

/// The newest row of an address first; of the same time, a withdrawal before an association, and an association here
/// before its copy.
pub const ASSOCIATIONS: &str = "SELECT id, canonical(medium, address) AS key, is_local, own, medium, address, mxid, ts, notBefore, notAfter \
     FROM (SELECT id, 1 AS is_local, 1 AS own, medium, address, mxid, ts, notBefore, notAfter FROM local_threepid_associations \
           UNION ALL \
           SELECT id, 0, originServer = :server, medium, address, mxid, ts, notBefore, notAfter FROM global_threepid_associations) \
     ORDER BY key, ts DESC, (is_local AND mxid IS NULL) DESC, is_local DESC, id";

const LOCAL: &str = "local_threepid_associations";
const GLOBAL: &str = "global_threepid_associations";

/// What counts for the address of the rows that are being read.
enum Winner {
    /// No usable row was read yet.
    None,
    /// Its owner withdrew it last.
    Withdrawn,
    /// This association.
    Published(Association),
}

/// Defines the function `canonical` of [`ASSOCIATIONS`]: the medium and the address as Bindery stores them, or null if
/// Bindery refuses the address.
pub fn define_canonical(connection: &Connection, step: Step) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function(c"canonical", 2, flags, move |context| {
        step(1);
        Ok(canonical(context))
    })
}

fn canonical(context: &Context<'_>) -> Option<String> {
    let text = |at| match context.get_raw(at) {
        ValueRef::Text(bytes) => str::from_utf8(bytes).ok(),
        _ => None,
    };
    let (medium, address) = (Medium::parse(text(0)?)?, text(1)?);
    Some(format!("{} {}", medium.as_str(), Address::parse(medium, address)?.as_str()))
}

impl Import<'_, '_, '_> {
    /// Takes the associations.
    pub fn associations(&mut self) -> Result<(), ImportError> {
        let (mut key, mut winner) = (None::<String>, Winner::None);
        let now = self.now;
        let server_name = self.server_name.clone();
        self.each_with(ASSOCIATIONS, &[(":server", &server_name)], |import, id, row| {
            let found = text(row, 1).ok().flatten();
            if found.is_none() || found != key.as_deref() {
                (key, winner) = (found.map(str::to_owned), Winner::None);
            }
            let is_local = number(row, 2) == Ok(Some(1));
            let table = if is_local { LOCAL } else { GLOBAL };
            if is_local && matches!(row.get_ref(6), Ok(ValueRef::Null)) {
                import.report.leave(
                    LOCAL,
                    id,
                    "its owner withdrew the address; Bindery keeps no trace of that",
                );
                if matches!(winner, Winner::None) && key.is_some() {
                    winner = Winner::Withdrawn;
                }
                return Ok(());
            }
            let association = match association(key.as_deref(), row, now) {
                Ok(association) => association,
                Err(reason) => {
                    import.report.leave(table, id, reason);
                    return Ok(());
                }
            };
            match &winner {
                Winner::None => {
                    import.incoming.association(&association)?;
                    match number(row, 3) {
                        Ok(Some(1)) => import.report.local += 1,
                        _ => import.report.replicated += 1,
                    }
                    winner = Winner::Published(association);
                }
                Winner::Withdrawn => {
                    import.report.leave(table, id, "its owner withdrew the address afterwards");
                }
                // Every association that was published here has a copy in the other table.
                Winner::Published(newest) if *newest == association => {}
                Winner::Published(_) => {
                    import.report.leave(table, id, "there is a newer association of the same address");
                }
            }
            Ok(())
        })
    }
}

fn association(key: Option<&str>, row: &Row<'_>, now: Millis) -> Result<Association, Reason> {
    let address = match key.and_then(|key| key.split_once(' ')) {
        Some((medium, address)) => {
            Address::kept(Medium::parse(medium).ok_or("the medium is unknown")?, address)
        }
        None => {
            Medium::parse(required(row, 4)?).ok_or("the medium is neither email nor msisdn")?;
            required(row, 5)?;
            return Err("the address is not one that Bindery accepts, so no lookup would find it");
        }
    };
    let (user_id, ts) = (user_id(row, 6)?, time(number(row, 7)?, now)?);
    // Sydent answers lookups with an association only in between.
    let (from, until) = (number(row, 8)?, number(row, 9)?);
    let (from, until) = (from.ok_or("a time is missing")?, until.ok_or("a time is missing")?);
    let now = i64::try_from(now.0).unwrap_or(i64::MAX);
    if from > now || until <= now {
        return Err("it is not valid now, so Sydent does not find it either");
    }
    Ok(Association { address, user_id, ts })
}
