//! Made-up people, a database full of them, and the requests that they send.
//!
//! Everything about a person follows from their number, so nothing has to be remembered. The names
//! are mixed well: rows are spread over the B-trees as real ones are.

use std::{
    collections::HashSet,
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use bindery::{
    config::Config,
    domain::{
        association::Association,
        bucket::Rate,
        ids::{ClientSecret, Sid, Token, UserId},
        language::Language,
        lookup::LookupHash,
        secret::Key32,
        session::{Progress, Session},
        terms::{Document, Text},
        threepid::Address,
        time::Millis,
    },
    ops,
    store::{DATABASE_FILE, Store, StoreError, Writes},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{load::Request, process, size};

/// The fewest people that there can be.
pub const FEWEST: u64 = 100;

/// How many validated sessions wait to be bound. A bind of one that was bound before replaces its
/// rows and costs the same.
pub const SESSIONS: u64 = 50_000;

/// How many rows are written in one transaction.
const BATCH: u64 = 20_000;

/// Numbers from here on are nobody's.
const STRANGERS: u64 = 1 << 40;

/// A lookup budget that one machine cannot use up.
pub const BOUNDLESS: NonZeroU64 = NonZeroU64::new(1 << 50).expect("not zero");

/// The document that everybody has accepted, and its version.
const TERMS: (&str, &str) = ("terms", "1");

/// One database with its configuration.
pub struct Data {
    /// How many bindings it has.
    pub bindings: u64,
    /// The server's configuration.
    pub config: Config,
    /// The size of the file when it held the bindings and nothing else.
    pub file_length: u64,
    /// How much of that was in use.
    pub in_use: u64,
    pepper: String,
    directory: TempDir,
}

/// The finalizer of splitmix64: a permutation of the numbers.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The address of a person.
pub fn address(person: u64) -> Address {
    Address::email(&format!("{:016x}@example.org", mix(person + 1))).expect("an address")
}

/// The Matrix ID of a person.
pub fn user_id(person: u64) -> UserId {
    UserId::parse(&format!("@{:016x}:matrix.example.org", mix(person + 1))).expect("a user ID")
}

fn token(person: u64) -> Token {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&mix(person).to_le_bytes());
    Token::from_bytes(bytes)
}

fn sid(session: u64) -> Sid {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&mix(session).to_le_bytes());
    Sid::from_random(bytes)
}

fn client_secret() -> ClientSecret {
    ClientSecret::parse("a-secret-of-the-client").expect("a client secret")
}

fn now() -> Millis {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Millis(bindery::domain::time::as_millis(since_epoch))
}

/// A server with everything on and rates that refuse nothing.
pub fn config(data_dir: std::path::PathBuf) -> Config {
    let mut config = Config { data_dir, ..Config::default() };
    config.http.workers = 1;
    config.log.level = "error".to_owned();
    config.lookup.daily_budget = BOUNDLESS;
    let all = Rate::new(1_000_000_000, 1_000_000_000);
    (config.limits.bind_per_account, config.limits.bind_per_ip) = (all, all);
    let (id, version) = TERMS;
    let text = Text { name: "Terms".to_owned(), url: "http://localhost:8090/terms".to_owned() };
    let languages = [("en".to_owned(), text)].into();
    config.terms.insert(id.to_owned(), Document { version: version.to_owned(), languages });
    config
}

impl Data {
    /// Fills a database: so many people with a binding, a token and accepted terms each, and the
    /// sessions.
    pub fn fill(bindings: u64) -> anyhow::Result<Self> {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
        let config = config(directory.path().join("data"));
        let open =
            || {
                Store::open(&config.data_dir, config.store.cache_mib << 20, &config.name(), || {
                    ops::genesis(now())
                })
            };
        let file = config.data_dir.join(DATABASE_FILE);
        let store = open()?;
        let (pepper, key) = (store.read().pepper().to_owned(), store.read().session_key()?);
        in_batches(&store, bindings, put_binding)?;
        drop(store);
        let (file_length, in_use) = (process::length(&file)?, size::in_use(&file)?);
        let store = open()?;
        in_batches(&store, bindings, put_account)?;
        in_batches(&store, SESSIONS, move |tables, session| put_session(tables, session, bindings, &key))?;
        // As every day, but for its first minutes.
        in_batches(&store, 1, |tables, _| tables.put_round_of_accounts(now()))?;
        drop(store);
        Ok(Self { bindings, config, file_length, in_use, pepper, directory })
    }

