//! A bounded cache of the answers of other servers. If it is full, it evicts an answer of the owner that has the most.
//!
//! An answer expires. A failure is cached too, for as long as its backoff says, so that callers cannot make
//! Bindery ask a dead server again and again. Two concurrent requests for the same server both ask it.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::places::owner_of;
use crate::domain::{backoff::Backoff, server_name::host_key, time::Millis};

/// The most answers of one host, whose owner could name 65,535 ports and write its name in many ways.
const MAX_OF_HOST: usize = 4;

/// The cache.
pub struct AnswerCache<Answer, Error> {
    max_servers: usize,
    backoff: Backoff,
    answers: Mutex<AnswersByOwner<Answer, Error>>,
}

/// The answers of the servers of each owner, see [`owner_of`].
type AnswersByOwner<Answer, Error> = HashMap<String, AnswersByServer<Answer, Error>>;
/// The answers by the name of the server.
type AnswersByServer<Answer, Error> = HashMap<String, Cached<Answer, Error>>;

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

impl<Answer: Clone, Error: Clone> AnswerCache<Answer, Error> {
    /// Caches at most `max_servers` answers, and failures for as long as `backoff` says.
    pub fn new(max_servers: usize, backoff: Backoff) -> Self {
        Self { max_servers, backoff, answers: Mutex::default() }
    }

    /// The answer of `server`, if it has not expired.
    pub fn get(&self, server: &str, now: Millis) -> Option<Cached<Answer, Error>> {
        let owner = owner_of(server);
        let owners = self.lock();
        let cached = owners.get(&owner)?.get(server)?;
        // An answer from the future has no known age: the clock was put back since.
        (cached.asked..cached.expires).contains(&now).then(|| cached.clone())
    }

