//! Whatever happens in whatever order, no row is older than its period, and none is an orphan: an
//! index entry without its row, or a row of somebody who was erased.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bindery::{
    domain::{
        audit::By,
        clock::Clock,
        ids::{RoomId, Sid, UserId},
        invitation::Described,
        language::Language,
        lookup::LookupHash,
        retention::AUDIT,
        secret::SecretHash,
        server_name::ServerName,
        threepid::Address,
        visit::Visit,
    },
    ops::{
        Core,
        account::{terms, tokens::Authenticated},
        address::{
            mailed_link, publish, suppression,
            validate::{self, Delivery, TokenRequest},
            withdraw,
        },
        genesis,
        invitation::store::{self, Request},
        outbox,
        person::erasure,
        retention::delete,
    },
    store::{Scan, Store},
};
use proptest::prelude::*;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, StorageBackend, TableHandle};

use crate::{
    support::TestClock,
    support::core::{address, authenticated, core_on, secret, user},
};

/// Storage in memory that can be looked into afterwards.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// The same bytes, which go their own way from here on.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.bytes().clone())))
    }

    /// The database in it, as it lies there.
    pub fn database(&self) -> Database {
        Database::builder().create_with_backend(self.clone()).expect("a database")
    }

    /// The store in it.
    pub fn store(&self, clock: &TestClock) -> Store {
        let name = ServerName::parse("id.test").expect("a name");
        Store::on_backend(self.clone(), &name, || genesis(clock.now())).expect("a database")
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("not poisoned")
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let start = offset as usize;
        out.copy_from_slice(&self.bytes()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.bytes().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let start = offset as usize;
        self.bytes()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// An address that has opted out of messages and is only ever invited.
const SILENT: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    Register { user: u8 },
    Accept { user: u8 },
    Ask { user: u8, address: u8, secret: u8, confirm: bool },
    Bind { user: u8, address: u8, secret: u8 },
    Unbind { address: u8 },
    Invite { user: u8, address: u8 },
    Deliver,
    Visit { address: u8 },
    EraseAddress { address: u8 },
    EraseAccount { user: u8 },
    Delete,
    Wait { hours: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let (user, address, secret) = (0..3u8, 0..3u8, 0..2u8);
    prop_oneof![
        3 => user.clone().prop_map(|user| Step::Register { user }),
        2 => user.clone().prop_map(|user| Step::Accept { user }),
        4 => (user.clone(), address.clone(), secret.clone(), any::<bool>())
            .prop_map(|(user, address, secret, confirm)| Step::Ask { user, address, secret, confirm }),
        5 => (user.clone(), address.clone(), secret)
            .prop_map(|(user, address, secret)| Step::Bind { user, address, secret }),
        1 => address.clone().prop_map(|address| Step::Unbind { address }),
        2 => (user.clone(), 0..=SILENT).prop_map(|(user, address)| Step::Invite { user, address }),
        1 => Just(Step::Deliver),
        1 => address.clone().prop_map(|address| Step::Visit { address }),
        1 => address.prop_map(|address| Step::EraseAddress { address }),
        1 => user.prop_map(|user| Step::EraseAccount { user }),
        1 => Just(Step::Delete),
        2 => prop_oneof![3 => 1..20u32, 2 => 20..800u32, 1 => 800..10_000u32].prop_map(|hours| Step::Wait { hours }),
    ]
}

/// What the steps have to remember.
#[derive(Default)]
struct Memories {
    /// The latest session of each user, address and secret.
    sessions: BTreeMap<(u8, u8, u8), Sid>,
    /// The latest token of each user: a request that is under way knows it, whatever happens meanwhile.
    accounts: BTreeMap<u8, Authenticated>,
    /// Who was erased and has not come back since.
    erased: BTreeSet<u8>,
}

async fn take(core: &Core, step: Step, memories: &mut Memories, clock: &TestClock) {
    let now = core.clock.now();
    let Memories { sessions, accounts, erased } = memories;
    // A refusal is an answer like any other here.
    match step {
        Step::Register { user: who } => {
            accounts.insert(who, authenticated(core, user(who)).await);
            erased.remove(&who);
        }
        Step::Accept { user: who } => {
            let Some(account) = accounts.get(&who).cloned() else { return };
            let url = core.in_force().terms[0].document.languages["en"].url.clone();
            let _ = terms::accept(core, account, &[url]).await;
        }
        Step::Ask { user: who, address: at, secret: with, confirm } => {
            let Some(account) = accounts.get(&who).cloned() else { return };
            let mut sent = None;
            let request = TokenRequest {
                account: Some(account),
                address: address(at),
                secret: secret(with),
                send_attempt: now.0,
                next_link: None,
                language: Language::En,
            };
            let sid = validate::request_token(
                core,
                request,
                || Ok(()),
                async |delivery| {
                    let (Delivery::Real(message) | Delivery::Rehearsal(message)) = delivery;
                    sent = Some(message.token);
                    Ok(())
                },
            );
            let Ok(sid) = sid.await else { return };
            sessions.insert((who, at, with), sid.clone());
            if let Some(token) = sent.filter(|_| confirm) {
                let _ = mailed_link::confirm(core, sid, token).await;
            }
        }
        Step::Bind { user: who, address: at, secret: with } => {
            let Some(account) = accounts.get(&who).cloned() else { return };
            let Some(sid) = sessions.get(&(who, at, with)).cloned() else { return };
            let _ = publish::bind(core, account, sid, secret(with), user(who)).await;
        }
        Step::Unbind { address: at } => {
            withdraw::withdraw_by_owner(core, address(at), By::Owner).await.expect("written");
        }
        Step::Invite { user: who, address: at } => {
            let Some(account) = accounts.get(&who).cloned() else { return };
            let room_id = RoomId::parse("!room:hs.test").expect("a room ID");
            let described = Described::default();
            let request = Request { address: address(at), room_id, sender: user(who), described };
            let _ = store::store(core, account, request).await;
        }
        Step::Deliver => {
            let due = outbox::due(core, None, 100).await.expect("readable").rows;
            outbox::settle(core, due, outbox::Fate::Delivered).await.expect("written");
        }
        Step::Visit { address: at } => {
            let visit = Visit::by_link(address(at), now);
            let secret = SecretHash::of(&format!("{at} {}", now.0));
            core.store.write(move |tables| tables.put_visit(secret, &visit)).await.expect("written");
        }
        Step::EraseAddress { address: at } => {
            erasure::erase_address(core, address(at), By::Operator).await.expect("written");
            check_address_is_gone(core, &address(at)).await;
        }
        Step::EraseAccount { user: who } => {
            erasure::erase_account(core, user(who), By::Account).await.expect("written");
            erased.insert(who);
        }
        Step::Delete => {
            delete(core).await.expect("written");
            check_ages(core).await;
        }
        Step::Wait { hours } => clock.forward(Duration::from_secs(u64::from(hours) * 3600)),
    }
}

async fn check_address_is_gone(core: &Core, address: &Address) {
    let address = address.clone();
    let check = move |snapshot: &Scan<'_>| {
        assert!(snapshot.association(&address).expect("readable").is_none());
        assert!(snapshot.invitations_to(&address).expect("readable").is_empty());
        assert!(snapshot.visits_of(&address).expect("readable").is_empty());
        let sessions = snapshot.sessions_after(None, usize::MAX).expect("readable");
        assert!(sessions.iter().all(|(_, session)| session.address != address));
        let hash = LookupHash::of(&address, snapshot.pepper());
        snapshot.index().lookup(&hash, |_| panic!("it is still found")).expect("readable");
        Ok(())
    };
    core.store.scan(check).await.expect("it is gone");
}

async fn check_account_is_gone(core: &Core, user: &UserId) {
    let user = user.clone();
    let check = move |snapshot: &Scan<'_>| {
        assert!(snapshot.associations_of(&user).expect("readable").is_empty());
        assert!(snapshot.tokens_of(&user).expect("readable").is_empty());
        assert!(snapshot.consents_of(&user).expect("readable").is_empty());
        let sessions = snapshot.sessions_after(None, usize::MAX).expect("readable");
        assert!(sessions.iter().all(|(_, session)| session.account.as_ref() != Some(&user)));
        let invitations = snapshot.invitations_after(None, usize::MAX).expect("readable");
        assert!(invitations.iter().all(|invitation| invitation.sender != user));
        Ok(())
    };
    core.store.scan(check).await.expect("it is gone");
}

