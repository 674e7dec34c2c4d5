//! The logs of lookups and callers: their contents, their retention, and how the operator reads them.

use std::{
    fs,
    io::Read,
    num::NonZeroU64,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bindery::{
    config::{Config, LookupLog, Privacy},
    domain::{
        clock::Clock, day::Day, retention::LOG_MARGIN, server_name::ServerName, threepid::Address,
        time::Millis,
    },
    logs::{self, Held, LogKind},
    ops::genesis,
    store::Store,
};
use reqwest::{Method, header::HeaderValue};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    support::program::{Program, config_file},
    support::{
        Reply, Server, User, accept_terms, at_least_one, files_with, hash, homeserver::Homeserver,
        polling::until, v2,
    },
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Alice's address, and one that is not bound.
const KNOWN: &str = "alice@example.org";
const UNKNOWN: &str = "nobody@example.org";

fn files(data_dir: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir.join("logs")).expect("the folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind)));
    files.sort();
    files
}

/// The rows of a log. Each must be JSON, whatever a caller sent.
fn rows(data_dir: &Path, kind: &str) -> Vec<Value> {
    let kind = LogKind::ALL.into_iter().find(|known| known.as_str() == kind).expect("a log");
    let mut rows = Vec::new();
    logs::for_each_row(&logs::folder(data_dir), kind, Day(0), |row| {
        rows.push(serde_json::from_str(row).expect("a row is JSON"));
        Ok(())
    })
    .expect("readable");
    rows
}

/// Waits until a log has so many rows.
async fn until_rows(server: &Server, kind: &str, count: usize) -> Vec<Value> {
    let data_dir = &server.config.data_dir;
    server.until("the rows are written", async || rows(data_dir, kind).len() >= count).await;
    let rows = rows(data_dir, kind);
    assert_eq!(rows.len(), count, "{rows:?}");
    rows
}

/// A server on which alice has published her address, and its pepper.
async fn server_with(change: impl FnOnce(&mut Config)) -> (Server, User, String) {
    let server = Server::start_with(change).await;
    let alice = server.user("alice").await;
    server.bind(&alice, KNOWN, "secret").await;
    let details = server.get("/hash_details", &alice).await.ok();
    (server, alice, details["lookup_pepper"].as_str().expect("a pepper").to_owned())
}

async fn look_up(server: &Server, user: &User, body: &Value) -> Value {
    let request = server.build(Method::POST, &v2("/lookup")).bearer_auth(&user.token);
    server.send(request.header("x-forwarded-for", "203.0.113.7").body(body.to_string())).await.ok()
}

/// A request from an IP address with a user agent.
async fn call(server: &Server, ip: &str, program: &[u8], path: &str) -> Reply {
    let program = HeaderValue::from_bytes(program).expect("a header");
    let request = server.build(Method::GET, path).header("x-forwarded-for", ip).header("user-agent", program);
    server.send(request).await
}

/// The lookups of an address in its owner's export.
async fn looked_up(server: &Server, address: &str) -> Value {
    server.control("/export", &json!({ "address": address })).await["lookups"].clone()
}

#[tokio::test]
async fn a_full_log_has_the_hashes_as_they_were_sent() {
    let (server, alice, pepper) = server_with(|_| {}).await;
    let [known, unknown] = [KNOWN, UNKNOWN].map(|address| hash(address, "email", &pepper));
    // The log leaves out values that are not hashes, which a faulty client may send.
    let addresses = json!([known, unknown, known, "clumsy@example.org", "", "\"\n{"]);
    let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": addresses });
    assert_eq!(look_up(&server, &alice, &body).await["mappings"], json!({ &known: alice.id }));
    let now = server.clock.now().0;
    server.clock.forward(Duration::from_secs(1));
    let none = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [] });
    look_up(&server, &alice, &none).await;
    let row = |ts: u64, found: Value, not_found: Value, addresses: u64, matches: u64| {
        json!({
            "ts": ts, "account": alice.id, "ip": "203.0.113.7", "algorithm": "sha256",
            "found": found, "not_found": not_found, "addresses": addresses, "matches": matches,
        })
    };
    let expected =
        [row(now, json!([known]), json!([unknown]), 6, 1), row(now + 1000, json!([]), json!([]), 0, 0)];
    let data_dir = &server.config.data_dir;
    assert_eq!(until_rows(&server, "lookup", 2).await, expected);
    assert!(files_with(data_dir, b"clumsy@example.org").is_empty());
    assert_eq!(looked_up(&server, KNOWN).await, json!([{ "at": now, "found": true }]));
    assert_eq!(looked_up(&server, UNKNOWN).await, json!([{ "at": now, "found": false }]));
    assert_eq!(looked_up(&server, "else@example.org").await, json!([]));
    // Only the owner of the directory may read the logs.
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir.join("logs")), 0o700);
    let file = data_dir.join("logs/lookup-2027-01-15.jsonl");
    assert_eq!((files(data_dir, "lookup"), mode(&file)), (vec![file.clone()], 0o600));
}

