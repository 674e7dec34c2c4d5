//! `[invites]`: invitations to email addresses that are not bound to a Matrix ID.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{at_least_one, default_days};
use crate::domain::{retention::Period, time::DAY};

/// Invitations to email addresses that are not bound to a Matrix ID.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Invites {
    /// How many days a pending invitation is kept, 1 to 365.
    pub expire_days: NonZeroU32,
    /// The URL of the web client that the link in an invitation opens, without a slash at its end.
    pub web_client_url: String,
    /// How many characters of each side of an invited address the room shows, 0 to 3: 1 shows "f...@b...".
    pub show_characters: usize,
    /// How many invitations this server stores in one day (UTC), for all inviters together; the users of one registrable domain may use up a quarter. If you name homeservers in homeservers.allow or lookup.homeserver_budgets, they may use all of it, and all others together half.
    pub daily_ceiling: NonZeroU32,
    /// IDs of rooms for which this server refuses invitations.
    pub blocked_rooms: Vec<String>,
    /// Homeservers whose users may not invite through this server; a name also blocks its other ports and its subdomains.
    pub blocked_homeservers: Vec<String>,
    /// Words, in upper or lower case, that block an invitation if the room's name, the sender's name or the sender's Matrix ID contains one.
    pub blocked_keywords: Vec<String>,
}

impl Default for Invites {
    fn default() -> Self {
        Self {
            expire_days: default_days(Period::Invitation),
            web_client_url: "https://app.element.io".to_owned(),
            show_characters: 1,
            daily_ceiling: at_least_one(1000),
            blocked_rooms: Vec::new(),
            blocked_homeservers: Vec::new(),
            blocked_keywords: Vec::new(),
        }
    }
}

impl Invites {
    /// How long a pending invitation is kept.
    pub fn lifetime(&self) -> Duration {
        DAY.saturating_mul(self.expire_days.get())
    }
}
