//! The values of labels. All are closed sets: no label can hold an address, a person, a homeserver or a path.

/// A closed set of values of a label.
pub trait Label: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// The value of the label.
    fn as_str(self) -> &'static str;
}

/// The limit that refused a request. Most are keys of `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestLimit {
    RegisterPerIp,
    RegisterPerHomeserver,
    RequestTokenPerAccount,
    RequestTokenPerHomeserver,
    RequestTokenPerIp,
    RequestTokenPerAccountAndAddress,
    RequestTokenPerAddress,
    SubmitTokenPerAccount,
    SubmitTokenPerHomeserver,
    SubmitTokenPerIp,
    BindPerAccount,
    BindPerIp,
    UnbindPerIp,
    OwnPagePerAddress,
    RightsPerAccount,
    RightsPerIp,
    InvitePerAccount,
    InvitePerHomeserver,
    InvitePerIp,
    InvitePerAddress,
    SignPerIp,
    VisitPerIp,
    VisitPerAddress,
    SmsPerNumber,
    SmsPerCountry,
    SmsPerAccount,
    SmsPerHomeserver,
    SmsPerIp,
    /// The share of `sms_per_country` that links to people's own pages may use up.
    VisitSmsPerCountry,
    /// The share of `sms.daily_ceiling` that links to people's own pages may use up.
    VisitSmsPerDay,
    /// `sms.daily_ceiling`
    SmsDailyCeiling,
    /// `invites.daily_ceiling`
    InvitesDailyCeiling,
    /// Too many exports run already.
    Exports,
    /// Too many codes are being hashed already.
    Codes,
    /// Too many requests to homeservers run already.
    Homeservers,
}

/// The names of the limits, in the order of the variants.
const LIMITS: [(RequestLimit, &str); 35] = [
    (RequestLimit::RegisterPerIp, "register_per_ip"),
    (RequestLimit::RegisterPerHomeserver, "register_per_homeserver"),
    (RequestLimit::RequestTokenPerAccount, "request_token_per_account"),
    (RequestLimit::RequestTokenPerHomeserver, "request_token_per_homeserver"),
    (RequestLimit::RequestTokenPerIp, "request_token_per_ip"),
    (RequestLimit::RequestTokenPerAccountAndAddress, "request_token_per_account_and_address"),
    (RequestLimit::RequestTokenPerAddress, "request_token_per_address"),
    (RequestLimit::SubmitTokenPerAccount, "submit_token_per_account"),
    (RequestLimit::SubmitTokenPerHomeserver, "submit_token_per_homeserver"),
    (RequestLimit::SubmitTokenPerIp, "submit_token_per_ip"),
    (RequestLimit::BindPerAccount, "bind_per_account"),
    (RequestLimit::BindPerIp, "bind_per_ip"),
    (RequestLimit::UnbindPerIp, "unbind_per_ip"),
    (RequestLimit::OwnPagePerAddress, "own_page_per_address"),
    (RequestLimit::RightsPerAccount, "rights_per_account"),
    (RequestLimit::RightsPerIp, "rights_per_ip"),
    (RequestLimit::InvitePerAccount, "invite_per_account"),
    (RequestLimit::InvitePerHomeserver, "invite_per_homeserver"),
    (RequestLimit::InvitePerIp, "invite_per_ip"),
    (RequestLimit::InvitePerAddress, "invite_per_address"),
    (RequestLimit::SignPerIp, "sign_per_ip"),
    (RequestLimit::VisitPerIp, "visit_per_ip"),
    (RequestLimit::VisitPerAddress, "visit_per_address"),
    (RequestLimit::SmsPerNumber, "sms_per_number"),
    (RequestLimit::SmsPerCountry, "sms_per_country"),
    (RequestLimit::SmsPerAccount, "sms_per_account"),
    (RequestLimit::SmsPerHomeserver, "sms_per_homeserver"),
    (RequestLimit::SmsPerIp, "sms_per_ip"),
    (RequestLimit::VisitSmsPerCountry, "visit_sms_per_country"),
    (RequestLimit::VisitSmsPerDay, "visit_sms_per_day"),
    (RequestLimit::SmsDailyCeiling, "sms_daily_ceiling"),
    (RequestLimit::InvitesDailyCeiling, "invites_daily_ceiling"),
    (RequestLimit::Exports, "exports"),
    (RequestLimit::Codes, "codes"),
    (RequestLimit::Homeservers, "homeservers"),
];