#[tokio::test]
async fn a_refused_lookup_is_no_lookup() {
    let (server, alice, pepper) = server_with(|config| config.lookup.max_addresses = 1).await;
    for (pepper, addresses) in [("stale", json!(["x"])), (&pepper, json!(["x", "y"]))] {
        let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": addresses });
        assert_eq!(server.post("/lookup", &alice, &body).await.status, 400);
    }
    let server = server.restart(|_| {});
    assert!(files(&server.config.data_dir, "lookup").is_empty());
}

#[tokio::test]
async fn a_summary_has_no_addresses_and_off_is_off() {
    let (server, alice, pepper) = server_with(|config| config.privacy.lookup_log = LookupLog::Summary).await;
    let addresses = [KNOWN, UNKNOWN].map(|address| hash(address, "email", &pepper));
    let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": addresses });
    look_up(&server, &alice, &body).await;
    let expected = json!({
        "ts": 1_800_000_000_000_u64, "account": alice.id, "ip": "203.0.113.7", "algorithm": "sha256",
        "addresses": 2, "matches": 1,
    });
    assert_eq!(until_rows(&server, "lookup", 1).await, [expected]);
    assert_eq!(looked_up(&server, KNOWN).await, json!([]), "a summary does not know");
    let server = server.restart(|config| config.privacy.lookup_log = LookupLog::Off);
    look_up(&server, &alice, &body).await;
    let server = server.restart(|_| {});
    assert_eq!(rows(&server.config.data_dir, "lookup").len(), 1, "the one from before");
}

#[tokio::test]
async fn an_address_in_the_clear_is_never_in_the_log() {
    let dir = TempDir::new().expect("a directory");
    let data_dir = dir.path().join("data");
    let (server, alice, pepper) = server_with(|config| {
        config.lookup.allow_none = true;
        config.data_dir = data_dir.clone();
    })
    .await;
    let addresses = [KNOWN, UNKNOWN].map(|address| format!("{address} email"));
    let body = json!({ "algorithm": "none", "pepper": pepper, "addresses": addresses });
    assert_eq!(look_up(&server, &alice, &body).await["mappings"], json!({ &addresses[0]: alice.id }));
    until_rows(&server, "lookup", 1).await;
    let at = server.clock.now().0;
    assert_eq!(looked_up(&server, UNKNOWN).await, json!([{ "at": at, "found": false }]));
    drop(server);
    let name = ServerName::parse("id.test").expect("a name");
    let store = Store::open(&data_dir, 1 << 20, &name, || genesis(Millis(1))).expect("a database");
    let key = store.read().session_key().expect("a key");
    let [known, unknown] =
        [KNOWN, UNKNOWN].map(|address| logs::clear_hash(&key, &Address::email(address).expect("an address")));
    let row = &rows(&data_dir, "lookup")[0];
    assert_eq!((&row["algorithm"], &row["found"]), (&json!("none"), &json!([known])));
    assert_eq!(row["not_found"], json!([unknown]));
    assert_ne!(known, hash(KNOWN, "email", &pepper));
    assert!(files_with(&data_dir, UNKNOWN.as_bytes()).is_empty());
    assert!(files_with(&data_dir.join("logs"), KNOWN.as_bytes()).is_empty());
}

