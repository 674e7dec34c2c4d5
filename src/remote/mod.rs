//! Everything that leaves this machine: homeservers, mail.
//!
//! Never called inside a transaction, and never on a thread that answers requests. It implements
//! what `ops` asks for and decides nothing about who may do what.

pub mod discovery;
pub mod dns;
pub mod fetch;
pub mod homeservers;
pub mod mail;
mod mail_text;
mod relay;
pub mod special_purpose;
