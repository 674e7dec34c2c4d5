//! Crashes: the storage frozen at every sync, and the real program killed under load. Every
//! acknowledged operation is there afterwards, and none is half there.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use bindery::{
    domain::{
        association::Association,
        ids::{ClientSecret, RoomId, UserId},
        invitation::Described,
        language::Language,
        lookup::LookupHash,
        outbox::{Kind, OutboxKey, Parcel},
        server_name::ServerName,
        threepid::Address,
        time::Millis,
    },
    ops::{
        associations, genesis,
        invitations::{self, Request},
        outbox::{self, Fate},
        validation::{self, TokenRequest, User},
    },
    store::Store,
};
use redb::StorageBackend;
use reqwest::Method;
use serde_json::json;

use crate::{
    model::{authenticated, core_on},
    support::{TestClock, accept_terms, homeserver::Homeserver, v2},
};

/// What the disk would hold if the machine had stopped at some moment.
pub struct Image {
    /// How many operations had been acknowledged by then.
    pub acknowledged: usize,
    pub bytes: Vec<u8>,
}

/// Storage in memory that keeps what a crash could leave at each sync: everything written so far,
/// and the last synced state with only half of the writes since.
#[derive(Clone, Default)]
pub struct Frozen(Arc<Mutex<State>>);

#[derive(Default)]
pub struct State {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    pub acknowledged: usize,
    pub images: Vec<Image>,
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Frozen")
    }
}

impl Frozen {
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { synced: bytes.clone(), bytes, ..State::default() })))
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }
}

