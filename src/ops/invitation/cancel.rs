//! Cancels invitations, for the account that sent them or for the operator.

use crate::{
    domain::{
        audit::{By, Deed, Entry},
        ids::{Token, UserId},
        invitation::Invited,
        refusal::Refusal,
        threepid::{Address, Medium},
        time::Millis,
    },
    ops::{Core, Failure},
    store::{StoreError, Writes},
};

/// How many invitations are cancelled in one transaction.
const CANCEL_BATCH: usize = 256;

/// Cancels an invitation, for the account that sent it.
///
/// # Errors
/// `NotFound`, also for the invitations of other accounts.
pub async fn cancel_by_sender(core: &Core, account: UserId, token: Token) -> Result<(), Failure> {
    let now = core.clock.now();
    core.write(move |tables| {
        let is_own = tables.invitation(&token)?.is_some_and(|invitation| invitation.sender == account);
        if !is_own {
            return Err(Refusal::NotFound("You have no pending invitation with this token").into());
        }
        cancel_one(tables, &token, By::Account, now)?;
        Ok(())
    })
    .await
}

/// Removes an invitation, and adds an entry about the invited address to the audit. Returns whether there was one.
///
/// If the address is not stored, the entry is about the token as if that were the address. An entry without a subject
/// would take less work, and the sender could measure that.
fn cancel_one(tables: &mut Writes<'_>, token: &Token, by: By, now: Millis) -> Result<bool, StoreError> {
    let Some(invitation) = tables.invitation(token)? else { return Ok(false) };
    tables.remove_invitation(token)?;
    let key = tables.session_key()?;
    let address = match invitation.invited {
        Invited::Address(address) => address,
        Invited::OptedOut { .. } => Address::kept(Medium::Email, token.as_str()),
    };
    tables.put_audit(&Entry::about(&address, Deed::InvitationCancelled, by, &key, now))?;
    Ok(true)
}

/// Which invitations an operator cancels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this token.
    Token(Token),
    /// All to this address. Invitations that were stored without it are not found.
    To(Address),
    /// All from this account.
    From(UserId),
}

/// Cancels invitations, for the operator. Returns how many there were.
pub async fn cancel(core: &Core, which: Which) -> Result<usize, Failure> {
    let tokens = match which {
        Which::Token(token) => vec![token],
        Which::To(address) => core.store.read().invitations_to(&address)?,
        Which::From(sender) => {
            let sent = core.store.read().invitations_from(&sender)?;
            sent.into_iter().map(|invitation| invitation.token).collect()
        }
    };
    let (mut cancelled, now) = (0, core.clock.now());
    for batch in tokens.chunks(CANCEL_BATCH) {
        let batch = batch.to_vec();
        let removed = core.store.write(move |tables| {
            batch.iter().try_fold(0, |count, token| {
                Ok(count + usize::from(cancel_one(tables, token, By::Operator, now)?))
            })
        });
        cancelled += removed.await?;
    }
    Ok(cancelled)
}
