//! The database: creating it, opening it again, refusing a foreign or newer one, and migrating old ones.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use bindery::{
    config::Config,
    domain::{
        association::Association,
        audit::{By, Deed, Entry},
        edition::Edition,
        ids::{ClientSecret, RoomId, Sid, Token, UserId},
        invitation::{Invitation, Invited},
        language::Language,
        lookup::LookupHash,
        outbox::{Kind, OutboxKey, Outgoing, Payload},
        secret::{Key32, SecretHash},
        server_name::ServerName,
        session::Session,
        threepid::Address,
        time::Millis,
        visit::Visit,
    },
    ops::genesis,
    store::{OpenError, Store},
};
use redb::{Database, TableDefinition, TableHandle};
use tempfile::TempDir;

const CACHE: usize = 1 << 20;

fn name(text: &str) -> ServerName {
    ServerName::parse(text).expect("a server name")
}

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, CACHE, &name("id.test"), || genesis(Millis(1)))
}

#[tokio::test]
async fn keys_and_pepper_are_made_once() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("data");
    let first = open(&path).expect("a new database");
    let (keys, pepper) = (first.read().signing_keys().expect("keys"), first.read().pepper().to_owned());
    drop(first);
    let second = open(&path).expect("the same database");
    assert!(second.read().signing_keys().expect("keys") == keys);
    assert_eq!(second.read().pepper(), pepper);
    assert_eq!(keys[0].0, "ed25519:0");
    assert_eq!(pepper.len(), 24);
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("bindery.redb")), 0o600);
    assert_eq!(mode(&path.join("lock")), 0o600);
}

#[test]
fn one_process_at_a_time() {
    let dir = TempDir::new().expect("a directory");
    let held = open(dir.path()).expect("a new database");
    let error = open(dir.path()).err().expect("it is in use").to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(held);
    open(dir.path()).expect("free again");
}

#[test]
fn another_name_is_refused() {
    let dir = TempDir::new().expect("a directory");
    drop(open(dir.path()).expect("a new database"));
    let other = Store::open(dir.path(), CACHE, &name("other.test"), || genesis(Millis(1)));
    let error = other.err().expect("another name").to_string();
    assert!(error.contains("id.test") && error.contains("other.test"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("bindery.redb"), vec![7; 10_000]).expect("written");
    let error = open(dir.path()).err().expect("no database").to_string();
    assert!(error.contains("cannot open the database"), "{error}");
}

#[tokio::test]
async fn a_closure_that_fails_undoes_its_batch_and_the_writer_goes_on() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path()).expect("a new database");
    let token = Token::from_bytes([1; 32]);
    let owner = UserId::parse("@a:b").expect("a user ID");
    let (stored, owner_there) = (token.clone(), owner.clone());
    let panicked = store
        .write(move |tables| {
            tables.put_token(&stored, &owner_there, Millis(1))?;
            if tables.pepper().len() == 24 {
                panic!("a bug");
            }
            Ok(())
        })
        .await;
    assert!(panicked.is_err());
    assert!(store.read().token_owner(&token).expect("readable").is_none(), "the batch was undone");
    let stored = token.clone();
    store
        .write(move |tables| tables.put_token(&stored, &owner, Millis(1)))
        .await
        .expect("the writer goes on");
    assert!(store.read().token_owner(&token).expect("readable").is_some());
}

const OLD_TOKEN: &str = "an-old-token";
const OLD_INVITATION: &str = "an-old-invitation";

/// Writes the rows that [`old_databases_still_open`] reads.
async fn write_database(path: &Path) {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path()).expect("a new database");
    let owner = UserId::parse("@alice:example.org").expect("a user ID");
    let address = Address::email("alice@example.org").expect("an address");
    let written = store.write(move |tables| {
        tables.put_token(&Token::parse(OLD_TOKEN).expect("a token"), &owner, Millis(1))?;
        tables.put_consent(&owner, "terms", "1", Millis(1))?;
        let secret = ClientSecret::parse("secret").expect("a secret");
        let key = Key32::new([2; 32]);
        let mut session =
            Session::new(address.clone(), &secret, Some(owner.clone()), Language::En, &key, Millis(1));
        session.index_key = [1; 32];
        tables.put_session(&Sid::parse("an-old-session").expect("a sid"), &session)?;
        let token = Token::parse(OLD_INVITATION).expect("a token");
        let invitation = Invitation {
            ephemeral_key: Invitation::key_pair(&token, &key).public(),
            invited: Invited::Address(address.clone()),
            room_id: RoomId::parse("!room:example.org").expect("a room ID"),
            sender: owner.clone(),
            created: Millis(1),
            token: token.clone(),
        };
        tables.put_invitation(&invitation)?;
        let outgoing = Outgoing::new(Payload::OnBind(owner.clone()), Millis(1));
        tables.put_outgoing(&OutboxKey { kind: Kind::OnBind, token }, &outgoing)?;
        tables.count_sms(7)?;
        let facts = Config::default().notice().facts;
        let texts = [(Language::En, "an old text".to_owned())].into();
        tables.put_edition(&Edition::following(&[], facts, Millis(1)), &texts)?;
        tables.put_association(&Association { address, user_id: owner, ts: Millis(1) }, Language::En)
    });
    written.await.expect("written");
    drop(store);
    fs::copy(dir.path().join("bindery.redb"), path).expect("copied");
}