#[tokio::test]
async fn nothing_that_callers_send_breaks_a_row() {
    let server = Server::start().await;
    let ping = v2("");
    let programs: [&[u8]; 4] =
        [b"Q\"uote\\ {},[]'", b"tab\tand \xff\xfe", "caf\u{e9} \u{202e}\u{85}".as_bytes(), b""];
    for program in programs {
        call(&server, "203.0.113.7", program, &ping).await;
    }
    call(&server, "203.0.113.7", &[b'x'; 1000], &ping).await;
    call(&server, "203.0.113.7", &[&[b'x'; 200][..], b"y"].concat(), &ping).await;
    let homeserver = server.homeserver.name().to_owned();
    let strange = format!("@qu\"o\\te:{homeserver}");
    let token = server.homeserver.openid_token(&strange);
    let registered = server.register_with(&homeserver, &token).await;
    let server = server.restart(|_| {});
    let rows = rows(&server.config.data_dir, "access");
    let mut agents: Vec<&str> = rows
        .iter()
        .filter(|row| row["ip"] == "203.0.113.7")
        .map(|row| row["agent"].as_str().expect("text"))
        .collect();
    agents.sort_unstable();
    let mut expected = [
        "",
        "Q\"uote\\ {},[]'",
        "caf\u{e9} \u{fffd}\u{fffd}",
        "tab\u{fffd}and \u{fffd}\u{fffd}",
        &"x".repeat(200),
    ];
    expected.sort_unstable();
    assert_eq!(agents, expected);
    let long = rows.iter().find(|row| row["agent"] == "x".repeat(200)).expect("a row");
    assert_eq!(long["status"], 2, "user agents that differ only after the cut count as one");
    // Homeservers choose Matrix IDs, and some contain quotation marks.
    let token = registered.ok()["token"].as_str().expect("a token").to_owned();
    let user = User { id: strange.clone(), token };
    let url = &server.config.terms["terms"].languages["en"].url;
    server.post("/terms", &user, &json!({ "user_accepts": [url] })).await.ok();
    assert_eq!(server.find(&user, KNOWN).await, None);
    assert_eq!(until_rows(&server, "lookup", 1).await[0]["account"], strange);
}

