//! The commands, run as an operator runs them: the real program, its words and exit statuses.

mod asked;
mod control;
mod directory;
mod etc;
mod files;
mod init;

use std::{io::Read, process::Output};

use bindery::{
    domain::{
        audit::{By, Deed},
        server_name::ServerName,
        time::Millis,
    },
    ops::genesis,
    store::Store,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    support::program::{Program, bindery, config_file},
    support::{accept_terms, homeserver::Homeserver, v2, words},
};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = bindery();
    command.args(arguments).envs(environment.iter().copied()).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn a_wrong_configuration_is_status_78_and_says_what_to_do() {
    let output = run(&["config", "check"], &[("BINDERY_HTTP__LISTN", "x")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("did you mean 'http.listen'?"), "{}", text(&output.stderr));
    let output = run(&["serve", "--config", "/nowhere/bindery.toml"], &[]);
    assert_eq!(output.status.code(), Some(78));
    let output = run(&["config", "check"], &[("BINDERY_HOMESERVERS__EXTRA_CA_FILE", "/nowhere/ca.pem")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("/nowhere/ca.pem"));
    // What only a server reads cannot keep the operator from their data.
    let environment =
        [("BINDERY_HOMESERVERS__EXTRA_CA_FILE", "/nowhere/ca.pem"), ("BINDERY_DATA_DIR", "/nowhere")];
    let output = run(&["retention", "status"], &environment);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no database in /nowhere"), "{}", text(&output.stderr));
    assert_eq!(run(&["dance"], &[]).status.code(), Some(2));
}

#[test]
fn p18_a_period_that_is_too_long_is_refused_with_the_sentence_it_breaks() {
    for (key, days, sentence) in [
        ("LOOKUP_LOG_DAYS", "8", "which addresses were looked up is kept for seven days at most"),
        ("ACCESS_LOG_DAYS", "61", "user agent of a caller are kept for sixty days at most"),
        ("CONNECTION_LOG_DAYS", "181", "the IP addresses of connections are kept for 180 days at most"),
        ("DELETED_BINDING_DAYS", "31", "what was removed is gone from every database within thirty days"),
        ("IDLE_ACCOUNT_DAYS", "366", "an account that nobody uses is forgotten after a year"),
    ] {
        for command in [&["serve"][..], &["config", "check"]] {
            let output = run(command, &[(&format!("BINDERY_PRIVACY__{key}"), days)]);
            assert_eq!(output.status.code(), Some(78), "{key}");
            let said = text(&output.stderr);
            assert!(said.contains(sentence) && said.contains(&key.to_ascii_lowercase()), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn config_check_says_what_has_to_be_accepted_and_how_many_would_be_asked() {
    let homeserver = Homeserver::start();
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let config = config.to_str().expect("UTF-8");
    let check = |days: &str| {
        let days = [("BINDERY_PRIVACY__ACCESS_LOG_DAYS", days)];
        let output = run(&["config", "check", "--config", config], &days);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = check("60");
    assert!(said.contains("People have to accept the privacy notice privacy_policy, version "), "{said}");
    assert!(said.contains("https://id.test/privacy/") && said.contains("There is no database yet"), "{said}");
    assert!(said.contains("Warning: operator.name is empty"), "{said}");
    assert!(!dir.path().join("data").exists(), "looking creates nothing");

    let file = std::fs::read_to_string(config).expect("readable");
    std::fs::write(config, file + "privacy.access_log_days = 50\n").expect("written");
    let mut program = Program::start(config.as_ref());
    invite(&program, &homeserver, &[]).await;
    for is_running in [true, false] {
        let said = check("60");
        let expected = "have accepted something before: 1. Of these, 1 will be asked";
        assert!(said.contains(expected), "running: {is_running}: {said}");
        for shorter in ["50", "40"] {
            let expected = "have accepted something before: 1. None is asked again.";
            assert!(check(shorter).contains(expected), "running: {is_running}");
        }
        if is_running {
            program.stop();
        }
    }
    let database = dir.path().join("data/bindery.redb");
    std::fs::write(database, vec![7; 10_000]).expect("written");
    let said = check("60");
    assert!(
        said.contains("how many accounts would be asked to accept it: cannot open the database"),
        "{said}"
    );
}

#[test]
fn what_serve_would_stumble_over_is_said_before() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (empty, marked) = (file("empty", "\n"), file("marked", "\u{feff}secret\n"));
    let long = format!("/tmp/{}", "d".repeat(100));
    let smtp = [("BINDERY_MAIL__TRANSPORT", "smtp"), ("BINDERY_MAIL__SMTP__USERNAME", "u")];
    for (variables, expected) in [
        (vec![smtp[0], smtp[1], ("BINDERY_MAIL__SMTP__PASSWORD_FILE", empty.as_str())], "has no password"),
        (vec![smtp[0], smtp[1], ("BINDERY_MAIL__SMTP__PASSWORD_FILE", marked.as_str())], "byte order mark"),
        (vec![("BINDERY_DATA_DIR", long.as_str())], "too long for the operator's socket"),
    ] {
        let output = run(&["config", "check"], &variables);
        assert_eq!(output.status.code(), Some(78));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_good_configuration_is_called_good_and_the_example_is_one() {
    let output = run(&["config", "check"], &[]);
    assert!(output.status.success() && text(&output.stdout).starts_with("The configuration is good."));
    let example = run(&["config", "example"], &[]);
    let dir = tempfile::TempDir::new().expect("a directory");
    let path = dir.path().join("bindery.toml");
    std::fs::write(&path, &example.stdout).expect("written");
    assert!(run(&["config", "check", "--config", path.to_str().expect("UTF-8")], &[]).status.success());
    let by_variable = run(&["config", "check"], &[("BINDERY_CONFIG", path.to_str().expect("UTF-8"))]);
    assert!(by_variable.status.success());
}

#[test]
fn sigterm_drains_and_a_second_start_says_who_holds_the_directory() {
    let homeserver = Homeserver::start();
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Program::start(&config);
        let second = run(&["serve", "--config", config.to_str().expect("UTF-8")], &[]);
        assert_eq!(second.status.code(), Some(1));
        let holder = format!("in use by process {}", program.child.id());
        assert!(text(&second.stderr).contains(&holder), "{}", text(&second.stderr));
        kill_process(Pid::from_child(&program.child), signal).expect("a signal");
        assert!(program.child.wait().expect("it ends").success());
        let mut rest = String::new();
        program.log.read_to_string(&mut rest).expect("its last words");
        assert!(rest.contains("the database is closed"), "{rest}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::TempDir::new().expect("a directory");
    let listen = format!("[\"{address}\"]");
    let data = dir.path().to_str().expect("UTF-8");
    let output = run(&["serve"], &[("BINDERY_HTTP__LISTEN", &listen), ("BINDERY_DATA_DIR", data)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&format!("cannot listen on {address}")),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn every_start_says_that_a_copy_from_before_an_update_is_there() {
    // A taken port ends each start after the database was opened.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("[\"{}\"]", taken.local_addr().expect("an address"));
    let dir = tempfile::TempDir::new().expect("a directory");
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/databases/schema-2.redb");
    std::fs::copy(old, dir.path().join("bindery.redb")).expect("copied");
    let data = dir.path().to_str().expect("UTF-8");
    let environment = [
        ("BINDERY_SERVER_NAME", "id.test"),
        ("BINDERY_PUBLIC_BASE_URL", "https://id.test"),
        ("BINDERY_HTTP__LISTEN", &listen),
        ("BINDERY_DATA_DIR", data),
    ];
    for _ in 0..2 {
        let said = text(&run(&["serve"], &environment).stderr);
        assert!(said.contains("from before an update") && said.contains("bindery.redb.schema-2"), "{said}");
    }
}

/// Registers alice with the program and invites these addresses.
async fn invite(program: &Program, homeserver: &Homeserver, addresses: &[&str]) {
    let alice = format!("@alice:{}", homeserver.name());
    let client = crate::support::client();
    let post = async |path: &str, token: &str, body: Value| {
        let request = client.post(format!("{}{}", program.base, v2(path))).bearer_auth(token);
        let response = request.body(body.to_string()).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        serde_json::from_slice::<Value>(&response.bytes().await.expect("a body")).expect("JSON")
    };
    let registration = json!({
        "access_token": homeserver.openid_token(&alice), "token_type": "Bearer",
        "matrix_server_name": homeserver.name(), "expires_in": 3600,
    });
    let registered = post("/account/register", "", registration).await;
    let token = registered["token"].as_str().expect("a token");
    accept_terms(&program.base, token).await;
    for address in addresses {
        let body = json!({ "medium": "email", "address": address, "room_id": "!a:b", "sender": alice });
        post("/store-invite", token, body).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_operator_cancels_invitations_whether_or_not_the_server_runs() {
    let homeserver = Homeserver::start();
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let config = config.to_str().expect("UTF-8");
    let cancel = |which: &[&str]| {
        let output = run(&[&["invitations", "cancel", "--config", config], which].concat(), &[]);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (status, said) = cancel(&["--address", "a@example.org"]);
    assert!(status == Some(1) && said.contains("there is no database in"), "{said}");

    let mut program = Program::start(config.as_ref());
    let people = ["a@example.org", "b@example.org", "c@example.org", "d@example.org"];
    invite(&program, &homeserver, &people).await;
    let alice = format!("@alice:{}", homeserver.name());
    for is_running in [true, false] {
        let (first, rest) =
            if is_running { ("A@Example.org", "@nobody:hs.test") } else { ("b@example.org", &*alice) };
        assert_eq!(cancel(&["--address", first]), (Some(0), "One invitation was cancelled.\n".to_owned()));
        let nothing = (Some(0), "No pending invitation matches, so none was cancelled.\n".to_owned());
        assert_eq!(cancel(&["--address", first]), nothing);
        assert_eq!(cancel(&["--token", "unknown"]), nothing);
        let all = if is_running { nothing } else { (Some(0), "2 invitations were cancelled.\n".to_owned()) };
        assert_eq!(cancel(&["--sender", rest]), all);
        for (wrong, words) in [
            (["--address", "nobody"], "not an email address"),
            (["--sender", "alice"], "not a Matrix ID"),
            (["--token", ""], "not a token"),
        ] {
            let (status, said) = cancel(&wrong);
            assert!(status == Some(1) && said.contains(words), "{said}");
        }
        if is_running {
            program.stop();
        }
    }
    for wrong in [&[][..], &["--token", "a", "--sender", "@a:b"]] {
        assert_eq!(cancel(wrong).0, Some(2));
    }
}

#[test]
fn an_operator_replaces_the_pepper_whether_or_not_the_server_runs() {
    let homeserver = Homeserver::start();
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let rotate = || {
        let output = run(&["pepper", "rotate", "--config", config.to_str().expect("UTF-8")], &[]);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (status, said) = rotate();
    assert!(status == Some(1) && said.contains("there is no database in"), "{said}");
    let mut program = Program::start(&config);
    for is_running in [true, false] {
        let (status, said) = rotate();
        assert!(status == Some(0) && said.starts_with("A new pepper is in use"), "{said}");
        if is_running {
            program.stop();
        }
    }
    let name = ServerName::parse("id.test").expect("a name");
    let store = Store::open(&dir.path().join("data"), 1 << 20, &name, || genesis(Millis(1)));
    let store = store.expect("the same database");
    let snapshot = store.read();
    let audit = (0..3).map_while(|number| snapshot.audit_entry(number).expect("readable"));
    let audit = audit.map(|entry| (entry.deed, entry.by, entry.subject)).collect::<Vec<_>>();
    assert_eq!(audit, [(Deed::PepperRotation, By::Operator, None); 2]);
    assert_eq!(snapshot.peppers().len(), 3);
    let mut said = String::new();
    program.log.read_to_string(&mut said).expect("what it has logged");
    assert!(snapshot.peppers().iter().all(|index| !said.contains(&index.pepper)), "{said}");
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_walks_from_registration_to_an_empty_lookup() {
    let output = run(&["demo", "--once"], &[]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    let mut rest = shown.as_str();
    for step in [
        "/account/register",
        "M_TERMS_NOT_SIGNED",
        "/terms",
        "\"privacy_policy\"",
        "/privacy/",
        "alice has accepted it",
        "/validate/email/requestToken",
        "The mail to alice@example.org",
        &words::text("en", "ask", "title"),
        &words::text("en", "verified", "title"),
        "{\"mappings\":{}}",
        "/3pid/bind",
        "so he finds alice",
        "/3pid/unbind",
        "bob finds nothing any more",
        "/store-invite",
        "/#/room/",
        "What her homeserver hears",
        "\"invites\":[{",
        "/validate/msisdn/requestToken",
        words::message("en").split("{{").nth(1).and_then(|rest| rest.split("}}").nth(1)).expect("words"),
        "so he finds alice by it",
    ] {
        let at = rest
            .find(step)
            .unwrap_or_else(|| panic!("'{step}' does not come after what precedes it:\n{shown}"));
        rest = &rest[at..];
    }
}
