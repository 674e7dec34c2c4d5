//! Everything that leaves this machine: requests to homeservers, mail, messages to phones.
//!
//! Never called inside a transaction, and never on a thread that answers requests. It implements the traits of
//! `ops` and decides nothing about who may do what.

mod cache;
pub mod discovery;
pub mod dns;
pub mod fetch;
pub mod homeservers;
mod key_fetches;
mod lengths;
pub mod letterhead;
pub mod mail;
mod mail_headers;
mod mail_lines;
mod mail_text;
pub mod onbind;
pub mod password;
pub mod places;
mod relay;
pub mod sms;
mod sms_http;
mod sms_rehearsal;
pub mod special_purpose;
pub mod spool;
pub mod standing;
mod trust;
