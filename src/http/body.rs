//! Request bodies: bounded in size and time, then JSON or, where the specification allows it, a
//! form.

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

/// The largest body of a lookup in bytes: ten thousand hashed addresses fit.
const MAX_LOOKUP_BODY: usize = 512 * 1024;

/// The largest body of anything else. Some of it comes without a token, so strangers can make the
/// server hold so much for each connection.
const MAX_BODY: usize = 64 * 1024;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Reads to the end, `length` being what the request says of itself and `most` what it may have.
async fn read(mut payload: Payload, length: usize, most: usize) -> Result<Bytes, ApiError> {
    if length > most {
        return Err(ApiError::TooLarge);
    }
    let mut body = BytesMut::with_capacity(length.min(MAX_BODY));
    while let Some(part) = payload.next().await {
        let part = part.map_err(|_| ApiError::BodyMissing)?;
        if body.len() + part.len() > most {
            return Err(ApiError::TooLarge);
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// Waits for a body as long as it may take. What came together with the head is handed over
/// between the first look and the second, and such a body, the usual one, needs no timer.
async fn in_time(body: impl Future<Output = Result<Bytes, ApiError>>) -> Result<Bytes, ApiError> {
    let mut body = pin!(body);
    let mut looked = false;
    let at_once = poll_fn(|context| match body.as_mut().poll(context) {
        Poll::Ready(body) => Poll::Ready(Some(body)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match at_once.await {
        Some(body) => body,
        None => timeout(PATIENCE, body).await.unwrap_or(Err(ApiError::BodyMissing)),
    }
}

impl Body {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads JSON, whatever the content type says: many clients say nothing.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.bytes).map_err(|error| match error.classify() {
            Category::Data => {
                let place = format!("line {}, column {}", error.line(), error.column());
                Refusal::InvalidParam(format!("A parameter has the wrong type ({place})")).into()
            }
            Category::Io | Category::Syntax | Category::Eof => ApiError::NotJson,
        })
    }

    /// Reads a form if the content type says that it is one, JSON otherwise.
    pub fn json_or_form<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        if !self.is_form {
            return self.json();
        }
        let invalid = |_| Refusal::InvalidParam("The form cannot be read".to_owned()).into();
        serde_urlencoded::from_bytes(&self.bytes).map_err(invalid)
    }
}

/// The value of a parameter that must be there.
pub fn required<T>(value: Option<T>, name: &'static str) -> Result<T, ApiError> {
    value.ok_or(ApiError::Refused(Refusal::MissingParam(name)))
}

/// Parses a parameter that must be there and have a form of its own.
pub fn parsed<T>(
    value: Option<impl AsRef<str>>,
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ApiError> {
    let value = required(value, name)?;
    let invalid =
        || Refusal::InvalidParam(format!("The parameter '{name}' does not have the form that it must have"));
    parse(value.as_ref()).ok_or_else(|| invalid().into())
}

/// Reads a query string.
pub fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, ApiError> {
    let invalid = |_| Refusal::InvalidParam("The query cannot be read".to_owned()).into();
    serde_urlencoded::from_str(request.query_string()).map_err(invalid)
}
