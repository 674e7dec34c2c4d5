//! An invitation to an address that has opted out: stored without the address, never delivered, and for the inviter
//! like any other. Otherwise an invitation would tell who has opted out.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bindery::{
    config::SmtpSecurity,
    domain::{
        audit::By,
        bucket::Rate,
        clock::Clock,
        ids::{RoomId, Token},
        invitation::Described,
        server_name::ServerName,
        threepid::Address,
    },
    ops::{
        Core,
        account::tokens::Authenticated,
        address::suppression,
        genesis,
        invitation::{
            cancel::cancel_by_sender,
            store::{self, Request},
        },
        outbox::{self, Content},
        retention,
    },
    store::{DATABASE_FILE, Store},
};
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableHandle};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    support::{
        Mail, Reply, Server, TestClock, User, at_least_one,
        core::{authenticated, core_in_memory, core_on, user},
        files_with,
        homeserver::Answer,
        smtp::{Mood, Relay, server_behind},
    },
    unseen::distance,
};

const SILENT: &str = "silent@example.org";
const USUAL: &str = "carol@example.org";
const ROOM: &str = "!room:hs.test";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Opts the recipient of a mail out or in again, with the stop link in it.
async fn decide(server: &Server, mail: &Mail, decision: &str) {
    let request = server.build(Method::POST, &mail.stop_link());
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(server.send(request.body(format!("decision={decision}"))).await.status, 200);
}

fn counted(outcome: &str, count: u32) -> String {
    format!("bindery_outbox_total{{kind=\"invitation_mail\",outcome=\"{outcome}\"}} {count}")
}

/// Everything that an inviter hears about their invitations to one address, without what is random.
struct Inviter {
    server: Server,
    alice: User,
    heard: Vec<String>,
}

impl Inviter {
    async fn to(opted_out: bool) -> Self {
        let server = Server::start_with(|config| {
            config.limits.invite_per_address = Rate::new(5, 5);
            config.invites.daily_ceiling = at_least_one(24);
        });
        let server = server.await;
        let alice = server.user("alice").await;
        server.request_token(&alice, SILENT, "secret", 1).await;
        if opted_out {
            decide(&server, &server.question(), "stop").await;
        }
        Self { server, alice, heard: Vec::new() }
    }

    fn hear(&mut self, reply: &Reply) {
        let mut headers: Vec<String> = reply
            .headers
            .iter()
            // The name of the homeserver has a port, which is random.
            .filter(|(name, _)| !["date", "content-length", "x-request-id"].contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        headers.sort_unstable();
        let text = reply.text.replace(self.server.homeserver.name(), "HOMESERVER");
        self.heard.push(format!("{} {headers:?} {text}", reply.status));
    }

    async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) {
        let reply = self.server.request(method, path, Some(&self.alice.token), body).await;
        self.hear(&reply);
    }

    async fn copy(&mut self) {
        let path = "/_bindery/v1/account/export";
        let mut copy = self.server.request(Method::GET, path, Some(&self.alice.token), None).await.ok();
        // A task stores the day of a token's use.
        copy["access_tokens"].take();
        let copy = copy.to_string().replace(self.server.homeserver.name(), "HOMESERVER");
        self.heard.push(copy);
    }

    async fn cancel(&mut self, token: &str) {
        self.ask(Method::DELETE, &format!("/_bindery/v1/invitations/{token}"), None).await;
    }

    async fn retention_runs(&mut self) {
        let deleted = self.server.control("/retention/run", &json!(null)).await;
        self.heard.push(deleted["invitations"].to_string());
    }

    async fn operator_cancels(&mut self, which: Value) {
        let answer = self.server.control("/invitations/cancel", &which).await;
        self.heard.push(answer.to_string());
    }

