//! The configuration: every key, its default, and one sentence that says what it is for.
//!
//! `example` prints the documentation comments below as `bindery config example`. `load` reads files and the
//! environment, and `check` validates the values. All other code gets its settings from here.

mod backup;
mod changes;
mod check;
mod document;
mod example;
mod invites;
mod kinds;
mod limits;
mod listen;
mod load;
mod lookup;
mod privacy;
mod schema;
mod sms;
mod source;
mod syntax;
mod unknown;
pub mod user;
mod warnings;

use std::{net::IpAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    backup::Backup,
    changes::{Changes, RELOADABLE},
    example::example,
    invites::Invites,
    limits::Limits,
    listen::{ListenOn, MAX_SOCKET_PATH, Tls},
    load::load,
    lookup::{HomeserverBudget, Lookup, NetworkBudget},
    privacy::{LookupLog, Operator, Privacy, Processor},
    sms::{Sms, SmsFormat, SmsHttp, SmsMethod, SmsTransport},
    source::{DEFAULT_FILE, Source, choose_file},
};
use crate::domain::{language::Language, retention::Period, server_name::ServerName, terms::Terms};

/// The problems of a configuration, one line for the operator each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// The configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name that this server signs with and that homeservers address it by: the host of its public URL, with the port unless that is 443; do not change it later.
    pub server_name: String,
    /// Other names by which homeservers may address this server in signed requests.
    pub aliases: Vec<String>,
    /// The URL at which people and homeservers reach this server, without a slash at its end; links in mails begin with it.
    pub public_base_url: String,
    /// The directory for everything that this server stores; only this server's user may read it.
    pub data_dir: PathBuf,
    /// The addresses that this server listens on, and the proxies in front of it.
    pub http: Http,
    /// The homeservers whose users may use this server, and how this server connects to them.
    pub homeservers: Homeservers,
    /// How this server sends mail.
    pub mail: Mail,
    /// Rules for the validation of addresses.
    pub validation: Validation,
    /// How this server sends messages to phones.
    pub sms: Sms,
    /// Invitations to email addresses that are not bound to a Matrix ID.
    pub invites: Invites,
    /// Homeservers that may validate phone numbers here for people without an account.
    pub delegation: Delegation,
    /// Rules for lookups of addresses.
    pub lookup: Lookup,
    /// How long this server keeps data, and what it logs about lookups.
    pub privacy: Privacy,
    /// Who is responsible for this server; the privacy notice names them.
    pub operator: Operator,
    /// Rate limits: each allows burst requests at once and refills per_hour in an hour; beyond it this server answers 429.
    pub limits: Limits,
    /// The database.
    pub store: StoreSettings,
    /// Where backups go, and how long one may be kept.
    pub backup: Backup,
    /// The log on standard error; it never contains an address, a token or a client IP.
    pub log: Log,
    /// The documents that accounts must accept: for each ID a version and, by language, a name and a URL.
    #[schemars(with = "Terms")]
    pub terms: Terms,
    /// Where it was read from.
    #[serde(skip)]
    pub source: Source,
}

/// The addresses that this server listens on, and the proxies in front of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Addresses and ports to listen on, or sockets like "unix:/run/bindery/http.sock"; put a reverse proxy with TLS in front of them.
    pub listen: Vec<String>,
    /// The number of threads that answer requests; 0 means one for each processor.
    pub workers: usize,
    /// Networks of the reverse proxies whose X-Forwarded-For header this server trusts; it also trusts whoever can use a Unix socket.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// Addresses and ports that serve GET /metrics in the Prometheus format, /health and /ready, for your monitoring only; none by default.
    pub metrics_listen: Vec<String>,
    /// TLS without a reverse proxy.
    pub tls: Tls,
}

/// The homeservers whose users may use this server, and how this server connects to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Homeservers {
    /// The homeservers whose users may use this server; empty means all homeservers.
    pub allow: Vec<String>,
    /// A PEM file with certificate authorities or self-signed certificates to trust in addition to the system's.
    pub extra_ca_file: Option<PathBuf>,
    /// Private or special-purpose networks in which this server may connect to homeservers, for closed networks and tests.
    #[schemars(with = "Vec<String>")]
    pub allowed_special_addresses: Vec<IpNet>,
    /// The timeout for a homeserver's answer in seconds, including discovery.
    pub timeout_seconds: NonZeroU32,
}

/// How this server sends mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mail {
    /// "smtp" to send through a relay, or "directory" to write each mail into a file, for development.
    pub transport: MailTransport,
    /// Where the "directory" transport writes; empty means the directory "mail" inside data_dir.
    pub directory: Option<PathBuf>,
    /// The From address of every mail; without a name, like here, it gets operator.name.
    pub from: String,
    /// The relay of the "smtp" transport.
    pub smtp: Smtp,
    /// A directory with your own mail templates, one subdirectory for each brand; they replace the built-in ones.
    pub templates_dir: Option<PathBuf>,
    /// The brand of a mail if the client names none.
    pub default_brand: String,
    /// The language of mails and pages if the person's language is unknown: en, fr, de or es.
    pub default_language: Language,
}

/// How mails are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailTransport {
    /// Into files.
    Directory,
    /// To a relay.
    Smtp,
}

