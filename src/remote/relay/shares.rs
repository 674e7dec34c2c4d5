//! What a mail needs to be under way: a connection to the relay, and a part of every share that it counts against. A
//! relay that is slow about some mails must not hold up the others.
//!
//! A mail takes all that it needs at once. While it waits, it holds nothing. So no mail waits for one that waits, and
//! there is no deadlock. What becomes free goes to the mail that has waited longest, of those that can have all that they
//! need. A mail may be passed over as long as its shares are never free together, at most until it is given up. Keeping a
//! share for it would be worse: a stranger could then block any domain with mails that wait for something else.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::domain::outbox::Kind;

/// What a mail counts against while it is under way. [`Shares::max`] says how many mails may.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Share {
    /// The connections to the relay. Every mail needs one.
    Connections,
    /// Queued mails. From two connections on, they leave one for mails that a person waits for.
    Queued,
    /// Queued invitations. From three connections on, they leave one more for notices to owners: strangers choose who is
    /// invited.
    Invitations,
    /// Queued mails to one registrable domain.
    QueuedTo(String),
    /// Queued mails of one kind to all domains that were not quick. Strangers may register many. From four connections on,
    /// those of both kinds together leave one of the queued mails' connections to domains that were quick.
    QueuedNotQuick(Kind),
    /// Mails to one registrable domain that a person waits for. From three connections on, these and the queued mails to
    /// it together leave one for other domains.
    RequestedTo(String),
    /// Mails that one account waits for. Strangers may ask for recipients about which the relay is slow.
    Asker(String),
    /// Mails that all accounts of one homeserver's domain wait for. They leave one connection to others.
    AskersAt(String),
    /// Mails with links to people's own pages. Anybody may ask for them, without an account.
    Visitors,
}

/// The connections and all shares of them.
pub(super) struct Shares {
    connections: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: HashMap<Share, usize>,
    /// The mails that wait, the oldest first.
    waiting: VecDeque<Waiting>,
    last_id: u64,
}

struct Waiting {
    id: u64,
    needed: Arc<[Share]>,
    granted: oneshot::Sender<()>,
}

/// What a mail has taken, or waits for. Dropping it frees that.
#[must_use]
pub(super) struct Taken<'a> {
    shares: &'a Shares,
    id: u64,
    needed: Arc<[Share]>,
}

impl Shares {
    /// The shares of so many connections.
    pub(super) fn of(connections: usize) -> Self {
        Self { connections, state: Mutex::default() }
    }

    /// How many mails of one share may be under way, at least one.
    pub(super) fn max(&self, share: &Share) -> usize {
        let (all, half) = (self.connections, self.connections / 2);
        let max = match share {
            Share::Connections => all,
            Share::Queued | Share::AskersAt(_) => all.saturating_sub(1),
            Share::Invitations => all.saturating_sub(2),
            Share::QueuedTo(_) => (all - half).saturating_sub(1),
            Share::QueuedNotQuick(_) => all.saturating_sub(2) / 2,
            Share::RequestedTo(_) | Share::Visitors => half,
            Share::Asker(_) => 1,
        };
        max.max(1)
    }

