//! The HTTP request that sends a message, as the operator describes it (`docs/sms.md`).
//!
//! Values are filled in before the body becomes JSON or a form, so that no text of a message can change its
//! structure.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use reqwest::{
    Client, Method, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    dns::Dns,
    fetch::{FetchError, connection, read},
    password::read_password,
    trust::{Pinned, trust},
};
use crate::{
    config::{Sms, SmsFormat, SmsHttp, SmsMethod},
    domain::secret::url_text,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers are a few lines.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A gateway that accepts messages over HTTP.
pub struct HttpGateway {
    client: Client,
    /// The root of its web site.
    root: Url,
    request: SmsHttp,
    headers: HeaderMap,
    basic: Option<(String, String)>,
    originator: String,
    originators: BTreeMap<String, String>,
}

/// The values for the placeholders of the request.
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

/// Resolves the host of `sms.http.url`.
struct Configured(Arc<Dns>);

impl Resolve for Configured {
    fn resolve(&self, name: Name) -> Resolving {
        let dns = self.0.clone();
        Box::pin(async move {
            let addresses = dns.addresses_of_configured(name.as_str()).await;
            // The client puts the port in place.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// Why the gateway did not accept a message. The text shows nothing of the request or the answer.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No answer before the timeout.
    #[error("the gateway did not answer before sms.http.timeout_seconds")]
    Timeout,
    /// No answer, or one that is too large.
    #[error("the request to the gateway failed: {0}")]
    Fetch(#[from] FetchError),
    /// A status that is not one of success.
    #[error("the gateway answered with status {0}")]
    Status(StatusCode),
    /// A body that does not say success.
    #[error("the gateway's answer does not say success (see sms.http.success_pointer and success_values)")]
    NoSuccess,
}

impl GatewayError {
    /// Whether the gateway may have refused only this message, because of its number or text. Some gateways answer 429
    /// if one number gets too many messages, and 403 if they do not send to its country.
    pub fn may_be_about_the_message(&self) -> bool {
        match self {
            Self::Timeout | Self::Fetch(_) => false,
            // These concern every message: the account at the gateway, or the request that the operator describes.
            Self::Status(status) => {
                status.is_client_error() && ![401, 402, 404, 405, 407, 415].contains(&status.as_u16())
            }
            Self::NoSuccess => true,
        }
    }
}

impl HttpGateway {
    /// Checks the whole request before the first message.
    ///
    /// # Errors
    /// What is wrong, with its key.
    pub fn new(config: &Sms, dns: Arc<Dns>) -> anyhow::Result<Self> {
        let request = config.http.clone();
        let client = Client::builder()
            .tls_backend_preconfigured(
                trust(request.extra_ca_file.as_deref(), Pinned::ForTheServer)
                    .context("sms.http.extra_ca_file")?,
            )
            .dns_resolver(Arc::new(Configured(dns)))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("Bindery/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("sms.http")?;
        let first = client.post(&request.url).build();
        let first = first.map_err(|error| error.without_url()).context("sms.http.url")?;
        let root = first.url().join("/").context("sms.http.url")?;
        let password = read_password(request.password.as_ref(), request.password_file.as_deref())
            .context("sms.http.password_file")?;
        let headers = headers(&request, password.as_deref())?;
        let basic = request.username.clone().zip(password);
        let gateway = Self {
            client,
            root,
            headers,
            basic,
            originator: config.originator.clone(),
            originators: config.originators.clone(),
            request,
        };
        gateway.body(&Fields { number: "1", calling_code: 1, text: "t", code: "0" })?;
        Ok(gateway)
    }

    /// Whether the request contains the text of a message, and not only the code.
    pub fn accepts_texts(&self) -> bool {
        self.request.body.values().any(|value| value.to_string().contains("{text}"))
    }

    /// Asks for the root of the gateway's web site, over the connections and within the timeout of a message. Any answer
    /// will do. So will none on an open connection that the gateway closes: some web servers do that for unknown paths.
    ///
    /// # Errors
    /// If there is no connection, or if the gateway is silent until the timeout.
    pub async fn reach(&self) -> Result<(), GatewayError> {
        let answer = timeout(self.max_time(), self.client.head(self.root.clone()).send());
        match answer.await.map_err(|_| GatewayError::Timeout)? {
            Err(error) if error.is_connect() => Err(connection(error).into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn max_time(&self) -> Duration {
        Duration::from_secs(self.request.timeout_seconds.get().into())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the gateway did not say that it accepted the message.
    pub async fn send(&self, fields: &Fields<'_>) -> Result<(), GatewayError> {
        let (status, answer) =
            timeout(self.max_time(), self.request(fields)).await.map_err(|_| GatewayError::Timeout)??;
        let expected = &self.request.success_status;
        let is_expected =
            if expected.is_empty() { status.is_success() } else { expected.contains(&status.as_u16()) };
        if !is_expected {
            return Err(GatewayError::Status(status));
        }
        let Some(pointer) = &self.request.success_pointer else { return Ok(()) };
        let answer: Value = serde_json::from_slice(&answer).map_err(|_| GatewayError::NoSuccess)?;
        let found = answer.pointer(pointer).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let is_success = found.is_some_and(|found| self.request.success_values.contains(&found));
        if is_success { Ok(()) } else { Err(GatewayError::NoSuccess) }
    }

    async fn request(&self, fields: &Fields<'_>) -> Result<(StatusCode, Vec<u8>), FetchError> {
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
        Ok((response.status(), read(response, MAX_ANSWER_BYTES).await?))
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

/// Fills every text of a JSON value.
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

/// Replaces names in braces by their values. Braces inside a value stay as they are.
fn fill(text: &str, values: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, after) = after.split_once('}').context("a '{' has no '}'")?;
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            bail!("there is no placeholder {{{name}}}; docs/sms.md lists them");
        };
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}
