//! P9: what was removed is in no file of the data directory, byte for byte, once its time is over:
//! whatever kind of data it was, with a dead relay, with somebody who still reads the old file, and
//! after a kill at any moment of the rewrite.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    time::{Duration, Instant, UNIX_EPOCH},
};

use bindery::{
    config::MailTransport,
    domain::{
        association::Association, ids::UserId, language::Language, lookup::LookupHash,
        server_name::ServerName, threepid::Address, time::Millis,
    },
    ops::genesis,
    store::Store,
};
use reqwest::Method;

use super::{DAY, only_files};
use crate::{
    support::program::{Program, config_file},
    support::{Server, User, files_with, hash, homeserver::Homeserver},
};

/// The longest that a trace may be there (`privacy.deleted_binding_days`); the rewrite is daily.
const SOON: Duration = Duration::from_secs(2 * 24 * 3600);

const ADDRESS: &str = "leaver@example.org";

/// What must be in no file: the address, the Matrix ID, and the address's plain hash.
async fn traces(server: &Server, user: &User, address: &str) -> Vec<Vec<u8>> {
    let details = server.get("/hash_details", user).await.ok();
    let pepper = details["lookup_pepper"].as_str().expect("a pepper").to_owned();
    let text = hash(address, "email", &pepper);
    let parsed = Address::email(address).expect("an address");
    let bytes = LookupHash::of(&parsed, &pepper).0.to_vec();
    vec![address.as_bytes().to_vec(), user.id.as_bytes().to_vec(), bytes, text.into_bytes()]
}

fn found(data: &Path, traces: &[Vec<u8>]) -> usize {
    traces.iter().map(|trace| files_with(data, trace).len()).sum()
}

#[tokio::test]
async fn p9_an_unbound_binding() {
    let (server, data) = only_files(|config| {
        config.privacy.idle_account_days = crate::support::at_least_one(1);
        config.privacy.lookup_log_days = crate::support::at_least_one(1);
    })
    .await;
    let (leaver, stayer) = (server.user("leaver").await, server.user("stayer").await);
    server.bind(&leaver, ADDRESS, "secret").await;
    server.bind(&stayer, "stayer@example.org", "secret").await;
    let traces = traces(&server, &leaver, ADDRESS).await;
    assert!(found(&data, &traces) >= 3, "the search finds what is there");
    let content =
        serde_json::json!({ "mxid": leaver.id, "threepid": { "medium": "email", "address": ADDRESS } });
    let path = crate::support::v2("/3pid/unbind");
    let header = server.homeserver.sign_request(&path, "destination", "id.test", &content);
    let request = server.build(Method::POST, &path).header("authorization", header);
    server.send(request.header("content-type", "application/json").body(content.to_string())).await.ok();
    // The account is another thing than the binding, and goes a day after its last use.
    server.pass(DAY + SOON).await;
    assert_eq!(found(&data, &traces), 0);
    assert_ne!(files_with(&data, stayer.id.as_bytes()).len(), 0);
}

#[tokio::test]
async fn p9_an_erased_account() {
    let (server, data) = only_files(|_| {}).await;
    let leaver = server.user("leaver").await;
    server.bind(&leaver, ADDRESS, "secret").await;
    server.invite(&leaver, "friend@example.org", "!room:hs.test").await;
    let traces = traces(&server, &leaver, ADDRESS).await;
    server.request(Method::DELETE, "/_bindery/v1/account", Some(&leaver.token), None).await.ok();
    server.pass(SOON).await;
    assert_eq!(found(&data, &traces), 0);
    assert_eq!(files_with(&data, b"friend@example.org").len(), 0, "whom they invited");
}

#[tokio::test]
async fn p9_within_three_days_with_a_dead_relay_and_a_copy_from_before_a_migration() {
    let (server, data) = only_files(|config| {
        config.privacy.deleted_binding_days = crate::support::at_least_one(3);
        config.backup.keep_days = crate::support::at_least_one(2);
    })
    .await;
    let leaver = server.user("leaver").await;
    server.bind(&leaver, ADDRESS, "secret").await;
    let traces = traces(&server, &leaver, ADDRESS).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = gone.local_addr().expect("an address").port();
    drop(gone);
    let server = server.restart(|config| {
        config.privacy.notify_owners = true;
        config.mail.transport = MailTransport::Smtp;
        config.mail.smtp.security = bindery::config::SmtpSecurity::None;
        config.mail.smtp.port = port;
    });
    server.request(Method::DELETE, "/_bindery/v1/account", Some(&leaver.token), None).await.ok();
    let copy = data.join("bindery.redb.schema-2");
    std::fs::copy(data.join(bindery::store::DATABASE_FILE), &copy).expect("copied");
    let made = UNIX_EPOCH + Duration::from_millis(bindery::domain::clock::Clock::now(&*server.clock).0);
    std::fs::File::options()
        .append(true)
        .open(&copy)
        .and_then(|file| file.set_modified(made))
        .expect("its time");
    assert_ne!(found(&copy_only(&copy), &traces), 0, "the copy holds them");
    server.pass(Duration::from_secs(23 * 3600)).await;
    assert!(copy.exists(), "somebody may want to go back to it");
    server.pass(3 * DAY - Duration::from_secs(23 * 3600)).await;
    assert!(!copy.exists());
    assert_eq!(found(&data, &traces), 0);
}

/// A directory with nothing in it but this file.
fn copy_only(file: &Path) -> std::path::PathBuf {
    let dir = tempfile::TempDir::new().expect("a directory").keep();
    std::fs::copy(file, dir.join("file")).expect("copied");
    dir
}