    /// Invites the address. Gives the token and the key.
    async fn invite(&mut self) -> Option<(String, String)> {
        let body = json!({
            "medium": "email", "address": SILENT, "room_id": ROOM, "sender": self.alice.id, "room_name": "Tea",
        });
        let reply = self.server.post("/store-invite", &self.alice, &body).await;
        let stored = reply.json();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let random = [
            &stored["token"],
            &stored["public_keys"][0]["public_key"],
            &stored["public_keys"][1]["public_key"],
        ];
        let [token, ours, key] = random.map(text);
        let plain = [&token, &ours, &key].into_iter().flatten().fold(reply.text.clone(), |plain, random| {
            assert_eq!(random.len(), 43, "as long as any other");
            plain.replace(random.as_str(), "RANDOM")
        });
        self.hear(&Reply { text: plain, ..reply });
        token.zip(key)
    }

    /// Asks everything that does not change the invitation.
    async fn ask_about(&mut self, (token, key): &(String, String)) {
        let url_safe = key.replace('+', "-").replace('/', "_");
        for version in ["v2", "api/v1"] {
            let path = format!("/_matrix/identity/{version}/pubkey/ephemeral/isvalid?public_key={url_safe}");
            self.ask(Method::GET, &path, None).await;
            let sign = format!("/_matrix/identity/{version}/sign-ed25519");
            for body in [
                json!({ "mxid": self.alice.id, "token": token, "private_key": "A".repeat(43) }),
                json!({ "mxid": self.alice.id, "token": token, "private_key": key }),
                json!({ "mxid": self.alice.id, "token": token }),
            ] {
                self.ask(Method::POST, &sign, Some(&body)).await;
            }
        }
    }
}

/// What the inviter hears from the first invitation to the erasure of their account.
async fn story(opted_out: bool) -> Vec<String> {
    let mut inviter = Inviter::to(opted_out).await;
    let first = inviter.invite().await.expect("stored");
    inviter.ask_about(&first).await;
    let second = inviter.invite().await.expect("stored");
    let third = inviter.invite().await.expect("stored");
    inviter.copy().await;
    inviter.cancel(&first.0).await;
    inviter.cancel(&first.0).await;
    inviter.ask_about(&first).await;
    inviter.operator_cancels(json!({ "token": second.0 })).await;
    inviter.ask_about(&second).await;
    inviter.copy().await;
    // The limit of the address: five, and her domain's quarter of the daily ceiling: six.
    for _ in 0..3 {
        inviter.invite().await;
    }
    inviter.server.clock.forward(HOUR);
    for _ in 0..3 {
        inviter.invite().await;
    }
    inviter.server.clock.forward(LIFETIME - HOUR - SECOND);
    inviter.ask_about(&third).await;
    inviter.server.clock.forward(SECOND);
    inviter.ask_about(&third).await;
    let last = inviter.invite().await.expect("stored");
    inviter.server.clock.forward(HOUR);
    inviter.retention_runs().await;
    inviter.cancel(&third.0).await;
    inviter.operator_cancels(json!({ "sender": inviter.alice.id })).await;
    inviter.ask_about(&last).await;
    let erased = inviter.invite().await.expect("stored");
    inviter.copy().await;
    inviter.ask(Method::DELETE, "/_bindery/v1/account", None).await;
    inviter.ask_about(&erased).await;
    inviter.heard
}

#[tokio::test]
async fn every_answer_about_it_is_that_of_any_other() {
    let (usual, silent) = (story(false).await, story(true).await);
    for (at, (usual, silent)) in usual.iter().zip(&silent).enumerate() {
        assert_eq!(usual, silent, "answer {at}");
    }
    assert_eq!(usual.len(), silent.len());
    let count = |what: &str| silent.iter().filter(|heard| heard.contains(what)).count();
    assert!(count("\"display_name\":\"s...@e...\"") == 8 && count("M_LIMIT_EXCEEDED") == 3, "{silent:#?}");
    assert!(count("\"valid\":true") == 4 && count("\"to\":\"s...@e...\"") == 3, "{silent:#?}");
}

fn email(text: &str) -> Address {
    Address::email(text).expect("an address")
}

async fn core_in(dir: &Path, clock: &Arc<TestClock>) -> Core {
    let name = ServerName::parse("id.test").expect("a name");
    let store = Store::open(dir, 1 << 20, &name, || genesis(clock.now())).expect("a database");
    core_on(store, clock.clone()).await
}

