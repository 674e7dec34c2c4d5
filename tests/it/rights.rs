//! Export and erasure of a person's data: complete, about no other person, immediate, and audited.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::{join_all, select_all};
use reqwest::Method;
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};

use crate::support::{Reply, Server, User, files_with, v2};

const COPY: &str = "/_bindery/v1/account/export";
const ACCOUNT: &str = "/_bindery/v1/account";

fn published_schema() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/export.schema.json")
}

/// Checks an export against the published schema.
#[track_caller]
fn check_against_schema(document: &Value) {
    let schema = fs::read_to_string(published_schema()).expect("the schema");
    let schema = serde_json::from_str(&schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    if let Err(error) = validator.validate(document) {
        panic!("{error}\n{document}");
    }
}

async fn copy(server: &Server, user: &User) -> Value {
    let copy = server.request(Method::GET, COPY, Some(&user.token), None).await.ok();
    check_against_schema(&copy);
    copy
}

/// Alice has two addresses and has sent an invitation; Bob has one address; Carol's address is invited.
async fn people() -> (Server, User, User) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "alice@example.org", "secret").await;
    server.bind(&alice, "second@example.net", "secret").await;
    server.bind(&bob, "bob@example.org", "secret").await;
    server.request_token(&bob, "unfinished@example.org", "secret", 1).await;
    server.invite(&alice, "carol@example.org", "!room:hs.test").await;
    server.invite(&bob, "dave@example.org", "!other:hs.test").await;
    (server, alice, bob)
}

#[test]
fn the_schema_is_published_as_it_is() {
    let path = published_schema();
    let schema = bindery::ops::person::export::Export::schema();
    let schema = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
    // A plain file, because it is published; the variable of insta rewrites it too.
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::write(&path, &schema).expect("written");
    }
    let published = fs::read_to_string(path).expect("the schema");
    assert_eq!(published, schema, "if you mean the change, run the test with INSTA_UPDATE=always");
}

#[tokio::test]
async fn an_account_gets_a_copy_with_its_addresses_masked_and_nobody_elses() {
    let (server, alice, bob) = people().await;
    let text = copy(&server, &alice).await;
    assert_eq!(text["subject"], json!(alice.id));
    let addresses = |member: &str| {
        let rows = text[member].as_array().expect("rows").iter();
        rows.map(|row| row["address"].as_str().expect("an address").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(addresses("bindings"), ["a...@e...", "s...@e..."]);
    assert_eq!(addresses("validation_sessions").len(), 2);
    assert_eq!(text["invitations_sent"][0]["room_id"], "!room:hs.test");
    assert_eq!(text["invitations_sent"][0]["to"], "c...@e...");
    assert_eq!(text["access_tokens"].as_array().expect("tokens").len(), 1);
    assert_eq!(text["consents"][0]["document"], "terms");
    assert_eq!(text["audit"][0]["deed"], "export");
    let text = text.to_string();
    for foreign in ["example.org", "example.net", "bob", "carol", "dave", &bob.id, &alice.token] {
        assert!(!text.contains(foreign), "{foreign} in {text}");
    }
}

#[tokio::test]
async fn rights_need_a_token_and_no_consent() {
    let server = Server::start().await;
    for (method, path) in [(Method::GET, COPY), (Method::DELETE, ACCOUNT)] {
        server.request(method.clone(), path, None, None).await.refused(401, "M_UNAUTHORIZED");
        server.request(method.clone(), path, Some("made-up"), None).await.refused(401, "M_UNAUTHORIZED");
        server.request(Method::POST, path, None, None).await.refused(405, "M_UNRECOGNIZED");
        let alice = server.register("alice").await;
        let reply: Reply = server.request(method, path, Some(&alice.token), None).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.headers["access-control-allow-origin"], "*");
    }
    let schema = server.request(Method::GET, "/_bindery/v1/export.schema.json", None, None).await.ok();
    assert_eq!(schema["title"], "Export");
}

#[tokio::test]
async fn rights_are_limited() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for _ in 0..10 {
        copy(&server, &alice).await;
    }
    let refused = server.request(Method::GET, COPY, Some(&alice.token), None).await;
    assert!(refused.refused(429, "M_LIMIT_EXCEEDED")["retry_after_ms"].as_u64().is_some());
}

