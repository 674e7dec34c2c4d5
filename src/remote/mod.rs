//! Everything that leaves this machine: homeservers, mail, messages to telephones.
//!
//! Never called inside a transaction, and never on a thread that answers requests. It implements
//! what `ops` asks for and decides nothing about who may do what.

pub mod discovery;
pub mod dns;
pub mod fetch;
pub mod homeservers;
pub mod mail;
mod mail_text;
pub mod onbind;
mod password;
mod relay;
pub mod sms;
mod sms_http;
pub mod special_purpose;
pub mod spool;
