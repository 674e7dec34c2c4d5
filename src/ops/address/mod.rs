//! Addresses: validating, binding and unbinding them, mail to their owners, and the list of addresses that
//! opted out of messages.

pub(super) mod codes;
pub mod mailed_link;
pub mod owner_mail;
pub mod publish;
pub(super) mod session_locks;
pub mod suppression;
pub mod validate;
pub mod withdraw;
