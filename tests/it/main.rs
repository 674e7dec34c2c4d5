//! The integration tests: one binary, nothing beyond loopback, no sleeping.

mod layers;
mod story;
mod support;
