//! The files of a Sydent, with rows as it writes them.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bindery::domain::{
    secret::Key32,
    signing::{KeyPair, PublicKey},
    time::Millis,
};
use rusqlite::{Connection, ToSql, params};
use tempfile::TempDir;

/// The tables of Sydent 2.6.1 (schema 5), with the columns and the indexes that matter here.
const SCHEMA: &str = "
    CREATE TABLE local_threepid_associations (id INTEGER PRIMARY KEY AUTOINCREMENT, medium VARCHAR(16), address VARCHAR(256),
        mxid VARCHAR(256), ts INTEGER, notBefore BIGINT, notAfter BIGINT, lookup_hash VARCHAR(256));
    CREATE UNIQUE INDEX local_threepid_medium_address ON local_threepid_associations (medium, address);
    CREATE TABLE global_threepid_associations (id INTEGER PRIMARY KEY AUTOINCREMENT, medium VARCHAR(16), address VARCHAR(256),
        mxid VARCHAR(256), ts INTEGER, notBefore BIGINT, notAfter INTEGER, originServer VARCHAR(255), originId INTEGER,
        sgAssoc TEXT, lookup_hash VARCHAR(256));
    CREATE TABLE invite_tokens (id INTEGER PRIMARY KEY, medium VARCHAR(16), address VARCHAR(256), room_id VARCHAR(256),
        sender VARCHAR(256), token VARCHAR(256), received_ts BIGINT, sent_ts BIGINT);
    CREATE TABLE ephemeral_public_keys (id INTEGER PRIMARY KEY, public_key VARCHAR(256), verify_count BIGINT DEFAULT 0,
        persistence_ts BIGINT);
    CREATE TABLE hashing_metadata (id INTEGER PRIMARY KEY, lookup_pepper VARCHAR(256));
    CREATE TABLE accounts (user_id TEXT NOT NULL PRIMARY KEY, created_ts BIGINT, consent_version TEXT);
    CREATE TABLE tokens (token TEXT PRIMARY KEY, user_id TEXT);
    CREATE TABLE accepted_terms_urls (user_id TEXT, url TEXT);
    CREATE TABLE peers (id INTEGER PRIMARY KEY, name VARCHAR(255), port INTEGER, lastSentVersion INTEGER,
        lastPokeSucceededAt INTEGER, active INTEGER DEFAULT 0);
    CREATE TABLE peer_pubkeys (id INTEGER PRIMARY KEY, peername VARCHAR(255), alg VARCHAR(16), key TEXT);
    CREATE TABLE threepid_validation_sessions (id INTEGER PRIMARY KEY, medium VARCHAR(16), address VARCHAR(256),
        clientSecret VARCHAR(32), validated INT DEFAULT 0, mtime BIGINT);
    CREATE TABLE threepid_token_auths (id INTEGER PRIMARY KEY, validationSession INTEGER, token VARCHAR(32),
        sendAttemptNumber INTEGER);
    PRAGMA user_version = 5;";

/// The pepper, as short as Sydent makes it.
pub const PEPPER: &str = "aB3d9";

/// When associations end: never, for a test.
const END: i64 = 4_000_000_000_000;

/// The key that Sydent signs with.
pub fn signing_key() -> KeyPair {
    KeyPair::new("ed25519:0", &Key32::new([42; 32]))
}

/// A Sydent named `id.test`, at the time at which its last rows were written.
pub struct Sydent {
    pub rows: Connection,
    pub now: Millis,
    dir: TempDir,
}

impl Sydent {
    pub fn new(now: Millis) -> Self {
        let dir = TempDir::new().expect("a directory");
        let rows = Connection::open(dir.path().join("sydent.db")).expect("a database");
        rows.execute_batch(SCHEMA).expect("a schema");
        let sydent = Self { rows, now, dir };
        sydent.add("INSERT INTO hashing_metadata VALUES (0, ?)", &[&PEPPER]);
        let seed = STANDARD_NO_PAD.encode([42; 32]);
        sydent.configure(&format!(
            "[general]\nserver.name = id.test\n[crypto]\ned25519.signingkey = ed25519 0 {seed}\n\
             [http]\nclient_http_base = https://id.test\n[db]\ndb.file = {}\n",
            sydent.database().display()
        ));
        sydent
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("sydent.db")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("sydent.conf")
    }

    pub fn configure(&self, text: &str) {
        std::fs::write(self.config(), text).expect("written");
    }

    pub fn add(&self, statement: &str, values: &[&dyn ToSql]) {
        self.rows.execute(statement, values).expect("a row");
    }

    /// A row of the table of what was published here.
    pub fn local(&self, address: &str, mxid: Option<&str>, ts: u64) {
        let ts = ts as i64;
        self.add(
            "INSERT INTO local_threepid_associations (medium, address, mxid, ts, notBefore, notAfter) VALUES ('email', ?, ?, ?, ?, ?)",
            params![address, mxid, ts, mxid.map(|_| ts), mxid.map(|_| END)],
        );
    }

    /// A row of the table of what was published anywhere.
    pub fn global(&self, address: &str, mxid: &str, ts: u64, origin: &str) {
        let ts = ts as i64;
        self.add(
            "INSERT INTO global_threepid_associations (medium, address, mxid, ts, notBefore, notAfter, originServer, originId, sgAssoc) \
             VALUES ('email', ?, ?, ?, ?, ?, ?, 1, '{}')",
            params![address, mxid, ts, ts, END, origin],
        );
    }

    /// What Sydent writes when an address is published.
    pub fn publish(&self, address: &str, mxid: &str, ts: u64) {
        self.local(address, Some(mxid), ts);
        self.global(address, mxid, ts, "id.test");
    }

    /// What Sydent writes when an address is invited, and the private key in the mail.
    pub fn invite(&self, address: &str, token: &str) -> KeyPair {
        let seed = Key32::new([7; 32]).mac(&[token.as_bytes()]);
        let pair = KeyPair::new("ed25519:0", &Key32::new(seed));
        let seconds = (self.now.0 / 1000) as i64;
        self.add(
            "INSERT INTO ephemeral_public_keys (public_key, persistence_ts) VALUES (?, ?)",
            params![url_safe(&pair.public()), seconds],
        );
        self.add(
            "INSERT INTO invite_tokens (medium, address, room_id, sender, token, received_ts) \
             VALUES ('email', ?, '!room:hs.test', '@alice:hs.test', ?, ?)",
            params![address, token, seconds],
        );
        pair
    }

    /// What Sydent writes when an account registers.
    pub fn register(&self, mxid: &str, token: &str) {
        self.add("INSERT OR IGNORE INTO accounts VALUES (?, ?, NULL)", params![mxid, self.now.0 as i64]);
        self.add("INSERT INTO tokens VALUES (?, ?)", params![token, mxid]);
    }

    pub fn accept(&self, mxid: &str, url: &str) {
        self.add("INSERT INTO accepted_terms_urls VALUES (?, ?)", params![mxid, url]);
    }
}

/// Sydent writes ephemeral keys in the alphabet for URLs.
fn url_safe(key: &PublicKey) -> String {
    key.to_base64().replace('+', "-").replace('/', "_")
}
