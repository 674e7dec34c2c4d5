//! A visit: somebody who has shown that an address is theirs looks at what is stored about it
//! (design, P11 and P12).
//!
//! It begins with a link that goes to the address and becomes a page that is open for a while. What
//! the page shows is not its business.

use serde::{Deserialize, Serialize};

use super::{
    retention::{VISIT_LINK, VISIT_PAGE},
    threepid::Address,
    time::Millis,
};

/// How far a visit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The link was sent.
    Link,
    /// The link was confirmed, and the browser has the secret.
    Page,
}

/// A visit; the secret that leads to it is the link's, or the browser's.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The address whose owner visits.
    pub address: Address,
    /// How far it has come.
    pub stage: Stage,
    /// When it ends.
    pub until: Millis,
}

impl Visit {
    /// The visit that a link begins.
    pub fn by_link(address: Address, now: Millis) -> Self {
        Self { address, stage: Stage::Link, until: now.after(VISIT_LINK) }
    }

    /// The visit after the link was confirmed.
    pub fn confirmed(self, now: Millis) -> Self {
        Self { stage: Stage::Page, until: now.after(VISIT_PAGE), ..self }
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Millis) -> bool {
        now >= self.until
    }
}