#[tokio::test]
async fn an_erased_account_leaves_nothing_and_takes_nothing_of_others() {
    let (server, alice, bob) = people().await;
    server.request(Method::DELETE, ACCOUNT, Some(&alice.token), None).await.ok();
    server.get("/account", &alice).await.refused(401, "M_UNAUTHORIZED");
    for address in ["alice@example.org", "second@example.net"] {
        assert_eq!(server.find(&bob, address).await, None);
    }
    assert_eq!(server.find(&bob, "bob@example.org").await, Some(bob.id.clone()));
    let left = copy(&server, &bob).await;
    assert_eq!(left["invitations_sent"].as_array().expect("rows").len(), 1);
    assert_eq!(left["validation_sessions"].as_array().expect("rows").len(), 2);
    let about_her = json!({ "since": 0, "about": { "mxid": alice.id } });
    let audit = server.control("/audit", &about_her).await;
    assert_eq!((&audit[0]["deed"], &audit[0]["by"]), (&json!("erasure"), &json!("account")));
    // Her invitation to Carol is gone as well, and Bob's is not.
    let copy_of_carol = server.control("/export", &json!({ "address": "carol@example.org" })).await;
    assert_eq!(copy_of_carol["invitations_received"], json!([]));
    let copy_of_dave = server.control("/export", &json!({ "address": "Dave@example.org" })).await;
    assert_eq!(copy_of_dave["invitations_received"][0]["room_id"], "!other:hs.test");
    let again = server.register("alice").await;
    server.get("/account", &again).await.refused(403, "M_TERMS_NOT_SIGNED");
}

#[tokio::test]
async fn an_operator_exports_and_erases_by_address() {
    let (server, alice, bob) = people().await;
    server.invite(&bob, "unfinished@example.org", "!third:hs.test").await;
    let whole = server.control("/export", &json!({ "address": "alice@example.org" })).await;
    check_against_schema(&whole);
    assert_eq!(whole["bindings"][0]["address"], "alice@example.org");
    assert_eq!(whole["bindings"][0]["user_id"], json!(alice.id));
    assert!(!whole.to_string().contains("second@"), "her other address is another subject");
    let unfinished = server.control("/export", &json!({ "address": "unfinished@example.org" })).await;
    check_against_schema(&unfinished);
    assert_eq!(unfinished["validation_sessions"][0]["state"], "pending");
    assert_eq!(unfinished["invitations_received"][0]["room_id"], "!third:hs.test");
    assert!(!unfinished.to_string().contains(&bob.id), "the accounts that asked or invited are other people");

    let erased = server.control("/erase", &json!({ "address": "unfinished@example.org" })).await;
    assert_eq!(
        (&erased["sessions"], &erased["invitations"], &erased["bindings"]),
        (&json!(1), &json!(1), &json!(0))
    );
    let counted = server.control("/erase/preview", &json!({ "mxid": alice.id })).await;
    let erased = server.control("/erase", &json!({ "mxid": alice.id })).await;
    assert_eq!(erased["bindings"], 2);
    assert_eq!(erased, counted, "the preview counts what goes");
    assert_eq!(server.find(&bob, "alice@example.org").await, None);
    let nothing = server.control("/erase", &json!({ "mxid": alice.id })).await;
    assert!(nothing.as_object().expect("counts").values().all(|count| *count == 0), "{nothing}");
    for wrong in [json!({ "address": "nobody" }), json!({ "mxid": "alice" }), json!({ "name": "x" })] {
        for path in ["/export", "/erase"] {
            let refused = server.control(path, &wrong).await;
            assert_eq!(refused["errcode"], "M_INVALID_PARAM", "{refused}");
        }
    }
}

