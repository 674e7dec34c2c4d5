//! `[sms]`: how Bindery sends messages with codes to phones. Their texts are in `assets/sms`.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Config, Password, at_least_one};
use crate::domain::phone::is_country;

/// How this server sends messages to phones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sms {
    /// "off", "http" to send through a gateway, or "directory" to write each message into a file, for development.
    pub gateway: SmsTransport,
    /// Where the "directory" gateway writes; empty means the directory "sms" inside data_dir.
    pub directory: Option<PathBuf>,
    /// The countries whose numbers may get messages, as two letters each (ISO 3166-1), or "*" for all; messages cost money, so name only those that you need.
    pub countries: Vec<String>,
    /// How many messages this server sends in one day (UTC), for all accounts and homeservers together.
    pub daily_ceiling: NonZeroU32,
    /// The sender of messages, in the form that the gateway requires: a number or a name.
    pub originator: String,
    /// Other senders for some country calling codes: { 44 = "+447700900000", 1 = "12345" }.
    pub originators: BTreeMap<String, String>,
    /// The HTTP request that sends a message.
    pub http: SmsHttp,
}

/// How messages to phones are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmsTransport {
    /// Not at all; people cannot validate phone numbers.
    Off,
    /// Into files.
    Directory,
    /// Through a gateway.
    Http,
}

/// The HTTP request that sends a message; docs/sms.md has the settings for some gateways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmsHttp {
    /// The method: "POST" or "PUT".
    pub method: SmsMethod,
    /// The URL of the gateway; it must be https, unless the gateway is on this machine.
    pub url: String,
    /// Headers of the request; "{password}" in them is replaced with the password.
    pub headers: BTreeMap<String, Password>,
    /// The user name for HTTP basic authentication, if the gateway requires one.
    pub username: Option<String>,
    /// The password or key; password_file and BINDERY_SMS__HTTP__PASSWORD are safer.
    pub password: Option<Password>,
    /// A file whose first line is the password or key.
    pub password_file: Option<PathBuf>,
    /// The format of the body: "json" or "form".
    pub format: SmsFormat,
    /// The body, in whose texts {to} is replaced with the number (+447700900000), {to_digits} with the number without its plus sign, {text} with the message, {code} with the code alone, {originator} with the sender, and {id} with a random text.
    pub body: BTreeMap<String, Value>,
    /// The HTTP statuses with which the gateway accepts a message; empty means 200 to 299.
    pub success_status: Vec<u16>,
    /// A JSON pointer to a value in the answer that also shows whether the gateway accepted the message, such as "/messages/0/status".
    pub success_pointer: Option<String>,
    /// The values at success_pointer that mean that the gateway accepted the message.
    pub success_values: Vec<String>,
    /// The timeout for the gateway's answer in seconds.
    pub timeout_seconds: NonZeroU32,
    /// A PEM file with certificate authorities to trust in addition to the system's, or with the gateway's own self-signed certificate.
    pub extra_ca_file: Option<PathBuf>,
}

/// The method of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SmsMethod {
    /// POST
    Post,
    /// PUT
    Put,
}

/// The format of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmsFormat {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

impl Default for Sms {
    fn default() -> Self {
        Self {
            gateway: SmsTransport::Off,
            directory: None,
            countries: Vec::new(),
            daily_ceiling: at_least_one(200),
            originator: "Matrix".to_owned(),
            originators: BTreeMap::new(),
            http: SmsHttp::default(),
        }
    }
}

impl Default for SmsHttp {
    fn default() -> Self {
        Self {
            method: SmsMethod::Post,
            url: String::new(),
            headers: BTreeMap::new(),
            username: None,
            password: None,
            password_file: None,
            format: SmsFormat::Json,
            body: BTreeMap::new(),
            success_status: Vec::new(),
            success_pointer: None,
            success_values: Vec::new(),
            timeout_seconds: at_least_one(10),
            extra_ca_file: None,
        }
    }
}

impl Config {
    /// The directory that the "directory" gateway writes to.
    pub fn sms_directory(&self) -> PathBuf {
        self.sms.directory.clone().unwrap_or_else(|| self.data_dir.join("sms"))
    }

    pub(super) fn check_sms(&self, require: &mut impl FnMut(bool, String)) {
        let Sms { gateway, countries, originators, http, .. } = &self.sms;
        for country in countries {
            let problem = format!(
                "sms.countries: '{country}' is not a country; write two capital letters like \"GB\", or \"*\""
            );
            require(country == "*" || is_country(country), problem);
        }
        for code in originators.keys() {
            let is_code = (1..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit());
            require(is_code, format!("sms.originators: '{code}' is not a country calling code, like 44"));
        }
        if *gateway == SmsTransport::Off {
            return;
        }
        let problem = "sms.countries: name the countries whose numbers may get messages, or \"*\" for all";
        require(!countries.is_empty(), problem.to_owned());
        if *gateway == SmsTransport::Http {
            http.check(require);
        }
    }
}

impl SmsHttp {
    fn check(&self, require: &mut impl FnMut(bool, String)) {
        let is_near = |rest: &str| {
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        };
        let is_safe =
            self.url.starts_with("https://") || self.url.strip_prefix("http://").is_some_and(is_near);
        let problem = "sms.http.url: it must begin with https://, because codes and passwords are sent there";
        require(is_safe, problem.to_owned());
        let both = self.password.is_some() && self.password_file.is_some();
        require(!both, "sms.http: set password or password_file, not both".to_owned());
        let has_password = self.password.is_some() || self.password_file.is_some();
        require(
            self.username.is_none() || has_password,
            "sms.http: set a password with the username, or neither".to_owned(),
        );
        let mut texts = Vec::new();
        self.body.values().for_each(|value| collect(value, &mut texts));
        let has = |names: [&str; 2]| texts.iter().any(|text| names.iter().any(|name| text.contains(name)));
        require(
            has(["{to}", "{to_digits}"]),
            "sms.http.body: add {to} or {to_digits}, the number".to_owned(),
        );
        require(has(["{text}", "{code}"]), "sms.http.body: add {text} or {code}, the message".to_owned());
        let is_flat = self.body.values().all(|value| !value.is_object() && !value.is_array());
        require(
            self.format == SmsFormat::Json || is_flat,
            "sms.http.body: a form can have only texts, numbers and booleans; set format = \"json\" for more"
                .to_owned(),
        );
        let in_range = self.success_status.iter().all(|status| (100..600).contains(status));
        require(in_range, "sms.http.success_status: write statuses between 100 and 599".to_owned());
        let pointer = self.success_pointer.as_deref();
        require(
            pointer.is_none_or(|pointer| pointer.starts_with('/')),
            "sms.http.success_pointer: it must begin with '/', like a JSON pointer".to_owned(),
        );
        require(
            pointer.is_some() != self.success_values.is_empty(),
            "sms.http: set success_pointer and success_values, or neither".to_owned(),
        );
    }
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(values) => values.values().for_each(|value| collect(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
