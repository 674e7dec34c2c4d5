//! Addresses: proving that one is the caller's own, binding and unbinding it, mail to its owner, and the
//! addresses that opted out of messages.

pub(super) mod codes;
pub mod mailed_link;
pub mod owner_mail;
pub mod publish;
pub(super) mod sending;
pub mod suppression;
pub mod validate;
pub mod withdraw;