#[tokio::test]
async fn erasing_leaves_no_byte_after_the_next_round() {
    let (server, data) = crate::promises::only_files(|_| {}).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "alice@example.org", "secret").await;
    server.bind(&bob, "bob@example.org", "secret").await;
    server.request(Method::DELETE, ACCOUNT, Some(&alice.token), None).await.ok();
    server.pass(Duration::from_secs(2 * 24 * 3600)).await;
    for trace in ["alice@example.org", alice.id.as_str()] {
        assert_eq!(files_with(&data, trace.as_bytes()), Vec::<std::path::PathBuf>::new(), "{trace}");
    }
    assert_ne!(files_with(&data, bob.id.as_bytes()).len(), 0, "the search finds what is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_exports_run_at_a_time_and_the_rest_hears_429() {
    let (server, alice, bob) = people().await;
    let carol = server.user("carol").await;
    // A disk that blocks for a while: a pipe without a writer.
    let pipe = server.config.data_dir.join("logs/lookup-2027-01-14.jsonl");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    let export = async |user: &User| server.request(Method::GET, COPY, Some(&user.token), None).await;
    let exports = [&alice, &bob, &carol].map(|user| Box::pin(export(user)));
    let (refused, _, running) = select_all(exports).await;
    let error = refused.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(error["retry_after_ms"], 60_000);
    // The disk works again: whoever reads gets an empty file.
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let release = || {
            while !is_done.load(Ordering::SeqCst) {
                drop(fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe"));
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        scope.spawn(release);
        let replies =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(join_all(running)));
        is_done.store(true, Ordering::SeqCst);
        replies.into_iter().for_each(|reply| drop(reply.ok()));
    });
    fs::remove_file(&pipe).expect("removed");
    copy(&server, &carol).await;
}

#[tokio::test]
async fn personal_answers_are_never_stored_by_a_cache() {
    let (server, alice, _) = people().await;
    let cache = |reply: &Reply| {
        reply.headers.get("cache-control").map(|value| value.to_str().expect("text").to_owned())
    };
    let in_query = format!("{}?access_token={}", v2("/hash_details"), alice.token);
    for (method, path, token) in [
        (Method::GET, v2("/account"), Some(&alice.token)),
        (Method::GET, v2("/account"), None),
        (Method::GET, v2("/hash_details"), Some(&alice.token)),
        (Method::GET, in_query, None),
        (Method::GET, v2("/3pid/getValidated3pid?sid=a&client_secret=b"), Some(&alice.token)),
        (Method::POST, v2("/lookup"), Some(&alice.token)),
        (Method::POST, v2("/account/register"), None),
        (Method::GET, v2("/nothing"), None),
        (Method::PUT, v2("/account"), None),
        (Method::GET, COPY.to_owned(), Some(&alice.token)),
        (Method::GET, COPY.to_owned(), None),
        (Method::GET, "/me".to_owned(), None),
        (Method::POST, "/me".to_owned(), None),
        (Method::GET, "/me/visit?token=x".to_owned(), None),
        (Method::GET, "/me/data".to_owned(), None),
        (Method::GET, "/me/erase".to_owned(), None),
        (Method::GET, "/me/suppress".to_owned(), None),
        (Method::POST, "/me/export".to_owned(), None),
        (Method::POST, "/me/withdraw".to_owned(), None),
        (Method::POST, "/me/language".to_owned(), None),
        (Method::POST, "/me/close".to_owned(), None),
        (Method::PUT, "/me/data".to_owned(), None),
        (Method::GET, "/confirm?token=x".to_owned(), None),
        (Method::GET, "/nothing".to_owned(), None),
    ] {
        let reply = server.request(method.clone(), &path, token.map(String::as_str), None).await;
        assert_eq!(cache(&reply).as_deref(), Some("no-store"), "{method} {path}");
    }
    let style = server.request(Method::GET, "/assets/style.css", None, None).await;
    assert_eq!(cache(&style).as_deref(), Some("max-age=3600"));
}
