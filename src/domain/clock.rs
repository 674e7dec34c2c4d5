//! The clock, as a value that is handed to whatever needs the time.
//!
//! Two exist: the system's, in `app`, and one that tests move.

use super::time::Millis;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Millis;
}
