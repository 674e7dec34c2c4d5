//! Any sequence of operations does what a model of a few maps does.

mod invited;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bindery::{
    config::Config,
    domain::{
        ids::{ClientSecret, OpenIdToken, Sid, Token, UserId},
        language::Language,
        refusal::Refusal,
        server_name::ServerName,
        signing::PublicKeys,
        threepid::Address,
    },
    ops::{
        Clock, Core, Failure, HomeserverError, Homeservers, accounts, associations, genesis,
        lookup::{self, Query},
        mailed_link,
        outbox::Fate,
        tokens::{self, Authenticated},
        validation::{self, TokenRequest, User},
    },
    store::Store,
};
use futures_util::future::{BoxFuture, FutureExt};
use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use self::invited::Invited;
use crate::support::{TestClock, hash};

/// Nobody is asked anything here.
struct NoHomeservers;

impl Homeservers for NoHomeservers {
    fn token_owner<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a OpenIdToken,
    ) -> BoxFuture<'a, Result<UserId, HomeserverError>> {
        async { Err(HomeserverError::Unreachable) }.boxed()
    }

    fn signing_keys<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Arc<PublicKeys>, HomeserverError>> {
        async { Err(HomeserverError::Unreachable) }.boxed()
    }
}

/// People, addresses and secrets are small numbers, so that they meet often.
#[derive(Clone, Debug)]
enum Step {
    Request { user: u8, address: u8, secret: u8, attempt: u8, relay_works: bool },
    Submit { address: u8, secret: u8, right: bool },
    Withdraw { address: u8, secret: u8 },
    Bind { user: u8, address: u8, secret: u8 },
    Unbind { user: u8, address: u8, secret: u8 },
    Invite { address: u8 },
    Deliver { fate: Fate },
    Expire,
    Wait { hours: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (user, address, secret) = (0..2u8, 0..2u8, 0..2u8);
    prop_oneof![
        4 => (user.clone(), address.clone(), secret.clone(), 0..3u8, any::<bool>())
            .prop_map(|(user, address, secret, attempt, relay_works)| Step::Request { user, address, secret, attempt, relay_works }),
        6 => (address.clone(), secret.clone(), any::<bool>())
            .prop_map(|(address, secret, right)| Step::Submit { address, secret, right }),
        1 => (address.clone(), secret.clone()).prop_map(|(address, secret)| Step::Withdraw { address, secret }),
        4 => (user.clone(), address.clone(), secret.clone())
            .prop_map(|(user, address, secret)| Step::Bind { user, address, secret }),
        3 => (user, address, secret).prop_map(|(user, address, secret)| Step::Unbind { user, address, secret }),
        2 => (0..2u8).prop_map(|address| Step::Invite { address }),
        2 => prop_oneof![Just(Fate::Delivered), Just(Fate::Failed), Just(Fate::Refused)]
            .prop_map(|fate| Step::Deliver { fate }),
        1 => Just(Step::Expire),
        1 => prop_oneof![3 => 1..20u8, 1 => 100..250u8].prop_map(|hours| Step::Wait { hours }),
    ]
}

/// A session as the model sees it.
#[derive(Clone)]
struct Session {
    /// Not known until a request succeeds.
    sid: Option<Sid>,
    token: Option<Token>,
    user: u8,
    delivered: Option<u8>,
    wrong: u8,
    validated: bool,
    withdrawn: bool,
    age: u32,
}

impl Session {
    fn over(&self) -> bool {
        self.withdrawn || self.age >= 24 || (self.wrong >= 5 && !self.validated)
    }

