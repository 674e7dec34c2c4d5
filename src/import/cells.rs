//! Reads the cells of rows that another program wrote. A cell may hold anything: SQLite does not enforce the type of a
//! column.

use rusqlite::{Row, types::ValueRef};

use crate::domain::{ids::UserId, time::Millis};

/// Why a row cannot be used, for the report.
pub type Reason = &'static str;

/// 2014-01-01, the year in which Sydent was first published.
const FIRST_POSSIBLE: Millis = Millis(1_388_534_400_000);

/// A text, if the cell has one.
pub fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<Option<&'a str>, Reason> {
    match row.get_ref(column) {
        Ok(ValueRef::Null) => Ok(None),
        Ok(ValueRef::Text(bytes)) => str::from_utf8(bytes).map(Some).map_err(|_| "a text is not valid UTF-8"),
        _ => Err("a cell holds something other than text"),
    }
}

/// A text that must be there.
pub fn required<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, Reason> {
    text(row, column)?.ok_or("a text is missing")
}

/// A whole number, if the cell has one.
pub fn number(row: &Row<'_>, column: usize) -> Result<Option<i64>, Reason> {
    match row.get_ref(column) {
        Ok(ValueRef::Null) => Ok(None),
        Ok(ValueRef::Integer(number)) => Ok(Some(number)),
        _ => Err("a time is not a whole number"),
    }
}

/// A number of milliseconds at which Sydent can have written a row.
pub fn time(number: Option<i64>, now: Millis) -> Result<Millis, Reason> {
    let number = number.ok_or("a time is missing")?;
    let time = u64::try_from(number).map(Millis).unwrap_or(Millis(0));
    if time < FIRST_POSSIBLE {
        Err("its time is before 2014, so it has the wrong unit or is damaged")
    } else if time.is_ahead_of(now) {
        Err("its time is in the future, so it has the wrong unit or a wrong clock wrote it")
    } else {
        Ok(time)
    }
}

/// A number of seconds at which Sydent can have written a row.
pub fn time_in_seconds(number: Option<i64>, now: Millis) -> Result<Millis, Reason> {
    time(number.map(|seconds| seconds.saturating_mul(1000)), now)
}

/// The Matrix ID in a cell.
pub fn user_id(row: &Row<'_>, column: usize) -> Result<UserId, Reason> {
    UserId::parse(required(row, column)?).ok_or("the Matrix ID is not valid")
}