impl Label for RequestLimit {
    const ALL: &'static [Self] = &{
        let mut all = [Self::RegisterPerIp; LIMITS.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = LIMITS[at].0;
            at += 1;
        }
        all
    };

    fn as_str(self) -> &'static str {
        LIMITS[self as usize].1
    }
}

/// Whose lookup budget refused a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetOf {
    Account,
    Homeserver,
    Network,
}

impl Label for BudgetOf {
    const ALL: &'static [Self] = &[Self::Account, Self::Homeserver, Self::Network];

    fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Homeserver => "homeserver",
            Self::Network => "network",
        }
    }
}

/// What a mail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    Validation,
    Invitation,
    OwnerNotice,
    /// The link to a person's own page.
    PageLink,
}

impl Label for MailKind {
    const ALL: &'static [Self] = &[Self::Validation, Self::Invitation, Self::OwnerNotice, Self::PageLink];

    fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Invitation => "invitation",
            Self::OwnerNotice => "owner_notice",
            Self::PageLink => "page_link",
        }
    }
}

/// What the relay said about a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailOutcome {
    Accepted,
    /// It refused the mail for now.
    Deferred,
    /// It will never accept the mail.
    Rejected,
    /// It gave no answer after it had heard the recipient.
    Unanswered,
    /// It cannot be reached.
    Unreachable,
}

impl Label for MailOutcome {
    const ALL: &'static [Self] =
        &[Self::Accepted, Self::Deferred, Self::Rejected, Self::Unanswered, Self::Unreachable];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Rejected => "rejected",
            Self::Unanswered => "unanswered",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What the gateway said about a message to a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmsOutcome {
    Accepted,
    /// It refused this message.
    Rejected,
    /// It cannot be reached, or accepts nothing.
    Unavailable,
}

impl Label for SmsOutcome {
    const ALL: &'static [Self] = &[Self::Accepted, Self::Rejected, Self::Unavailable];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What became of a request to a homeserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeserverOutcome {
    /// It answered, whatever it said.
    Answered,
    Timeout,
    Unreachable,
    /// It was not asked, because too many requests run already.
    Busy,
}

impl Label for HomeserverOutcome {
    const ALL: &'static [Self] = &[Self::Answered, Self::Timeout, Self::Unreachable, Self::Busy];

    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
        }
    }
}

/// What became of a request for the link to a person's own page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitOutcome {
    Sent,
    /// The relay did not accept the mail for now; it is retried.
    Waiting,
    NotSent,
    NothingStored,
    Suppressed,
    /// `sms.daily_ceiling` is reached.
    Ceiling,
    /// A rate limit refused it.
    Limited,
    /// The operator sends no messages to that country.
    NotServed,
    QueueFull,
    /// It failed, or panicked.
    Failed,
}

impl Label for VisitOutcome {
    const ALL: &'static [Self] = &[
        Self::Sent,
        Self::Waiting,
        Self::NotSent,
        Self::NothingStored,
        Self::Suppressed,
        Self::Ceiling,
        Self::Limited,
        Self::NotServed,
        Self::QueueFull,
        Self::Failed,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Waiting => "waiting",
            Self::NotSent => "not_sent",
            Self::NothingStored => "nothing_stored",
            Self::Suppressed => "suppressed",
            Self::Ceiling => "ceiling",
            Self::Limited => "limited",
            Self::NotServed => "not_served",
            Self::QueueFull => "queue_full",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_own_name() {
        for (at, (limit, _)) in LIMITS.iter().enumerate() {
            assert_eq!(*limit as usize, at, "{limit:?}");
        }
        assert_eq!(RequestLimit::Homeservers as usize, LIMITS.len() - 1, "the last one is in the table");
    }
}
