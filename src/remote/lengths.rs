//! How long recent deliveries took. A message that must not leave takes as long as one of them (design, section 4,
//! rule 12): a caller must not learn which addresses have opted out.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::ops::random;

/// How many deliveries are remembered.
const MAX_REMEMBERED: usize = 64;

/// The lengths of recent deliveries.
pub(super) struct Lengths {
    /// How long one takes as long as none is remembered.
    usual_millis: Range<u64>,
    recent: Mutex<VecDeque<Duration>>,
}

impl Lengths {
    pub(super) fn new(usual_millis: Range<u64>) -> Self {
        Self { usual_millis, recent: Mutex::default() }
    }

    /// Remembers how long a delivery took.
    pub(super) fn remember(&self, length: Duration) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back(length);
        if recent.len() > MAX_REMEMBERED {
            recent.pop_front();
        }
    }

    /// One of the recent lengths, drawn at random.
    pub(super) fn draw(&self) -> Duration {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let drawn = u64::from_le_bytes(random());
        let usual = || {
            let Range { start, end } = self.usual_millis;
            Duration::from_millis(start + drawn % (end - start))
        };
        let index = drawn as usize % recent.len().max(1);
        recent.get(index).copied().unwrap_or_else(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_a_length_is_a_recent_one() {
        let lengths = Lengths::new(20..80);
        let usual = lengths.draw().as_millis();
        assert!((20..80).contains(&usual), "{usual}");
        for millis in 0..1000 {
            lengths.remember(Duration::from_millis(millis));
        }
        assert_eq!(lengths.recent.lock().expect("not poisoned").len(), MAX_REMEMBERED);
        assert!((0..100).all(|_| lengths.draw() >= Duration::from_millis(936)));
    }
}