    /// Waits until a mail can have a part of all these shares.
    pub(super) async fn take(&self, needed: Vec<Share>) -> Taken<'_> {
        let (granted, is_granted) = oneshot::channel();
        let needed: Arc<[Share]> = needed.into();
        let taken = {
            let mut state = self.lock();
            state.last_id += 1;
            let id = state.last_id;
            state.waiting.push_back(Waiting { id, needed: needed.clone(), granted });
            self.grant(&mut state);
            Taken { shares: self, id, needed }
        };
        // The queue drops a sender only after it has sent, or with the mail itself.
        let _ = is_granted.await;
        taken
    }

    /// Grants what is free to the mails that wait.
    fn grant(&self, state: &mut State) {
        let mut at = 0;
        // Every mail needs a connection, so a long queue costs nothing while there is none.
        while at < state.waiting.len() && self.is_free(state, &Share::Connections) {
            let can_have_all = state.waiting[at].needed.iter().all(|share| self.is_free(state, share));
            if can_have_all && let Some(waiting) = state.waiting.remove(at) {
                for share in waiting.needed.iter() {
                    *state.used.entry(share.clone()).or_default() += 1;
                }
                let _ = waiting.granted.send(());
            } else {
                at += 1;
            }
        }
    }

    fn is_free(&self, state: &State, share: &Share) -> bool {
        state.used.get(share).copied().unwrap_or(0) < self.max(share)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.shares.lock();
        if let Some(at) = state.waiting.iter().position(|waiting| waiting.id == self.id) {
            state.waiting.remove(at);
            return;
        }
        for share in self.needed.iter() {
            if let Some(count) = state.used.get_mut(share) {
                *count -= 1;
                if *count == 0 {
                    state.used.remove(share);
                }
            }
        }
        self.shares.grant(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    /// A mail that an account at `askers` waits for.
    fn requested(asker: &str, askers: &str, to: &str) -> Vec<Share> {
        let [asker, askers, to] = [asker, askers, to].map(str::to_owned);
        vec![Share::Connections, Share::RequestedTo(to), Share::Asker(asker), Share::AskersAt(askers)]
    }

    fn take_now(shares: &Shares, needed: Vec<Share>) -> Option<Taken<'_>> {
        shares.take(needed).now_or_never()
    }

    #[test]
    fn a_mail_that_waits_for_one_share_keeps_no_other_from_others() {
        let shares = Shares::of(4);
        // A homeserver with five accounts and two domains about which the relay is slow.
        let slow = [("a", "slow1"), ("b", "slow1"), ("c", "slow2")];
        let mut slow = slow.map(|(asker, to)| take_now(&shares, requested(asker, "evil", to)));
        assert!(slow.iter().all(Option::is_some));
        let mut waiting = ["d", "e"].map(|asker| Box::pin(shares.take(requested(asker, "evil", "example"))));
        assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()), "evil has its share");
        let other = take_now(&shares, requested("alice", "good", "example"));
        assert!(other.is_some(), "they hold none of the share of example");
        drop(other);
        slow[0].take();
        assert!(waiting[0].as_mut().now_or_never().is_some(), "and get all at once, the oldest first");
    }

    #[test]
    fn an_invitation_that_waits_holds_up_no_notice_to_the_same_domain() {
        let shares = Shares::of(4);
        let to = |domain: &str| vec![Share::Connections, Share::Queued, Share::QueuedTo(domain.to_owned())];
        let invitation = |domain: &str| [to(domain), vec![Share::Invitations]].concat();
        let _slow = ["slow1", "slow2"].map(|domain| take_now(&shares, invitation(domain)).expect("free"));
        let mut waiting = pin!(shares.take(invitation("example")));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(take_now(&shares, to("example")).is_some());
    }

    #[test]
    fn a_mail_that_is_given_up_holds_nothing() {
        let shares = Shares::of(1);
        let first = take_now(&shares, vec![Share::Connections]).expect("free");
        let mut granted = Box::pin(shares.take(vec![Share::Connections]));
        let mut later = Box::pin(shares.take(vec![Share::Connections]));
        assert!(granted.as_mut().now_or_never().is_none() && later.as_mut().now_or_never().is_none());
        assert!(take_now(&shares, vec![Share::Connections]).is_none(), "given up while it waits");
        drop(first);
        // Given up before it hears that it may go.
        drop(granted);
        drop(later.as_mut().now_or_never().expect("free"));
        assert!(shares.lock().used.is_empty() && shares.lock().waiting.is_empty());
    }

    #[test]
    fn mails_leave_connections_to_others_as_documented() {
        let of = |connections, share| Shares::of(connections).max(&share);
        let domain = String::new;
        assert_eq!([1, 2, 4].map(|all| of(all, Share::Queued)), [1, 1, 3]);
        assert_eq!([1, 2, 4].map(|all| of(all, Share::Invitations)), [1, 1, 2]);
        assert_eq!([1, 2, 4].map(|all| of(all, Share::AskersAt(domain()))), [1, 1, 3]);
        let of_domain = |all| [of(all, Share::QueuedTo(domain())), of(all, Share::RequestedTo(domain()))];
        assert_eq!([1, 3, 4, 8].map(of_domain), [[1, 1], [1, 1], [1, 2], [3, 4]]);
    }

    #[test]
    fn domains_that_were_not_quick_leave_a_queued_connection_to_those_that_were() {
        for all in 1..=16 {
            let shares = Shares::of(all);
            let [invitations, notices] = [Kind::InvitationMail, Kind::OwnerMail].map(Share::QueuedNotQuick);
            let of_both = shares.max(&invitations) + shares.max(&notices);
            assert_eq!(of_both < shares.max(&Share::Queued), all >= 4, "{all} connections: {of_both}");
            let is_less = shares.max(&invitations) < shares.max(&Share::Invitations);
            assert_eq!(is_less, all >= 4, "{all} connections");
        }
    }
}