#[tokio::test]
async fn callers_are_counted_by_what_they_ask_for() {
    let server = Server::start().await;
    let data_dir = server.config.data_dir.clone();
    // The rightmost address that is not a trusted proxy is the caller.
    for from in ["198.51.100.1", "6.6.6.6, 198.51.100.1", "198.51.100.1, 127.0.0.1", "::ffff:198.51.100.1"] {
        assert_eq!(call(&server, from, b"Element/1", &v2("")).await.status, 200);
    }
    assert_eq!(call(&server, "198.51.100.1", b"Element/1", &v2("/hash_details")).await.status, 401);
    assert_eq!(call(&server, "198.51.100.1", b"Scanner/2", "/wp-login.php").await.status, 404);
    assert_eq!(call(&server, "2001:db8::7", b"Mozilla/5", "/").await.status, 200);
    // The counts are written once a minute.
    assert!(files(&data_dir, "access").is_empty());
    let written = async || {
        server.clock.forward(Duration::from_secs(60));
        files(&data_dir, "access").len() + files(&data_dir, "connection").len() == 2
    };
    server.until("the counts are written", written).await;
    let sorted = |kind: &str| {
        let mut rows = rows(&data_dir, kind);
        rows.sort_by_key(Value::to_string);
        rows
    };
    let day = "2027-01-15";
    let access = [
        json!({ "day": day, "ip": "198.51.100.1", "agent": "Element/1", "status": 4, "hash_details": 1 }),
        json!({ "day": day, "ip": "198.51.100.1", "agent": "Scanner/2", "other": 1 }),
        json!({ "day": day, "ip": "2001:db8::7", "agent": "Mozilla/5", "page": 1 }),
    ];
    let connections = [
        json!({ "day": day, "ip": "198.51.100.1", "requests": 6, "refused": 2 }),
        json!({ "day": day, "ip": "2001:db8::7", "requests": 1 }),
    ];
    let all_there = |rows: Vec<Value>, expected: &[Value]| {
        assert_eq!(rows.len(), expected.len(), "{rows:?}");
        assert!(expected.iter().all(|row| rows.contains(row)), "{rows:?}");
    };
    all_there(sorted("access"), &access);
    all_there(sorted("connection"), &connections);
    // Requests at the control socket and at /metrics are not counted.
    server.metrics().await;
    let server = server.restart(|_| {});
    all_there(sorted("access"), &access);
    drop(server);
}

#[tokio::test]
async fn a_restart_goes_on_counting_and_days_are_apart() {
    let server = Server::start().await;
    let data_dir = server.config.data_dir.clone();
    let day = |row: &Value| row["day"].as_str().expect("a day").to_owned();
    let counted = |kind: &str, column: &str| {
        let rows = rows(&data_dir, kind);
        let mut counted: Vec<(String, u64)> =
            rows.iter().map(|row| (day(row), row[column].as_u64().expect("a number"))).collect();
        counted.sort();
        counted
    };
    let visit = async |server: &Server| call(server, "203.0.113.7", b"Mozilla/5", "/").await;
    let expect = |days: &[(&str, u64)]| {
        let days: Vec<(String, u64)> = days.iter().map(|(day, count)| ((*day).to_owned(), *count)).collect();
        assert_eq!(counted("access", "page"), days);
        assert_eq!(counted("connection", "requests"), days);
    };
    visit(&server).await;
    visit(&server).await;
    let server = server.restart(|_| {});
    expect(&[("2027-01-15", 2)]);
    visit(&server).await;
    server.clock.forward(DAY);
    visit(&server).await;
    let server = server.restart(|_| {});
    expect(&[("2027-01-15", 3), ("2027-01-16", 1)]);
    // After the clock is set back, the counts of that day are still there.
    server.clock.back(DAY);
    visit(&server).await;
    let server = server.restart(|_| {});
    expect(&[("2027-01-15", 4), ("2027-01-16", 1)]);
    let names =
        files(&data_dir, "access").into_iter().map(|path| path.file_name().map(|name| name.to_owned()));
    let names: Vec<_> = names.flatten().collect();
    assert_eq!(names, ["access-2027-01-15.jsonl", "access-2027-01-16.jsonl"]);
    drop(server);
}

/// Files of every log for a day, each with one row.
fn lay_down(data_dir: &Path, day: Day) -> Vec<PathBuf> {
    let folder = logs::folder(data_dir);
    fs::create_dir_all(&folder).expect("a folder");
    let files = ["lookup", "access", "connection"].map(|kind| folder.join(format!("{kind}-{day}.jsonl")));
    for file in &files {
        fs::write(file, "{\"of\":\"a day\"}\n").expect("written");
    }
    files.into()
}

