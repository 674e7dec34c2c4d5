//! One HTTP request that sends a message, as the operator describes it (`docs/sms.md`).
//!
//! The operator's values are put into the texts of a finished structure, never into written JSON or
//! a written form, so nothing in a message can change what is around it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use reqwest::{
    Client, Method, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    fetch::{FetchError, connection, read, trust},
    password::read_password,
};
use crate::{
    config::{Sms, SmsFormat, SmsHttp, SmsMethod},
    domain::secret::url_text,
};

/// Answers are a few lines.
const MAX_ANSWER: usize = 64 * 1024;

/// A gateway.
pub struct Gateway {
    client: Client,
    request: SmsHttp,
    headers: HeaderMap,
    basic: Option<(String, String)>,
    originator: String,
    originators: BTreeMap<String, String>,
}

/// What a message is made of.
pub struct Fields<'a> {
    /// The number, without its plus sign.
    pub number: &'a str,
    /// Its country calling code.
    pub calling_code: u16,
    /// The message.
    pub text: &'a str,
    /// The code in it.
    pub code: &'a str,
}

/// Why a message was not taken. Says nothing of what was in the request or the answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No answer in time.
    #[error("the gateway took too long")]
    TooLate,
    /// No answer at all, or too much of one.
    #[error("the gateway could not be asked: {0}")]
    Fetch(#[from] FetchError),
    /// An answer that says no.
    #[error("the gateway answered with status {0}")]
    Status(StatusCode),
    /// An answer that says no in other ways.
    #[error("the gateway's answer does not say that it has taken the message (sms.http.success_pointer)")]
    NoSuccess,
}

impl Gateway {
    /// Looks at everything that can be wrong before the first message.
    ///
    /// # Errors
    /// What is wrong, with its key.
    pub fn new(config: &Sms) -> anyhow::Result<Self> {
        let request = config.http.clone();
        let client = Client::builder()
            .tls_backend_preconfigured(
                trust(request.extra_ca_file.as_deref()).context("sms.http.extra_ca_file")?,
            )
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("Bindery/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("sms.http")?;
        client.post(&request.url).build().map_err(|error| error.without_url()).context("sms.http.url")?;
        let password = read_password(request.password.as_ref(), request.password_file.as_deref())
            .context("sms.http.password_file")?;
        let headers = headers(&request, password.as_deref())?;
        let basic = request.username.clone().zip(password);
        let gateway = Self {
            client,
            headers,
            basic,
            originator: config.originator.clone(),
            originators: config.originators.clone(),
            request,
        };
        gateway.body(&Fields { number: "1", calling_code: 1, text: "t", code: "0" })?;
        Ok(gateway)
    }

    /// Whether it is sent the text of a message, and not only the code in it.
    pub fn takes_texts(&self) -> bool {
        self.request.body.values().any(|value| value.to_string().contains("{text}"))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the gateway did not say that it has it.
    pub async fn send(&self, fields: &Fields<'_>) -> Result<(), Trouble> {
        let patience = Duration::from_secs(self.request.timeout_seconds.get().into());
        let (status, answer) = timeout(patience, self.ask(fields)).await.map_err(|_| Trouble::TooLate)??;
        let wanted = &self.request.success_status;
        let is_wanted =
            if wanted.is_empty() { status.is_success() } else { wanted.contains(&status.as_u16()) };
        if !is_wanted {
            return Err(Trouble::Status(status));
        }
        let Some(pointer) = &self.request.success_pointer else { return Ok(()) };
        let answer: Value = serde_json::from_slice(&answer).map_err(|_| Trouble::NoSuccess)?;
        let found = answer.pointer(pointer).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let is_success = found.is_some_and(|found| self.request.success_values.contains(&found));
        if is_success { Ok(()) } else { Err(Trouble::NoSuccess) }
    }

    async fn ask(&self, fields: &Fields<'_>) -> Result<(StatusCode, Vec<u8>), FetchError> {
        let method = match self.request.method {
            SmsMethod::Post => Method::POST,
            SmsMethod::Put => Method::PUT,
        };
        let (media_type, body) =
            self.body(fields).map_err(|error| FetchError::Connection(error.to_string()))?;
        let mut request = self
            .client
            .request(method, &self.request.url)
            .header(CONTENT_TYPE, media_type)
            .headers(self.headers.clone())
            .body(body);
        if let Some((username, password)) = &self.basic {
            request = request.basic_auth(username, Some(password));
        }
        let response = request.send().await.map_err(connection)?;
        Ok((response.status(), read(response, MAX_ANSWER).await?))
    }

    fn body(&self, fields: &Fields<'_>) -> anyhow::Result<(&'static str, Vec<u8>)> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).context("the operating system has no random numbers")?;
        let originator = self.originators.get(&fields.calling_code.to_string()).unwrap_or(&self.originator);
        let (number, id) = (format!("+{}", fields.number), url_text(&random));
        let values = [
            ("to", number.as_str()),
            ("to_digits", fields.number),
            ("text", fields.text),
            ("code", fields.code),
            ("originator", originator),
            ("id", &id),
        ];
        let filled = self.request.body.iter().map(|(name, value)| Ok((name, fill_all(value, &values)?)));
        let filled: BTreeMap<&String, Value> = filled.collect::<anyhow::Result<_>>()?;
        Ok(match self.request.format {
            SmsFormat::Json => ("application/json", serde_json::to_vec(&filled)?),
            SmsFormat::Form => {
                ("application/x-www-form-urlencoded", serde_urlencoded::to_string(&filled)?.into_bytes())
            }
        })
    }
}

fn headers(request: &SmsHttp, password: Option<&str>) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let wrong = || format!("sms.http.headers: '{name}'");
        let known: Vec<_> = password.map(|password| ("password", password)).into_iter().collect();
        let value = fill(&value.0, &known).with_context(wrong)?;
        let mut value = HeaderValue::from_str(&value).with_context(wrong)?;
        value.set_sensitive(true);
        headers.insert(name.parse::<HeaderName>().with_context(wrong)?, value);
    }
    Ok(headers)
}

/// Fills every text in a value.
fn fill_all(value: &Value, values: &[(&str, &str)]) -> anyhow::Result<Value> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text, values).context("sms.http.body")?),
        Value::Array(items) => items.iter().map(|item| fill_all(item, values)).collect::<Result<_, _>>()?,
        Value::Object(items) => {
            let fill_one = |(name, item): (&String, &Value)| Ok((name.clone(), fill_all(item, values)?));
            items.iter().map(fill_one).collect::<anyhow::Result<serde_json::Map<_, _>>>()?.into()
        }
        other => other.clone(),
    })
}

/// Puts values in the place of their names in braces; what they hold is not looked at again.
fn fill(text: &str, values: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, after) = after.split_once('}').context("a '{' without its '}'")?;
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            bail!("there is nothing to put in the place of {{{name}}}");
        };
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}
