//! `[limits]`: the rate limits and their defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::bucket::Rate;

/// Rate limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Registrations from one IP address; for this and all limits by IP address, an IPv6 /64 counts as one, its /56 has twice and its /48 four times as much.
    pub register_per_ip: Rate,
    /// Registrations of one homeserver's users, counted after the homeserver has confirmed the user; for this and all limits by homeserver, all homeservers of a registrable domain count as one.
    pub register_per_homeserver: Rate,
    /// Validation mails that one account requests.
    pub request_token_per_account: Rate,
    /// Validation mails that one homeserver's users request.
    pub request_token_per_homeserver: Rate,
    /// Validation mails requested from one IP address.
    pub request_token_per_ip: Rate,
    /// Validation mails that one account requests for one address.
    pub request_token_per_account_and_address: Rate,
    /// Validation mails to one address, for all accounts together.
    pub request_token_per_address: Rate,
    /// Tokens that one account submits, right or wrong.
    pub submit_token_per_account: Rate,
    /// Tokens that one homeserver's users submit.
    pub submit_token_per_homeserver: Rate,
    /// Tokens submitted from one IP address, by apps and by people who press the button on a page.
    pub submit_token_per_ip: Rate,
    /// Addresses that one account publishes, including an address that it has published already.
    pub bind_per_account: Rate,
    /// Addresses published from one IP address, which is often a homeserver's.
    pub bind_per_ip: Rate,
    /// Unbind requests from one IP address, proved by a session or by a homeserver's signature.
    pub unbind_per_ip: Rate,
    /// Views and button presses on a person's own page, for one address.
    pub own_page_per_address: Rate,
    /// Exports that one account or address requests, and erasures of an account.
    pub rights_per_account: Rate,
    /// Exports and erasures requested from one IP address.
    pub rights_per_ip: Rate,
    /// Invitations that one account sends.
    pub invite_per_account: Rate,
    /// Invitations that one homeserver's users send.
    pub invite_per_homeserver: Rate,
    /// Invitations sent from one IP address, which is often a homeserver's.
    pub invite_per_ip: Rate,
    /// Invitations to one address, for all senders together.
    pub invite_per_address: Rate,
    /// Signatures with an invitation's key, requested from one IP address.
    pub sign_per_ip: Rate,
    /// Links to a person's own page, requested from one IP address.
    pub visit_per_ip: Rate,
    /// Links to the page of one address or number, for all callers together.
    pub visit_per_address: Rate,
    /// Messages to one phone number, for all accounts and homeservers together.
    pub sms_per_number: Rate,
    /// Messages to the numbers of one country, for all accounts and homeservers together; links to people's own pages may use up a quarter.
    pub sms_per_country: Rate,
    /// Messages that one account requests.
    pub sms_per_account: Rate,
    /// Messages that one homeserver or its users request; keep it well below sms_per_country and sms.daily_ceiling, or one homeserver can use up the limits that all share.
    pub sms_per_homeserver: Rate,
    /// Messages that accounts request from one IP address.
    pub sms_per_ip: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = Rate::new;
        Self {
            register_per_ip: rate(50, 300),
            register_per_homeserver: rate(500, 3000),
            request_token_per_account: rate(10, 20),
            request_token_per_homeserver: rate(500, 1000),
            request_token_per_ip: rate(50, 200),
            request_token_per_account_and_address: rate(4, 2),
            request_token_per_address: rate(8, 4),
            submit_token_per_account: rate(20, 100),
            submit_token_per_homeserver: rate(500, 2000),
            submit_token_per_ip: rate(50, 200),
            bind_per_account: rate(20, 60),
            bind_per_ip: rate(100, 2000),
            unbind_per_ip: rate(100, 2000),
            own_page_per_address: rate(60, 120),
            rights_per_account: rate(10, 10),
            rights_per_ip: rate(50, 100),
            invite_per_account: rate(20, 60),
            invite_per_homeserver: rate(500, 2000),
            invite_per_ip: rate(500, 2000),
            invite_per_address: rate(10, 1),
            sign_per_ip: rate(50, 500),
            visit_per_ip: rate(10, 30),
            visit_per_address: rate(3, 2),
            sms_per_number: rate(4, 1),
            sms_per_country: rate(50, 50),
            sms_per_account: rate(4, 4),
            sms_per_homeserver: rate(10, 4),
            sms_per_ip: rate(10, 10),
        }
    }
}