#[test]
fn a_file_goes_before_its_first_row_is_too_old() {
    let dir = TempDir::new().expect("a directory");
    let privacy = Privacy::default();
    let day = Day::parse("2027-01-15").expect("a day");
    let files = lay_down(dir.path(), day);
    let unfinished = files[1].with_extension("jsonl.new");
    fs::write(&unfinished, "half").expect("written");
    let other = logs::folder(dir.path()).join("notes.txt");
    fs::write(&other, "the operator's own").expect("written");
    let unlink =
        |now: Millis| logs::unlink_expired(&logs::folder(dir.path()), now, &privacy).expect("unlinked");
    let age = |days: u32| Millis(day.start().0 + (DAY * days - LOG_MARGIN).as_millis() as u64);
    for (file, days, gone) in [(&files[0], 7, 1), (&files[1], 60, 2), (&files[2], 180, 1)] {
        let goes = age(days);
        assert_eq!(unlink(Millis(goes.0 - 1)), 0);
        assert!(file.exists());
        assert_eq!(unlink(goes), gone);
        assert!(!file.exists());
    }
    assert!(!unfinished.exists(), "as old as the file that it was to become");
    assert!(other.exists());
    assert_eq!(unlink(Millis(u64::MAX)), 0);
    // A file from the future, which a wrong clock wrote, has no known age, so it is deleted.
    lay_down(dir.path(), Day(day.0 + 2));
    assert_eq!(unlink(Day(day.0 + 1).start()), 0);
    assert_eq!(unlink(Millis(Day(day.0 + 1).start().0 - 1)), 3);
    assert_eq!(logs::unlink_expired(&dir.path().join("elsewhere"), age(1), &privacy).expect("nothing"), 0);
}

#[test]
fn what_is_held_and_when_it_goes() {
    let dir = TempDir::new().expect("a directory");
    let privacy = Privacy { access_log_days: at_least_one(2), ..Privacy::default() };
    let nothing = logs::held(&logs::folder(dir.path()), &privacy).expect("readable");
    assert!(nothing.iter().all(|held| held.rows == 0 && held.bytes == 0 && held.oldest.is_none()));
    let day = Day::parse("2027-01-15").expect("a day");
    lay_down(dir.path(), Day(day.0 + 1));
    let files = lay_down(dir.path(), day);
    fs::write(&files[1], "{}\n".repeat(50_000)).expect("written");
    let held = logs::held(&logs::folder(dir.path()), &privacy).expect("readable");
    let goes = |days: u32| Millis(day.start().0 + (DAY * days - LOG_MARGIN).as_millis() as u64);
    let expected = |kind, rows, bytes, days| Held { kind, rows, bytes, oldest: Some((day, goes(days))) };
    let size = "{\"of\":\"a day\"}\n".len() as u64;
    assert_eq!(
        held,
        [
            expected(LogKind::Lookup, 2, 2 * size, 7),
            expected(LogKind::Access, 50_001, 150_000 + size, 2),
            expected(LogKind::Connection, 2, 2 * size, 180),
        ]
    );
}

#[tokio::test]
async fn what_has_expired_is_in_no_file_and_does_not_come_back() {
    let (server, alice, pepper) = server_with(|_| {}).await;
    let data_dir = server.config.data_dir.clone();
    let looked_up = hash("somebody@example.org", "email", &pepper);
    let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [looked_up] });
    look_up(&server, &alice, &body).await;
    call(&server, "198.51.100.99", b"Distinctive/3", "/").await;
    until_rows(&server, "lookup", 1).await;
    let written = async || {
        server.clock.forward(Duration::from_secs(60));
        !files_with(&data_dir, b"Distinctive/3").is_empty()
            && files_with(&data_dir, b"198.51.100.99").len() == 2
    };
    server.until("the counts are written", written).await;
    assert_eq!(files_with(&data_dir, looked_up.as_bytes()).len(), 1);
    let privacy = &server.config.privacy;
    let unlink = |server: &Server| {
        logs::unlink_expired(&logs::folder(&data_dir), server.clock.now(), privacy).expect("unlinked");
    };
    for (days, traces) in [
        (7, vec![looked_up.as_bytes(), b"203.0.113.7\",\"algorithm"]),
        (53, vec![b"Distinctive/3"]),
        (120, vec![b"198.51.100.99", b"203.0.113.7"]),
    ] {
        // Requests continue all the time.
        server.clock.forward(DAY * (days - 1));
        unlink(&server);
        call(&server, "192.0.2.1", b"Later/1", "/").await;
        assert!(traces.iter().all(|trace| !files_with(&data_dir, trace).is_empty()), "not before its time");
        server.clock.forward(DAY);
        unlink(&server);
        call(&server, "192.0.2.1", b"Later/1", "/").await;
        server.clock.forward(Duration::from_secs(60));
        until_written(&server, "Later/1").await;
        assert!(traces.iter().all(|trace| files_with(&data_dir, trace).is_empty()), "{days} days");
    }
    let server = server.restart(|_| {});
    for trace in [looked_up.as_bytes(), b"Distinctive/3", b"198.51.100.99"] {
        assert!(files_with(&data_dir, trace).is_empty());
    }
    drop(server);
}

