//! Calendar days in UTC, parsed and printed as RFC 3339 writes them: `2027-01-15`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::{DAY, Millis, as_millis};

/// A day, counted from 1 January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(pub u64);

impl Day {
    /// The day that a point in time is on.
    pub fn of(at: Millis) -> Self {
        Self(at.day())
    }

    /// Its first millisecond.
    pub fn start(self) -> Millis {
        Millis(self.0.saturating_mul(as_millis(DAY)))
    }

    /// Reads `2027-01-15`; `None` for anything else, and for a date that does not exist.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(|part| part.parse::<u32>().ok().map(u64::from));
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        if parts.next().is_some() || year < 1970 || !(1..=12).contains(&month) || day == 0 {
            return None;
        }
        // Count years from March, so that a leap day is the last day of its year.
        let year = if month <= 2 { year - 1 } else { year };
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
        let parsed = Self(days.checked_sub(TO_EPOCH)?);
        (parsed.to_string() == text).then_some(parsed)
    }
}

/// The days from 1 March of the year 0 to 1 January 1970.
const TO_EPOCH: u64 = 719_468;

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.start().date();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl TryFrom<String> for Day {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("this is not a date; write it like 2027-01-15")
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_is_written_and_read() {
        assert_eq!(Day(0).to_string(), "1970-01-01");
        assert_eq!(Day(11_016).to_string(), "2000-02-29");
        assert_eq!(Day::of(Millis(1_800_000_000_000)).to_string(), "2027-01-15");
        let days: Vec<String> = (0..200_000).map(|day| Day(day).to_string()).collect();
        assert!(days.iter().enumerate().all(|(day, text)| Day::parse(text) == Some(Day(day as u64))));
        assert!(days.is_sorted() && days.iter().all(|day| day.len() == 10));
    }

    #[test]
    fn what_is_no_day_is_not_read() {
        for wrong in [
            "",
            "-",
            "2027",
            "2027-01",
            "2027-1-15",
            "2027-01-15-1",
            "2027-13-01",
            "2027-00-01",
            "2027-02-29",
            "2027-01-00",
            "1969-12-31",
            "+2027-01-15",
            "2027-01-15 ",
            "99999999999-01-01",
        ] {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
    }
}
