//! Serves `security.txt` (RFC 9116): where to report a security problem of this server.

use actix_web::{HttpResponse, web::Data};

use crate::{
    domain::{day::Day, language::Language, time::DAY},
    http::{State, error::ApiError},
};

/// The file expires after this many days; RFC 9116 section 2.5.5 recommends less than a year.
const VALID_DAYS: u32 = 300;

/// `GET /.well-known/security.txt`
pub async fn security_txt(state: Data<State>) -> Result<HttpResponse, ApiError> {
    let config = &state.core.config;
    let contact = state.core.in_force().operator.security_contact().ok_or(ApiError::UnknownPath)?;
    let expires = Day::of(state.core.clock.now().after(DAY * VALID_DAYS));
    let mut languages = vec![config.mail.default_language];
    languages.extend((languages[0] != Language::En).then_some(Language::En));
    let languages: Vec<&str> = languages.into_iter().map(Language::as_str).collect();
    let text = format!(
        "Contact: {contact}\nExpires: {expires}T00:00:00Z\nPreferred-Languages: {}\nCanonical: {}/.well-known/security.txt\n",
        languages.join(", "),
        config.public_base_url,
    );
    let mut response = HttpResponse::Ok();
    response.insert_header(("X-Content-Type-Options", "nosniff"));
    Ok(response.content_type("text/plain; charset=utf-8").body(text))
}
