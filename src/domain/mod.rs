//! The rules of an identity server, as pure values and functions.
//!
//! Nothing here opens a file or a socket, reads a clock, or names actix, redb, tokio or lettre. The time and
//! random bytes are arguments, so that a test of a rule is a call.

pub mod association;
pub mod audit;
pub mod backoff;
pub mod bucket;
pub mod characters;
pub mod clock;
pub mod code;
pub mod day;
pub mod edition;
pub mod file_error;
pub mod ids;
pub mod invitation;
pub mod language;
pub mod locale;
pub mod lookup;
pub mod names;
pub mod network;
pub mod notice;
pub mod outbox;
pub mod phone;
pub mod refusal;
pub mod registrable;
pub mod request_kind;
pub mod retention;
pub mod secret;
pub mod server_name;
pub mod session;
pub mod shown;
pub mod signing;
pub mod stop_link;
pub mod terms;
pub mod threepid;
pub mod time;
mod typed_number;
pub mod visit;
