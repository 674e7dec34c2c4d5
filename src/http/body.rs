//! Request bodies: bounded in size and time, then JSON or, where the specification allows it, a
//! form.

use std::{pin::Pin, time::Duration};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::CONTENT_TYPE, web};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::error::Category;
use tokio::time::timeout;

use super::error::ApiError;
use crate::domain::refusal::Refusal;

/// The largest body in bytes: ten thousand hashed addresses fit.
pub const MAX_BODY: usize = 512 * 1024;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// A complete request body.
pub struct Body {
    bytes: web::Bytes,
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
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            let bytes = timeout(PATIENCE, bytes).await.map_err(|_| ApiError::BodyMissing)?;
            let bytes = bytes.map_err(|error| {
                let too_large = error.as_response_error().status_code().as_u16() == 413;
                if too_large { ApiError::TooLarge } else { ApiError::BodyMissing }
            })?;
            Ok(Self { bytes, is_form })
        })
    }
}

impl Body {
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