/// The mail relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Smtp {
    /// The host name of the relay; its certificate must be for this name, unless extra_ca_file holds that certificate.
    pub host: String,
    /// The port of the relay: usually 465 for "tls", 587 for "starttls", 25 for "none".
    pub port: u16,
    /// "tls" from the first byte, "starttls" (sending fails if the relay does not offer it), or "none" for a relay on this machine.
    pub security: SmtpSecurity,
    /// The user name, if the relay requires one.
    pub username: Option<String>,
    /// The password; password_file and BINDERY_MAIL__SMTP__PASSWORD are safer.
    pub password: Option<Password>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A PEM file with certificate authorities to trust in addition to the system's, or with the relay's own self-signed certificate.
    pub extra_ca_file: Option<PathBuf>,
    /// The timeout for the relay to accept a mail, in seconds.
    pub timeout_seconds: NonZeroU32,
    /// How many connections to the relay may be open at once. From two on, queued mails leave one for validate and visit. From three on, invitations leave one more for bound and unbound, because strangers choose who is invited, and mails to one registrable domain also leave one connection free.
    pub max_connections: NonZeroU32,
}

/// The encryption of the connection to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmtpSecurity {
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// STARTTLS, required (RFC 3207).
    Starttls,
    /// In the clear.
    None,
}

/// A password; `Debug` does not print it.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Rules for the validation of addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Allowed beginnings of next_link, the URL that a person is redirected to after validation; other URLs are ignored.
    pub next_link_prefixes: Vec<String>,
}

/// Homeservers that may validate phone numbers here for people without an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delegation {
    /// The networks of these homeservers; empty turns it off; a proxy in front must set X-Forwarded-For, or every caller has the proxy's address.
    #[schemars(with = "Vec<String>")]
    pub allowed_networks: Vec<IpNet>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// How much memory the database's page cache may use, in MiB; the cache is never larger than the database, about 250 bytes for each binding.
    pub cache_mib: usize,
}

/// The log on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The log level: "error", "warn", "info", "debug", or filters such as "bindery=debug".
    pub level: String,
    /// The format of log lines: "text" for people, "json" for programs, or "journald" for the journal, which has its own time stamps; if standard error is the journal, "text" means "journald".
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object for each event.
    Json,
    /// A line of text for each event, with its priority and without its time.
    Journald,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_name: "localhost:8090".to_owned(),
            aliases: Vec::new(),
            public_base_url: "http://localhost:8090".to_owned(),
            data_dir: PathBuf::from("./bindery-data"),
            http: Http::default(),
            homeservers: Homeservers::default(),
            mail: Mail::default(),
            validation: Validation::default(),
            sms: Sms::default(),
            invites: Invites::default(),
            delegation: Delegation::default(),
            lookup: Lookup::default(),
            privacy: Privacy::default(),
            operator: Operator::default(),
            limits: Limits::default(),
            store: StoreSettings::default(),
            backup: Backup::default(),
            log: Log::default(),
            terms: Terms::new(),
            source: Source::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network"));
        Self {
            listen: vec!["127.0.0.1:8090".to_owned()],
            workers: 0,
            trusted_proxies: loopback.into(),
            metrics_listen: Vec::new(),
            tls: Tls::default(),
        }
    }
}

impl Default for Homeservers {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            extra_ca_file: None,
            allowed_special_addresses: Vec::new(),
            timeout_seconds: at_least_one(20),
        }
    }
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            transport: MailTransport::Directory,
            directory: None,
            from: "noreply@localhost".to_owned(),
            smtp: Smtp::default(),
            templates_dir: None,
            default_brand: "bindery".to_owned(),
            default_language: Language::En,
        }
    }
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 465,
            security: SmtpSecurity::Tls,
            username: None,
            password: None,
            password_file: None,
            extra_ca_file: None,
            timeout_seconds: at_least_one(20),
            max_connections: at_least_one(4),
        }
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { cache_mib: 512 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Config {
    /// The parsed name of this server.
    pub fn name(&self) -> ServerName {
        ServerName::parse(&self.server_name).expect("checked by Config::check")
    }

    /// The directory that the "directory" mail transport writes to.
    pub fn mail_directory(&self) -> PathBuf {
        self.mail.directory.clone().unwrap_or_else(|| self.data_dir.join("mail"))
    }

    /// Whether `peer` is a proxy whose X-Forwarded-For header Bindery trusts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.http.trusted_proxies.iter().any(|net| net.contains(&peer.to_canonical()))
    }

    /// Whether a proxy's address is also in `delegation.allowed_networks`, so that callers behind the proxy
    /// would need no token.
    pub fn delegates_to_a_proxy(&self) -> bool {
        let proxies = &self.http.trusted_proxies;
        let overlap = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
        self.delegation.allowed_networks.iter().any(|net| proxies.iter().any(|proxy| overlap(net, proxy)))
    }

    /// The homeservers that the operator names: those that alone may use this server, and those with a budget of their own.
    pub fn named_homeservers(&self) -> impl Iterator<Item = &str> {
        let budgets = self.lookup.homeserver_budgets.iter().map(|budget| budget.homeserver.as_str());
        self.homeservers.allow.iter().map(String::as_str).chain(budgets)
    }

    /// The timeout for a homeserver's answer.
    pub fn homeserver_timeout(&self) -> Duration {
        Duration::from_secs(self.homeservers.timeout_seconds.get().into())
    }
}

/// Whether `text` is a valid brand name. It must also be safe as the name of a directory.
pub fn is_brand(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

const fn default_days(period: Period) -> NonZeroU32 {
    at_least_one(period.limit().default_days)
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}
