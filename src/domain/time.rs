//! Points in time in milliseconds, as the specification counts them, and their UTC dates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Millis {
    /// The point in time `length` later; saturates.
    pub fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(as_millis(length)))
    }

    /// The point in time `length` earlier; `None` before the epoch.
    pub fn before(self, length: Duration) -> Option<Self> {
        self.0.checked_sub(as_millis(length)).map(Self)
    }

    /// Whether this time is more than an hour after `now`. Bindery then takes it as written by a wrong clock.
    pub fn is_ahead_of(self, now: Self) -> bool {
        self > now.after(HOUR)
    }

    /// The UTC day, counted from the epoch.
    pub fn day(self) -> u64 {
        self.0 / as_millis(DAY)
    }

    /// When its UTC day began.
    pub fn start_of_day(self) -> Self {
        Self(self.0 - self.0 % as_millis(DAY))
    }

    /// When its UTC day ends.
    pub fn end_of_day(self) -> Self {
        self.start_of_day().after(DAY)
    }

    /// The date in UTC: year, month and day of the month.
    pub fn date(self) -> (u64, u64, u64) {
        civil_from_days(self.day())
    }

    /// The hour and minute in UTC.
    pub fn time_of_day(self) -> (u64, u64) {
        let minute = self.0 / 60_000 % 1440;
        (minute / 60, minute % 60)
    }

    /// The date and time in UTC for the operator, to the minute: `2027-01-15 08:00`.
    pub fn utc(self) -> String {
        let ((year, month, day), (hour, minute)) = (self.date(), self.time_of_day());
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }

    /// How long it is until the next UTC day begins.
    pub fn rest_of_day(self) -> Duration {
        DAY - Duration::from_millis(self.0 % as_millis(DAY))
    }
}

/// The date of a day since the epoch, in the proleptic Gregorian calendar.
fn civil_from_days(day: u64) -> (u64, u64, u64) {
    // Count from 1 March of the year 0, so that a leap day is the last day of its year.
    let day = day + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

/// A length of time as whole milliseconds.
pub fn as_millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// One hour.
pub const HOUR: Duration = Duration::from_secs(3600);

/// One day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, (1970, 1, 1)),
            (951_782_399, (2000, 2, 28)),
            (951_782_400, (2000, 2, 29)),
            (951_868_800, (2000, 3, 1)),
            (1_800_000_000, (2027, 1, 15)),
            (4_107_542_400, (2100, 3, 1)),
            (4_102_444_799, (2099, 12, 31)),
        ] {
            assert_eq!(Millis(seconds * 1000).date(), date);
        }
    }

    #[test]
    fn days_begin_and_end_at_midnight() {
        let midnight = Millis(1_800_000_000_000 - 8 * 3_600_000);
        for moment in [midnight, Millis(midnight.0 + 1), Millis(midnight.0 + 86_399_999)] {
            assert_eq!(moment.start_of_day(), midnight);
            assert_eq!(moment.end_of_day(), midnight.after(DAY));
        }
    }
}