#[tokio::test]
async fn p9_an_expired_session() {
    let (server, data) = only_files(|_| {}).await;
    let alice = server.user("alice").await;
    server.request_token(&alice, ADDRESS, "secret", 1).await;
    assert_ne!(files_with(&data, ADDRESS.as_bytes()).len(), 0);
    server.pass(DAY + SOON).await;
    assert_eq!(files_with(&data, ADDRESS.as_bytes()).len(), 0);
}

#[tokio::test]
async fn p9_a_mail_that_could_never_be_delivered() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = gone.local_addr().expect("an address").port();
    drop(gone);
    let (server, data) = only_files(|config| {
        config.mail.transport = MailTransport::Smtp;
        config.mail.smtp.security = bindery::config::SmtpSecurity::None;
        config.mail.smtp.port = port;
    })
    .await;
    let alice = server.user("alice").await;
    server.invite(&alice, ADDRESS, "!room:hs.test").await;
    server.pass(7 * DAY).await;
    assert_ne!(files_with(&data, ADDRESS.as_bytes()).len(), 0, "the invitation waits for a month");
    server.pass(23 * DAY + SOON).await;
    assert_eq!(files_with(&data, ADDRESS.as_bytes()).len(), 0);
}

fn association(number: usize) -> Association {
    Association {
        address: Address::email(&format!("person{number}@example.org")).expect("an address"),
        user_id: UserId::parse(&format!("@person{number}:example.org")).expect("a user ID"),
        ts: Millis(number as u64 + 1),
    }
}

/// A database with so many people, as the program finds it.
async fn fill(data: &Path, people: usize) {
    let name = ServerName::parse("id.test").expect("a name");
    let store = Store::open(data, 8 << 20, &name, || genesis(Millis(1))).expect("a database");
    let written = store.write(move |tables| {
        (0..people).try_for_each(|number| tables.put_association(&association(number), Language::En))
    });
    written.await.expect("written");
}

fn run(config: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
    let output = command.args(arguments).arg("--config").arg(config).output().expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn p9_while_somebody_still_reads_the_old_file() {
    let dir = tempfile::TempDir::new().expect("a directory");
    fill(dir.path(), 3000).await;
    let name = ServerName::parse("id.test").expect("a name");
    let store = Store::open(dir.path(), 8 << 20, &name, || genesis(Millis(1))).expect("a database");
    // As a backup does, that was begun before.
    let old = store.read().clone();
    store.write(|tables| tables.remove_association(&association(7).address)).await.expect("written");
    store.rewrite(Millis(5)).await.expect("rewritten");
    let gone = association(7);
    assert!(old.association(&gone.address).expect("readable").is_some(), "it goes on to see what it saw");
    for trace in [gone.address.as_str(), gone.user_id.as_str()] {
        assert_eq!(files_with(dir.path(), trace.as_bytes()).len(), 0, "{trace}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_after_a_kill_at_any_moment_of_the_rewrite() {
    const PEOPLE: usize = 20_000;
    let homeserver = Homeserver::start();
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let data = dir.path().join("data");
    fill(&data, PEOPLE).await;
    // How long one takes, whole.
    run(&config, &["erase", "--yes", "--address", association(0).address.as_str()]);
    let started = Instant::now();
    run(&config, &["retention", "run"]);
    let whole = started.elapsed();
    // A rewrite puts a new file in place of the old one.
    let inode = || std::fs::metadata(data.join("bindery.redb")).expect("the database").ino();
    const KILLS: u32 = 12;
    let mut done = 0;
    for kill in 0..KILLS {
        let leaver = association(1 + kill as usize);
        let mut program = Program::start(&config);
        run(&config, &["erase", "--yes", "--address", leaver.address.as_str()]);
        let before = inode();
        let mut rewriting = Command::new(env!("CARGO_BIN_EXE_bindery"))
            .args(["retention", "run", "--config"])
            .arg(&config)
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the program runs");
        if kill == KILLS - 1 {
            // The server may be slower than the command was alone. One kill must come after the rewrite.
            rewriting.wait().expect("it ends");
        } else {
            tokio::time::sleep(whole * kill / (KILLS - 3)).await;
        }
        program.child.kill().expect("killed");
        program.child.wait().expect("gone");
        rewriting.wait().expect("it ends without its server");
        let is_done = inode() != before;
        let name = ServerName::parse("id.test").expect("a name");
        let store = Store::open(&data, 8 << 20, &name, || genesis(Millis(1))).expect("one good file");
        assert!(!data.join("bindery.redb.new").exists());
        let snapshot = store.read();
        assert!(snapshot.association(&leaver.address).expect("readable").is_none());
        for number in (50..PEOPLE).step_by(997) {
            assert_eq!(
                snapshot.association(&association(number).address).expect("readable"),
                Some(association(number))
            );
        }
        drop(snapshot);
        // What is due is still known to be due, or done. A crash makes a rewrite due again, even after one.
        let is_due = store.read().has_removed().expect("readable");
        assert!(is_due || is_done, "kill {kill}");
        if is_due {
            store.rewrite(Millis(5)).await.expect("rewritten");
        }
        done += u32::from(is_done);
        drop(store);
        for trace in [leaver.address.as_str(), leaver.user_id.as_str()] {
            assert_eq!(files_with(&data, trace.as_bytes()).len(), 0, "kill {kill}: {trace}");
        }
    }
    assert!((1..KILLS).contains(&done), "{done} of {KILLS} kills came after it was done");
}
