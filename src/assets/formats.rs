//! The filters of templates that write dates, times, lengths of time and numbers in the reader's language, which
//! the variable `lang` names.

use minijinja::{AutoEscape, Environment, State, Value};

use crate::domain::{
    day::Day,
    language::Language,
    locale::{self, Unit},
    time::Millis,
};

/// Adds the filters `date` and `time` for a time in milliseconds, `days`, `hours` and `minutes` for a
/// count, and `number`.
pub fn add_formats(environment: &mut Environment<'_>) {
    environment.add_filter("date", |state: &State<'_, '_>, at: u64| {
        time_element(state, &Day::of(Millis(at)).to_string(), locale::date(reader(state), Millis(at)))
    });
    environment.add_filter("time", |state: &State<'_, '_>, at: u64| {
        let datetime = format!("{}Z", Millis(at).utc());
        time_element(state, &datetime, locale::date_and_time(reader(state), Millis(at)))
    });
    let units = [("days", Unit::Day), ("hours", Unit::Hour), ("minutes", Unit::Minute)];
    for (name, unit) in units {
        environment.add_filter(name, move |state: &State<'_, '_>, count: u64| {
            locale::length(reader(state), count, unit)
        });
    }
    environment
        .add_filter("number", |state: &State<'_, '_>, number: u64| locale::number(reader(state), number));
}

fn reader(state: &State<'_, '_>) -> Language {
    state.lookup("lang").and_then(|code| Language::parse(code.as_str()?)).unwrap_or_default()
}

/// A time for people and, in HTML, for programs that read pages to them.
fn time_element(state: &State<'_, '_>, datetime: &str, words: String) -> Value {
    match state.auto_escape() {
        AutoEscape::Html => Value::from_safe_string(format!("<time datetime=\"{datetime}\">{words}</time>")),
        _ => words.into(),
    }
}
