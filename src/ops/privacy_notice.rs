//! The privacy notice: publishing a changed one, and which documents accounts must accept (design, P17).
//! [`crate::domain::edition`] decides which change requires a new consent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    domain::{
        edition::{Edition, RequiredConsent, Texts},
        ids::UserId,
        language::Language,
        notice::Facts,
        terms::{Document, Required, Terms, Text},
        time::Millis,
    },
    ops::{Core, Failure, InForce},
    store::{ReadOnly, Scan, Store, StoreError, Tables, Transaction},
};

/// The ID under which `/terms` offers the notice.
pub const DOCUMENT: &str = "privacy_policy";

/// How many accounts one step counts.
const ACCOUNTS_BATCH: usize = 1000;

/// Publishes the notice. Adds an edition if the facts or the texts differ from the latest one.
pub async fn publish(store: &Store, facts: Facts, texts: Texts, now: Millis) -> Result<(), StoreError> {
    let history = store.read().editions()?;
    // The start publishes, then one reload after the other, so this check cannot race. What changes nothing need not
    // write.
    if let Some(latest) = history.last()
        && latest.facts == facts
        && store.read().edition_texts(latest.number)? == texts
    {
        return Ok(());
    }
    let edition = Edition::following(&history, facts, now);
    store.write(move |tables| tables.put_edition(&edition, &texts)).await
}

/// Publishes the notice of a changed configuration on the running server. Accounts must accept it from now on.
pub async fn republish(core: &Core, config: &Config, texts: Texts) -> Result<(), Failure> {
    publish(&core.store, config.notice().facts, texts, core.clock.now()).await?;
    core.in_force.store(Arc::new(InForce::by(config, core.store.read().editions()?)));
    Ok(())
}

/// The texts of an edition. Empty if there is no such edition.
pub fn texts(core: &Core, number: u64) -> Result<Texts, Failure> {
    Ok(core.store.read().edition_texts(number)?)
}

/// The documents that a configuration requires accounts to accept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// The operator's own documents.
    pub documents: Terms,
    /// The facts of the notice. The notice is offered if the operator has no own documents.
    pub facts: Facts,
    /// The base URL of the server that shows the notice.
    pub base_url: String,
}

impl Planned {
    /// The plan of this configuration.
    pub fn by(config: &Config) -> Self {
        let (documents, base_url) = (config.terms.clone(), config.public_base_url.clone());
        Self { documents, facts: config.notice().facts, base_url }
    }

    /// The documents that accounts must accept after these editions: the operator's own documents, or the
    /// notice if there are none.
    pub fn required(&self, editions: &[Edition]) -> Vec<Required> {
        if !self.documents.is_empty() {
            return self.documents.iter().map(|(id, document)| Required::just(id, document)).collect();
        }
        let consent = RequiredConsent::to(&self.facts, editions);
        let version = consent.offered.as_str().to_owned();
        let languages = Language::ALL.map(|language| {
            let code = language.as_str().to_owned();
            let url = format!("{}/privacy/{version}/{code}", self.base_url);
            (code, Text { name: title(language).to_owned(), url })
        });
        let enough = consent.enough.iter().map(|version| version.as_str().to_owned()).collect();
        let document = Document { version, languages: languages.into() };
        vec![Required { id: DOCUMENT.to_owned(), document, enough }]
    }
}

/// The title of the notice.
pub fn title(language: Language) -> &'static str {
    match language {
        Language::En => "Privacy notice",
        Language::Fr => "Politique de confidentialité",
        Language::De => "Datenschutzhinweise",
        Language::Es => "Política de privacidad",
    }
}

/// The effect of a plan on the accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The documents that accounts must accept.
    pub required: Vec<Required>,
    /// The number of accounts that have accepted a document.
    pub accounts: u64,
    /// How many of them must accept a document again, and will be asked.
    pub asked: u64,
}

impl Effect {
    /// The effect of a plan on a database that no server is using.
    pub fn on(database: &ReadOnly, planned: &Planned) -> Result<Self, StoreError> {
        let scan = database.scan();
        let mut effect = Self::none(planned.required(&scan.editions()?));
        let mut after = None;
        loop {
            after = effect.add_accounts(&scan, after.as_ref())?;
            if after.is_none() {
                return Ok(effect);
            }
        }
    }

    fn none(required: Vec<Required>) -> Self {
        Self { required, accounts: 0, asked: 0 }
    }

    /// Counts the next batch of accounts after `after`. Returns the last one, or `None` at the end.
    fn add_accounts(
        &mut self,
        scan: &Scan<'_>,
        after: Option<&UserId>,
    ) -> Result<Option<UserId>, StoreError> {
        let accounts = scan.consenting_after(after, ACCOUNTS_BATCH)?;
        for account in &accounts {
            self.accounts += 1;
            self.asked += u64::from(!has_accepted_all(scan, account, &self.required)?);
        }
        Ok(accounts.into_iter().next_back())
    }
}

/// The effect of a plan on the database of the running server.
pub async fn effect(core: &Core, planned: &Planned) -> Result<Effect, Failure> {
    let mut effect = Effect::none(planned.required(&core.store.read().editions()?));
    let mut after: Option<UserId> = None;
    loop {
        let counted = core.store.scan(move |scan| {
            let last = effect.add_accounts(scan, after.as_ref())?;
            Ok((effect, last))
        });
        (effect, after) = counted.await?;
        if after.is_none() {
            return Ok(effect);
        }
    }
}

/// Whether an account has accepted every one of these documents.
pub fn has_accepted_all<T: Transaction>(
    tables: &Tables<T>,
    account: &UserId,
    required: &[Required],
) -> Result<bool, StoreError> {
    for Required { id, enough, .. } in required {
        if !tables.has_accepted(account, id, enough)? {
            return Ok(false);
        }
    }
    Ok(true)
}
