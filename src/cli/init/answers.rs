//! The answers that `bindery init` needs: from its arguments, or asked on a terminal.

use std::{io::IsTerminal, io::stdin};

use anyhow::{Context, bail};
use dialoguer::{Input, Password as AskForPassword, Select};

use super::{InitArguments, Logging};
use crate::{
    config::SmtpSecurity,
    domain::{server_name::ServerName, threepid::Address},
    remote::password::read_password,
};

/// Everything that a configuration needs to begin with.
pub struct Answers {
    pub server_name: String,
    pub public_url: String,
    /// Empty means all homeservers.
    pub homeservers: Vec<String>,
    pub relay_host: String,
    pub relay_port: u16,
    pub relay_security: SmtpSecurity,
    pub relay_user: Option<String>,
    pub relay_password: Option<String>,
    pub mail_from: String,
    pub operator_name: String,
    pub operator_address: String,
    pub operator_contact: String,
    pub logging: Logging,
}

/// Whoever answers: a person at a terminal, or nobody.
struct Person {
    is_there: bool,
    /// The arguments that were missing while nobody was there.
    missing: Vec<&'static str>,
}

impl Answers {
    /// Takes the answers from the arguments and asks for the others.
    ///
    /// # Errors
    /// All missing arguments at once if nobody can be asked; otherwise the first answer that cannot be.
    pub fn complete(arguments: InitArguments) -> anyhow::Result<Self> {
        let mut person = Person { is_there: stdin().is_terminal(), missing: Vec::new() };
        let server_name = person.text(
            ("--server-name", arguments.server_name),
            "The name of this server (the host of its public URL, like id.example.org)",
            None,
            |name| ServerName::parse(name).is_some(),
        )?;
        let public_url = arguments.public_url.unwrap_or_else(|| format!("https://{server_name}"));
        let domain = server_name.split_once('.').map(|(_, domain)| domain.to_owned());
        let homeservers = match (arguments.all_homeservers, arguments.homeservers) {
            (true, _) => Vec::new(),
            (false, named) if !named.is_empty() => named,
            (false, _) => person.homeservers(domain.clone())?,
        };
        let relay = person.text(
            ("--relay", arguments.relay),
            "The mail relay (host and port, like mail.example.org:465)",
            None,
            |relay| relay_of(relay).is_ok(),
        )?;
        let (relay_host, relay_port, relay_security) =
            if relay.is_empty() { (String::new(), 465, SmtpSecurity::Tls) } else { relay_of(&relay)? };
        let relay_user = match arguments.relay_user {
            None if person.is_there => {
                person.optional("The user name at the relay (empty if it wants none)")?
            }
            given => given.filter(|user| !user.is_empty()),
        };
        let relay_password = match (&relay_user, arguments.relay_password_file) {
            (None, _) => None,
            (Some(_), Some(file)) => read_password(None, Some(&file)).context("--relay-password-file")?,
            (Some(_), None) => person.password()?,
        };
        let is_address = |text: &str| Address::email(text).is_some();
        let from = domain.map(|domain| format!("noreply@{domain}"));
        let mail_from = person.text(
            ("--mail-from", arguments.mail_from),
            "The address that mails come from; the relay must accept it",
            from,
            is_address,
        )?;
        let is_line = |text: &str| !text.trim().is_empty() && !text.contains(['\n', '\r']);
        let operator_name = person.text(
            ("--operator-name", arguments.operator_name),
            "Who runs this server (a person or an organisation; the privacy notice names them)",
            None,
            is_line,
        )?;
        let operator_address = person.text(
            ("--operator-address", arguments.operator_address),
            "Their postal address, in one line",
            None,
            is_line,
        )?;
        let operator_contact = person.text(
            ("--operator-contact", arguments.operator_contact),
            "Their email address for questions of people about their data",
            None,
            is_address,
        )?;
        let logging = match arguments.logging {
            Some(logging) => logging,
            None => person.logging()?,
        };
        if !person.missing.is_empty() {
            bail!("this is no terminal on which to ask: add {}", person.missing.join(", "));
        }
        Ok(Self {
            server_name,
            public_url,
            homeservers,
            relay_host,
            relay_port,
            relay_security,
            relay_user,
            relay_password,
            mail_from,
            operator_name,
            operator_address,
            operator_contact,
            logging,
        })
    }
}

