//! Crashes: a copy of the storage at every sync, and the real program killed under load. Afterwards every
//! acknowledged operation is there, and none is half done.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use bindery::{
    domain::{
        association::Association,
        audit::By,
        ids::{ClientSecret, RoomId, Sid, Token, UserId},
        invitation::{Described, Invitation, Invited},
        language::Language,
        outbox::{BindingChange, Kind, OutboxKey, Outgoing, OwnerMail, Payload},
        secret::{Key32, SecretHash},
        session::Session,
        threepid::{Address, Medium},
        time::Millis,
        visit::Visit,
    },
    ops::{
        address::{
            publish,
            validate::{self, TokenRequest, User},
        },
        invitation::store::{self, Request},
        outbox::{self, Fate},
        person::erasure,
    },
    store::Store,
};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    TestClock, accept_terms,
    core::{authenticated, core_on},
    homeserver::Homeserver,
    program::{Program, config_file},
    storage::{Frozen, Image, association, holds, open},
    v2,
};

#[tokio::test]
async fn frozen_at_every_sync() {
    const OPERATIONS: usize = 60;
    let storage = Frozen::default();
    let store = open(storage.clone());
    for number in 0..OPERATIONS {
        let new = association(number);
        store
            .write(move |tables| {
                // Each person publishes an address and withdraws an older one, so that crashes hit both
                // operations.
                tables.put_association(&new, Language::En)?;
                if number % 3 == 2 {
                    tables.remove_association(&association(number - 2).address)?;
                }
                Ok(())
            })
            .await
            .expect("written");
        storage.state().acknowledged = number + 1;
    }
    drop(store);
    let images = std::mem::take(&mut storage.state().images);
    assert!(images.len() > OPERATIONS, "{} images", images.len());
    let withdrawn_by = |number: usize| number.is_multiple_of(3).then_some(number + 2);
    // Before the first commit the file holds nothing, so a start after such a crash begins with a new database.
    for (at, image) in images.into_iter().enumerate().filter(|(_, image)| image.acknowledged > 0) {
        let store = open(Frozen::holding(image.bytes));
        for number in 0..OPERATIONS {
            let there = holds(&store, number);
            let published = number < image.acknowledged;
            let withdrawn = withdrawn_by(number).is_some_and(|by| by < image.acknowledged);
            // The operation that the crash interrupted is either done or not done, never half done.
            let under_way = [Some(number), withdrawn_by(number)].contains(&Some(image.acknowledged));
            assert!(under_way || there == (published && !withdrawn), "image {at}, association {number}");
        }
    }
}

/// What a crash left of one person's invitations: how many are pending, and whether each has its outbox row for
/// the homeserver.
async fn invitations_of(store: &Store, number: usize) -> (bool, usize) {
    let Association { address, user_id, .. } = association(number);
    let snapshot = store.read();
    let is_bound = snapshot.association(&address).expect("readable").is_some();
    let due = store.scan(|scan| scan.due(Millis(u64::MAX), None, 10_000)).await.expect("readable");
    let tokens = snapshot.invitations_to(&address).expect("readable");
    for token in &tokens {
        let key = OutboxKey { kind: Kind::OnBind, token: token.clone() };
        let row = snapshot.outgoing(&key).expect("readable");
        let expected = is_bound.then(|| Payload::OnBind(user_id.clone()));
        assert_eq!(row.map(|row| row.payload), expected, "person {number}: lost, or too early");
        let times = due.iter().filter(|(_, other)| *other == key).count();
        assert_eq!(times, usize::from(is_bound), "person {number}: once and not twice");
    }
    (is_bound, tokens.len())
}

