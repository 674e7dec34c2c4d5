//! The privacy notice: publishing what has changed, and what people have to accept because of it
//! (design, P17). Which change asks whom is decided in [`crate::domain::edition`].

use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    domain::{
        edition::{Consent, Edition, Texts},
        ids::UserId,
        language::Language,
        notice::Facts,
        terms::{Document, Required, Terms, Text},
        time::Millis,
    },
    ops::{Core, Failure},
    store::{ReadOnly, Scan, Store, StoreError, Tables, Transaction},
};

/// The ID under which `/terms` offers the notice.
pub const DOCUMENT: &str = "privacy_policy";

/// How many accounts are counted in one step.
const ACCOUNTS_BATCH: usize = 1000;

/// Publishes the notice: if its facts or texts are not those of the latest edition, there is a new
/// one afterwards.
///
/// # Errors
/// Only if the database fails.
pub async fn publish(store: &Store, facts: Facts, texts: Texts, now: Millis) -> Result<(), StoreError> {
    let history = store.read().editions()?;
    // Nobody else publishes, so a start that changes nothing need not write.
    if let Some(latest) = history.last()
        && latest.facts == facts
        && store.read().edition_texts(latest.number)? == texts
    {
        return Ok(());
    }
    let edition = Edition::following(&history, facts, now);
    store.write(move |tables| tables.put_edition(&edition, &texts)).await
}

/// The texts of an edition; none if there is no such edition.
pub fn texts(core: &Core, number: u64) -> Result<Texts, Failure> {
    Ok(core.store.read().edition_texts(number)?)
}

/// What a configuration says about what has to be accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// The operator's own documents.
    pub documents: Terms,
    /// The facts of the notice, which is offered if there are no others.
    pub facts: Facts,
    /// Where the notice is to be read.
    pub base_url: String,
}

impl Planned {
    /// What this configuration says.
    pub fn by(config: &Config) -> Self {
        let (documents, base_url) = (config.terms.clone(), config.public_base_url.clone());
        Self { documents, facts: config.notice().facts, base_url }
    }

    /// What has to be accepted then, after these editions: the operator's own documents, or the
    /// notice if they have none.
    pub fn required(&self, editions: &[Edition]) -> Vec<Required> {
        if !self.documents.is_empty() {
            return self.documents.iter().map(|(id, document)| Required::just(id, document)).collect();
        }
        let consent = Consent::to(&self.facts, editions);
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

/// What the notice is called.
pub fn title(language: Language) -> &'static str {
    match language {
        Language::En => "Privacy notice",
        Language::Fr => "Politique de confidentialité",
        Language::De => "Datenschutzerklärung",
        Language::Es => "Aviso de privacidad",
    }
}

/// What a plan comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What has to be accepted.
    pub required: Vec<Required>,
    /// How many accounts have accepted something here.
    pub accounts: u64,
    /// How many of them have not accepted all that has to be, and are asked.
    pub asked: u64,
}

impl Effect {
    /// The effect of a plan on a database that no server uses.
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

    /// Counts the next accounts after `after`; the last of them, or `None` if there are no more.
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
///
/// # Errors
/// Only if the database fails.
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
