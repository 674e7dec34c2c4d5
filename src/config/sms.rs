//! `[sms]`: how messages with codes reach telephones. What a message says is in a template.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Config, Password, at_least_one};
use crate::domain::phone::is_country;

/// How messages to telephones leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sms {
    /// "off", "http" to send through a gateway, or "directory" to write each message into a file, for development.
    pub gateway: SmsTransport,
    /// Where the "directory" gateway writes; empty means the directory "sms" inside data_dir.
    pub directory: Option<PathBuf>,
    /// Countries whose numbers may be written to, as two letters each (ISO 3166-1), or "*" for all; messages cost money, so name those that you mean.
    pub countries: Vec<String>,
    /// How many messages may leave in one day (UTC), whoever asks.
    pub daily_ceiling: NonZeroU32,
    /// Who a message is from, as the gateway wants it: a number or a name.
    pub originator: String,
    /// Who messages to a country calling code are from, if not the one above: { 44 = "+447700900000", 1 = "12345" }.
    pub originators: BTreeMap<String, String>,
    /// The one request that sends a message.
    pub http: SmsHttp,
}

/// Where messages to telephones go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmsTransport {
    /// Nowhere; telephone numbers cannot be validated.
    Off,
    /// Into files.
    Directory,
    /// To a gateway.
    Http,
}

/// The one request that sends a message. See docs/sms.md for those of some gateways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmsHttp {
    /// "POST" or "PUT".
    pub method: SmsMethod,
    /// Where to; https, unless the gateway is on this machine.
    pub url: String,
    /// Headers to send; "{password}" in them stands for the password.
    pub headers: BTreeMap<String, Password>,
    /// The user name of HTTP basic authentication, if the gateway wants one.
    pub username: Option<String>,
    /// The password or key; better in password_file or BINDERY_SMS__HTTP__PASSWORD.
    pub password: Option<Password>,
    /// A file whose first line is the password or key.
    pub password_file: Option<PathBuf>,
    /// How the body is written: "json" or "form".
    pub format: SmsFormat,
    /// The body. In its texts, {to} stands for the number (+447700900000), {to_digits} for the same without its plus sign, {text} for the message, {code} for the code alone, {originator} for who it is from, {id} for a random text.
    pub body: BTreeMap<String, Value>,
    /// The statuses of an answer that say that the message was taken; empty means 200 to 299.
    pub success_status: Vec<u16>,
    /// A JSON pointer to what in the answer says so as well, such as "/messages/0/status".
    pub success_pointer: Option<String>,
    /// The values there that say that the message was taken.
    pub success_values: Vec<String>,
    /// How many seconds the gateway has to answer.
    pub timeout_seconds: NonZeroU32,
    /// A PEM file with certificate authorities to trust beside the system's.
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

/// How the body of the request is written.
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
            let problem = format!("sms.countries: '{country}' is neither a country, like \"GB\", nor \"*\"");
            require(country == "*" || is_country(country), problem);
        }
        for code in originators.keys() {
            let is_code = (1..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit());
            require(is_code, format!("sms.originators: '{code}' is not a country calling code, like 44"));
        }
        if *gateway == SmsTransport::Off {
            return;
        }
        let problem = "sms.countries: name the countries whose numbers may be written to, or \"*\" for all";
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
        let problem = "sms.http.url: it must begin with https://, since codes and passwords go there";
        require(is_safe, problem.to_owned());
        let both = self.password.is_some() && self.password_file.is_some();
        require(!both, "sms.http: set password or password_file, not both".to_owned());
        let has_password = self.password.is_some() || self.password_file.is_some();
        require(
            self.username.is_none() || has_password,
            "sms.http: set a password beside the username, or neither".to_owned(),
        );
        let mut texts = Vec::new();
        self.body.values().for_each(|value| collect(value, &mut texts));
        let has = |names: [&str; 2]| texts.iter().any(|text| names.iter().any(|name| text.contains(name)));
        require(has(["{to}", "{to_digits}"]), "sms.http.body: {to} must be somewhere in it".to_owned());
        require(has(["{text}", "{code}"]), "sms.http.body: {text} must be somewhere in it".to_owned());
        let is_flat = self.body.values().all(|value| !value.is_object() && !value.is_array());
        require(
            self.format == SmsFormat::Json || is_flat,
            "sms.http.body: a form has texts, numbers and booleans only; set format = \"json\" for more"
                .to_owned(),
        );
        let in_range = self.success_status.iter().all(|status| (100..600).contains(status));
        require(in_range, "sms.http.success_status: a status is between 100 and 599".to_owned());
        let pointer = self.success_pointer.as_deref();
        require(
            pointer.is_none_or(|pointer| pointer.starts_with('/')),
            "sms.http.success_pointer: a JSON pointer begins with '/'".to_owned(),
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
