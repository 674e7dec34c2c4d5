//! The identifier of a request. It is in the answer (`X-Request-Id`) and on each line of the operator's log that the
//! request causes, so that the operator finds the line that belongs to a person's report.
//!
//! Bindery makes it, whatever a client or a proxy sends: so no stranger writes into the log. It does not tell how many
//! requests there are: it is a keyed hash of a counter.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use actix_web::http::header::{HeaderName, HeaderValue};
use tokio::{task::futures::TaskLocalFuture, task_local};

/// The header of the answer.
pub static HEADER: HeaderName = HeaderName::from_static("x-request-id");

task_local! {
    static CURRENT: RequestId;
}

/// The identifier of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// The identifier of the request that this thread works on, if it works on one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|id| *id).ok()
    }

    /// Lines that `work` logs belong to this request.
    pub fn scope<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self, work)
    }

    /// As [`RequestId::scope`], for work that does not wait.
    pub fn sync_scope<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// The value of the header.
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.hex()).unwrap_or(HeaderValue::from_static("0"))
    }

    fn hex(self) -> [u8; 16] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        std::array::from_fn(|at| DIGITS[(self.0 >> (60 - 4 * at)) as usize & 0xf])
    }
}

impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Lines that `work` logs belong to the current request, on whatever thread it runs.
pub async fn in_current<F: Future>(id: Option<RequestId>, work: F) -> F::Output {
    match id {
        Some(id) => id.scope(work).await,
        None => work.await,
    }
}

/// Makes the identifiers of the requests of a worker.
#[derive(Default)]
pub struct RequestIds {
    key: RandomState,
    made: AtomicU64,
}

impl RequestIds {
    /// Another one.
    pub fn make(&self) -> RequestId {
        RequestId::from(self.key.hash_one(self.made.fetch_add(1, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_request_has_an_identifier_of_its_own_and_of_one_form() {
        let workers = [RequestIds::default(), RequestIds::default()];
        let made = workers.iter().flat_map(|worker| (0..10_000).map(|_| worker.make().to_string()));
        let made: HashSet<String> = made.collect();
        assert_eq!(made.len(), 20_000);
        assert!(made.iter().all(|id| id.len() == 16 && id.bytes().all(|c| c.is_ascii_hexdigit())));
        let id = RequestId(0x0123_4567_89ab_cdef);
        assert_eq!(
            (id.header(), id.to_string()),
            (HeaderValue::from_static("0123456789abcdef"), "0123456789abcdef".to_owned())
        );
    }
}
