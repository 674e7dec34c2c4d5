//! `[invites]`: invitations to people who are known by their e-mail address only.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{at_least_one, default_days};
use crate::domain::{retention::Period, time::DAY};

/// Invitations to people who are known by their e-mail address only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Invites {
    /// After how many days an invitation that nobody took up is deleted, 1 to 365.
    pub expire_days: NonZeroU32,
    /// The web client that the link in an invitation leads to, without a slash at its end.
    pub web_client_url: String,
    /// How many characters of each side of an address everybody in the room may see: 1 shows "f...@b...".
    pub show_characters: usize,
    /// How many invitation mails may leave in one day (UTC), whoever invites.
    pub daily_ceiling: NonZeroU32,
    /// Room IDs that nobody may be invited to through this server.
    pub blocked_rooms: Vec<String>,
    /// Homeservers whose users may not invite through this server; their other ports and the domains below them are meant as well.
    pub blocked_homeservers: Vec<String>,
    /// Words that an invitation may not have in the names of its room and its sender or in the sender's Matrix ID, in any case.
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
    /// How long an invitation waits.
    pub fn lifetime(&self) -> Duration {
        DAY.saturating_mul(self.expire_days.get())
    }
}