async fn invite(core: &Core, account: &Authenticated, address: &str) -> Token {
    let request = Request {
        address: email(address),
        room_id: RoomId::parse(ROOM).expect("a room ID"),
        sender: account.user_id().clone(),
        described: Described { room_name: Some("Tea".to_owned()), ..Described::default() },
    };
    store::store(core, account.clone(), request).await.unwrap_or_else(|failure| panic!("{failure}")).token
}

#[tokio::test]
async fn an_invitation_to_an_opted_out_address_is_stored_without_it_sends_nothing_and_expires() {
    let (dir, clock) = (tempfile::TempDir::new().expect("a directory"), TestClock::new());
    let core = core_in(dir.path(), &clock).await;
    let account = authenticated(&core, user(1)).await;
    suppression::suppress(&core, email(SILENT), By::Owner).await.expect("written");
    invite(&core, &account, SILENT).await;
    invite(&core, &account, USUAL).await;
    let due = outbox::due(&core, None, 10).await.expect("readable").rows;
    assert_eq!(due[0].host, due[1].host, "both wait for the share of the same domain");
    assert!(!due[0].host.is_empty());
    let contents = due.iter().map(|due| outbox::content(&core, &due.key, &due.row).expect("readable"));
    let recipients = contents.map(|content| match content {
        Some(Content::Invitation(content)) => Some(content.to.as_str().to_owned()),
        Some(Content::NoMail) => None,
        _ => panic!("nothing else is sent"),
    });
    let mut recipients: Vec<_> = recipients.collect();
    recipients.sort_unstable();
    assert_eq!(recipients, [None, Some(USUAL.to_owned())]);
    assert!(files_with(dir.path(), b"silent").is_empty());
    assert!(!files_with(dir.path(), USUAL.as_bytes()).is_empty());
    clock.forward(LIFETIME - SECOND);
    assert_eq!(retention::delete(&core).await.expect("written").invitations, 0);
    clock.forward(SECOND);
    assert_eq!(retention::delete(&core).await.expect("written").invitations, 2);
    assert!(outbox::due(&core, None, 10).await.expect("readable").rows.is_empty());
}

/// How many rows each table has after an invitation to an address, cancelled or not. `opted_out` has opted out.
async fn rows_after_inviting(opted_out: &str, is_cancelled: bool) -> BTreeMap<String, u64> {
    let (dir, clock) = (tempfile::TempDir::new().expect("a directory"), TestClock::new());
    let core = core_in(dir.path(), &clock).await;
    let account = authenticated(&core, user(1)).await;
    suppression::suppress(&core, email(opted_out), By::Owner).await.expect("written");
    let token = invite(&core, &account, SILENT).await;
    if is_cancelled {
        cancel_by_sender(&core, user(1), token).await.expect("cancelled");
    }
    drop(core);
    let database = Database::open(dir.path().join(DATABASE_FILE)).expect("a database");
    let transaction = database.begin_read().expect("a transaction");
    let tables: Vec<_> = transaction.list_tables().expect("tables").collect();
    let rows = tables.into_iter().map(|table| {
        let name = table.name().to_owned();
        (name, transaction.open_untyped_table(table).expect("readable").len().expect("a length"))
    });
    rows.collect()
}

#[tokio::test]
async fn an_invitation_without_its_address_has_as_many_rows_in_every_table() {
    for is_cancelled in [false, true] {
        let (usual, silent) =
            (rows_after_inviting(USUAL, is_cancelled).await, rows_after_inviting(SILENT, is_cancelled).await);
        assert_eq!(usual, silent);
        assert_eq!((silent["invitations"], silent["outbox"]), if is_cancelled { (0, 0) } else { (1, 1) });
    }
}

