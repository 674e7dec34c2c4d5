//! Random sequences of operations must behave like a model that consists of a few maps.

mod invited;

use std::{collections::BTreeMap, time::Duration};

use bindery::{
    domain::{
        ids::{Sid, Token},
        language::Language,
        refusal::Refusal,
        threepid::{Address, Medium},
    },
    ops::{
        Core, Failure,
        account::tokens::Authenticated,
        address::{
            mailed_link, publish,
            validate::{self, TokenRequest, User},
            withdraw,
        },
        lookup,
        outbox::Fate,
    },
};
use proptest::prelude::*;

use self::invited::Invited;
use crate::support::{
    TestClock,
    core::{address, authenticated, core_in_memory, find, secret, user},
};

/// People, addresses and secrets are small numbers, so that operations often concern the same ones.
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
    /// Unknown until a request succeeds.
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

fn refusal<T>(outcome: Result<T, Failure>) -> Result<T, Refusal> {
    outcome.map_err(|failure| match failure {
        Failure::Refused(refusal) => refusal,
        failure => panic!("the server failed: {failure}"),
    })
}

fn found(core: &Core, account: &Authenticated, address: &Address) -> Option<String> {
    find(core, account, &lookup::pepper(core), address).expect("a good lookup")
}

async fn run(steps: Vec<Step>) {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let looker = authenticated(&core, user(9)).await;
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
                // Retention may have deleted the expired sessions, so the model forgets them.
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
                let outcome = validate::request_token(
                    &core,
                    request,
                    || Ok(()),
                    async |delivery| {
                        let validate::Delivery::Real(message) = delivery else { panic!("nobody opted out") };
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
                let outcome =
                    validate::submit_token(&core, User::Account, Medium::Email, sid, secret(with), token)
                        .await;
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
                let outcome = publish::bind(&core, account, sid, secret(with), user(who)).await;
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
                    withdraw::unbind_by_session(&core, sid, secret(with), user(who), address(at)).await;
                let expected = session.check().is_ok() && session.user == who;
                assert_eq!(refusal(outcome).is_ok(), expected);
                if expected && bound.get(&at) == Some(&who) {
                    bound.remove(&at);
                    invited.withdrawn(at);
                }
            }
        }
        for number in 0..2 {
            let expected = bound.get(&number).map(|who| user(*who).as_str().to_owned());
            assert_eq!(found(&core, &looker, &address(number)), expected, "after {step:?}");
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
