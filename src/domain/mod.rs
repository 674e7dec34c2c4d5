//! The rules of an identity server, as pure values and functions.
//!
//! Nothing here opens a file, a socket or a clock, and nothing names actix, redb, tokio or lettre:
//! the time and random bytes come in as arguments, so that every rule can be tested by calling it.

pub mod association;
pub mod audit;
pub mod backoff;
pub mod bucket;
pub mod clock;
pub mod code;
pub mod day;
pub mod edition;
pub mod ids;
pub mod invitation;
pub mod language;
pub mod lookup;
pub mod mail_names;
pub mod network;
pub mod notice;
pub mod outbox;
pub mod phone;
pub mod refusal;
pub mod retention;
pub mod secret;
pub mod server_name;
pub mod session;
pub mod signing;
pub mod terms;
pub mod threepid;
pub mod time;
pub mod visit;