    /// Caches the answer of `server`, which was asked at `asked`. An answer comes with the time at which it
    /// expires.
    pub fn insert(
        &self,
        server: &str,
        asked: Millis,
        answer: Result<(Answer, Millis), Error>,
    ) -> Result<Answer, Error> {
        let owner = owner_of(server);
        let mut owners = self.lock();
        let servers = owners.entry(owner).or_default();
        let cached = match answer {
            Ok((answer, expires)) => Cached { answer: Ok(answer), asked, expires, failures: 0 },
            Err(error) => {
                let failures = match servers.get(server) {
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
        if !servers.contains_key(server) {
            let host = host_key(server);
            let is_of_host = |name: &str| host_key(name) == host;
            if servers.keys().filter(|name| is_of_host(name)).count() >= MAX_OF_HOST {
                evict(servers, asked, is_of_host);
            }
        }
        servers.insert(server.to_owned(), cached);
        if owners.values().map(HashMap::len).sum::<usize>() > self.max_servers {
            evict_from_largest_owner(&mut owners, asked);
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, AnswersByOwner<Answer, Error>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An owner of many names must not evict the answers of others.
fn evict_from_largest_owner<Answer, Error>(owners: &mut AnswersByOwner<Answer, Error>, now: Millis) {
    let oldest = |servers: &AnswersByServer<Answer, Error>| servers.values().map(|cached| cached.asked).min();
    let largest = owners.iter_mut().max_by_key(|(_, servers)| (servers.len(), Reverse(oldest(servers))));
    let Some((owner, servers)) = largest else { return };
    evict(servers, now, |_| true);
    if servers.is_empty() {
        let owner = owner.clone();
        owners.remove(&owner);
    }
}

/// Evicts what is worth least: an answer from the future, which [`AnswerCache::get`] does not return, then the oldest
/// failure, then the oldest answer. Anybody can cause failures by naming ports.
fn evict<Answer, Error>(
    servers: &mut AnswersByServer<Answer, Error>,
    now: Millis,
    is_candidate: impl Fn(&str) -> bool,
) {
    let candidates = servers.iter().filter(|(name, _)| is_candidate(name));
    let worth = |cached: &Cached<Answer, Error>| (cached.asked <= now, cached.answer.is_ok(), cached.asked);
    let least = candidates.min_by_key(|(_, cached)| worth(cached)).map(|(name, _)| name.clone());
    if let Some(name) = least {
        servers.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn cache() -> AnswerCache<&'static str, ()> {
        AnswerCache::new(100, Backoff { first: MINUTE, cap: 60 * MINUTE })
    }

    /// Inserts answers, one a millisecond.
    fn insert(cache: &AnswerCache<&'static str, ()>, servers: impl Iterator<Item = String>) {
        for (millis, server) in (0..).zip(servers) {
            let asked = Millis(NOW.0 + millis);
            assert_eq!(cache.insert(&server, asked, Ok(("yes", asked.after(60 * MINUTE)))), Ok("yes"));
        }
    }

    fn held(
        cache: &AnswerCache<&'static str, ()>,
        now: Millis,
        servers: impl Iterator<Item = String>,
    ) -> usize {
        servers.filter(|server| cache.get(server, now).is_some()).count()
    }

    #[test]
    fn answers_expire_and_the_number_of_them_is_bounded() {
        let (cache, names) = (cache(), || (0..1000).map(|number| format!("hs{number}.test")));
        insert(&cache, names());
        let now = NOW.after(MINUTE);
        assert_eq!(held(&cache, now, names()), 100);
        assert!(cache.get("hs999.test", now).is_some() && cache.get("hs0.test", now).is_none());
        assert_eq!(cache.lock().len(), 100, "no empty owner is kept");
        assert_eq!(held(&cache, NOW.after(61 * MINUTE), names()), 0);
        assert_eq!(held(&cache, Millis(NOW.0 - 1), names()), 0, "the clock was put back");
    }

    #[test]
    fn one_host_has_at_most_four_answers_whatever_its_ports_and_spellings() {
        let cache = cache();
        let ports = || (1..=2000).map(|port| format!("evil.test:{port}"));
        insert(&cache, ports());
        insert(&cache, ["EVIL.test", "Evil.test", "evil.TEST"].map(str::to_owned).into_iter());
        assert_eq!(cache.lock().values().map(HashMap::len).sum::<usize>(), MAX_OF_HOST);
        insert(&cache, (1..=2000).map(|port| format!("[2001:db8::1]:{port}")));
        assert_eq!(cache.lock().values().map(HashMap::len).sum::<usize>(), 2 * MAX_OF_HOST);
    }

    #[test]
    fn failures_and_answers_from_the_future_go_before_a_good_answer() {
        let cache = cache();
        insert(&cache, ["hs.test".to_owned()].into_iter());
        for port in 1..=100 {
            let _ = cache.insert(&format!("hs.test:{port}"), NOW.after(MINUTE), Err(()));
        }
        assert!(cache.get("hs.test", NOW.after(MINUTE)).is_some(), "whatever ports are named");
        let ahead = NOW.after(300 * MINUTE);
        for port in 1..=3 {
            let _ = cache.insert(&format!("hs.test:{port}"), ahead, Ok(("yes", ahead.after(MINUTE))));
        }
        let now = NOW.after(2 * MINUTE);
        for port in 4..=5 {
            let _ = cache.insert(&format!("hs.test:{port}"), now, Ok(("yes", now.after(MINUTE))));
        }
        assert!(cache.get("hs.test", now).is_some() && cache.get("hs.test:5", now).is_some());
    }

    #[test]
    fn an_owner_of_many_names_evicts_no_answer_of_another() {
        let cache = cache();
        let others = || (0..50).map(|number| format!("matrix.hs{number}.test"));
        insert(&cache, others());
        insert(&cache, (0..1000).map(|number| format!("hs{number}.evil.test:{}", number + 1)));
        insert(&cache, (0..1000).map(|number| format!("[2001:db8:1:{number:x}::1]")));
        assert_eq!(held(&cache, NOW.after(MINUTE), others()), 50);
    }

    #[test]
    fn failures_are_cached_longer_each_time_until_there_is_an_answer() {
        let cache = cache();
        let mut now = NOW;
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            // Many at the same time are one failure.
            for _ in 0..3 {
                assert_eq!(cache.insert("hs.test", now, Err(())), Err(()));
            }
            let expires = now.after(minutes * MINUTE);
            assert!(cache.get("hs.test", Millis(expires.0 - 1)).is_some_and(|cached| cached.answer.is_err()));
            assert!(cache.get("hs.test", expires).is_none(), "{minutes}");
            now = expires;
        }
        assert_eq!(cache.insert("hs.test", now, Ok(("yes", now.after(MINUTE)))), Ok("yes"));
        now = now.after(MINUTE);
        assert_eq!(cache.insert("hs.test", now, Err(())), Err(()));
        assert!(cache.get("hs.test", now.after(MINUTE)).is_none(), "the first failure again");
    }
}
