//! The queue of requests for links to people's own pages. It is in memory, because the address may be stored nowhere.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::{
    in_turn::{Caller, InTurn},
    own_page::Recipient,
};
use crate::domain::{language::Language, network::Network, registrable::registrable_domain};

/// How many requests may be queued.
const MAX_QUEUED: usize = 256;

/// A request for the link to the own page of an address.
#[derive(Clone)]
pub struct LinkRequest {
    to: Recipient,
    language: Language,
    caller: Caller,
    lane: String,
}

impl LinkRequest {
    /// A request of a caller from `network`.
    pub fn new(to: Recipient, language: Language, network: Network) -> Self {
        let lane = match &to {
            Recipient::Mailbox(address) => {
                address.smtp().map(|(_, domain)| registrable_domain(&domain)).unwrap_or_default()
            }
            Recipient::Phone(number) => format!("+{}", number.calling_code()),
        };
        Self { to, language, caller: network.and_around().next_back(), lane }
    }

    /// Where to send the link.
    pub fn to(&self) -> &Recipient {
        &self.to
    }

    /// The language of the message.
    pub fn language(&self) -> Language {
        self.language
    }

    /// The network that asked.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// The registrable domain of a mailbox, or the calling code of a phone: links to one are sent one after the other.
    pub fn lane(&self) -> &str {
        &self.lane
    }
}

/// Requests that were answered but not processed yet.
pub struct LinkRequests {
    queue: Mutex<InTurn<LinkRequest>>,
    has_grown: Notify,
}

impl Default for LinkRequests {
    fn default() -> Self {
        Self { queue: Mutex::new(InTurn::new(MAX_QUEUED)), has_grown: Notify::new() }
    }
}

impl LinkRequests {
    /// Queues a request. `false` if the queue was full, and dropped this request or another.
    pub fn put(&self, request: LinkRequest) -> bool {
        let dropped = self.with_queue(|queue| queue.put(request.caller, request));
        self.has_grown.notify_one();
        dropped.is_none()
    }

    /// Waits for a request that may start. The networks have their turns.
    pub async fn next(&self, may_start: impl Fn(&LinkRequest) -> bool) -> LinkRequest {
        loop {
            if let Some(request) = self.with_queue(|queue| queue.take(&may_start)) {
                return request;
            }
            self.has_grown.notified().await;
        }
    }

    fn with_queue<T>(&self, work: impl FnOnce(&mut InTurn<LinkRequest>) -> T) -> T {
        work(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::threepid::Address;

    fn request(number: usize, domain: &str, from: &str) -> LinkRequest {
        let address = Address::email(&format!("a{number}@{domain}")).expect("an address");
        let network = Network::of(from.parse().expect("an IP address"));
        LinkRequest::new(Recipient::Mailbox(address), Language::En, network)
    }

    #[tokio::test]
    async fn a_network_is_a_48_and_many_of_one_delay_another_by_one() {
        let requests = LinkRequests::default();
        let of_stranger = |number: usize| request(number, "a.test", &format!("2001:db8:1:{number:x}::1"));
        assert!((0..MAX_QUEUED).all(|number| requests.put(of_stranger(number))));
        assert!(!requests.put(request(0, "b.test", "192.0.2.1")), "one of the stranger is dropped");
        let lanes = [requests.next(|_| true).await, requests.next(|_| true).await];
        assert_eq!(lanes.map(|next| next.lane().to_owned()), ["a.test", "b.test"]);
    }

    #[tokio::test]
    async fn a_request_that_may_not_start_holds_up_no_other() {
        let requests = LinkRequests::default();
        for (number, domain) in ["slow.a.test", "b.slow.a.test", "quick.b.test"].into_iter().enumerate() {
            assert!(requests.put(request(number, domain, "192.0.2.1")));
        }
        let next = requests.next(|request| request.lane() != "a.test").await;
        assert_eq!((next.lane(), next.to().address().as_str()), ("b.test", "a2@quick.b.test"));
        assert_eq!(requests.next(|_| true).await.to().address().as_str(), "a0@slow.a.test");
    }
}