/// Waits until today's access log names a user agent.
async fn until_written(server: &Server, program: &str) {
    let written = async || {
        server.clock.forward(Duration::from_secs(60));
        let today = Day::of(server.clock.now());
        let file = server.config.data_dir.join(format!("logs/access-{today}.jsonl"));
        fs::read_to_string(file).is_ok_and(|text| text.contains(program))
    };
    server.until("the counts are written", written).await;
}

#[tokio::test]
async fn the_writer_waits_for_the_disk_and_no_request_does() {
    let dir = TempDir::new().expect("a directory");
    let data_dir = dir.path().join("data");
    fs::create_dir_all(data_dir.join("logs")).expect("a folder");
    // A disk that blocks for a while: a pipe without a reader.
    let pipe = data_dir.join("logs/lookup-2027-01-15.jsonl");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    // A disk that fails every write.
    fs::create_dir(data_dir.join("logs/access-2027-01-15.jsonl")).expect("a folder");
    let (mut server, alice, pepper) = server_with(|config| {
        config.data_dir = data_dir.clone();
        config.lookup.daily_budget = NonZeroU64::new(1 << 50).expect("not zero");
    })
    .await;
    // The question what is left would read the pipe.
    server.leaves_jobs();
    let addresses: Vec<String> = (0..10_000).map(|number| format!("{number:0>42}0")).collect();
    let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": addresses });
    let count = |metrics: &str, log: &str| {
        let name = format!("bindery_log_rows_lost_total{{log=\"{log}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<usize>().ok())
    };
    // The writer has one batch, the queue holds this many bytes, and the rest is dropped.
    let sent = 45;
    for _ in 0..sent {
        look_up(&server, &alice, &body).await;
    }
    let lost = async || count(&server.metrics().await, "access") > Some(0);
    server.until("what a broken disk does not take is counted", lost).await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (pipe, done) = (pipe.clone(), done.clone());
        move || {
            let (mut taken, mut piece) = (0, vec![0; 1 << 20]);
            let mut pipe = fs::OpenOptions::new().read(true).write(true).open(pipe).expect("a pipe");
            while !done.load(Ordering::SeqCst) {
                let length = pipe.read(&mut piece).expect("readable");
                taken += piece[..length].iter().filter(|byte| **byte == b'\n').count();
            }
            taken
        }
    });
    let lost = async || count(&server.metrics().await, "lookup") > Some(0);
    server.until("what did not fit is counted", lost).await;
    let lost = count(&server.metrics().await, "lookup").expect("counted");
    drop(server);
    // One more line ends the reader's wait.
    done.store(true, Ordering::SeqCst);
    fs::write(&pipe, "\n").expect("the reader takes it");
    assert!(lost > 0 && lost < sent, "{lost}");
    assert_eq!(reader.join().expect("it reads"), sent - lost + 1);
}

