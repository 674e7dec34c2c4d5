//! Rows of the outbox: mails and requests that Bindery sends after the answer, with their retry schedule.
//!
//! Bindery writes a row in the same transaction as the change that causes it. It retries until the message is
//! delivered or too old.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    backoff::Backoff,
    ids::{Token, UserId},
    invitation::Described,
    language::Language,
    retention::{GIVE_UP, GIVE_UP_OWNER_MAIL},
    secret::Key32,
    threepid::Address,
    time::{HOUR, Millis},
};

/// The backoff after the first failure. It doubles after each further failure, up to [`RETRY_MOST`].
pub const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest backoff between two tries.
pub const RETRY_MOST: Duration = HOUR;

/// The key of a row. A second message with the same key replaces the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxKey {
    /// What the row sends.
    pub kind: Kind,
    /// The token of the invitation that it belongs to. A notice has a keyed hash here, see
    /// [`OutboxKey::of_owner_mail`].
    pub token: Token,
}

impl OutboxKey {
    /// The key of the notice to the owner of an address: a keyed hash, so that each address has at most one
    /// notice and a newer one replaces an older one.
    pub fn of_owner_mail(address: &Address, key: &Key32) -> Self {
        let (medium, text) = (address.medium().as_str().as_bytes(), address.as_str().as_bytes());
        Self { kind: Kind::OwnerMail, token: Token::from_bytes(key.mac(&[b"owner notice", medium, text])) }
    }
}

/// The kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A request to a homeserver: an invited address is now bound to one of its users.
    OnBind,
    /// The mail that tells the owner of an address that they are invited.
    InvitationMail,
    /// The mail that tells the owner of an address that it was published or withdrawn.
    OwnerMail,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::OnBind, Self::InvitationMail, Self::OwnerMail];
    /// The kinds that belong to an invitation and are deleted with it.
    pub const OF_INVITATION: [Self; 2] = [Self::OnBind, Self::InvitationMail];

    /// The first byte of keys in the store. Never reuse a number.
    pub fn number(self) -> u8 {
        match self {
            Self::OnBind => 1,
            Self::InvitationMail => 2,
            Self::OwnerMail => 3,
        }
    }

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The name of the kind in the log and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnBind => "onbind",
            Self::InvitationMail => "invitation_mail",
            Self::OwnerMail => "owner_notice",
        }
    }

    /// How long Bindery retries.
    pub fn give_up(self) -> Duration {
        match self {
            Self::OnBind | Self::InvitationMail => GIVE_UP,
            Self::OwnerMail => GIVE_UP_OWNER_MAIL,
        }
    }
}

/// The message of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// See [`Kind::OnBind`]; the Matrix ID that the address is now bound to.
    OnBind(UserId),
    /// See [`Kind::InvitationMail`]; the room and the inviter as the mail describes them.
    InvitationMail(Described),
    /// Takes the place of an invitation mail if the invited address has opted out, so that storing the invitation is the
    /// same work. Nothing is sent, but the row takes its turn among the mails to the same registrable domain, which this
    /// keyed hash stands for.
    NoMail(String),
    /// See [`Kind::OwnerMail`].
    OwnerMail(OwnerMail),
}

/// A notice to the owner of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerMail {
    /// The address.
    pub address: Address,
    /// What happened to it.
    pub change: BindingChange,
    /// The Matrix ID that it is or was bound to.
    pub user_id: UserId,
    /// The language of the mail.
    pub language: Language,
}

/// What happened to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindingChange {
    /// It was published.
    Bound,
    /// It was withdrawn.
    Unbound,
}

impl Payload {
    /// The kind of the message.
    pub fn kind(&self) -> Kind {
        match self {
            Self::OnBind(_) => Kind::OnBind,
            Self::InvitationMail(_) | Self::NoMail(_) => Kind::InvitationMail,
            Self::OwnerMail(_) => Kind::OwnerMail,
        }
    }
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The message.
    pub payload: Payload,
    /// When the row was queued.
    pub since: Millis,
    /// How many tries have failed.
    pub failures: u32,
    /// When the next try is due.
    pub due: Millis,
}

impl Outgoing {
    /// A row that is due at once.
    pub fn new(payload: Payload, now: Millis) -> Self {
        Self { payload, since: now, failures: 0, due: now }
    }

    /// The row after another failure; `None` when it is time to give up.
    pub fn after_failure(mut self, now: Millis) -> Option<Self> {
        self.failures = self.failures.saturating_add(1);
        let wait = Backoff { first: RETRY_FIRST, cap: RETRY_MOST }.wait(self.failures);
        // The last try is due when the retry time ends, not after it.
        self.due = now.after(wait).min(self.until());
        (now < self.until()).then_some(self)
    }

    /// Whether Bindery must delete the row unsent. A notice may be the last row about its owner, so it is
    /// deleted after a day even if the relay is down.
    pub fn is_late(&self, now: Millis) -> bool {
        self.payload.kind() == Kind::OwnerMail && now >= self.until()
    }

    /// When Bindery stops retrying.
    pub fn until(&self) -> Millis {
        self.since.after(self.payload.kind().give_up())
    }
}

/// What happened to a row after an attempt to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settled {
    /// It was delivered and is deleted.
    Delivered,
    /// It stays, to be retried.
    Waiting,
    /// Its retry period ended, and it is deleted.
    GivenUp,
    /// The receiver refused it permanently, and it is deleted.
    Refused,
    /// It had been replaced or withdrawn before.
    Withdrawn,
}

impl Settled {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Delivered, Self::Waiting, Self::GivenUp, Self::Refused, Self::Withdrawn];

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Waiting => "waiting",
            Self::GivenUp => "given_up",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_an_hour_and_end_after_a_week() {
        let start = Millis(1_800_000_000_000);
        let mut row = Outgoing::new(Payload::InvitationMail(Described::default()), start);
        let (mut now, mut waits) = (start, Vec::new());
        while let Some(next) = row.clone().after_failure(now) {
            waits.push((next.due.0 - now.0) / 1000);
            (row, now) = (next.clone(), next.due);
        }
        assert_eq!(waits[..12], [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!(now, start.after(GIVE_UP));
    }
}