    /// Removes a binding, so that the file has something to be rewritten for, but not by itself
    /// today.
    pub fn remove_something(&self) -> anyhow::Result<()> {
        let (config, runtime) = (&self.config, tokio::runtime::Builder::new_current_thread().build()?);
        let genesis = || ops::genesis(now());
        let store = Store::open(&config.data_dir, config.store.cache_mib << 20, &config.name(), genesis)?;
        runtime.block_on(store.rewrite(now()))?;
        let remove = store.write(|tables| {
            put_binding(tables, STRANGERS)?;
            tables.remove_association(&address(STRANGERS))
        });
        Ok(runtime.block_on(remove)?)
    }

    /// A place beside the data directory.
    pub fn beside(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Requests that look up so many addresses each, every other one of them known.
    pub fn lookups(&self, addresses: u64) -> Vec<Request> {
        let requests = (250_000 / addresses).clamp(250, 50_000);
        (0..requests).map(|number| self.lookup(number, addresses)).collect()
    }

    fn lookup(&self, number: u64, addresses: u64) -> Request {
        let is_known = |number: &u64| number.is_multiple_of(2);
        let person = |number: u64| {
            if is_known(&number) { mix(number) % self.bindings } else { STRANGERS + number }
        };
        let numbers = (number * addresses)..((number + 1) * addresses);
        let people: Vec<u64> = numbers.clone().map(person).collect();
        // Who is asked for twice is answered once.
        let known: HashSet<u64> = numbers.filter(is_known).map(person).collect();
        self.lookup_of(&people, known.len())
    }

    /// A request that looks up these people, so many of whom are known.
    fn lookup_of(&self, people: &[u64], known: usize) -> Request {
        let hash = |person: &u64| LookupHash::of(&address(*person), &self.pepper).to_base64();
        let hashes: Vec<String> = people.iter().map(hash).collect();
        let body = json!({ "algorithm": "sha256", "pepper": self.pepper, "addresses": hashes });
        let asking = mix(people[0]) % self.bindings;
        Request::post("/lookup", token(asking).as_str(), &body.to_string(), known)
    }

    /// The request that publishes the address of a session.
    pub fn bind(&self, session: u64) -> Request {
        let person = session % self.bindings;
        let body = json!({
            "sid": sid(session).as_str(),
            "client_secret": client_secret().as_str(),
            "mxid": user_id(person).as_str(),
        });
        // The answer names the address and the Matrix ID.
        Request::post("/3pid/bind", token(person).as_str(), &body.to_string(), 2)
    }

    /// The request that finds what [`Data::bind`] published.
    pub fn lookup_bound(&self, session: u64) -> Request {
        self.lookup_of(&[self.bindings + session], 1)
    }
}

/// Calls `put` with every number below `count`, in transactions of bounded size.
fn in_batches(
    store: &Store,
    count: u64,
    put: impl Fn(&mut Writes<'_>, u64) -> Result<(), StoreError> + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for first in (0..count).step_by(BATCH as usize) {
        let (put, mut numbers) = (put.clone(), first..count.min(first + BATCH));
        runtime.block_on(store.write(move |tables| numbers.try_for_each(|number| put(tables, number))))?;
    }
    Ok(())
}

fn put_binding(tables: &mut Writes<'_>, person: u64) -> Result<(), StoreError> {
    let association = Association { address: address(person), user_id: user_id(person), ts: now() };
    tables.put_association(&association, Language::En)
}

fn put_account(tables: &mut Writes<'_>, person: u64) -> Result<(), StoreError> {
    let (id, version) = TERMS;
    tables.put_token(&token(person), &user_id(person), now())?;
    tables.put_consent(&user_id(person), id, version, now())
}

fn put_session(tables: &mut Writes<'_>, number: u64, bindings: u64, key: &Key32) -> Result<(), StoreError> {
    let (address, account, now) = (address(bindings + number), user_id(number % bindings), now());
    let secret = client_secret();
    let mut session = Session::new(address, &secret, Some(account), Language::En, key, now);
    session.progress = Progress::Validated(now);
    // Long runs must not outlive it.
    session.modified = now.after(Duration::from_secs(3600));
    tables.put_session(&sid(number), &session)
}
