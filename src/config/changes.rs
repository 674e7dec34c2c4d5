//! What differs between two configurations: the keys that a reload applies, and those that need a restart.

use toml::{Table, Value};

use super::Config;

/// The keys, and the sections, that a reload applies. Any other key needs a restart. `app::reload` puts these into
/// effect, and they are read where it does so and not in `Core::config`.
pub const RELOADABLE: [&str; 8] = [
    "http.tls.certificate_file",
    "http.tls.key_file",
    "limits",
    "log.level",
    "mail.default_brand",
    "mail.from",
    "mail.templates_dir",
    "operator",
];

/// The difference between the configuration in force and the one in the file.
#[derive(Debug)]
pub struct Changes {
    /// The configuration in force after a reload: the new values of the keys that it applies, the old ones of others.
    pub config: Config,
    /// The changed keys that a reload applies.
    pub reloaded: Vec<String>,
    /// The changed keys that need a restart.
    pub need_restart: Vec<String>,
}

impl Config {
    /// What changes if `new` is loaded in place of this one.
    pub fn changes_to(&self, new: &Self) -> Changes {
        let table = |config: &Self| Table::try_from(config).expect("a configuration is a table");
        let mut applied = table(self);
        let (mut reloaded, mut need_restart) = (Vec::new(), Vec::new());
        for key in different_keys(&applied, &table(new)) {
            if is_reloadable(&key) { reloaded.push(key) } else { need_restart.push(key) }
        }
        let mut config = self.clone();
        if !reloaded.is_empty() {
            let from = table(new);
            reloaded.iter().for_each(|key| copy(key, &from, &mut applied));
            config = applied.try_into().expect("a configuration with values of another one");
            config.source.clone_from(&new.source);
        }
        Changes { config, reloaded, need_restart }
    }
}

fn is_reloadable(key: &str) -> bool {
    let rest = |listed| key.strip_prefix(listed);
    RELOADABLE.into_iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The paths of the values that differ, in order. A value that only one of them has differs.
fn different_keys(old: &Table, new: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    compare("", old, new, &mut keys);
    keys.sort();
    keys.dedup();
    keys
}

fn compare(prefix: &str, old: &Table, new: &Table, keys: &mut Vec<String>) {
    for key in old.keys().chain(new.keys()) {
        let path = format!("{prefix}{key}");
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                compare(&format!("{path}."), old, new, keys)
            }
            (old, new) if old == new => {}
            // A section that only one of them has, such as a document of the terms.
            (Some(Value::Table(only)), None) | (None, Some(Value::Table(only))) if !only.is_empty() => {
                compare(&format!("{path}."), only, &Table::new(), keys);
            }
            _ => keys.push(path),
        }
    }
}

/// Gives `to` the value that `from` has at this path, or none.
fn copy(path: &str, from: &Table, to: &mut Table) {
    match path.split_once('.') {
        Some((section, rest)) => {
            let none = Table::new();
            let from = from.get(section).and_then(Value::as_table).unwrap_or(&none);
            let to = to.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Some(to) = to.as_table_mut() {
                copy(rest, from, to);
            }
        }
        None => {
            match from.get(path) {
                Some(value) => to.insert(path.to_owned(), value.clone()),
                None => to.remove(path),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use serde_json::Value as Json;

    use super::*;
    use crate::{config::schema::resolve, domain::bucket::Rate};

    /// The path of every key, by the schema.
    fn all_keys() -> Vec<String> {
        let schema = schema_for!(Config);
        let mut keys = Vec::new();
        let mut sections = vec![(String::new(), schema.as_value())];
        while let Some((prefix, section)) = sections.pop() {
            let properties = resolve(section, &schema).get("properties").and_then(Json::as_object);
            match properties {
                Some(properties) => {
                    sections.extend(properties.iter().map(|(key, value)| (format!("{prefix}.{key}"), value)));
                }
                None => keys.push(prefix.trim_start_matches('.').to_owned()),
            }
        }
        keys
    }

    #[test]
    fn each_key_is_reloaded_or_needs_a_restart() {
        let keys = all_keys();
        assert!(keys.len() > 80 && keys.contains(&"http.tls.key_file".to_owned()), "{keys:?}");
        let reloadable: Vec<&String> = keys.iter().filter(|key| is_reloadable(key)).collect();
        let sections = ["limits.", "operator."];
        for key in &reloadable {
            let is_expected =
                RELOADABLE.contains(&key.as_str()) || sections.iter().any(|part| key.starts_with(part));
            assert!(is_expected, "{key}");
        }
        for listed in RELOADABLE {
            let is_key = |key: &&String| key.as_str() == listed || key.starts_with(&format!("{listed}."));
            assert!(reloadable.iter().any(is_key), "{listed} is no key");
        }
        for restart in ["http.listen", "http.tls.listen", "mail.smtp.host", "data_dir", "log.format", "terms"]
        {
            assert!(keys.iter().any(|key| key == restart) && !is_reloadable(restart), "{restart}");
        }
        assert!(!is_reloadable("limitsx") && !is_reloadable("mail.fromage"));
    }

    #[test]
    fn a_reload_applies_what_it_can_and_keeps_the_rest() {
        let old = Config::default();
        let mut new = old.clone();
        new.operator.name = "Someone".to_owned();
        new.limits.register_per_ip = Rate::new(1, 2);
        new.mail.templates_dir = Some("/etc/bindery/templates".into());
        new.http.listen = vec!["127.0.0.1:1".to_owned()];
        new.mail.smtp.username = Some("bindery".to_owned());
        new.terms.insert(
            "terms".to_owned(),
            crate::domain::terms::Document { version: "1".to_owned(), languages: [].into() },
        );
        let changes = old.changes_to(&new);
        assert_eq!(
            changes.reloaded,
            [
                "limits.register_per_ip.burst",
                "limits.register_per_ip.per_hour",
                "mail.templates_dir",
                "operator.name"
            ]
        );
        assert_eq!(
            changes.need_restart,
            ["http.listen", "mail.smtp.username", "terms.terms.languages", "terms.terms.version"]
        );
        let Config { operator, limits, mail, http, terms, .. } = &changes.config;
        assert_eq!((operator, limits), (&new.operator, &new.limits));
        assert_eq!(mail.templates_dir, new.mail.templates_dir);
        assert_eq!((http, &mail.smtp, terms), (&old.http, &old.mail.smtp, &old.terms));
        let back = changes.config.changes_to(&old);
        assert_eq!(back.config, old, "a key that is unset again gets its default");
        let same = old.changes_to(&old);
        assert!(same.reloaded.is_empty() && same.need_restart.is_empty() && same.config == old);
    }
}