/// After a round, nothing is older than it may be.
async fn check_ages(core: &Core) {
    let (now, config) = (core.clock.now(), core.config.clone());
    let check = move |snapshot: &Scan<'_>| {
        let sessions = snapshot.sessions_after(None, usize::MAX).expect("readable");
        assert!(
            sessions.iter().all(|(_, session)| now < session.modified.after(Duration::from_secs(86_400)))
        );
        let invitations = snapshot.invitations_after(None, usize::MAX).expect("readable");
        assert!(invitations.iter().all(|one| now < one.created.after(config.invites.lifetime())));
        let visits = snapshot.visits_after(None, usize::MAX).expect("readable");
        assert!(visits.iter().all(|(_, visit)| now < visit.until));
        let tokens = snapshot.tokens_after(None, usize::MAX).expect("readable");
        assert!(tokens.iter().all(|token| token.used.0 % 86_400_000 == 0), "the day, and no more");
        assert!(tokens.iter().all(|token| now < token.last_use().after(config.privacy.idle_account())));
        let audit = snapshot.audit_after(None, usize::MAX).expect("readable");
        assert!(audit.iter().all(|(_, entry)| now <= entry.at.after(AUDIT)));
        for user in snapshot.consenting_after(None, usize::MAX).expect("readable") {
            let tokens = snapshot.tokens_of(&user).expect("readable").len();
            let associations = snapshot.associations_of(&user).expect("readable").len();
            assert_ne!(tokens + associations, 0, "a consent of nobody");
        }
        Ok(())
    };
    core.store.scan(check).await.expect("nothing is too old");
}

