//! Bindery, a Matrix identity server: the map.
//!
//! A person proves that an e-mail address is theirs, publishes that it belongs to their Matrix ID,
//! others find the Matrix ID by a hash of the address, and the person takes it back. Start reading
//! where a request arrives, `http::routes`, and follow it: a handler in `http::api` parses it into
//! the values of `domain`, calls one function of `ops`, and that reads a snapshot of `store` or
//! hands its writer a closure. `docs/architecture.md` walks through one request.
//!
//! | layer | what it is for |
//! | --- | --- |
//! | `main`, `cli` | the commands |
//! | `app` | composition: opens, binds, supervises every part, drains |
//! | `http` | what comes in: the API, the pages, the operator's socket |
//! | `tasks` | what runs by itself: the outbox, deleting what is too old, replacing the pepper, links to people's own pages, lookup budgets |
//! | `remote` | what goes out: homeservers, mail, messages to telephones |
//! | `ops` | what the server does, in folders by subject |
//! | `store`, `logs` | the database; the files that say who looked up and who called |
//! | `config`, `assets`, `metrics`, `parts` | the settings; what is compiled in; what is counted; threads that report their end |
//! | `domain` | the rules, as pure values |
//!
//! A layer uses those below it, never one above and never one beside it; a test reads the `use`
//! lines and holds the code to that.

pub mod app;
pub mod assets;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod ops;
pub mod parts;
pub mod remote;
pub mod store;
pub mod tasks;
