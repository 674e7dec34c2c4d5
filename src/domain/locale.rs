//! Writes dates, times, lengths of time and numbers as readers of each language write them.
//!
//! The patterns are those of CLDR for British English, French, German and Spanish, with French "1er" and no-break
//! spaces. They are written here because icu_datetime, icu_decimal and icu_plurals with their data add 520 KB to
//! the executable.

use super::{language::Language, time::Millis};

/// The no-break space, also before French punctuation.
pub const NO_BREAK_SPACE: char = '\u{a0}';

/// A unit of time that texts count.
#[derive(Clone, Copy)]
pub enum Unit {
    /// 24 hours
    Day,
    /// 60 minutes
    Hour,
    /// 60 seconds
    Minute,
}

impl Unit {
    /// The singular and the plural.
    fn names(self, language: Language) -> (&'static str, &'static str) {
        match (language, self) {
            (Language::En, Self::Day) => ("day", "days"),
            (Language::En, Self::Hour) => ("hour", "hours"),
            (Language::En, Self::Minute) => ("minute", "minutes"),
            (Language::Fr, Self::Day) => ("jour", "jours"),
            (Language::Fr, Self::Hour) => ("heure", "heures"),
            (Language::Fr, Self::Minute) => ("minute", "minutes"),
            (Language::De, Self::Day) => ("Tag", "Tage"),
            (Language::De, Self::Hour) => ("Stunde", "Stunden"),
            (Language::De, Self::Minute) => ("Minute", "Minuten"),
            (Language::Es, Self::Day) => ("día", "días"),
            (Language::Es, Self::Hour) => ("hora", "horas"),
            (Language::Es, Self::Minute) => ("minuto", "minutos"),
        }
    }
}

/// A length of time: "30 days".
pub fn length(language: Language, count: u64, unit: Unit) -> String {
    let (one, other) = unit.names(language);
    let name = if is_singular(language, count) { one } else { other };
    format!("{}{NO_BREAK_SPACE}{name}", number(language, count))
}

/// CLDR's plural category `one`. French and Spanish have a category `many` from a million on; no length that
/// Bindery shows is as long.
fn is_singular(language: Language, count: u64) -> bool {
    match language {
        Language::En | Language::De | Language::Es => count == 1,
        Language::Fr => count <= 1,
    }
}

/// A number with its thousands apart: "10,000".
pub fn number(language: Language, number: u64) -> String {
    let digits = number.to_string();
    let separator = match language {
        // Spanish separates from five digits on.
        Language::Es if digits.len() == 4 => return digits,
        Language::En => ',',
        Language::Fr => NO_BREAK_SPACE,
        Language::De | Language::Es => '.',
    };
    let mut grouped = String::with_capacity(2 * digits.len());
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(separator);
        }
        grouped.push(digit);
    }
    grouped
}

/// A date in UTC: "26 November 2026".
pub fn date(language: Language, at: Millis) -> String {
    let (year, month, day) = at.date();
    let month = months(language).into_iter().zip(1..).find(|(_, number)| *number == month);
    let month = month.map_or("", |(name, _)| name);
    let day = match language {
        Language::Fr if day == 1 => "1er".to_owned(),
        Language::De => format!("{day}."),
        _ => day.to_string(),
    };
    match language {
        Language::Es => format!("{day}{NO_BREAK_SPACE}de {month} de {year}"),
        _ => format!("{day}{NO_BREAK_SPACE}{month} {year}"),
    }
}

/// A date and time in UTC, to the minute: "26 November 2026, 02:32 UTC".
pub fn date_and_time(language: Language, at: Millis) -> String {
    let join = if language == Language::Fr { " à" } else { "," };
    let (hour, minute) = at.time_of_day();
    format!("{}{join} {hour:02}:{minute:02}{NO_BREAK_SPACE}UTC", date(language, at))
}

