//! The integration tests: one binary, nothing beyond loopback, no sleeping.

#![allow(clippy::panic, reason = "a test that panics has failed, and that is what it is for")]

mod bad_input;
mod commands;
mod configuration;
mod crash;
mod endpoints;
mod layers;
mod limits;
mod lookup;
mod model;
mod pages;
mod ruma_client;
mod store;
mod story;
mod support;
mod terms;
