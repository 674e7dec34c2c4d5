//! `bindery import sydent`: a server whose data was taken over goes on where Sydent stopped.

mod refused;
mod rows;

use std::{path::PathBuf, process::Command, sync::Arc};

use bindery::{
    app::SystemClock,
    config::Config,
    domain::{clock::Clock, server_name::ServerName, time::Millis},
    import::{ImportError, Report, Source},
    ops::{genesis, import::Outcome},
    store::Store,
};
use redb::backends::InMemoryBackend;
use serde_json::{Value, json};

use crate::support::{
    client, files_with, hash,
    homeserver::Homeserver,
    program::{Program, config_file},
    sydent::{PEPPER, Sydent, signing_key},
    terms,
};

fn now() -> Millis {
    SystemClock.now()
}

/// A new database in memory for `id.test`.
fn new_store() -> Store {
    let name = ServerName::parse("id.test").expect("a name");
    Store::on_backend(InMemoryBackend::new(), &name, || genesis(now())).expect("a database")
}

fn settings() -> Config {
    Config { server_name: "id.test".to_owned(), ..Config::default() }
}

async fn import_into(store: &Store, sydent: &Sydent) -> Result<Outcome<Report>, ImportError> {
    let source = Source::open(&settings(), &sydent.config(), Some(&sydent.database()), Arc::new(|_| {}))?;
    source.import(store, &settings(), sydent.now).await
}

/// Imports into a new database, which must succeed.
async fn import(sydent: &Sydent) -> (Store, Report) {
    let store = new_store();
    match import_into(&store, sydent).await.expect("it can be imported") {
        Outcome::Imported(report) => (store, report),
        Outcome::AlreadyImported(_) => panic!("the database is new"),
    }
}

/// The program beside a Sydent, in a directory of its own.
struct Operator {
    dir: tempfile::TempDir,
    config: PathBuf,
    homeserver: Homeserver,
}

