//! Accounts: registering, the access token of a request, accepted terms, logging out.

pub mod logout;
pub mod register;
pub mod terms;
pub mod tokens;
