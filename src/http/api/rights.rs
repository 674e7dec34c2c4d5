//! Exports or erases the data of an account, even if it has not accepted the terms. These endpoints are
//! Bindery's own, see docs/api.md.

use actix_web::web::Data;

use super::{Answer, empty, json};
use crate::{
    domain::audit::By,
    http::{
        State,
        caller::{AccountBeforeTerms, Caller},
    },
    ops::person::{
        erasure,
        export::{self, Export},
    },
};

/// `GET /_bindery/v1/account/export`
pub async fn export(state: Data<State>, account: AccountBeforeTerms, caller: Caller) -> Answer {
    state.core.limits.rights(caller.network(), account.0.user_id(), state.core.clock.now())?;
    let core = state.core.clone();
    let copy = async move { export::of_account(&core, account.0.user_id(), By::Account).await };
    json(state.off_thread(copy).await?)
}

/// `DELETE /_bindery/v1/account`
pub async fn erase(state: Data<State>, account: AccountBeforeTerms, caller: Caller) -> Answer {
    state.core.limits.rights(caller.network(), account.0.user_id(), state.core.clock.now())?;
    let core = state.core.clone();
    let erased = async move { erasure::erase_account(&core, account.0.user_id().clone(), By::Account).await };
    state.off_thread(erased).await?;
    empty()
}

/// `GET /_bindery/v1/export.schema.json`: the JSON schema of an export.
pub async fn schema() -> Answer {
    json(Export::schema())
}
