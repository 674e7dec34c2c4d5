//! The whole configuration: every key, its default, and one sentence that says what it is for.
//!
//! The sentences are the documentation comments below; `config example` is made from them. Reading files and the environment is in `load`, printing in `example`.
//! Nothing outside this folder reads a setting from anywhere else.

mod check;
mod example;
mod invites;
mod limits;
mod load;
mod privacy;
mod sms;

use std::{
    net::IpAddr,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    example::example,
    invites::Invites,
    limits::Limits,
    load::load,
    privacy::{LookupLog, Operator, Privacy, Processor},
    sms::{Sms, SmsFormat, SmsHttp, SmsMethod, SmsTransport},
};
use crate::domain::{language::Language, retention::Period, server_name::ServerName, terms::Terms};

/// What is wrong with a configuration, in words for the operator, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// The configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name this server signs with and homeservers know it by: the host of its public URL, with the port unless that is 443; it cannot change later.
    pub server_name: String,
    /// Other names under which homeservers may address this server in signed requests.
    pub aliases: Vec<String>,
    /// The URL under which people and homeservers reach this server, without a slash at its end; links in mails begin with it.
    pub public_base_url: String,
    /// The directory that holds everything this server stores; nobody else may read it.
    pub data_dir: PathBuf,
    /// How this server listens.
    pub http: Http,
    /// Which homeservers may send their users, and how they are reached.
    pub homeservers: Homeservers,
    /// How mail leaves.
    pub mail: Mail,
    /// Rules for the proof that an address is somebody's.
    pub validation: Validation,
    /// How messages to telephones leave.
    pub sms: Sms,
    /// Invitations to people who are known by their e-mail address only.
    pub invites: Invites,
    /// Homeservers that have telephone numbers validated here for people without an account.
    pub delegation: Delegation,
    /// Rules for looking up addresses.
    pub lookup: Lookup,
    /// How long things are kept, and what is logged.
    pub privacy: Privacy,
    /// Who answers for this server; the privacy notice says so.
    pub operator: Operator,
    /// How often things may be done; each is {burst, per_hour} and 429 answers beyond it.
    pub limits: Limits,
    /// The database.
    pub store: StoreSettings,
    /// What this server logs to standard error, never with an address, token or client IP in it.
    pub log: Log,
    /// The documents that people must accept: for each ID a version and, by language, a name and a URL.
    #[schemars(with = "Terms")]
    pub terms: Terms,
}

/// How this server listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Addresses and ports to listen on; put a reverse proxy with TLS in front of them.
    pub listen: Vec<String>,
    /// Threads that answer requests; 0 means one for each processor.
    pub workers: usize,
    /// Reverse proxies whose X-Forwarded-For header is believed, as networks.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// Addresses and ports that answer GET /metrics in the Prometheus format, for your monitoring only; none by default.
    pub metrics_listen: Vec<String>,
}

/// Which homeservers may send their users, and how they are reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Homeservers {
    /// Server names whose users may use this server; empty means every homeserver.
    pub allow: Vec<String>,
    /// A PEM file with certificate authorities to trust beside the system's.
    pub extra_ca_file: Option<PathBuf>,
    /// Networks that may be called although they are private or special, for closed networks and tests.
    #[schemars(with = "Vec<String>")]
    pub allowed_special_addresses: Vec<IpNet>,
    /// How many seconds a homeserver has to answer, discovery included.
    pub timeout_seconds: NonZeroU32,
}

/// How mail leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mail {
    /// "smtp" to send, or "directory" to write each mail into a file, for development.
    pub transport: MailTransport,
    /// Where the "directory" transport writes; empty means the directory "mail" inside data_dir.
    pub directory: Option<PathBuf>,
    /// The sender of every mail.
    pub from: String,
    /// The relay that the "smtp" transport hands mails to.
    pub smtp: Smtp,
    /// A directory with templates that replace the built-in ones, one subdirectory for each brand.
    pub templates_dir: Option<PathBuf>,
    /// The brand that is used when a client names none.
    pub default_brand: String,
    /// The language of mails and pages when the person's is not known: en, fr, de or es.
    pub default_language: Language,
}