impl Person {
    /// An answer in text. If nobody is there and there is no default, the argument is missing.
    fn text(
        &mut self,
        (argument, given): (&'static str, Option<String>),
        question: &str,
        default: Option<String>,
        is_good: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        if let Some(given) = given {
            anyhow::ensure!(is_good(&given), "{argument}: '{given}' does not answer: {question}");
            return Ok(given);
        }
        if !self.is_there {
            if default.is_none() {
                self.missing.push(argument);
            }
            return Ok(default.unwrap_or_default());
        }
        let check = |answer: &String| match is_good(answer) {
            true => Ok(()),
            false => Err("that is not what a configuration can hold; see the example"),
        };
        let mut input = Input::new().with_prompt(question).validate_with(check);
        if let Some(default) = default {
            input = input.default(default);
        }
        Ok(input.interact_text()?)
    }

    fn optional(&self, question: &str) -> anyhow::Result<Option<String>> {
        let answer: String = Input::new().with_prompt(question).allow_empty(true).interact_text()?;
        Ok(Some(answer).filter(|answer| !answer.is_empty()))
    }

    fn password(&mut self) -> anyhow::Result<Option<String>> {
        if !self.is_there {
            self.missing.push("--relay-password-file");
            return Ok(None);
        }
        Ok(Some(AskForPassword::new().with_prompt("The password of that user").interact()?))
    }

    fn homeservers(&mut self, domain: Option<String>) -> anyhow::Result<Vec<String>> {
        const ALL: &str = "all";
        let are_names = |answer: &str| {
            answer == ALL
                || names_in(answer).next().is_some()
                    && names_in(answer).all(|name| ServerName::parse(name).is_some())
        };
        // No default if nobody is there: whom a server serves must be said.
        let default = domain.filter(|_| self.is_there);
        let answer = self.text(
            ("--homeserver or --all-homeservers", None),
            "The homeservers whose users may use it (names with spaces between them, or 'all')",
            default,
            are_names,
        )?;
        Ok(if answer == ALL { Vec::new() } else { names_in(&answer).map(str::to_owned).collect() })
    }

    fn logging(&mut self) -> anyhow::Result<Logging> {
        if !self.is_there {
            self.missing.push("--logging");
            return Ok(Logging::Full);
        }
        let items = [
            "full: as long as the policy allows, to find out who misused the server",
            "sparse: a day of counted lookups, a week of callers",
        ];
        let chosen = Select::new()
            .with_prompt("How much to log about lookups and callers")
            .items(items)
            .default(0)
            .interact()?;
        Ok(if chosen == 0 { Logging::Full } else { Logging::Sparse })
    }
}

fn names_in(answer: &str) -> impl Iterator<Item = &str> {
    answer.split([' ', ',']).filter(|name| !name.is_empty())
}

/// Host, port and encryption of a relay. The port says which encryption: 465 begins with TLS (RFC 8314), and a relay on
/// this machine needs none.
fn relay_of(text: &str) -> anyhow::Result<(String, u16, SmtpSecurity)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => {
            (host, port.parse().with_context(|| format!("'{port}' is not a port"))?)
        }
        _ => (text, 465),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
    anyhow::ensure!(is_host, "'{host}' is not the name of a host");
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let security = match port {
        465 => SmtpSecurity::Tls,
        25 if is_here => SmtpSecurity::None,
        _ => SmtpSecurity::Starttls,
    };
    Ok((host.to_owned(), port, security))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_says_how_the_relay_is_reached() {
        for (text, expected) in [
            ("mail.example.org", Some(("mail.example.org", 465, SmtpSecurity::Tls))),
            ("mail.example.org:587", Some(("mail.example.org", 587, SmtpSecurity::Starttls))),
            ("mail.example.org:25", Some(("mail.example.org", 25, SmtpSecurity::Starttls))),
            ("localhost:25", Some(("localhost", 25, SmtpSecurity::None))),
            ("[::1]:25", Some(("::1", 25, SmtpSecurity::None))),
            ("smtps://mail.example.org", None),
            ("bindery@mail.example.org:465", None),
            ("mail.example.org:smtp", None),
            (":25", None),
            ("", None),
        ] {
            let relay = relay_of(text).ok();
            let expected = expected.map(|(host, port, security)| (host.to_owned(), port, security));
            assert_eq!(relay, expected, "{text}");
        }
    }
}
