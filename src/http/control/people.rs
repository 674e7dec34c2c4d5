//! What an operator does about one person: a copy of their data, erasing it, and who did so before.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use serde::{Deserialize, Serialize};

use super::{typed_account, typed_address};
use crate::{
    domain::{
        audit::{By, Entry, subject},
        ids::UserId,
        refusal::Refusal,
        threepid::Address,
        time::Millis,
    },
    http::{State, body::Body, error::ApiError},
    ops::{
        Core, Failure,
        person::{
            audit::{self, subject_of},
            erasure::{self, Erased},
            export::{self, Export},
        },
    },
};

/// The path of a command that hands out what is stored about a [`Person`].
pub const EXPORT: &str = "/export";
/// The path of a command that erases a [`Person`].
pub const ERASE: &str = "/erase";
/// The path of an [`AuditQuery`].
pub const AUDIT: &str = "/audit";

/// Whom a command is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Person {
    /// Whoever this e-mail address or telephone number belongs to.
    Address(String),
    /// The account with this Matrix ID.
    Mxid(String),
}

/// Whom a command is about, parsed.
pub enum Subject {
    /// See [`Person::Address`].
    Address(Address),
    /// See [`Person::Mxid`].
    Account(UserId),
}

impl Person {
    /// Who is meant.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(&self) -> Result<Subject, String> {
        match self {
            Self::Address(text) => typed_address(text).map(Subject::Address),
            Self::Mxid(text) => typed_account(text).map(Subject::Account),
        }
    }
}

impl Subject {
    /// A copy of what is stored.
    ///
    /// # Errors
    /// Only if the database fails, or the disk.
    pub async fn export(&self, core: &Core) -> Result<Export, Failure> {
        match self {
            Self::Address(address) => export::of_address(core, address, By::Operator).await,
            Self::Account(user) => export::of_account(core, user, By::Operator).await,
        }
    }

    /// Erases it.
    ///
    /// # Errors
    /// Only if the database fails.
    pub async fn erase(self, core: &Core) -> Result<Erased, Failure> {
        match self {
            Self::Address(address) => erasure::erase_address(core, address, By::Operator).await,
            Self::Account(user) => erasure::erase_account(core, user, By::Operator).await,
        }
    }
}

/// Which entries of the audit are wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Those since then.
    pub since: Millis,
    /// Those about this person only.
    pub about: Option<Person>,
}

impl AuditQuery {
    /// The entries, the oldest first.
    ///
    /// # Errors
    /// If the person is none, or if the database fails.
    pub async fn run(&self, core: &Core) -> Result<Vec<Entry>, Failure> {
        let about = self.about.as_ref().map(|person| person.parse().map_err(Refusal::InvalidParam));
        let about = about.transpose()?.map(|whom| match whom {
            Subject::Address(address) => subject_of(core, &address),
            Subject::Account(user) => subject(core.session_key(), user.as_str()),
        });
        audit::list(core, self.since, about).await
    }
}

pub(super) async fn export(state: Data<State>, body: Body) -> Result<Json<Export>, ApiError> {
    let whom = body.json::<Person>()?.parse().map_err(Refusal::InvalidParam)?;
    let core = state.core.clone();
    Ok(Json(state.off_thread(async move { whom.export(&core).await }).await?))
}

pub(super) async fn erase(state: Data<State>, body: Body) -> Result<Json<Erased>, ApiError> {
    let whom = body.json::<Person>()?.parse().map_err(Refusal::InvalidParam)?;
    Ok(Json(whom.erase(&state.core).await?))
}

pub(super) async fn audit(state: Data<State>, body: Body) -> Result<HttpResponse, ApiError> {
    let entries = body.json::<AuditQuery>()?.run(&state.core).await?;
    Ok(HttpResponse::Ok().json(entries))
}