impl Operator {
    fn new() -> Self {
        let (dir, homeserver) = (tempfile::TempDir::new().expect("a directory"), Homeserver::start());
        let config = config_file(dir.path(), &homeserver);
        let text = std::fs::read_to_string(&config).expect("readable");
        let document =
            toml::to_string(&terms("1")).expect("TOML").replace("[languages", "[terms.policy.languages");
        std::fs::write(&config, format!("{text}[terms.policy]\n{document}")).expect("written");
        Self { dir, config, homeserver }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs the import with more arguments. Its exit status, its answer, and its errors.
    fn import(&self, sydent: &Sydent, more: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
        command.args(["import", "sydent", "--sydent-config"]).arg(sydent.config()).args(more);
        let output = command.arg("--config").arg(&self.config).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

/// What the program answers to a request with an access token.
async fn answer(program: &Program, token: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let url = format!("{}{path}", program.base);
    let request = match body {
        Some(body) => client().post(url).body(body.to_string()),
        None => client().get(url),
    };
    let response = request.bearer_auth(token).send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON"))
}

/// A Sydent with one of everything.
fn lived_in(sydent: &Sydent) {
    let day = sydent.now.0 - 86_400_000;
    sydent.publish("carol@example.org", "@carol:hs.test", day);
    sydent.global("erin@example.net", "@erin:other.test", day, "peer.test");
    sydent.publish("gone@example.org", "@gone:hs.test", day);
    sydent
        .rows
        .execute("DELETE FROM local_threepid_associations WHERE address = 'gone@example.org'", [])
        .expect("SQL");
    sydent.local("gone@example.org", None, day + 1);
    sydent.register("@alice:hs.test", "TokenOfAlice");
    sydent.register("@bob:hs.test", "TokenOfBob");
    sydent.accept("@alice:hs.test", &terms("1").languages["en"].url);
    sydent.accept("@bob:hs.test", "https://id.test/another/policy");
    sydent.add("INSERT INTO peers (name, active) VALUES ('peer.test', 1)", &[]);
    sydent.add(
        "INSERT INTO threepid_validation_sessions (medium, address, clientSecret, mtime) VALUES ('email', 'a@b.org', 's', 1)",
        &[],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_sydent_is_taken_over_with_its_tokens_its_keys_and_its_pepper() {
    let (operator, sydent) = (Operator::new(), Sydent::new(now()));
    lived_in(&sydent);
    let invited = sydent.invite("frank@example.org", "TokenOfFrank");
    let (status, rehearsed, errors) = operator.import(&sydent, &["--dry-run"]);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    assert!(!operator.data().exists(), "a rehearsal creates nothing");
    let (status, said, errors) = operator.import(&sydent, &[]);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    let (note, report) = rehearsed.split_once("\n\n").expect("a note and the report");
    assert!(note.contains("nothing was changed") && report == said, "{rehearsed}");
    for line in [
        "addresses published at this server  1",
        "addresses published at its peers    1",
        "pending invitations                 1",
        "access tokens                       2",
        "consents                            1",
        "signing key                         ed25519:0",
        "lookup pepper                       its own, until the next rotation",
    ] {
        assert!(said.lines().any(|one| one == line), "{line}: {said}");
    }
    for part in [
        "the URL is not in [terms]",
        "its owner withdrew the address afterwards",
        "a session lasts a day",
        "(peer.test)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for personal in ["example.org", "example.net", "hs.test", "TokenOf"] {
        assert!(!said.contains(personal), "{personal}: {said}");
    }

    let mut program = Program::start(&operator.config);
    let v1 = "/_matrix/identity/api/v1";
    let (status, account) = answer(&program, "TokenOfAlice", "/_matrix/identity/v2/account", None).await;
    assert_eq!((status, &account["user_id"]), (200, &json!("@alice:hs.test")));
    let find = async |token| {
        let hashes =
            ["carol@example.org", "erin@example.net", "gone@example.org"].map(|a| hash(a, "email", PEPPER));
        let request = json!({ "algorithm": "sha256", "pepper": PEPPER, "addresses": hashes });
        let (status, found) = answer(&program, token, "/_matrix/identity/v2/lookup", Some(&request)).await;
        let found =
            found.get("mappings").map(|found| hashes.map(|hash| found[&hash].as_str().map(str::to_owned)));
        (status, found)
    };
    let expected = Some([Some("@carol:hs.test".to_owned()), Some("@erin:other.test".to_owned()), None]);
    assert_eq!(find("TokenOfAlice").await, (200, expected.clone()));
    let (status, refused) = answer(&program, "TokenOfBob", "/_matrix/identity/v2/hash_details", None).await;
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_TERMS_NOT_SIGNED")));
    let accepted = json!({ "user_accepts": [terms("1").languages["en"].url] });
    assert_eq!(answer(&program, "TokenOfBob", "/_matrix/identity/v2/terms", Some(&accepted)).await.0, 200);
    assert_eq!(find("TokenOfBob").await, (200, expected));

    for (path, key, expected) in [
        ("isvalid", signing_key().public(), true),
        ("isvalid", invited.public(), false),
        ("ephemeral/isvalid", invited.public(), true),
    ] {
        let query = key.to_base64().replace('+', "%2B");
        let path = format!("{v1}/pubkey/{path}?public_key={query}");
        assert_eq!(answer(&program, "", &path, None).await.1, json!({ "valid": expected }), "{path}");
    }
    let (_, key) = answer(&program, "", &format!("{v1}/pubkey/ed25519:0"), None).await;
    assert_eq!(key["public_key"], json!(signing_key().public().to_base64()));
    let request =
        json!({ "token": "TokenOfFrank", "mxid": "@frank:hs.test", "private_key": invited.private_base64() });
    let (status, signed) = answer(&program, "", &format!("{v1}/sign-ed25519"), Some(&request)).await;
    assert_eq!((status, &signed["sender"]), (200, &json!("@alice:hs.test")));
    let signature = signed["signatures"]["id.test"]["ed25519:0"].as_str().expect("a signature").to_owned();
    assert!(invited.public().verifies(signed.as_object().expect("an object"), &signature));

    let (status, _, errors) = operator.import(&sydent, &[]);
    assert_eq!(status, Some(1));
    assert!(errors.contains(&format!("in use by process {}", program.child.id())), "{errors}");
    program.stop();
    for more in [&[][..], &["--dry-run"]] {
        let (status, said, _) = operator.import(&sydent, more);
        assert!(status == Some(0) && said.contains("already, so nothing was changed"), "{said}");
    }
    for secret in ["TokenOfAlice", "gone@example.org", "@gone:hs.test"] {
        assert!(files_with(&operator.data(), secret.as_bytes()).is_empty(), "{secret}");
    }
    drop(operator.homeserver);
}

#[test]
fn a_sydent_with_another_name_is_refused_and_nothing_is_left_behind() {
    let (operator, sydent) = (Operator::new(), Sydent::new(now()));
    sydent.publish("carol@example.org", "@carol:hs.test", sydent.now.0);
    let config = std::fs::read_to_string(sydent.config()).expect("readable");
    sydent.configure(&config.replace("id.test\n[crypto]", "other.test\n[crypto]"));
    let (status, _, errors) = operator.import(&sydent, &[]);
    assert_eq!(status, Some(1));
    assert!(errors.contains("server.name = other.test") && errors.contains("'id.test'"), "{errors}");
    assert!(!operator.data().exists());
    sydent.configure(&config);
    assert_eq!(operator.import(&sydent, &[]).0, Some(0), "nothing is in the way of the next one");
}

#[test]
fn the_database_that_sydent_names_is_taken_and_another_url_is_said() {
    let (operator, sydent) = (Operator::new(), Sydent::new(now()));
    let config = std::fs::read_to_string(sydent.config()).expect("readable");
    sydent.configure(&config.replace("https://id.test", "https://old.test/"));
    let (status, said, _) = operator.import(&sydent, &["--dry-run"]);
    let warning =
        "Warning: the invitations of Sydent name https://old.test, and public_base_url is https://id.test.";
    assert!(status == Some(0) && said.contains(warning), "{said}");
    let (name, _) = config.split_once("db.file").expect("a database");
    sydent.configure(name);
    let (status, _, errors) = operator.import(&sydent, &["--dry-run"]);
    assert!(status == Some(1) && errors.contains("has no db.file in [db]"), "{errors}");
    let database = sydent.database();
    let named = operator.import(&sydent, &["--dry-run", "--database", database.to_str().expect("UTF-8")]);
    assert_eq!(named.0, Some(0));
}

#[tokio::test]
async fn an_invitation_to_an_address_that_a_peer_published_is_delivered_after_the_import() {
    let sydent = Sydent::new(now());
    sydent.invite("erin@example.net", "TokenOfErin");
    sydent.invite("nobody@example.net", "TokenOfNobody");
    sydent.global("erin@example.net", "@erin:other.test", sydent.now.0, "peer.test");
    let (store, report) = import(&sydent).await;
    assert_eq!((report.invitations, report.replicated), (2, 1));
    let due = store.scan(|scan| scan.due(now(), None, 10)).await.expect("readable");
    let due: Vec<_> = due.iter().map(|(_, key)| (key.kind.as_str(), key.token.as_str())).collect();
    assert_eq!(due, [("onbind", "TokenOfErin")]);
}