fn months(language: Language) -> [&'static str; 12] {
    match language {
        Language::En => [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
        Language::Fr => [
            "janvier",
            "février",
            "mars",
            "avril",
            "mai",
            "juin",
            "juillet",
            "août",
            "septembre",
            "octobre",
            "novembre",
            "décembre",
        ],
        Language::De => [
            "Januar",
            "Februar",
            "März",
            "April",
            "Mai",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "Dezember",
        ],
        Language::Es => [
            "enero",
            "febrero",
            "marzo",
            "abril",
            "mayo",
            "junio",
            "julio",
            "agosto",
            "septiembre",
            "octubre",
            "noviembre",
            "diciembre",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{day::Day, language::Language::*};

    /// The no-break spaces shown as `_`.
    fn visible(text: &str) -> String {
        text.replace(NO_BREAK_SPACE, "_")
    }

    #[test]
    fn dates_and_times_are_written_as_people_of_the_language_write_them() {
        let at =
            Millis(Day::parse("2026-11-26").expect("a date").start().0 + (2 * 60 + 32) * 60_000 + 59_999);
        for (language, expected) in [
            (En, "26_November 2026, 02:32_UTC"),
            (Fr, "26_novembre 2026 à 02:32_UTC"),
            (De, "26._November 2026, 02:32_UTC"),
            (Es, "26_de noviembre de 2026, 02:32_UTC"),
        ] {
            assert_eq!(visible(&date_and_time(language, at)), expected);
        }
    }

    #[test]
    fn every_month_has_its_own_name_and_the_first_of_a_french_month_is_an_ordinal() {
        let written =
            |language, day: &str| visible(&date(language, Day::parse(day).expect("a date").start()));
        assert_eq!(written(En, "2027-01-01"), "1_January 2027");
        assert_eq!(written(Fr, "2027-01-01"), "1er_janvier 2027");
        assert_eq!(written(Fr, "2027-08-11"), "11_août 2027");
        assert_eq!(written(De, "2028-03-01"), "1._März 2028");
        assert_eq!(written(Es, "2028-02-29"), "29_de febrero de 2028");
        for language in Language::ALL {
            for (number, name) in (1..).zip(months(language)) {
                let text = written(language, &format!("2027-{number:02}-28"));
                assert!(text.contains(name), "{text}");
            }
        }
    }

    #[test]
    fn lengths_have_the_plural_of_the_language_and_no_break_before_the_unit() {
        for (language, count, unit, expected) in [
            (En, 0, Unit::Day, "0_days"),
            (En, 1, Unit::Day, "1_day"),
            (En, 30, Unit::Minute, "30_minutes"),
            (En, 1000, Unit::Hour, "1,000_hours"),
            (Fr, 0, Unit::Day, "0_jour"),
            (Fr, 1, Unit::Hour, "1_heure"),
            (Fr, 2, Unit::Day, "2_jours"),
            (De, 0, Unit::Day, "0_Tage"),
            (De, 1, Unit::Minute, "1_Minute"),
            (De, 24, Unit::Hour, "24_Stunden"),
            (Es, 0, Unit::Hour, "0_horas"),
            (Es, 1, Unit::Day, "1_día"),
            (Es, 365, Unit::Day, "365_días"),
        ] {
            assert_eq!(visible(&length(language, count, unit)), expected);
        }
    }

    #[test]
    fn thousands_are_separated_as_in_the_language() {
        for (count, expected) in [
            (0, ["0", "0", "0", "0"]),
            (999, ["999", "999", "999", "999"]),
            (1000, ["1,000", "1_000", "1.000", "1000"]),
            (10_000, ["10,000", "10_000", "10.000", "10.000"]),
            (1_234_567, ["1,234,567", "1_234_567", "1.234.567", "1.234.567"]),
        ] {
            let written = [En, Fr, De, Es].map(|language| visible(&number(language, count)));
            assert_eq!(written, expected);
        }
        assert_eq!(number(En, u64::MAX), "18,446,744,073,709,551,615");
    }
}
