//! The invitations in the model: who is to be told of which, and that nobody is told of another's.

use std::collections::BTreeMap;

use bindery::{
    domain::{
        ids::{RoomId, UserId},
        invitation::Described,
        outbox::{Kind, OutboxKey, Payload, Settled},
        refusal::Refusal,
    },
    ops::{
        Core,
        invitation::store::{self, Request},
        outbox::{self, Content, Fate},
        retention,
    },
};

use super::refusal;
use crate::support::core::{address, authenticated, user};

const LIFETIME_HOURS: u32 = 30 * 24;

/// A pending invitation.
struct One {
    address: u8,
    age: u32,
    /// Whose homeserver is to be told.
    told: Option<u8>,
}

/// Those that are stored, by token.
#[derive(Default)]
pub struct Invited(BTreeMap<String, One>);

impl Invited {
    pub async fn invite(&mut self, core: &Core, at: u8, bound: Option<u8>) {
        let sender = UserId::parse("@sender:hs.test").expect("a user ID");
        let room_id = RoomId::parse(&format!("!room{at}:hs.test")).expect("a room ID");
        let described = Described::default();
        let account = authenticated(core, sender.clone()).await;
        let request = Request { address: address(at), room_id, sender, described };
        match (refusal(store::store(core, account, request).await), bound) {
            (Ok(stored), None) => {
                let one = One { address: at, age: 0, told: None };
                assert!(self.0.insert(stored.token.as_str().to_owned(), one).is_none());
            }
            (Err(error), Some(who)) => assert_eq!(error, Refusal::ThreepidInUse { user_id: user(who) }),
            (outcome, bound) => panic!("{:?} although {bound:?}", outcome.map(drop)),
        }
    }

    pub fn published(&mut self, at: u8, who: u8) {
        let waiting = self.0.values_mut().filter(|one| one.address == at && one.age < LIFETIME_HOURS);
        waiting.for_each(|one| one.told = Some(who));
    }

    pub fn withdrawn(&mut self, at: u8) {
        self.0.values_mut().filter(|one| one.address == at).for_each(|one| one.told = None);
    }

    pub fn wait(&mut self, hours: u32) {
        self.0.values_mut().for_each(|one| one.age += hours);
    }

    /// Sends whatever is due, and this becomes of it.
    pub async fn deliver(&mut self, core: &Core, fate: Fate) {
        for due in outbox::due(core, None, 1000).await.expect("readable").rows {
            let (token, kind) = (due.key.token.as_str().to_owned(), due.key.kind);
            let content = outbox::content(core, &due.key, &due.row).expect("readable");
            let Some(one) = self.0.get_mut(&token) else {
                assert!(content.is_none(), "what is not stored any more is not sent");
                continue;
            };
            let fate = match content {
                Some(Content::OnBind(user_id, body)) => {
                    assert!(one.told.map(user).as_ref() == Some(&user_id), "told to somebody else");
                    let invites = body["invites"].as_array().expect("invitations");
                    assert_eq!(invites.len(), 1);
                    let expected = [
                        (&body["mxid"], user_id.as_str()),
                        (&body["address"], address(one.address).as_str()),
                        (&invites[0]["mxid"], user_id.as_str()),
                        (&invites[0]["address"], address(one.address).as_str()),
                        (&invites[0]["room_id"], &format!("!room{}:hs.test", one.address)),
                        (&invites[0]["signed"]["mxid"], user_id.as_str()),
                        (&invites[0]["signed"]["token"], &token),
                    ]
                    .map(|(found, wanted)| (found.as_str().map(str::to_owned), Some(wanted.to_owned())));
                    assert!(expected.iter().all(|(found, wanted)| found == wanted), "{body}");
                    fate
                }
                Some(Content::Invitation(content)) => {
                    assert!(content.to == address(one.address));
                    Fate::Delivered
                }
                Some(Content::OwnerMail(_) | Content::NoMail) => {
                    panic!("no owner is told, and nobody has opted out")
                }
                None => {
                    assert!(one.age >= LIFETIME_HOURS, "it may still be taken up");
                    Fate::Withdrawn
                }
            };
            let settled = outbox::settle(core, vec![due], fate).await.expect("written");
            match (settled[0], kind) {
                (_, Kind::InvitationMail | Kind::OwnerMail) | (Settled::Waiting, _) => {}
                (Settled::Delivered, _) => drop(self.0.remove(&token)),
                (Settled::GivenUp | Settled::Refused | Settled::Withdrawn, _) => one.told = None,
            }
        }
    }

    pub async fn expire(&mut self, core: &Core) {
        let before = self.0.len();
        self.0.retain(|_, one| one.age < LIFETIME_HOURS);
        let deleted = retention::delete(core).await.expect("written");
        assert_eq!(deleted.invitations, before - self.0.len());
    }

    pub fn check(&self, core: &Core) {
        let snapshot = core.store.read();
        for at in 0..2 {
            let mut stored: Vec<String> = Vec::new();
            for token in snapshot.invitations_to(&address(at)).expect("readable") {
                stored.push(token.as_str().to_owned());
                let key = OutboxKey { kind: Kind::OnBind, token };
                let payload = snapshot.outgoing(&key).expect("readable").map(|row| row.payload);
                let told = self.0.get(key.token.as_str()).and_then(|one| one.told);
                assert_eq!(payload, told.map(|who| Payload::OnBind(user(who))));
            }
            let known = self.0.iter().filter(|(_, one)| one.address == at).map(|(token, _)| token.clone());
            stored.sort_unstable();
            assert_eq!(stored, known.collect::<Vec<_>>());
        }
    }
}