#[tokio::test]
async fn frozen_while_invited_addresses_are_published() {
    const PEOPLE: usize = 8;
    let (storage, clock) = (Frozen::default(), TestClock::new());
    let core = core_on(open(storage.clone()), clock).await;
    storage.state().acknowledged = 1;
    let sender = UserId::parse("@alice:example.org").expect("a user ID");
    let inviter = authenticated(&core, sender.clone()).await;
    let secret = || ClientSecret::parse("secret").expect("a secret");
    for number in 0..PEOPLE {
        let Association { address, user_id, .. } = association(number);
        for room in ["!one:example.org", "!two:example.org"] {
            let room_id = RoomId::parse(room).expect("a room ID");
            let described = Described::default();
            let request = Request { address: address.clone(), room_id, sender: sender.clone(), described };
            store::store(&core, inviter.clone(), request).await.expect("stored");
        }
        let (mut token, account) = (None, authenticated(&core, user_id.clone()).await);
        let request = TokenRequest {
            account: Some(account.clone()),
            address,
            secret: secret(),
            send_attempt: 1,
            next_link: None,
            language: Language::En,
        };
        let sid = validate::request_token(
            &core,
            request,
            || Ok(()),
            async |delivery| {
                let validate::Delivery::Real(message) = delivery else { panic!("nobody opted out") };
                token = Some(message.token);
                Ok(())
            },
        );
        let sid = sid.await.expect("a session");
        let token = token.expect("a token");
        validate::submit_token(&core, User::Account, Medium::Email, sid.clone(), secret(), token)
            .await
            .expect("right");
        publish::bind(&core, account, sid, secret(), user_id).await.expect("bound");
        storage.state().acknowledged = 2 * number + 2;
        let due = outbox::due(&core, None, 100).await.expect("readable").rows;
        let told = due.into_iter().filter(|due| due.key.kind == Kind::OnBind).collect::<Vec<_>>();
        assert_eq!(told.len(), 2);
        outbox::settle(&core, told, Fate::Delivered).await.expect("written");
        storage.state().acknowledged = 2 * number + 3;
    }
    drop(core);
    let images = std::mem::take(&mut storage.state().images);
    let mut seen = BTreeSet::new();
    // Before the first commit the file holds nothing, so a start after such a crash begins with a new database.
    for Image { acknowledged, bytes } in images.into_iter().filter(|image| image.acknowledged > 0) {
        let store = open(Frozen::holding(bytes));
        for number in 0..PEOPLE {
            let (is_bound, waiting) = invitations_of(&store, number).await;
            assert!(is_bound || acknowledged < 2 * number + 2, "an acknowledged binding is gone");
            let is_told = acknowledged >= 2 * number + 3;
            assert!(!is_told || waiting == 0, "an acknowledged message would be sent again");
            assert!(!is_bound || [0, 2].contains(&waiting), "both are told of, or neither");
            seen.insert((is_bound, waiting));
        }
    }
    assert_eq!(seen.len(), 5, "every state was seen: {seen:?}");
}

/// How many rows there are of a person and of the account that invited them, counted row by row.
fn rows_of(store: &Store, user: &UserId, address: &Address) -> [usize; 8] {
    let snapshot = store.read();
    let of_owner_mail = OutboxKey::of_owner_mail(address, &snapshot.session_key().expect("readable"));
    [
        usize::from(snapshot.association(address).expect("readable").is_some()),
        snapshot.tokens_of(user).expect("readable").len(),
        snapshot.consents_of(user).expect("readable").len(),
        snapshot.sessions_of_address(address).expect("readable").len(),
        snapshot.invitations_from(user).expect("readable").len(),
        snapshot.invitations_to(address).expect("readable").len(),
        snapshot.visits_of(address).expect("readable").len(),
        usize::from(snapshot.outgoing(&of_owner_mail).expect("readable").is_some()),
    ]
}