    fn check(&self) -> Result<(), Refusal> {
        match () {
            () if self.over() => Err(Refusal::SessionExpired),
            () if !self.validated => Err(Refusal::SessionNotValidated),
            () => Ok(()),
        }
    }
}

pub fn user(number: u8) -> UserId {
    UserId::parse(&format!("@user{number}:hs.test")).expect("a user ID")
}

pub fn address(number: u8) -> Address {
    Address::email(&format!("address{number}@example.org")).expect("an address")
}

pub fn secret(number: u8) -> ClientSecret {
    ClientSecret::parse(&format!("secret{number}")).expect("a secret")
}

/// An account that has just registered.
pub async fn authenticated(core: &Core, user: UserId) -> Authenticated {
    let token = accounts::register(core, user).await.expect("a token");
    tokens::authenticate(core, &token).expect("a good token")
}

fn refusal<T>(outcome: Result<T, Failure>) -> Result<T, Refusal> {
    outcome.map_err(|failure| match failure {
        Failure::Refused(refusal) => refusal,
        Failure::Store(error) => panic!("the store failed: {error}"),
    })
}

fn found(core: &Core, address: &Address) -> Option<String> {
    let pepper = lookup::pepper(core);
    let hashes = [hash(address.as_str(), "email", &pepper)];
    let query = Query::check(core, "sha256", &pepper, &hashes).expect("a good query");
    let mut found = None;
    query.run(|_, user_id| found = user_id.map(str::to_owned)).expect("readable");
    found
}

/// Operations on a database in memory, beside no homeserver.
pub fn core_in_memory(clock: Arc<TestClock>) -> Core {
    let name = ServerName::parse("id.test").expect("a name");
    let store =
        Store::on_backend(InMemoryBackend::new(), &name, || genesis(clock.now())).expect("a database");
    core_on(store, clock)
}

/// Operations on this database, beside no homeserver.
pub fn core_on(store: Store, clock: Arc<TestClock>) -> Core {
    // Mails to owners are tested elsewhere; here they would lie between the rows of invitations.
    let mut config = Config::default();
    config.privacy.notify_owners = false;
    Core::new(Arc::new(config), store, clock, Arc::new(NoHomeservers)).expect("a core")
}

async fn run(steps: Vec<Step>) {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone());
    let mut sessions: BTreeMap<(u8, u8), Session> = BTreeMap::new();
    let mut bound: BTreeMap<u8, u8> = BTreeMap::new();
    let mut invited = Invited::default();
    for step in steps {
        match step.clone() {
            Step::Wait { hours } => {
                clock.forward(Duration::from_secs(u64::from(hours) * 3600));
                sessions.values_mut().for_each(|session| session.age += u32::from(hours));
                invited.wait(u32::from(hours));
            }
            Step::Invite { address: at } => invited.invite(&core, at, bound.get(&at).copied()).await,
            Step::Deliver { fate } => invited.deliver(&core, fate).await,
            Step::Expire => {
                invited.expire(&core).await;
                // Nobody hears of a session again that was over and is gone.
                sessions.retain(|_, session| session.age < 24);
            }
            Step::Request { user: who, address: at, secret: with, attempt, relay_works } => {
                let request = TokenRequest {
                    account: Some(authenticated(&core, user(who)).await),
                    address: address(at),
                    secret: secret(with),
                    send_attempt: u64::from(attempt),
                    next_link: None,
                    language: Language::En,
                };
                let mut sent = None;
                let outcome = validation::request_token(
                    &core,
                    request,
                    || Ok(()),
                    async |message: validation::Message| {
                        assert!(message.address == address(at));
                        sent = Some(message.token);
                        if relay_works { Ok(()) } else { Err(Refusal::EmailSendError) }
                    },
                );
                let outcome = refusal(outcome.await);
                let open = sessions
                    .get(&(at, with))
                    .filter(|session| !session.over() && session.user == who)
                    .cloned();
                let due = open.as_ref().is_none_or(|session| Some(attempt) > session.delivered);
                assert_eq!(sent.is_some(), due, "a mail goes out if and only if it is due");
                match (&outcome, &open) {
                    (Ok(sid), Some(session)) => {
                        assert!(
                            session.sid.as_ref().is_none_or(|known| known == sid),
                            "an open session goes on"
                        );
                    }
                    (Ok(_), None) => {}
                    (Err(error), _) => assert!(due && !relay_works && *error == Refusal::EmailSendError),
                }
                if let Some(session) = &open
                    && let (Some(before), Some(now)) = (&session.token, &sent)
                {
                    assert!(before == now, "every mail of a session has the same token");
                }
                let sid = outcome.clone().ok().or(open.as_ref().and_then(|session| session.sid.clone()));
                let fresh = Session {
                    sid: None,
                    token: None,
                    user: who,
                    delivered: None,
                    wrong: 0,
                    validated: false,
                    withdrawn: false,
                    age: 0,
                };
                let session = sessions.entry((at, with)).or_insert_with(|| fresh.clone());
                if open.is_none() {
                    *session = fresh;
                }
                session.sid = sid;
                session.token = sent.or(session.token.take());
                if outcome.is_ok() {
                    session.delivered = session.delivered.max(Some(attempt));
                }
            }
            Step::Submit { address: at, secret: with, right } => {
                let Some(session) = sessions.get_mut(&(at, with)) else { continue };
                let Some(sid) = session.sid.clone() else { continue };
                let wrong = Token::parse("wrong").expect("a token");
                let token = session.token.clone().filter(|_| right).unwrap_or(wrong.clone());
                let right = token != wrong;
                let outcome = validation::submit_token(&core, User::Account, sid, secret(with), token).await;
                let expected = match () {
                    () if session.over() => Err(Refusal::SessionExpired),
                    () if right => Ok(()),
                    () => Err(Refusal::TokenIncorrect),
                };
                assert_eq!(refusal(outcome).map(drop), expected);
                if expected.is_ok() && !session.validated {
                    (session.validated, session.age) = (true, 0);
                }
                session.wrong += u8::from(expected == Err(Refusal::TokenIncorrect));
            }
            Step::Withdraw { address: at, secret: with } => {
                let Some(session) = sessions.get_mut(&(at, with)) else { continue };
                let Some(sid) = session.sid.clone() else { continue };
                let Some(token) = session.token.clone() else { continue };
                let outcome = refusal(mailed_link::withdraw(&core, sid, token).await);
                let expected = if session.over() { Err(Refusal::SessionExpired) } else { Ok(()) };
                assert_eq!(outcome, expected);
                session.withdrawn |= expected.is_ok();
                if expected.is_ok() && bound.get(&at) == Some(&session.user) {
                    bound.remove(&at);
                    invited.withdrawn(at);
                }
            }
            Step::Bind { user: who, address: at, secret: with } => {
                let Some(session) = sessions.get(&(at, with)) else { continue };
                let Some(sid) = session.sid.clone() else { continue };
                let account = authenticated(&core, user(who)).await;
                let outcome = associations::bind(&core, account, sid, secret(with), user(who)).await;
                let foreign = Err(Refusal::Forbidden("Another account asked for this validation"));
                let expected = session.check().and(if session.user == who { Ok(()) } else { foreign });
                assert_eq!(refusal(outcome).map(drop), expected);
                if expected.is_ok() {
                    bound.insert(at, who);
                    invited.published(at, who);
                }
            }
            Step::Unbind { user: who, address: at, secret: with } => {
                let Some(session) = sessions.get(&(at, with)) else { continue };
                let Some(sid) = session.sid.clone() else { continue };
                let outcome =
                    associations::unbind_by_session(&core, sid, secret(with), user(who), address(at)).await;
                let expected = session.check();
                assert_eq!(refusal(outcome).is_ok(), expected.is_ok());
                if expected.is_ok() && bound.get(&at) == Some(&who) {
                    bound.remove(&at);
                    invited.withdrawn(at);
                }
            }
        }
        for number in 0..2 {
            let expected = bound.get(&number).map(|who| user(*who).as_str().to_owned());
            assert_eq!(found(&core, &address(number)), expected, "after {step:?}");
        }
        invited.check(&core);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn operations_do_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
