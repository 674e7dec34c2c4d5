//! How many destinations of the outbox are sent to at once: of each kind and lane, and for one registrable domain.

use std::collections::HashMap;

use super::mail_lanes::Lane;
use crate::domain::outbox::Kind;

/// How many destinations of each kind and lane are sent to at once. They do not share this limit, so that none delays
/// another.
pub const MAX_CONCURRENT: usize = 32;
/// The homeservers, and the three lanes of each kind of mail.
pub const MAX_BUSY: usize = 7 * MAX_CONCURRENT;
/// How many homeservers of one registrable domain are called at once. If none of them answers, the calls to others must
/// not wait for them. It is also how many domains of one lane get mails at once because of the accounts of one
/// registrable domain: a stranger may choose recipients about which the relay is slow.
pub const MAX_CONCURRENT_OF_DOMAIN: usize = 4;
/// How many slow domains get mails at once because of the accounts of one registrable domain.
const MAX_SLOW_OF_DOMAIN: usize = 1;

/// How many destinations are busy or picked.
#[derive(Default)]
pub struct InUse {
    of_lane: HashMap<(Kind, Option<Lane>), usize>,
    of_owner: HashMap<(Kind, Option<Lane>, String), usize>,
    /// How many of them get mails.
    pub mails: usize,
}

impl InUse {
    /// Counts a destination.
    pub fn count(&mut self, kind: Kind, lane: Option<Lane>, owner: &str) {
        *self.of_lane.entry((kind, lane)).or_default() += 1;
        *self.of_owner.entry((kind, lane, owner.to_owned())).or_default() += 1;
        self.mails += usize::from(lane.is_some());
    }

    /// Whether another destination of this kind and lane may be sent to.
    pub fn has_room(&self, kind: Kind, lane: Option<Lane>) -> bool {
        self.of_lane.get(&(kind, lane)).is_none_or(|count| *count < MAX_CONCURRENT)
    }

    /// Whether another destination of this owner may be sent to.
    pub fn has_room_for(&self, kind: Kind, lane: Option<Lane>, owner: &str) -> bool {
        let max = if lane == Some(Lane::Slow) { MAX_SLOW_OF_DOMAIN } else { MAX_CONCURRENT_OF_DOMAIN };
        self.of_owner.get(&(kind, lane, owner.to_owned())).is_none_or(|count| *count < max)
    }
}
