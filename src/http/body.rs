//! Reads request bodies, bounded in size and time, and parses them as JSON or, where the specification allows
//! it, as a form.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{CONTENT_LENGTH, CONTENT_TYPE},
    web::{Bytes, BytesMut},
};
use futures_util::StreamExt;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::error::Category;
use tokio::time::timeout;

use super::error::ApiError;
use crate::domain::refusal::Refusal;

/// The largest body of a lookup in bytes. It has room for ten thousand hashed addresses.
const MAX_LOOKUP_BODY: usize = 512 * 1024;

/// The largest body of any other request in bytes. Some requests need no token, so a stranger can make Bindery
/// buffer this much for each connection.
const MAX_BODY: usize = 64 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A complete request body.
pub struct Body {
    bytes: Bytes,
    is_form: bool,
}

impl FromRequest for Body {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_form = media_type.is_some_and(|media_type| {
            let essence = media_type.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|text| text.parse().ok()).unwrap_or(0);
        let most = if request.path().ends_with("/lookup") { MAX_LOOKUP_BODY } else { MAX_BODY };
        let payload = payload.take();
        Box::pin(async move { Ok(Self { bytes: in_time(read(payload, length, most)).await?, is_form }) })
    }
}

/// Reads the whole body. `length` is the request's `Content-Length` or 0, and `most` the limit, both in bytes.
async fn read(mut payload: Payload, length: usize, most: usize) -> Result<Bytes, ApiError> {
    if length > most {
        return Err(ApiError::TooLarge);
    }
    let mut body = BytesMut::with_capacity(length.min(MAX_BODY));
    while let Some(part) = payload.next().await {
        let part = part.map_err(|_| ApiError::BodyMalformed)?;
        if body.len() + part.len() > most {
            return Err(ApiError::TooLarge);
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// Waits for a body until [`BODY_TIMEOUT`].
///
/// A body that arrived together with the head is ready at the second poll at the latest. That is the usual case,
/// and it needs no timer.
async fn in_time(body: impl Future<Output = Result<Bytes, ApiError>>) -> Result<Bytes, ApiError> {
    let mut body = pin!(body);
    let mut polled = false;
    let at_once = poll_fn(|context| match body.as_mut().poll(context) {
        Poll::Ready(body) => Poll::Ready(Some(body)),
        Poll::Pending if polled => Poll::Ready(None),
        Poll::Pending => {
            polled = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match at_once.await {
        Some(body) => body,
        None => timeout(BODY_TIMEOUT, body).await.unwrap_or(Err(ApiError::BodyTooSlow)),
    }
}

impl Body {
    /// Whether the request has no body.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Parses JSON and ignores the content type, because many clients send none.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        serde_json::from_str(self.text()?).map_err(|error| match error.classify() {
            Category::Data => {
                let place = format!("line {}, column {}", error.line(), error.column());
                Refusal::InvalidParam(format!("A parameter has the wrong type ({place})")).into()
            }
            Category::Io | Category::Syntax | Category::Eof => ApiError::NotJson,
        })
    }

    /// Parses a form if the content type says so, otherwise JSON.
    pub fn json_or_form<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        if !self.is_form {
            return self.json();
        }
        let invalid = |_| Refusal::InvalidParam("The request body is not a valid form".to_owned()).into();
        serde_urlencoded::from_str(self.text()?).map_err(invalid)
    }

    /// Checked here, because the JSON parser does not check the members that it ignores (RFC 8259 section 8.1).
    fn text(&self) -> Result<&str, ApiError> {
        str::from_utf8(&self.bytes).map_err(|_| ApiError::NotJson)
    }
}

/// The value of a required parameter.
pub fn required<T>(value: Option<T>, name: &'static str) -> Result<T, ApiError> {
    value.ok_or(ApiError::Refused(Refusal::MissingParam(name)))
}

/// Parses a required parameter.
pub fn parsed<T>(
    value: Option<impl AsRef<str>>,
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ApiError> {
    let value = required(value, name)?;
    let invalid = || Refusal::InvalidParam(format!("The parameter '{name}' has an invalid value"));
    parse(value.as_ref()).ok_or_else(|| invalid().into())
}

/// Parses the query string.
pub fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, ApiError> {
    let invalid = |_| Refusal::InvalidParam("The query string of the URL is not valid".to_owned()).into();
    serde_urlencoded::from_str(request.query_string()).map_err(invalid)
}
