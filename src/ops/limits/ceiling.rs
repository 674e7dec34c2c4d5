//! The daily ceilings: how many messages to phones and invitation mails are sent in one UTC day, for all
//! callers together.
//!
//! They are counted in the database before a message is sent, so a restart or a crash does not reset them.

use super::day_shares::DayShare;
use crate::{
    domain::{refusal::Refusal, time::Millis},
    metrics::{Metrics, RequestLimit},
    ops::Failure,
    store::Writes,
};

/// Counts a message to a phone.
///
/// # Errors
/// `LimitExceeded` until the next day, if the ceiling is reached.
pub(in crate::ops) fn count_sms(tables: &mut Writes<'_>, ceiling: u32, now: Millis) -> Result<(), Failure> {
    require_room(tables.sms_sent(now.day())?, ceiling, now)?;
    Ok(tables.count_sms(now.day())?)
}

/// Counts an invitation mail.
///
/// # Errors
/// `LimitExceeded` until the next day, if the ceiling is reached or the inviter's domain has used up its share.
pub(in crate::ops) fn count_invitation(
    tables: &mut Writes<'_>,
    ceiling: u32,
    share: Option<&DayShare>,
    now: Millis,
) -> Result<(), Failure> {
    require_room(tables.invites_sent(now.day())?, ceiling, now)?;
    if share.is_some_and(|share| share.is_used_up(now.day())) {
        return Err(refusal(now).into());
    }
    tables.count_invite(now.day())?;
    if let Some(share) = share {
        share.count(now.day());
    }
    Ok(())
}

fn require_room(sent: u32, ceiling: u32, now: Millis) -> Result<(), Refusal> {
    if sent < ceiling { Ok(()) } else { Err(refusal(now)) }
}

fn refusal(now: Millis) -> Refusal {
    Refusal::LimitExceeded { retry_after: now.rest_of_day() }
}

/// Which messages a ceiling is for.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) enum Ceiling {
    /// `sms.daily_ceiling`
    Sms,
    /// `invites.daily_ceiling`
    Invitations,
}

impl Ceiling {
    /// Counts a request that the ceiling refused.
    pub fn count(self, metrics: &Metrics) {
        metrics.count_limited(match self {
            Self::Sms => RequestLimit::SmsDailyCeiling,
            Self::Invitations => RequestLimit::InvitesDailyCeiling,
        });
    }

    /// Counts and logs for the operator that the ceiling was reached, if `failure` is due to it. Each ceiling has a
    /// line of its own, because the log sums up repeated lines.
    pub fn note_if_reached(self, metrics: &Metrics, failure: &Failure, ceiling: u32) {
        let Failure::Refused(Refusal::LimitExceeded { .. }) = failure else { return };
        self.count(metrics);
        match self {
            Self::Sms => tracing::warn!(
                ceiling,
                "sms.daily_ceiling is reached: no more messages to phones are sent until midnight (UTC)"
            ),
            Self::Invitations => tracing::warn!(
                ceiling,
                "invites.daily_ceiling is reached, or the part of it that one registrable domain or all homeservers without a name may use: Bindery refuses these invitations until midnight (UTC); name a homeserver in lookup.homeserver_budgets or homeservers.allow to give it all"
            ),
        }
    }
}