/// Where mails go.
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
    /// The relay's name; its certificate must be for it.
    pub host: String,
    /// The relay's port: commonly 465 for "tls", 587 for "starttls", 25 for "none".
    pub port: u16,
    /// "tls" from the first byte, "starttls" (refused if the relay does not offer it), or "none" for a relay on this machine.
    pub security: SmtpSecurity,
    /// The user name, if the relay wants one.
    pub username: Option<String>,
    /// The password; better in password_file or BINDERY_MAIL__SMTP__PASSWORD.
    pub password: Option<Password>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A PEM file with certificate authorities to trust beside the system's.
    pub extra_ca_file: Option<PathBuf>,
    /// How many seconds the relay has to take a mail.
    pub timeout_seconds: NonZeroU32,
    /// How many connections to the relay may be open.
    pub max_connections: NonZeroU32,
}

/// How the connection to the relay is protected.
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

/// A password; prints as dots.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Rules for the proof that an address is somebody's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Beginnings of URLs to which a person may be sent on after confirming (next_link); others are ignored.
    pub next_link_prefixes: Vec<String>,
}

/// Homeservers that have telephone numbers validated here for people without an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delegation {
    /// The addresses of homeservers that may ask, as networks; empty turns it off. A proxy in front must set X-Forwarded-For, or everybody has the proxy's address.
    #[schemars(with = "Vec<String>")]
    pub allowed_networks: Vec<IpNet>,
}

/// Rules for looking up addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lookup {
    /// How many addresses one request may ask for, 1 to 10000.
    pub max_addresses: usize,
    /// Whether clients may send addresses in the clear (algorithm "none").
    pub allow_none: bool,
    /// How many addresses an account may look up in a day, beyond the first max_addresses; ten times that for all users of a homeserver, and for all callers from an IP address.
    pub daily_budget: NonZeroU64,
    /// After how many days a new pepper replaces the one that addresses are hashed with, 1 to 365.
    pub pepper_rotation_days: NonZeroU32,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// How many MiB of memory the database may use to remember pages; it takes no more than it has pages, about 250 bytes for each binding.
    pub cache_mib: usize,
}

/// What this server logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// "error", "warn", "info", "debug", or filters such as "bindery=debug".
    pub level: String,
    /// "text" for people or "json" for machines.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
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
            log: Log::default(),
            terms: Terms::new(),
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
            from: "Bindery <noreply@localhost>".to_owned(),
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

impl Default for Lookup {
    fn default() -> Self {
        Self {
            max_addresses: 10_000,
            allow_none: false,
            daily_budget: NonZeroU64::from(at_least_one(5000)),
            pepper_rotation_days: default_days(Period::Pepper),
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
    /// The server's name, parsed.
    pub fn name(&self) -> ServerName {
        ServerName::parse(&self.server_name).expect("checked by Config::check")
    }

    /// The directory that the "directory" mail transport writes to.
    pub fn mail_directory(&self) -> PathBuf {
        self.mail.directory.clone().unwrap_or_else(|| self.data_dir.join("mail"))
    }

    /// Whether `peer` is a proxy whose word about the client's address is taken.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.http.trusted_proxies.iter().any(|net| net.contains(&peer.to_canonical()))
    }

    /// Whether an address of a proxy is also one of a homeserver that may ask without a token.
    pub fn delegates_to_a_proxy(&self) -> bool {
        let proxies = &self.http.trusted_proxies;
        let overlap = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
        self.delegation.allowed_networks.iter().any(|net| proxies.iter().any(|proxy| overlap(net, proxy)))
    }

    /// How long a homeserver has to answer.
    pub fn homeserver_timeout(&self) -> Duration {
        Duration::from_secs(self.homeservers.timeout_seconds.get().into())
    }
}

/// Whether `text` may name a brand, and so a directory.
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
