//! Takes over the data of another identity server: its keys, and everything that it published or promised.
//!
//! All of it is one transaction, and the database must not have been used: what people have removed here since must not
//! come back. `import` reads the other server's files.

use crate::{
    config::Config,
    domain::{
        association::Association,
        ids::UserId,
        invitation::Invitation,
        language::Language,
        secret::Key32,
        terms::{Required, Terms},
        time::Millis,
    },
    ops::invitation::queue_onbind,
    store::{Imported, Store, StoreError, StoredToken, Writes},
};

/// What an identity server is recognised by.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The identifier of its signing key, `ed25519:...`.
    pub key_id: String,
    /// The seed of its signing key.
    pub seed: Key32,
    /// Its lookup pepper. Without one, Bindery keeps its own.
    pub pepper: Option<String>,
}

/// Why nothing is imported.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// The database has been used, so its own key may have signed something.
    #[error(
        "the database in data_dir has been used already, and Bindery does not merge two servers: set another data_dir, or move bindery.redb away, and import again"
    )]
    Used,
    /// Another database was imported before.
    #[error(
        "another database, or another state of this one, was imported into data_dir on {}: Bindery does not merge two imports, since people may have removed here what the file still has; set another data_dir, or move bindery.redb away, and import again",
        .0.utc()
    )]
    OtherImport(Millis),
    /// The database failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The result of an import.
#[derive(Clone, Debug)]
pub enum Outcome<T> {
    /// The data was imported, with what the reader of the data has to say.
    Imported(T),
    /// The same data had been imported at this time. Nothing was changed.
    AlreadyImported(Millis),
}

/// Imports in one transaction what `read` puts into it.
///
/// # Errors
/// [`Refused`], or the failure of `read`. Nothing is changed then.
pub async fn import<T, E>(
    store: &Store,
    config: &Config,
    identity: Identity,
    imported: Imported,
    read: impl FnOnce(&mut Incoming<'_, '_>) -> Result<T, E> + Send + 'static,
) -> Result<Outcome<T>, E>
where
    T: Send + 'static,
    E: From<Refused> + From<StoreError> + std::fmt::Display + Send + 'static,
{
    let (language, terms, lifetime) =
        (config.mail.default_language, config.terms.clone(), config.invites.lifetime());
    let import = move |tables: &mut Writes<'_>| {
        match tables.imported()? {
            Some(earlier) if earlier.source == imported.source => {
                return Ok(Outcome::AlreadyImported(earlier.at));
            }
            Some(earlier) => return Err(Refused::OtherImport(earlier.at).into()),
            None if tables.has_served()? => return Err(Refused::Used.into()),
            None => {}
        }
        take_identity(tables, &identity, imported.at)?;
        let mut incoming = Incoming { tables, language, terms, lifetime, now: imported.at };
        let said = read(&mut incoming)?;
        tables.put_imported(imported)?;
        Ok(Outcome::Imported(said))
    };
    store.try_write(import).await
}

/// The new database has signed nothing and published nothing, so its own key and pepper can go.
fn take_identity(tables: &mut Writes<'_>, identity: &Identity, now: Millis) -> Result<(), StoreError> {
    let Identity { key_id, seed, pepper } = identity;
    tables.replace_signing_keys(key_id, seed, now)?;
    if let Some(pepper) = pepper {
        let number = tables.begin_pepper(pepper, now)?;
        tables.switch_pepper(number, now, now)?;
        tables.drop_peppers(now)?;
    }
    Ok(())
}

/// Takes the data of an import, one value at a time.
pub struct Incoming<'a, 'txn> {
    tables: &'a mut Writes<'txn>,
    language: Language,
    terms: Terms,
    lifetime: std::time::Duration,
    now: Millis,
}

impl Incoming<'_, '_> {
    /// Publishes an association. Its owner confirmed and was told it before, so no notice is sent.
    pub fn association(&mut self, association: &Association) -> Result<(), StoreError> {
        self.tables.put_association(association, self.language)
    }

    /// Stores a pending invitation, whose mail was sent before. Queues the call to the homeserver if the address is
    /// bound already, so import the associations first. `false` if it has expired.
    pub fn invitation(&mut self, invitation: &Invitation) -> Result<bool, StoreError> {
        if invitation.is_expired(self.lifetime, self.now) {
            return Ok(false);
        }
        self.tables.put_invitation(invitation)?;
        let address = invitation.invited.address();
        let bound = address.map(|address| self.tables.association(address)).transpose()?.flatten();
        if let Some(association) = bound {
            queue_onbind(self.tables, &association, self.lifetime, self.now)?;
        }
        Ok(true)
    }

    /// Stores an access token.
    pub fn token(&mut self, token: &StoredToken) -> Result<(), StoreError> {
        self.tables.put_stored_token(token)
    }

    /// Stores that an account accepted the document at this URL. `false` if the operator's documents do not have it. The
    /// privacy notice never has it, because its URLs name its own version.
    pub fn consent(&mut self, user: &UserId, url: &str) -> Result<bool, StoreError> {
        let urls = [url.to_owned()];
        let mut is_offered = false;
        for (id, document) in &self.terms {
            if Required::just(id, document).is_accepted_by(&urls) {
                self.tables.put_consent(user, id, &document.version, self.now)?;
                is_offered = true;
            }
        }
        Ok(is_offered)
    }
}