fn write_at(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

impl StorageBackend for Frozen {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(state.bytes.get(range).ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.state();
        state.bytes.resize(len as usize, 0);
        state.synced.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.state();
        let acknowledged = state.acknowledged;
        let mut torn = state.synced.clone();
        for (offset, data) in &state.unsynced[..state.unsynced.len() / 2] {
            write_at(&mut torn, *offset, data);
        }
        let whole = state.bytes.clone();
        state.images.push(Image { acknowledged, bytes: torn });
        state.images.push(Image { acknowledged, bytes: whole.clone() });
        state.synced = whole;
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state();
        write_at(&mut state.bytes, offset, data);
        state.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}

pub fn association(number: usize) -> Association {
    Association {
        address: Address::email(&format!("person{number}@example.org")).expect("an address"),
        user_id: UserId::parse(&format!("@person{number}:example.org")).expect("a user ID"),
        ts: Millis(number as u64 + 1),
    }
}

pub fn open(backend: Frozen) -> Store {
    let name = ServerName::parse("id.test").expect("a name");
    Store::on_backend(backend, &name, || genesis(Millis(1))).expect("a database")
}

/// Whether association `number` is there, whole.
pub fn holds(store: &Store, number: usize) -> bool {
    let expected = association(number);
    let snapshot = store.read();
    let row = snapshot.association(&expected.address).expect("readable");
    let mut found = None;
    let hash = LookupHash::of(&expected.address, snapshot.pepper());
    snapshot.index().lookup(&hash, |user_id| found = Some(user_id.to_owned())).expect("readable");
    assert_eq!(row.is_some(), found.is_some(), "association {number} is half there");
    assert!(row.is_none_or(|row| row == expected));
    found.is_some()
}

#[tokio::test]
async fn frozen_at_every_sync() {
    const OPERATIONS: usize = 60;
    let storage = Frozen::default();
    let store = open(storage.clone());
    for number in 0..OPERATIONS {
        let new = association(number);
        store
            .write(move |tables| {
                // Each publishes one and withdraws an older one, so that both are seen half-way.
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
    // Before the first commit there is nothing to find: a crash there starts afresh.
    for (at, image) in images.into_iter().enumerate().filter(|(_, image)| image.acknowledged > 0) {
        let store = open(Frozen::holding(image.bytes));
        for number in 0..OPERATIONS {
            let there = holds(&store, number);
            let published = number < image.acknowledged;
            let withdrawn = withdrawn_by(number).is_some_and(|by| by < image.acknowledged);
            // The operation under way at the crash may have happened or not, but only whole.
            let under_way = [Some(number), withdrawn_by(number)].contains(&Some(image.acknowledged));
            assert!(under_way || there == (published && !withdrawn), "image {at}, association {number}");
        }
    }
}

/// What a crash left of one person's invitations: how many wait, and whether their homeserver is
/// to be told of each.
fn invitations_of(store: &Store, number: usize) -> (bool, usize) {
    let Association { address, user_id, .. } = association(number);
    let snapshot = store.read();
    let is_bound = snapshot.association(&address).expect("readable").is_some();
    let due = snapshot.due(Millis(u64::MAX), None, 10_000).expect("readable");
    let tokens = snapshot.invitations_to(&address).expect("readable");
    for token in &tokens {
        let key = OutboxKey { kind: Kind::OnBind, token: token.clone() };
        let row = snapshot.outgoing(&key).expect("readable");
        let expected = is_bound.then(|| Parcel::OnBind(user_id.clone()));
        assert_eq!(row.map(|row| row.parcel), expected, "person {number}: lost, or too early");
        let times = due.iter().filter(|(_, other)| *other == key).count();
        assert_eq!(times, usize::from(is_bound), "person {number}: once and not twice");
    }
    (is_bound, tokens.len())
}

#[tokio::test]
async fn frozen_while_invited_addresses_are_published() {
    const PEOPLE: usize = 8;
    let (storage, clock) = (Frozen::default(), TestClock::new());
    let core = core_on(open(storage.clone()), clock);
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
            invitations::store(&core, inviter.clone(), request).await.expect("stored");
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
        let sid = validation::request_token(
            &core,
            request,
            || Ok(()),
            async |message: validation::Message| {
                token = Some(message.token);
                Ok(())
            },
        );
        let sid = sid.await.expect("a session");
        let token = token.expect("a token");
        validation::submit_token(&core, User::Account, sid.clone(), secret(), token).await.expect("right");
        associations::bind(&core, account, sid, secret(), user_id).await.expect("bound");
        storage.state().acknowledged = 2 * number + 2;
        let due = outbox::due(&core, None, 100).expect("readable");
        let told = due.into_iter().filter(|(key, _)| key.kind == Kind::OnBind).collect::<Vec<_>>();
        assert_eq!(told.len(), 2);
        outbox::settle(&core, told, Fate::Delivered).await.expect("written");
        storage.state().acknowledged = 2 * number + 3;
    }
    drop(core);
    let images = std::mem::take(&mut storage.state().images);
    let mut seen = BTreeSet::new();
    // Before the first commit there is nothing to find: a crash there starts afresh.
    for Image { acknowledged, bytes } in images.into_iter().filter(|image| image.acknowledged > 0) {
        let store = open(Frozen::holding(bytes));
        for number in 0..PEOPLE {
            let (is_bound, waiting) = invitations_of(&store, number);
            assert!(is_bound || acknowledged < 2 * number + 2, "an acknowledged binding is gone");
            let is_told = acknowledged >= 2 * number + 3;
            assert!(!is_told || waiting == 0, "an acknowledged message would be sent again");
            assert!(!is_bound || [0, 2].contains(&waiting), "both are told of, or neither");
            seen.insert((is_bound, waiting));
        }
    }
    assert_eq!(seen.len(), 5, "every state was seen: {seen:?}");
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

/// The real program, started on `dir`.
pub struct Program {
    pub child: Child,
    pub base: String,
    /// What it has logged, and goes on to log.
    pub log: BufReader<std::process::ChildStderr>,
}

impl Program {
    pub fn start(config: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bindery"))
            .args(["serve", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("a line"), 0, "it ended before serving");
            if let Some((_, address)) = line.split_once("address=") {
                break address.trim().to_owned();
            }
        };
        Self { child, base: format!("http://{address}"), log }
    }
}

/// A configuration file for the real program beside a homeserver double.
pub fn config_file(dir: &std::path::Path, homeserver: &Homeserver) -> std::path::PathBuf {
    let path = dir.join("bindery.toml");
    let (data, ca) = (dir.join("data"), homeserver.ca_file());
    let text = format!(
        "server_name = 'id.test'\npublic_base_url = 'https://id.test'\ndata_dir = '{}'\nhttp.listen = ['127.0.0.1:0']\n\
         homeservers.extra_ca_file = '{}'\nhomeservers.allowed_special_addresses = ['127.0.0.0/8']\n\
         privacy.notify_owners = false\n\
         limits.register_per_ip = {{ burst = 100000, per_hour = 100000 }}\n\
         limits.register_per_homeserver = {{ burst = 100000, per_hour = 100000 }}\n",
        data.display(),
        ca.display()
    );
    std::fs::write(&path, text).expect("written");
    path
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
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let (enough, reached) = tokio::sync::oneshot::channel();
        let enough = Arc::new(Mutex::new(Some(enough)));
        let clients = (0..8).map(|_| {
            let (client, url) = (client.clone(), format!("{}{}", program.base, v2("/account/register")));
            let (tokens, enough, body) = (tokens.clone(), enough.clone(), registration.to_string());
            tokio::spawn(async move {
                // Ends when the program is gone.
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
        reached.await.expect("enough registrations");
        program.child.kill().expect("killed");
        program.child.wait().expect("gone");
        for client in clients {
            client.await.expect("no panic");
        }
        acknowledged.append(&mut tokens.lock().expect("not poisoned"));
    }
    let mut program = Program::start(&config);
    // All are one account's.
    accept_terms(&program.base, &acknowledged[0]).await;
    for token in &acknowledged {
        let url = format!("{}{}", program.base, v2("/account"));
        let response = client.get(&url).bearer_auth(token).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "an acknowledged token is there");
    }
    program.child.kill().expect("killed");
    program.child.wait().expect("gone");
}
