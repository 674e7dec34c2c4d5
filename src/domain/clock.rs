//! The clock that Bindery reads the time from.
//!
//! `app` implements it with the system's clock, and the tests with one that they set.

use super::time::Millis;

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Millis;
}