/// Today's program must open each database in `tests/data/databases`. The file name says the schema of the
/// program that wrote it. After a change of the schema, run this test once with `UPDATE_SNAPSHOTS=1` and commit
/// the file that it adds.
#[tokio::test]
async fn old_databases_still_open() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/databases");
    let newest = data.join(format!("schema-{}.redb", bindery::store::SCHEMA));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() && !newest.exists() {
        write_database(&newest).await;
    }
    assert!(newest.exists(), "{} is missing", newest.display());
    for entry in fs::read_dir(data).expect("databases") {
        let dir = TempDir::new().expect("a directory");
        let path = entry.expect("an entry").path();
        fs::copy(&path, dir.path().join("bindery.redb")).expect("copied");
        let store = open(dir.path()).expect("an old database opens");
        let snapshot = store.read();
        let address = Address::email("alice@example.org").expect("an address");
        let association = snapshot.association(&address).expect("readable").expect("it is there");
        assert_eq!(association.user_id.as_str(), "@alice:example.org");
        let mut found = None;
        let hash = LookupHash::of(&address, snapshot.pepper());
        snapshot.index().lookup(&hash, |user_id| found = Some(user_id.to_owned())).expect("readable");
        assert_eq!(found.as_deref(), Some("@alice:example.org"));
        let owner = snapshot.token_owner(&Token::parse(OLD_TOKEN).expect("a token")).expect("readable");
        assert!(owner.as_ref() == Some(&association.user_id));
        let own = snapshot.associations_of(&association.user_id).expect("readable");
        assert_eq!(own, std::slice::from_ref(&association), "the account finds its addresses");
        assert_eq!(snapshot.tokens_of(&association.user_id).expect("readable").len(), 1, "and its tokens");
        assert!(snapshot.has_accepted(&association.user_id, "terms", &["1"]).expect("readable"));
        let (sid, session) = snapshot.session_by_index(&[1; 32]).expect("readable").expect("it is there");
        assert!(sid.as_str() == "an-old-session" && session.address == address);
        let of_address = snapshot.sessions_of_address(&address).expect("readable");
        let of_account = snapshot.sessions_of_account(&association.user_id).expect("readable");
        assert_eq!((of_address.len(), of_account.len()), (1, 1), "found by address and by account");
        let invitations = snapshot.invitations_to(&address).expect("readable");
        if path.ends_with("schema-1.redb") {
            assert!(invitations.is_empty(), "there were none before schema 2");
            continue;
        }
        assert_eq!(invitations.iter().map(Token::as_str).collect::<Vec<_>>(), [OLD_INVITATION]);
        assert_eq!(snapshot.invitations_from(&association.user_id).expect("readable").len(), 1);
        let invitation = snapshot.invitation(&invitations[0]).expect("readable").expect("it is there");
        assert_eq!(invitation.room_id.as_str(), "!room:example.org");
        assert!(snapshot.invitation_by_key(&invitation.ephemeral_key).expect("readable").is_some());
        let due = store.scan(|scan| scan.due(Millis(1), None, 9)).await.expect("readable");
        let outgoing = snapshot.outgoing(&due[0].1).expect("readable").expect("it is there");
        assert_eq!(outgoing.payload, Payload::OnBind(association.user_id));
        assert_eq!(snapshot.sms_sent(7).expect("readable"), 1);
        if path.ends_with("schema-2.redb") {
            assert!(snapshot.editions().expect("readable").is_empty(), "there were none before schema 3");
            continue;
        }
        let editions = snapshot.editions().expect("readable");
        assert_eq!((editions.len(), editions[0].number, editions[0].published), (1, 1, Millis(1)));
        let edition = &editions[0];
        assert_eq!(edition.facts.version(), edition.version, "keys that came later change no version");
        assert_eq!(snapshot.edition_texts(1).expect("readable")[&Language::En], "an old text");
    }
}

/// A database of schema 3 with rows that the committed one does not have.
#[tokio::test]
async fn schema_4_finds_visits_and_the_audit_of_before() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path()).expect("a new database");
    let address = Address::email("alice@example.org").expect("an address");
    let subject = Some([7; 32]);
    let entry = Entry { at: Millis(1), deed: Deed::Export, by: By::Owner, subject };
    let visited = address.clone();
    let written = store.write(move |tables| {
        tables.put_visit(SecretHash([1; 32]), &Visit::by_link(visited, Millis(1)))?;
        tables.put_audit(&Entry { subject: None, ..entry })?;
        tables.put_audit(&entry)
    });
    written.await.expect("written");
    drop(store);
    let database = Database::open(dir.path().join("bindery.redb")).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    for table in
        ["address_sessions", "account_sessions", "account_invitations", "address_visits", "subject_audit"]
    {
        let mut tables = transaction.list_tables().expect("tables");
        let table = tables.find(|there| there.name() == table).expect("the table");
        assert!(transaction.delete_table(table).expect("deleted"));
    }
    let meta = TableDefinition::<&str, &[u8]>::new("meta");
    let schema_3: &[u8] = &[1, 3, 0, 0, 0];
    transaction.open_table(meta).expect("a table").insert("schema", schema_3).expect("written");
    transaction.commit().expect("committed");
    drop(database);

    let store = open(dir.path()).expect("it is migrated");
    let snapshot = store.read();
    let visits = snapshot.visits_of(&address).expect("readable");
    assert!(visits.iter().map(|(secret, _)| secret.0).eq([[1; 32]]));
    assert_eq!(snapshot.audit_about(&[7; 32]).expect("readable"), [entry]);
}
