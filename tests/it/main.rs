//! The integration tests: one binary, only loopback connections, and waits for events or conditions instead of fixed sleeps.

#![allow(clippy::panic, reason = "a test that panics has failed, and that is what it is for")]
#![allow(clippy::disallowed_methods, reason = "tests measure real time and set file times")]

mod backup;
mod bad_input;
mod budgets;
mod commands;
mod configuration;
mod contributing;
mod crash;
mod data;
mod descriptors;
mod discovery;
mod endpoints;
mod forbidden_addresses;
mod homeservers;
#[cfg(feature = "import")]
mod import;
mod invitations;
mod layers;
mod limits;
mod listening;
mod logs;
mod lookup;
mod mail;
mod me;
mod metrics;
mod mistakes;
mod model;
mod monitoring;
mod notice;
mod opted_out;
mod outbox;
mod pages;
mod peppers;
mod phone;
mod phones;
mod pinned;
mod places;
mod promises;
mod reload;
mod resolver;
mod retention;
mod rewrite;
mod rights;
mod ruma_client;
mod signed_requests;
mod signing;
mod signing_keys;
mod slow_clients;
mod sms;
mod stop;
mod store;
mod story;
mod supervision;
mod support;
mod terms;
mod texts;
mod unseen;
mod well_known;
mod wrong_clock;