/// Every index has as many entries as the table that it leads to, and leads there.
async fn check_indexes(core: &Core, memory: &Memory) {
    let check = |snapshot: &Scan<'_>| {
        for token in snapshot.tokens_after(None, usize::MAX).expect("readable") {
            let own = snapshot.tokens_of(&token.owner).expect("readable");
            assert!(own.iter().any(|one| one.hash == token.hash));
        }
        for (sid, session) in snapshot.sessions_after(None, usize::MAX).expect("readable") {
            let of_address = snapshot.sessions_of_address(&session.address).expect("readable");
            assert!(of_address.iter().any(|(found, _)| *found == sid));
            if let Some(account) = &session.account {
                let of_account = snapshot.sessions_of_account(account).expect("readable");
                assert!(of_account.iter().any(|(found, _)| *found == sid));
            }
            let found = snapshot.session_by_index(&session.index_key).expect("readable");
            assert!(found.is_some_and(|(found, _)| found == sid), "a session that nothing leads to");
        }
        for invitation in snapshot.invitations_after(None, usize::MAX).expect("readable") {
            if let Some(address) = invitation.invited.address() {
                let to = snapshot.invitations_to(address).expect("readable");
                assert!(to.contains(&invitation.token));
            }
            let from = snapshot.invitations_from(&invitation.sender).expect("readable");
            assert!(from.iter().any(|one| one.token == invitation.token));
            let by_key = snapshot.invitation_by_key(&invitation.ephemeral_key).expect("readable");
            assert!(by_key.as_ref() == Some(&invitation.token));
        }
        for number in 0..3 {
            if let Some(association) = snapshot.association(&address(number)).expect("readable") {
                let own = snapshot.associations_of(&association.user_id).expect("readable");
                assert!(own.contains(&association));
            }
        }
        for (secret, visit) in snapshot.visits_after(None, usize::MAX).expect("readable") {
            let own = snapshot.visits_of(&visit.address).expect("readable");
            assert!(own.iter().any(|(found, _)| *found == secret));
        }
        Ok(())
    };
    core.store.scan(check).await.expect("every index leads to its row");
    let database = memory.copy().database();
    let transaction = database.begin_read().expect("a transaction");
    let rows = |wanted: &str| {
        let mut tables = transaction.list_tables().expect("tables");
        let table = tables.find(|table| table.name() == wanted).unwrap_or_else(|| panic!("{wanted}"));
        transaction.open_untyped_table(table).expect("readable").len().expect("a length")
    };
    for (table, indexes) in [
        ("tokens", &["account_tokens"][..]),
        ("sessions", &["session_index", "address_sessions"]),
        ("invitations", &["invited", "account_invitations", "ephemeral_keys"]),
        ("visits", &["address_visits"]),
        ("associations", &["account_addresses", "lookup_1"]),
        ("outbox", &["outbox_due"]),
    ] {
        for index in indexes {
            assert_eq!(rows(index), rows(table), "{index} and {table}");
        }
    }
}

async fn run(steps: Vec<Step>) {
    let (clock, memory) = (TestClock::new(), Memory::default());
    let core = core_on(memory.store(&clock), clock.clone()).await;
    suppression::suppress(&core, address(SILENT), By::Owner).await.expect("written");
    let mut memories = Memories::default();
    for step in steps {
        take(&core, step, &mut memories, &clock).await;
        for who in &memories.erased {
            check_account_is_gone(&core, &user(*who)).await;
        }
    }
    delete(&core).await.expect("written");
    check_ages(&core).await;
    check_indexes(&core, &memory).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outlives_its_period_and_nothing_is_an_orphan(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
