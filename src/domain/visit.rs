//! A visit: the owner of an address opens the page with the data that Bindery stores about it (design, P11 and
//! P12).
//!
//! A visit begins with a link that Bindery sends to the address. When the owner confirms the link, the page
//! opens for a limited time.

use serde::{Deserialize, Serialize};

use super::{
    retention::{VISIT_LINK, VISIT_PAGE},
    threepid::Address,
    time::Millis,
};

/// The stage of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Bindery has sent the link.
    Link,
    /// The owner has confirmed the link, and the browser has the secret.
    Page,
}

/// A visit. Its secret is in the link first, and in the browser's cookie after that.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The address whose owner visits.
    pub address: Address,
    /// The stage of the visit.
    pub stage: Stage,
    /// When the link or the page expires.
    pub until: Millis,
}

impl Visit {
    /// A new visit, with a link that is valid for [`VISIT_LINK`].
    pub fn by_link(address: Address, now: Millis) -> Self {
        Self { address, stage: Stage::Link, until: now.after(VISIT_LINK) }
    }

    /// The visit after its owner confirmed the link; the page stays open for [`VISIT_PAGE`].
    pub fn confirmed(self, now: Millis) -> Self {
        Self { stage: Stage::Page, until: now.after(VISIT_PAGE), ..self }
    }

    /// Whether the link or the page has expired. If a wrong clock dated it, its age is unknown, and it has expired, too.
    pub fn is_over(&self, now: Millis) -> bool {
        now >= self.until || self.until.is_ahead_of(now.after(VISIT_LINK))
    }
}