#[tokio::test]
async fn an_opted_out_address_does_not_lead_to_its_invitation_which_is_never_delivered() {
    let server = Server::start().await;
    server.homeserver.answer("/_matrix/federation/v1/3pid/onbind", Answer::Json(200, json!({})));
    let (alice, carol) = (server.user("alice").await, server.user("carol").await);
    server.request_token(&alice, SILENT, "secret", 1).await;
    let mail = server.question();
    decide(&server, &mail, "stop").await;
    let stored = server.invite(&alice, SILENT, "!silent:hs.test").await;
    let copy = server.control("/export", &json!({ "address": SILENT })).await;
    assert_eq!((&copy["invitations_received"], &copy["waiting_to_be_sent"]), (&json!([]), &json!([])));
    server.until_counted(&counted("withdrawn", 1)).await;
    let cancelled = server.control("/invitations/cancel", &json!({ "address": SILENT })).await;
    assert_eq!(cancelled, json!({ "cancelled": 0 }));
    decide(&server, &mail, "allow").await;
    server.invite(&alice, SILENT, "!later:hs.test").await;
    assert!(server.mail_to(SILENT, 1).await.text.contains("invit"));
    server.bind(&carol, SILENT, "secret").await;
    let told = server.homeserver.until_told(1).await;
    assert_eq!(told[0].body["invites"][0]["room_id"], "!later:hs.test");
    server.until_counted("bindery_outbox_total{kind=\"onbind\",outcome=\"delivered\"} 1").await;
    let cancelled = server.control("/invitations/cancel", &json!({ "token": stored["token"] })).await;
    assert_eq!(cancelled, json!({ "cancelled": 1 }), "it was still stored");
    assert_eq!(server.homeserver.told().len(), 1);
}

#[tokio::test]
async fn an_invitation_to_an_opted_out_address_takes_its_turn_among_the_mails_to_its_domain() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    server.request_token(&alice, SILENT, "secret", 1).await;
    decide(&server, &relay.mails()[0].mail(), "stop").await;
    // Domains that nothing is known about share a connection.
    server.invite(&alice, "carol@other.test", ROOM).await;
    server.until_counted(&counted("delivered", 1)).await;
    relay.set(Mood::Hold);
    server.invite(&alice, USUAL, ROOM).await;
    relay.until(|seen| seen.held == 1).await;
    server.invite(&alice, SILENT, ROOM).await;
    // The task has come past the row once a later mail to another domain is on its way.
    server.invite(&alice, "dave@other.test", ROOM).await;
    relay.until(|seen| seen.held == 2).await;
    let is_withdrawn = async || server.metrics().await.contains(&counted("withdrawn", 1));
    assert!(!is_withdrawn().await, "the mail before it has the connection");
    relay.set(Mood::Accept);
    server.until_counted(&counted("delivered", 3)).await;
    server.until_counted(&counted("withdrawn", 1)).await;
    assert_eq!(relay.mails().iter().filter(|mail| mail.to == [SILENT]).count(), 1, "only the first mail");
}

#[tokio::test]
async fn storing_and_cancelling_an_invitation_take_as_long_if_the_address_opted_out() {
    // All invitations fit into the share of one domain in the daily ceiling.
    const TIMES: usize = 120;
    let core = core_in_memory(TestClock::new()).await;
    let account = authenticated(&core, user(1)).await;
    let (mut storing, mut cancelling) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..2 * TIMES {
        // Neither always follows the other.
        let kind = (round ^ (round >> 1)) % 2;
        let address = format!("address{round}@example.org");
        let opted_out = [email(USUAL), email(&address)][kind].clone();
        suppression::suppress(&core, opted_out, By::Owner).await.expect("written");
        let started = Instant::now();
        let token = invite(&core, &account, &address).await;
        storing[kind].push(started.elapsed());
        let started = Instant::now();
        cancel_by_sender(&core, user(1), token).await.expect("cancelled");
        cancelling[kind].push(started.elapsed());
    }
    for [usual, silent] in [&storing, &cancelling] {
        assert_eq!(usual.len(), silent.len());
        let distance = distance(usual, silent);
        assert!(distance < 0.4, "{distance}: {usual:?} {silent:?}");
    }
}