#[tokio::test]
async fn an_erasure_is_whole_at_every_sync() {
    let (storage, clock) = (Frozen::default(), TestClock::new());
    let core = core_on(open(storage.clone()), clock).await;
    let Association { address, user_id, .. } = association(1);
    let (own, person) = (address.clone(), user_id.clone());
    let filled = core.store.write(move |tables| {
        tables.put_association(&association(1), Language::En)?;
        for number in 0..20 {
            tables.put_token(&Token::from_bytes([number; 32]), &person, Millis(1))?;
            tables.put_consent(&person, &format!("document {number}"), "1", Millis(1))?;
            let (secret, key) = (ClientSecret::parse("secret").expect("a secret"), Key32::new([number; 32]));
            let session =
                Session::new(own.clone(), &secret, Some(person.clone()), Language::En, &key, Millis(1));
            tables.put_session(&Sid::from_random([number; 16]), &session)?;
            tables.put_visit(SecretHash([number; 32]), &Visit::by_link(own.clone(), Millis(1)))?;
            let token = Token::from_bytes([100 + number; 32]);
            let invitation = Invitation {
                ephemeral_key: Invitation::key_pair(&token, &key).public(),
                invited: Invited::Address(own.clone()),
                room_id: RoomId::parse("!room:example.org").expect("a room ID"),
                sender: person.clone(),
                created: Millis(1),
                token,
            };
            tables.put_invitation(&invitation)?;
        }
        let notice = OwnerMail {
            address: own.clone(),
            change: BindingChange::Bound,
            user_id: person,
            language: Language::En,
        };
        let key = OutboxKey::of_owner_mail(&own, &tables.session_key()?);
        tables.put_outgoing(&key, &Outgoing::new(Payload::OwnerMail(notice), Millis(1)))
    });
    filled.await.expect("written");
    let all = rows_of(&core.store, &user_id, &address);
    assert_eq!(all, [1, 20, 20, 20, 20, 20, 20, 1]);
    storage.state().images.clear();
    storage.state().acknowledged = 1;
    erasure::erase_account(&core, user_id.clone(), By::Account).await.expect("erased");
    storage.state().acknowledged = 2;
    assert_eq!(rows_of(&core.store, &user_id, &address), [0; 8]);
    drop(core);
    let images = std::mem::take(&mut storage.state().images);
    assert!(images.len() >= 2, "the erasure was synced");
    for image in images {
        let rows = rows_of(&open(Frozen::holding(image.bytes)), &user_id, &address);
        assert!(rows == [0; 8] || rows == all && image.acknowledged < 2, "half erased: {rows:?}");
    }
}

#[tokio::test]
async fn many_at_once_are_all_there() {
    let storage = Frozen::default();
    let store = Arc::new(open(storage.clone()));
    let writes = (0..200).map(|number| {
        let (store, new) = (store.clone(), association(number));
        tokio::spawn(async move {
            store.write(move |tables| tables.put_association(&new, Language::En)).await.expect("written")
        })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.expect("no panic");
    }
    let bytes = storage.state().synced.clone();
    let reopened = open(Frozen::holding(bytes));
    assert!((0..200).all(|number| holds(&reopened, number)));
    let syncs = storage.state().images.len() / 2;
    assert!(syncs < 200, "writes share commits: {syncs} syncs");
}

#[tokio::test]
async fn killed_under_load() {
    let homeserver = Homeserver::start();
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let user = format!("@alice:{}", homeserver.name());
    let registration = json!({
        "access_token": homeserver.openid_token(&user), "token_type": "Bearer",
        "matrix_server_name": homeserver.name(), "expires_in": 3600,
    });
    let client = crate::support::client();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 1..=3 {
        let mut program = Program::start(&config);
        // Until a homeserver has answered once, one network has only a place or two at it.
        let url = format!("{}{}", program.base, v2("/account/register"));
        let first = client.post(&url).body(registration.to_string()).send().await.expect("an answer");
        assert_eq!(first.status(), 200);
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let (enough, reached) = tokio::sync::oneshot::channel();
        let enough = Arc::new(Mutex::new(Some(enough)));
        let clients = (0..8).map(|_| {
            let (client, url) = (client.clone(), format!("{}{}", program.base, v2("/account/register")));
            let (tokens, enough, body) = (tokens.clone(), enough.clone(), registration.to_string());
            tokio::spawn(async move {
                // Ends when the program has been killed.
                while let Ok(response) = client.request(Method::POST, &url).body(body.clone()).send().await {
                    let Ok(text) = response.text().await else { break };
                    let reply: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                    let mut tokens = tokens.lock().expect("not poisoned");
                    tokens.push(reply["token"].as_str().expect("a token").to_owned());
                    if tokens.len() == 40 * round {
                        enough.lock().expect("not poisoned").take().map(|enough| enough.send(()));
                    }
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        // If every client panics, nobody is left to say that it is enough, and the test fails.
        drop(enough);
        reached.await.expect("enough registrations");
        program.child.kill().expect("killed");
        program.child.wait().expect("gone");
        for client in clients {
            client.await.expect("no panic");
        }
        acknowledged.append(&mut tokens.lock().expect("not poisoned"));
    }
    let mut program = Program::start(&config);
    // All tokens belong to one account.
    accept_terms(&program.base, &acknowledged[0]).await;
    for token in &acknowledged {
        let url = format!("{}{}", program.base, v2("/account"));
        let response = client.get(&url).bearer_auth(token).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "an acknowledged token is there");
    }
    program.child.kill().expect("killed");
    program.child.wait().expect("gone");
}
