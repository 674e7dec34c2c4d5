//! Bindery, a Matrix identity server: the map.
//!
//! A person proves that they own an email address or a phone number and binds it to their Matrix ID. Other
//! people find the Matrix ID by a hash of the address. The owner can unbind it at any time.
//!
//! Start reading where a request arrives, in `http::routes`. A handler in `http::api` parses the request into
//! the values of `domain` and calls one function of `ops`. That function reads a snapshot of `store`, or passes
//! a closure to its writer. `docs/architecture.md` follows one request.
//!
//! | layer | what it is for |
//! | --- | --- |
//! | `main`, `cli` | the commands |
//! | `app` | the running server: start, listeners, supervision, shutdown |
//! | `http`, `tasks` | incoming requests: the API, the pages, the operator's control socket; background tasks: outbox, retention, pepper rotation, links to people's own pages, lookup budgets |
//! | `admin`, `import` | the operator's commands; the data of another identity server |
//! | `remote` | outgoing requests: homeservers, mail, messages to phones |
//! | `ops` | the operations, in folders by subject |
//! | `store`, `logs` | the database; the log files of lookups and callers |
//! | `config`, `assets`, `metrics`, `parts` | the settings; the embedded files; the counters for Prometheus; threads that report their end |
//! | `domain` | the rules, as pure values |
//!
//! A layer may use only the layers below it, not those above or beside it. `tests/it/layers.rs` checks the `use` lines.

pub mod admin;
pub mod app;
pub mod assets;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
#[cfg(feature = "import")]
pub mod import;
pub mod logs;
pub mod metrics;
pub mod ops;
pub mod parts;
pub mod remote;
pub mod store;
pub mod tasks;
