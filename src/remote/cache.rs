//! A bounded cache of what other servers answered.
//!
//! An answer expires. A failure is cached too, for as long as its backoff says, so that callers cannot make
//! Bindery ask a dead server again and again. Two requests for the same server at the same time both ask it.

use std::hash::Hash;

use quick_cache::sync::Cache;

use crate::domain::{backoff::Backoff, time::Millis};

/// The answers of servers, by server.
pub struct AnswerCache<Server, Answer, Error> {
    cached: Cache<Server, Cached<Answer, Error>>,
    backoff: Backoff,
}

/// One answer, or why there was none.
#[derive(Clone)]
pub struct Cached<Answer, Error> {
    /// What the server answered.
    pub answer: Result<Answer, Error>,
    /// When the server was asked.
    pub asked: Millis,
    /// When the answer expires.
    pub expires: Millis,
    /// Failures in a row, up to this answer.
    failures: u32,
}

impl<Server: Hash + Eq, Answer: Clone, Error: Clone> AnswerCache<Server, Answer, Error> {
    /// Caches at most `max_servers` answers, and failures for as long as `backoff` says.
    pub fn new(max_servers: usize, backoff: Backoff) -> Self {
        Self { cached: Cache::new(max_servers), backoff }
    }

    /// The answer of `server`, if it has not expired.
    pub fn get(&self, server: &Server, now: Millis) -> Option<Cached<Answer, Error>> {
        // If the clock has been put back since, nobody knows how old the answer is.
        self.cached.get(server).filter(|cached| (cached.asked..cached.expires).contains(&now))
    }

    /// Caches the answer of `server`, which was asked at `asked`. An answer comes with the time at which it
    /// expires.
    pub fn insert(
        &self,
        server: Server,
        asked: Millis,
        answer: Result<(Answer, Millis), Error>,
    ) -> Result<Answer, Error> {
        let cached = match answer {
            Ok((answer, expires)) => Cached { answer: Ok(answer), asked, expires, failures: 0 },
            Err(error) => {
                let failures = match self.cached.peek(&server) {
                    // Requests that failed at the same time count as one failure.
                    Some(before) if asked < before.expires => before.failures.max(1),
                    Some(before) => before.failures.saturating_add(1),
                    None => 1,
                };
                let expires = asked.after(self.backoff.wait(failures));
                Cached { answer: Err(error), asked, expires, failures }
            }
        };
        let answer = cached.answer.clone();
        self.cached.insert(server, cached);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn cache() -> AnswerCache<u32, &'static str, ()> {
        AnswerCache::new(100, Backoff { first: MINUTE, cap: 60 * MINUTE })
    }

    #[test]
    fn answers_expire_and_the_number_of_them_is_bounded() {
        let cache = cache();
        for server in 0..1000 {
            assert_eq!(cache.insert(server, NOW, Ok(("yes", NOW.after(MINUTE)))), Ok("yes"));
        }
        let count = |now| (0..1000).filter(|server| cache.get(server, now).is_some()).count();
        assert!((1..=100).contains(&count(NOW)), "{}", count(NOW));
        assert_eq!(count(NOW.after(MINUTE)), 0);
        assert_eq!(count(Millis(NOW.0 - 1)), 0, "the clock was put back");
    }

    #[test]
    fn failures_are_cached_longer_each_time_until_there_is_an_answer() {
        let cache = cache();
        let mut now = NOW;
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            // Many at the same time are one failure.
            for _ in 0..3 {
                assert_eq!(cache.insert(1, now, Err(())), Err(()));
            }
            let expires = now.after(minutes * MINUTE);
            assert!(cache.get(&1, Millis(expires.0 - 1)).is_some_and(|cached| cached.answer.is_err()));
            assert!(cache.get(&1, expires).is_none(), "{minutes}");
            now = expires;
        }
        assert_eq!(cache.insert(1, now, Ok(("yes", now.after(MINUTE)))), Ok("yes"));
        now = now.after(MINUTE);
        assert_eq!(cache.insert(1, now, Err(())), Err(()));
        assert!(cache.get(&1, now.after(MINUTE)).is_none(), "the first failure again");
    }
}
