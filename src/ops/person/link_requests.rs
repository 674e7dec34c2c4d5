//! The queue of requests for links to people's own pages. It is in memory, because the address may be stored nowhere.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use tokio::sync::Notify;

use super::own_page::Recipient;
use crate::domain::{language::Language, network::Network, registrable::registrable_domain};

/// How many requests may be queued ...
const MAX_QUEUED: usize = 256;
/// ... and how many of one network.
const MAX_QUEUED_OF_NETWORK: usize = MAX_QUEUED / 8;

/// A request for the link to the own page of an address.
#[derive(Clone)]
pub struct LinkRequest {
    to: Recipient,
    language: Language,
    caller: Option<IpNet>,
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

    /// The widest network that one caller may have: an IPv4 address, or an IPv6 /48.
    pub fn caller(&self) -> Option<IpNet> {
        self.caller
    }

    /// The registrable domain of a mailbox, or the calling code of a phone: links to one are sent one after the other.
    pub fn lane(&self) -> &str {
        &self.lane
    }
}

/// Requests that were answered but not processed yet.
#[derive(Default)]
pub struct LinkRequests {
    queue: Mutex<VecDeque<LinkRequest>>,
    has_grown: Notify,
}

impl LinkRequests {
    /// Queues a request. `false` if the queue is full, or the share of the caller's network in it.
    pub fn put(&self, request: LinkRequest) -> bool {
        let mut queue = self.queue();
        let of_caller = queue.iter().filter(|queued| queued.caller == request.caller).count();
        let has_room = queue.len() < MAX_QUEUED && of_caller < MAX_QUEUED_OF_NETWORK;
        if has_room {
            queue.push_back(request);
            self.has_grown.notify_one();
        }
        has_room
    }

    /// Waits for the first request that may start.
    pub async fn next(&self, may_start: impl Fn(&LinkRequest) -> bool) -> LinkRequest {
        loop {
            if let Some(request) = self.take_first(&may_start) {
                return request;
            }
            self.has_grown.notified().await;
        }
    }

    fn take_first(&self, may_start: impl Fn(&LinkRequest) -> bool) -> Option<LinkRequest> {
        let mut queue = self.queue();
        let at = queue.iter().position(may_start)?;
        queue.remove(at)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<LinkRequest>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn one_network_gets_an_eighth_of_the_queue_whatever_its_subnets() {
        let requests = LinkRequests::default();
        let queued = |from: &dyn Fn(usize) -> String| {
            (0..100).filter(|number| requests.put(request(*number, "a.test", &from(*number)))).count()
        };
        assert_eq!(queued(&|_| "192.0.2.1".to_owned()), MAX_QUEUED_OF_NETWORK);
        assert_eq!(queued(&|number| format!("2001:db8:1:{number:x}::1")), MAX_QUEUED_OF_NETWORK);
        assert_eq!(queued(&|number| format!("198.51.100.{number}")), 100);
        assert_eq!(
            queued(&|number| format!("203.0.113.{number}")),
            MAX_QUEUED - 2 * MAX_QUEUED_OF_NETWORK - 100
        );
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
