//! A bounded queue that serves networks in turn: many requests of one network delay those of another by one.

use std::collections::VecDeque;

use ipnet::IpNet;

/// The widest network that one caller may have: an IPv4 address, or an IPv6 /48.
pub type Caller = Option<IpNet>;

/// The queue.
pub struct InTurn<T> {
    max: usize,
    /// In the order of their arrival.
    entries: Vec<(Caller, T)>,
    /// The networks that were served last, the latest at the end.
    served: VecDeque<Caller>,
}

impl<T> InTurn<T> {
    /// An empty queue for at most `max` items.
    pub fn new(max: usize) -> Self {
        Self { max, entries: Vec::new(), served: VecDeque::new() }
    }

    /// Adds an item of a network. If the queue is full, this drops the newest item of the network that has the most,
    /// or this one, and returns what it dropped.
    pub fn put(&mut self, caller: Caller, item: T) -> Option<T> {
        self.entries.push((caller, item));
        (self.entries.len() > self.max).then(|| self.drop_newest_of_most())
    }

    fn drop_newest_of_most(&mut self) -> T {
        let mut most = (0, 0);
        for (at, (caller, _)) in self.entries.iter().enumerate() {
            let count = self.entries[..=at].iter().filter(|(other, _)| other == caller).count();
            most = most.max((count, at));
        }
        self.entries.remove(most.1).1
    }

    /// Takes the oldest item of the network that was served the longest ago, of the items that may start.
    pub fn take(&mut self, may_start: impl Fn(&T) -> bool) -> Option<T> {
        let startable = self.entries.iter().enumerate().filter(|(_, (_, item))| may_start(item));
        // `None` is the lowest: that network was not served of late.
        let last_served = |caller: &Caller| self.served.iter().position(|served| served == caller);
        let (at, _) = startable.min_by_key(|(_, (caller, _))| last_served(caller))?;
        let (caller, item) = self.entries.remove(at);
        self.served.retain(|served| *served != caller);
        self.served.push_back(caller);
        if self.served.len() > self.max {
            self.served.pop_front();
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::Network;

    fn caller(number: u8) -> Caller {
        let network = Network::of([192, 0, 2, number].into());
        network.and_around().next_back()
    }

    fn put(queue: &mut InTurn<(u8, usize)>, network: u8, numbers: std::ops::Range<usize>) -> usize {
        let dropped = numbers.filter_map(|number| queue.put(caller(network), (network, number)));
        dropped.count()
    }

    #[test]
    fn networks_are_served_in_turn_whatever_they_have_queued() {
        let mut queue = InTurn::new(256);
        put(&mut queue, 1, 0..100);
        put(&mut queue, 2, 0..100);
        for number in 0..10 {
            assert_eq!(queue.take(|_| true), Some((1, number)));
            assert_eq!(queue.take(|_| true), Some((2, number)));
        }
        put(&mut queue, 3, 0..2);
        let next: Vec<_> = (0..5).filter_map(|_| queue.take(|_| true)).collect();
        assert_eq!(next, [(3, 0), (1, 10), (2, 10), (3, 1), (1, 11)]);
        // While the items of one may not start, it holds up no other, and gathers no turns.
        for number in 11..20 {
            assert_eq!(queue.take(|(network, _)| *network == 2), Some((2, number)));
        }
        put(&mut queue, 4, 0..1);
        let next: Vec<_> = (0..4).filter_map(|_| queue.take(|_| true)).collect();
        assert_eq!(next, [(4, 0), (1, 12), (2, 20), (1, 13)]);
    }

    #[test]
    fn a_network_with_one_request_at_a_time_goes_behind_those_that_wait() {
        let mut queue = InTurn::new(256);
        put(&mut queue, 1, 0..2);
        assert_eq!(queue.take(|_| true), Some((1, 0)));
        put(&mut queue, 2, 0..1);
        assert_eq!(queue.take(|_| true), Some((2, 0)));
        put(&mut queue, 2, 1..2);
        assert_eq!(queue.take(|_| true), Some((1, 1)));
    }

    #[test]
    fn a_full_queue_drops_the_newest_of_the_network_that_has_the_most() {
        let mut queue = InTurn::new(256);
        for network in 1..=8 {
            assert_eq!(put(&mut queue, network, 0..32), 0);
        }
        assert_eq!(queue.put(caller(9), (9, 0)), Some((8, 31)));
        assert_eq!(queue.put(caller(9), (9, 1)), Some((7, 31)));
        assert_eq!(put(&mut queue, 1, 32..99), 67, "its own");
        let of = |network: u8| queue.entries.iter().filter(|entry| entry.1.0 == network).count();
        assert_eq!([1, 7, 8, 9].map(of), [32, 31, 31, 2]);
        assert_eq!(queue.entries.len(), 256);
    }
}
