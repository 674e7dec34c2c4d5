//! No-break spaces: before French signs, and between a number and its unit.

use bindery::domain::{language::Language, locale::NO_BREAK_SPACE as NO_BREAK};

use super::{assert_none, texts};

/// The words of units of time, in every language.
const UNITS: [&str; 31] = [
    "day", "days", "hour", "hours", "minute", "minutes", "week", "weeks", "jour", "jours", "heure", "heures",
    "semaine", "semaines", "Tag", "Tage", "Tagen", "Stunde", "Stunden", "Minute", "Minuten", "Woche",
    "Wochen", "día", "días", "hora", "horas", "minuto", "minutos", "semana", "semanas",
];

/// Where a French sign lacks its no-break space: the text around it.
fn missing_french_spaces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    for (at, c) in characters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(at + 1);
        let is_wrong = match c {
            ';' | '?' | '!' | '»' => before != Some(NO_BREAK),
            // Within a time or a link, a colon has none.
            ':' => after.is_none_or(|after| after.is_whitespace()) && before != Some(NO_BREAK),
            '«' => after != Some(&NO_BREAK),
            _ => false,
        };
        if is_wrong {
            found.push(characters[at.saturating_sub(25)..characters.len().min(at + 10)].iter().collect());
        }
    }
    found
}

#[test]
fn french_signs_have_their_no_break_spaces() {
    let mut problems = Vec::new();
    // The alphabet of messages to phones has no such space.
    for text in texts().iter().filter(|text| text.language == Language::Fr && !text.name.starts_with("sms/"))
    {
        for found in text.prose().iter().flat_map(|words| missing_french_spaces(words)) {
            problems.push(format!("{}: …{found}…", text.name));
        }
    }
    assert_none(&problems);
}

#[test]
fn no_line_breaks_between_a_number_and_its_unit() {
    let mut problems = Vec::new();
    for text in texts().iter().filter(|text| !text.name.starts_with("sms/")) {
        for words in text.prose() {
            let parts: Vec<&str> = words.split(' ').collect();
            for pair in parts.windows(2) {
                let unit = pair[1].split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
                if pair[0].ends_with(|c: char| c.is_ascii_digit()) && UNITS.contains(&unit) {
                    problems.push(format!("{}: a space in '{} {unit}' (or no filter)", text.name, pair[0]));
                }
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn the_rules_find_what_they_are_for() {
    for wrong in ["Quoi?", "Quoi ?", "Oui ; non", "«non\u{a0}»", "«\u{a0}non »", "Ici : là", "Fin:"] {
        assert_eq!(missing_french_spaces(wrong).len(), 1, "{wrong}");
    }
    for right in ["Quoi\u{a0}?", "à 02:32\u{a0}UTC", "https://id.test", "«\u{a0}Quoi\u{a0}?\u{a0}»"] {
        assert_eq!(missing_french_spaces(right), [""; 0], "{right}");
    }
}
