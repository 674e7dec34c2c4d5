//! Checks the values of a configuration that their types cannot check.
//!
//! Each problem names the key and says what to do. `app` reads the files that the configuration names when the
//! server starts.

use std::{net::IpAddr, path::Path};

use super::{Config, ConfigError, SmtpSecurity, is_brand};
use crate::domain::{ids::RoomId, invitation::MAX_SHOWN_CHARACTERS, server_name::ServerName};

/// More threads than this answer no faster, on any machine.
const MAX_WORKERS: usize = 512;

/// Whether this is a level, or a list of levels and of filters for a part of the program. The logging library takes
/// any other word for the name of a part, and then logs nothing.
fn is_level(text: &str) -> bool {
    text.split(',').all(|filter| {
        let level = filter.split_once('=').map_or(filter, |(_, level)| level);
        ["error", "warn", "info", "debug", "trace", "off"]
            .contains(&level.trim().to_ascii_lowercase().as_str())
    })
}

/// The server name in a URL, a Matrix ID or an email address that was written instead of it; otherwise an example.
fn meant_server_name(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let of_id = text.starts_with(['@', '!']).then(|| text.split_once(':').map(|(_, name)| name)).flatten();
    let of_address = host.rsplit_once('@').map(|(_, domain)| domain);
    let name = of_id.or(of_address).unwrap_or(host);
    if ServerName::parse(name).is_some() { name } else { "id.example.org" }
}