#[tokio::test]
async fn a_row_that_was_cut_short_spoils_no_other() {
    let (server, alice, pepper) = server_with(|_| {}).await;
    let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": ["x"] });
    look_up(&server, &alice, &body).await;
    until_rows(&server, "lookup", 1).await;
    let data_dir = server.config.data_dir.clone();
    let file = &files(&data_dir, "lookup")[0];
    let whole = fs::read_to_string(file).expect("text");
    fs::write(file, format!("{whole}{}", &whole[..whole.len() / 2])).expect("written");
    let seen = || {
        let mut seen = Vec::new();
        let each = |row: &str| {
            seen.push(row.to_owned());
            Ok(())
        };
        logs::for_each_row(&logs::folder(&data_dir), LogKind::Lookup, Day(0), each).expect("readable");
        seen
    };
    assert_eq!(seen(), [whole.trim_end()]);
    look_up(&server, &alice, &body).await;
    server.until("the second row is there", async || seen().len() == 2).await;
    assert_eq!(seen(), [whole.trim_end(), whole.trim_end()]);
    // Unreadable counts are left out; the others stay.
    call(&server, "203.0.113.7", b"Mozilla/5", "/").await;
    // The row for the callers beyond the limit stays too.
    let others = json!({ "day": "2027-01-15", "ip": null, "agent": "", "page": 7 });
    let damage = |server: &Server| {
        let file = server.config.data_dir.join("logs/access-2027-01-15.jsonl");
        let text = fs::read_to_string(&file).expect("text");
        fs::write(file, format!("nonsense\n{{\"day\":1}}\n{others}\n{text}")).expect("written");
    };
    let server = server.restart(|_| {});
    damage(&server);
    call(&server, "203.0.113.7", b"Mozilla/5", "/").await;
    let server = server.restart(|_| {});
    let rows = rows(&server.config.data_dir, "access");
    let row = rows.iter().find(|row| row["agent"] == "Mozilla/5").expect("a row");
    assert_eq!(row["page"], 2);
    assert!(rows.contains(&others), "{rows:?}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Runs `bindery log`.
fn show(config: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
    command.arg("log").args(words).arg("--config").arg(config).output().expect("the program runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_operator_reads_the_logs_whether_or_not_the_server_runs() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let output = show(&config, &["lookups"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there are no logs in"), "{}", text(&output.stderr));

    let mut program = Program::start(&config);
    let alice = format!("@alice:{}", homeserver.name());
    let client = crate::support::client();
    let post = async |path: &str, token: &str, body: Value| {
        let request = client.post(format!("{}{}", program.base, v2(path))).bearer_auth(token);
        let request = request.header("x-forwarded-for", "203.0.113.7").header("user-agent", "Talkative/1");
        let response = request.body(body.to_string()).send().await.expect("an answer");
        serde_json::from_slice::<Value>(&response.bytes().await.expect("a body")).expect("JSON")
    };
    let registration = json!({
        "access_token": homeserver.openid_token(&alice), "token_type": "Bearer",
        "matrix_server_name": homeserver.name(), "expires_in": 3600,
    });
    let token = post("/account/register", "", registration).await["token"].as_str().expect("one").to_owned();
    accept_terms(&program.base, &token).await;
    let lookup = |pepper: &Value, addresses: Value| json!({ "algorithm": "sha256", "pepper": pepper, "addresses": addresses });
    let pepper = post("/lookup", &token, lookup(&json!("stale"), json!([]))).await["lookup_pepper"].clone();
    let unknown = hash(UNKNOWN, "email", pepper.as_str().expect("a pepper"));
    post("/lookup", &token, lookup(&pepper, json!([unknown, "x"]))).await;

    let lookups = |more: &[&str]| text(&show(&config, &[&["lookups"], more].concat()).stdout);
    until("rows are written while the server runs", async || !lookups(&["--json"]).is_empty()).await;
    let shown = lookups(&["--json"]);
    let row: Value = serde_json::from_str(shown.trim_end()).expect("one row of JSON");
    assert_eq!((&row["account"], &row["not_found"]), (&json!(alice), &json!([unknown])));
    let table = lookups(&[]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    let words: Vec<&str> = lines[1].split_whitespace().skip(2).collect();
    assert_eq!(words, [homeserver.name(), "alice", "203.0.113.7", "sha256", "2", "0"]);
    assert!(lines[0].starts_with("time (UTC)") && lines[0].ends_with("matches"), "{table}");
    let nothing = "No row matches.\n";
    for (words, is_there) in [
        (&["--account", alice.as_str()][..], true),
        (&["--account", "@bob:hs.test"], false),
        (&["--ip", "203.0.113.7"], true),
        (&["--ip", "::ffff:203.0.113.7"], true),
        (&["--ip", "203.0.113.8"], false),
        (&["--since", "1"], true),
        (&["--since", "2020-02-29"], true),
        (&["--since", "2999-01-01"], false),
        (&["--since", "1", "--ip", "203.0.113.7", "--account", alice.as_str()], true),
    ] {
        assert_eq!(lookups(words) == table, is_there, "{words:?}");
        assert_eq!(lookups(words) == nothing, !is_there, "{words:?}");
    }
    assert_eq!(lookups(&["--json", "--ip", "203.0.113.8"]), "", "nothing is nothing in JSON");
    for (words, said) in [
        (["lookups", "--since", "yesterday"], "'yesterday' is neither a day like 2027-01-15 nor a number"),
        (["access", "--since", "2027-02-30"], "neither a day"),
        (["lookups", "--ip", "here"], "'here' is not an IP address"),
        (["lookups", "--account", "alice"], "'alice' is not a Matrix ID; write it whole"),
    ] {
        let output = show(&config, &words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
    assert_eq!(show(&config, &["access", "--account", &alice]).status.code(), Some(2));

    kill_process(Pid::from_child(&program.child), Signal::TERM).expect("a signal");
    program.child.wait().expect("it ends");
    let access = text(&show(&config, &["access", "--ip", "203.0.113.7"]).stdout);
    let line = access.lines().nth(1).expect("a row");
    assert!(line.contains("lookup 2, register 1") && line.ends_with("Talkative/1"), "{access}");
    let connections = text(&show(&config, &["connections", "--ip", "203.0.113.7"]).stdout);
    let words: Vec<&str> = connections.lines().nth(1).expect("a row").split_whitespace().skip(1).collect();
    assert_eq!(words, ["203.0.113.7", "3", "1"]);
    let json = text(&show(&config, &["connections", "--ip", "203.0.113.7", "--json"]).stdout);
    let row: Value = serde_json::from_str(json.trim_end()).expect("one row of JSON");
    assert_eq!((&row["requests"], &row["refused"]), (&json!(3), &json!(1)));
    let mut audit = Command::new(env!("CARGO_BIN_EXE_bindery"));
    let audit = audit.args(["audit", "--json", "--config"]).arg(&config).output().expect("it runs");
    let readings = text(&audit.stdout).lines().filter(|line| line.contains("\"log_reading\"")).count();
    assert!(readings >= 14, "each reading is written down: {readings}");
    let file = files(&dir.path().join("data"), "connection").pop().expect("a file");
    let others = json!({ "day": row["day"], "ip": null, "requests": 5 });
    fs::write(file, format!("{others}\n")).expect("written");
    let connections = text(&show(&config, &["connections"]).stdout);
    let words: Vec<&str> = connections.lines().nth(1).expect("a row").split_whitespace().skip(1).collect();
    assert_eq!(words, ["all", "others", "5", "0"]);
    let mut said = String::new();
    program.log.read_to_string(&mut said).expect("its log");
    for secret in ["203.0.113.7", "Talkative", "alice", &unknown] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}
