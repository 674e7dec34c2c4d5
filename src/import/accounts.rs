//! The access tokens and consents of Sydent's accounts.

use rusqlite::Row;

use super::{
    ImportError,
    cells::{Reason, number, required, time, user_id},
    database::Import,
};
use crate::{
    domain::{
        ids::{Token, UserId},
        secret::SecretHash,
        time::Millis,
    },
    store::StoredToken,
};

/// The tokens, each with the time at which its account was created: Sydent does not know when it issued a token.
pub const TOKENS: &str = "SELECT tokens.rowid, tokens.token, tokens.user_id, accounts.created_ts, accounts.user_id IS NULL \
                          FROM tokens LEFT JOIN accounts ON accounts.user_id = tokens.user_id ORDER BY tokens.rowid";

/// The consents.
pub const CONSENTS: &str = "SELECT rowid, user_id, url FROM accepted_terms_urls ORDER BY rowid";

impl Import<'_, '_, '_> {
    /// Takes the access tokens. Sydent stores them in the clear; Bindery stores their hashes.
    pub fn tokens(&mut self) -> Result<(), ImportError> {
        let now = self.now;
        self.each(TOKENS, |import, id, row| {
            match token(row, now) {
                Ok(token) => {
                    import.incoming.token(&token)?;
                    import.report.tokens += 1;
                }
                Err(reason) => import.report.leave("tokens", id, reason),
            }
            Ok(())
        })
    }

    /// Takes the consents to documents that the configuration still offers. Sydent does not store when an account
    /// accepted one, so the time of the import counts.
    pub fn consents(&mut self) -> Result<(), ImportError> {
        self.each(CONSENTS, |import, id, row| {
            let taken = match consent(row) {
                Ok((user, url)) if import.incoming.consent(&user, url)? => Ok(()),
                Ok(_) => Err("the URL is not in [terms] of the configuration, so the account is asked again"),
                Err(reason) => Err(reason),
            };
            match taken {
                Ok(()) => import.report.consents += 1,
                Err(reason) => import.report.leave("accepted_terms_urls", id, reason),
            }
            Ok(())
        })
    }
}

/// Sydent does not know when a token was last used, so its idle period begins with the import.
fn token(row: &Row<'_>, now: Millis) -> Result<StoredToken, Reason> {
    let token =
        Token::parse(required(row, 1)?).ok_or("the token is not 1 to 255 printable ASCII characters")?;
    if number(row, 4)? == Some(1) {
        return Err("its account is not in accounts, so Sydent refuses it too");
    }
    let (owner, created) = (user_id(row, 2)?, time(number(row, 3)?, now)?);
    Ok(StoredToken { hash: SecretHash::of(token.as_str()), owner, created, used: now })
}

fn consent<'a>(row: &'a Row<'_>) -> Result<(UserId, &'a str), Reason> {
    Ok((user_id(row, 1)?, required(row, 2)?))
}