impl Config {
    /// Checks all values.
    ///
    /// # Errors
    /// All problems at once, each with its key and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let names = std::iter::once(("server_name", &self.server_name))
            .chain(self.aliases.iter().map(|name| ("aliases", name)))
            .chain(self.homeservers.allow.iter().map(|name| ("homeservers.allow", name)));
        for (key, name) in names {
            let like = meant_server_name(name);
            let problem = format!(
                "{key}: '{name}' is not a server name; write a host with an optional port, like '{like}'"
            );
            require(ServerName::parse(name).is_some(), problem);
        }
        for (key, path) in self.paths() {
            // Only a shell knows these.
            let is_path = !path.to_string_lossy().starts_with(['~', '$']);
            let path = path.display();
            let problem = format!(
                "{key}: '{path}' is not the path of a folder or file; write all of it, from the first '/' on"
            );
            require(is_path, problem);
        }
        let url = &self.public_base_url;
        let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let names_host = authority.is_some_and(|authority| ServerName::parse(authority).is_some());
        require(
            names_host,
            format!(
                "public_base_url: '{url}' must be https://, a host and an optional port, without a path or a slash at its end, like 'https://{}'",
                meant_server_name(url)
            ),
        );
        // Homeservers sign requests for the name in the URL. If it is not one of this server's names, unbinding
        // fails.
        let is_ours = authority.is_none_or(|authority| {
            authority == self.server_name || self.aliases.iter().any(|a| a == authority)
        });
        require(
            !names_host || is_ours,
            format!("public_base_url: the host of '{url}' must be server_name or one of aliases"),
        );
        let in_the_clear = self.mail.smtp.security == SmtpSecurity::None && self.mail.smtp.username.is_some();
        let near = self.mail.smtp.host == "localhost"
            || self.mail.smtp.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        require(
            near || !in_the_clear,
            "mail.smtp.security: \"none\" sends the password in the clear, which only a relay on this machine may get; set \"tls\" or \"starttls\"".to_owned(),
        );
        let host = &self.mail.smtp.host;
        let is_host = !host.is_empty()
            && (host.parse::<IpAddr>().is_ok() || !host.contains([':', '/', '@', ' ', '\t', '\n', '\r']));
        require(
            is_host,
            format!(
                "mail.smtp.host: '{host}' is not a host; write its name or IP address alone, like 'mail.example.org'. The port has a key of its own, mail.smtp.port"
            ),
        );
        let (workers, most) = (self.http.workers, MAX_WORKERS);
        require(workers <= most, format!("http.workers: {workers} threads are too many; {most} is the most"));
        let level = &self.log.level;
        require(
            is_level(level),
            format!(
                "log.level: '{level}' is not a level; write error, warn, info, debug, trace or off, or filters such as 'info,bindery::remote=debug'"
            ),
        );
        self.http.listen_problems().into_iter().for_each(|problem| require(false, problem));
        self.wrong_periods().for_each(|problem| require(false, problem));
        self.wrong_backups().into_iter().for_each(|problem| require(false, problem));
        self.operator.problems().into_iter().for_each(|problem| require(false, problem));
        self.check_invites(&mut require);
        self.check_sms(&mut require);
        self.lookup.problems().into_iter().for_each(|problem| require(false, problem));
        let both = self.mail.smtp.password.is_some() && self.mail.smtp.password_file.is_some();
        require(!both, "mail.smtp: set password or password_file, not both".to_owned());
        let has_password = self.mail.smtp.password.is_some() || self.mail.smtp.password_file.is_some();
        let complete = self.mail.smtp.username.is_some() == has_password;
        require(complete, "mail.smtp: set username and a password, or neither".to_owned());
        for prefix in &self.validation.next_link_prefixes {
            let host_ends = prefix
                .split_once("://")
                .is_some_and(|(scheme, rest)| ["http", "https"].contains(&scheme) && rest.contains('/'))
                && prefix.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>;,\\`".contains(&b));
            // Without the slash, 'https://app.example.org' would also allow 'https://app.example.org.evil'.
            let problem = format!(
                "validation.next_link_prefixes: '{prefix}' must be a URL with a slash after its host, like 'https://app.example.org/'"
            );
            require(host_ends, problem);
        }
        let brand = &self.mail.default_brand;
        require(
            is_brand(brand),
            format!("mail.default_brand: '{brand}' must be 1 to 32 letters, digits, '-' and '_'"),
        );
        for (id, document) in &self.terms {
            for (language, text) in &document.languages {
                let code =
                    !language.is_empty() && language.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                require(
                    code && language != "version",
                    format!("terms.{id}.languages: '{language}' is not a language code"),
                );
                let web = text.url.starts_with("https://") || text.url.starts_with("http://");
                require(
                    web,
                    format!("terms.{id}.languages.{language}.url: '{}' must begin with https://", text.url),
                );
            }
            require(
                !document.languages.is_empty(),
                format!("terms.{id}.languages: add at least one language"),
            );
            require(!document.version.is_empty(), format!("terms.{id}.version: set a version, like '1.0'"));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }

    /// Each path of a file or folder, with its key.
    fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let Self { data_dir, homeservers, mail, sms, .. } = self;
        let (smtp, http) = (&mail.smtp, &sms.http);
        let paths = [
            ("data_dir", Some(data_dir)),
            ("homeservers.extra_ca_file", homeservers.extra_ca_file.as_ref()),
            ("mail.directory", mail.directory.as_ref()),
            ("mail.templates_dir", mail.templates_dir.as_ref()),
            ("mail.smtp.password_file", smtp.password_file.as_ref()),
            ("mail.smtp.extra_ca_file", smtp.extra_ca_file.as_ref()),
            ("sms.directory", sms.directory.as_ref()),
            ("sms.http.password_file", http.password_file.as_ref()),
            ("sms.http.extra_ca_file", http.extra_ca_file.as_ref()),
        ];
        paths.into_iter().filter_map(|(key, path)| Some((key, path?.as_path())))
    }

    fn check_invites(&self, require: &mut impl FnMut(bool, String)) {
        let invites = &self.invites;
        let url = &invites.web_client_url;
        let plain = url.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>\\`#?".contains(&b));
        let web = url.starts_with("https://") || url.starts_with("http://");
        require(
            web && plain && !url.ends_with('/'),
            format!(
                "invites.web_client_url: '{url}' must begin with https://, without '#', '?' or a slash at its end"
            ),
        );
        let shown = invites.show_characters;
        require(
            shown <= MAX_SHOWN_CHARACTERS,
            format!(
                "invites.show_characters: {shown} is more than {MAX_SHOWN_CHARACTERS}; the room would show most of the address to everybody in it"
            ),
        );
        for room in &invites.blocked_rooms {
            let problem =
                format!("invites.blocked_rooms: '{room}' is not a room ID, like '!abc:example.org'");
            require(RoomId::parse(room).is_some(), problem);
        }
        for name in &invites.blocked_homeservers {
            let problem = format!("invites.blocked_homeservers: '{name}' is not a server name");
            require(ServerName::parse(name).is_some(), problem);
        }
        let empty = invites.blocked_keywords.iter().any(|word| word.trim().is_empty());
        require(
            !empty,
            "invites.blocked_keywords: remove the empty word; it would block every invitation".to_owned(),
        );
    }
}
