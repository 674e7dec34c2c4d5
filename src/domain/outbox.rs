//! What has to leave this machine and may be late: a row each, written with the change that it
//! tells of, tried again until it is delivered or its time has gone by.
//!
//! How something travels, and to which place, is decided above.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    backoff::Backoff,
    ids::{Token, UserId},
    invitation::Described,
    language::Language,
    retention::{GIVE_UP, GIVE_UP_NOTICE},
    secret::Key32,
    threepid::Address,
    time::{HOUR, Millis},
};

/// The wait after a first failure ...
pub const RETRY_FIRST: Duration = Duration::from_secs(5);
/// ... and the longest wait between two tries, until [`Kind::give_up`].
pub const RETRY_MOST: Duration = HOUR;

/// What a row is about: there is one row for each, never two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxKey {
    /// What kind of thing leaves.
    pub kind: Kind,
    /// The invitation that it belongs to; of a notice, see [`OutboxKey::of_notice`].
    pub token: Token,
}

impl OutboxKey {
    /// The key of the notice to the owner of an address: a keyed hash, so that there is one for each
    /// address and a newer one takes the place of an older one.
    pub fn of_notice(address: &Address, key: &Key32) -> Self {
        let (medium, text) = (address.medium().as_str().as_bytes(), address.as_str().as_bytes());
        Self { kind: Kind::OwnerNotice, token: Token::from_bytes(key.mac(&[b"owner notice", medium, text])) }
    }
}

/// The kinds of things that leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A homeserver hears that an invited address now leads to one of its users.
    OnBind,
    /// Somebody hears by mail that they are invited.
    InvitationMail,
    /// The owner of an address hears by mail that it was published or withdrawn.
    OwnerNotice,
}

impl Kind {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::OnBind, Self::InvitationMail, Self::OwnerNotice];
    /// Those that belong to an invitation and go with it.
    pub const OF_INVITATION: [Self; 2] = [Self::OnBind, Self::InvitationMail];

    /// The number that keys of the store begin with. Never reuse one.
    pub fn number(self) -> u8 {
        match self {
            Self::OnBind => 1,
            Self::InvitationMail => 2,
            Self::OwnerNotice => 3,
        }
    }

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Its name in the log and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnBind => "onbind",
            Self::InvitationMail => "invitation_mail",
            Self::OwnerNotice => "owner_notice",
        }
    }

    /// For how long it is tried.
    pub fn give_up(self) -> Duration {
        match self {
            Self::OnBind | Self::InvitationMail => GIVE_UP,
            Self::OwnerNotice => GIVE_UP_NOTICE,
        }
    }
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// See [`Kind::OnBind`]; the Matrix ID that the address now leads to.
    OnBind(UserId),
    /// See [`Kind::InvitationMail`]; what the mail says of the room.
    InvitationMail(Described),
    /// See [`Kind::OwnerNotice`].
    OwnerNotice(Notice),
}

/// What the owner of an address is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The address.
    pub address: Address,
    /// What happened to it.
    pub change: Change,
    /// The Matrix ID that it leads to, or led to.
    pub user_id: UserId,
    /// The language that the person reads.
    pub language: Language,
}

/// What happened to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It was published.
    Bound,
    /// It was withdrawn.
    Unbound,
}

impl Parcel {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::OnBind(_) => Kind::OnBind,
            Self::InvitationMail(_) => Kind::InvitationMail,
            Self::OwnerNotice(_) => Kind::OwnerNotice,
        }
    }
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What is sent.
    pub parcel: Parcel,
    /// When it was first to be sent.
    pub since: Millis,
    /// How often that failed.
    pub failures: u32,
    /// When it is to be tried next.
    pub due: Millis,
}

impl Outgoing {
    /// To be sent at once.
    pub fn new(parcel: Parcel, now: Millis) -> Self {
        Self { parcel, since: now, failures: 0, due: now }
    }

    /// The row after another failure; `None` when it is time to give up.
    pub fn after_failure(mut self, now: Millis) -> Option<Self> {
        self.failures = self.failures.saturating_add(1);
        let wait = Backoff { first: RETRY_FIRST, cap: RETRY_MOST }.wait(self.failures);
        // The last try is made when its time is up and not after.
        self.due = now.after(wait).min(self.until());
        (now < self.until()).then_some(self)
    }

    /// Whether it must be gone although it was not sent. What nothing else is kept of does not wait for
    /// a relay that is gone.
    pub fn is_late(&self, now: Millis) -> bool {
        self.parcel.kind() == Kind::OwnerNotice && now >= self.until()
    }

    /// When its time is up.
    pub fn until(&self) -> Millis {
        self.since.after(self.parcel.kind().give_up())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_an_hour_and_end_after_a_week() {
        let start = Millis(1_800_000_000_000);
        let mut row = Outgoing::new(Parcel::InvitationMail(Described::default()), start);
        let (mut now, mut waits) = (start, Vec::new());
        while let Some(next) = row.clone().after_failure(now) {
            waits.push((next.due.0 - now.0) / 1000);
            (row, now) = (next.clone(), next.due);
        }
        assert_eq!(waits[..12], [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!(now, start.after(GIVE_UP));
    }
}
