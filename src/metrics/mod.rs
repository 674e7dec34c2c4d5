//! The metrics for the operator's monitoring, in the Prometheus format.
//!
//! Every series exists from the start. Labels are closed sets of kinds and outcomes: none can hold an address, a
//! token, or the name of a person or a homeserver (design, section 4, rule 9).

mod commits;
mod labels;
mod last_day;
mod observed;
mod process;
mod requests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

pub use self::{
    commits::Commits,
    labels::{
        BudgetOf, HomeserverOutcome, Label, MailKind, MailOutcome, RequestLimit, SmsOutcome, VisitOutcome,
    },
    observed::{Observed, Waiting},
    requests::WorkerRequests,
};
use self::{last_day::LastDay, observed::Gauges, process::Process, requests::Requests};
use crate::domain::{
    clock::Clock,
    outbox::{Kind, Settled},
    time::Millis,
};

/// The labels of a series.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The metrics since the server started.
pub struct Metrics {
    registry: Registry,
    clock: Arc<dyn Clock>,
    started: Millis,
    requests: Requests,
    observed: Gauges,
    limited: Family<Labels<1>, Counter>,
    budgets: Family<Labels<1>, Counter>,
    looked_up: Counter,
    lookup_alarm: Gauge,
    mails: Family<Labels<2>, Counter>,
    mail_success: Gauge,
    last_mail: Mutex<Option<(MailOutcome, Millis)>>,
    sms: Family<Labels<1>, Counter>,
    sms_success: Gauge,
    homeservers: Family<Labels<1>, Counter>,
    outbox: Family<Labels<2>, Counter>,
    visits: Family<Labels<1>, Counter>,
    log_rows_lost: Family<Labels<1>, Counter>,
    retention_success: Gauge,
    retention_halted: Gauge,
    rewrite_overdue: Gauge,
    limited_today: LastDay,
    mails_today: LastDay,
    sms_today: LastDay,
}

/// Registers metrics of Bindery.
struct Register<'a>(&'a mut Registry);

impl Register<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// Counters with one label. All exist from the start.
    fn counters<L: Label>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
    ) -> Family<Labels<1>, Counter> {
        let family: Family<Labels<1>, Counter> = self.add(name, help);
        for value in L::ALL {
            drop(family.get_or_create(&[(label, value.as_str())]));
        }
        family
    }
}

impl Metrics {
    /// All at zero, together with what the database counts itself.
    pub fn new(clock: Arc<dyn Clock>, commits: &Commits) -> Self {
        let started = clock.now();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process { started }));
        let own = registry.sub_registry_with_prefix("bindery");
        let requests = Requests::default();
        own.register_collector(Box::new(requests.clone()));
        commits.register(own);
        let mut own = Register(own);
        let build: Family<Labels<1>, Gauge> = own.add("build_info", "Always 1; the label is the version");
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        let mails: Family<Labels<2>, Counter> =
            own.add("mails", "Mails handed to the relay, by kind and what it said");
        for (kind, outcome) in pairs(MailKind::ALL, MailOutcome::ALL) {
            drop(mails.get_or_create(&[("kind", kind.as_str()), ("outcome", outcome.as_str())]));
        }
        let outbox: Family<Labels<2>, Counter> =
            own.add("outbox", "Attempts to send a row of the outbox, by kind and what became of the row");
        for (kind, settled) in pairs(&Kind::ALL, &Settled::ALL) {
            drop(outbox.get_or_create(&[("kind", kind.as_str()), ("outcome", settled.as_str())]));
        }
        Self {
            clock,
            started,
            requests,
            limited: own.counters::<RequestLimit>("requests_limited", "Requests that a limit refused, by limit", "limit"),
            budgets: own.counters::<BudgetOf>(
                "lookup_budget_exhausted",
                "Lookups and invitations that a lookup budget refused, by whose budget it was",
                "of",
            ),
            looked_up: own.add("looked_up_addresses", "Addresses that all accounts together have looked up"),
            lookup_alarm: own.add(
                "lookup_alarm",
                "1 from the time when all accounts together have looked up more addresses in a day than lookup.alarm_per_day, until midnight (UTC)",
            ),
            mails,
            mail_success: own.add(
                "mail_last_success_timestamp_seconds",
                "When the relay last accepted a mail, in seconds since 1970; 0 if it has not since the start",
            ),
            last_mail: Mutex::default(),
            sms: own.counters::<SmsOutcome>(
                "sms",
                "Messages to phones, by what the gateway said",
                "outcome",
            ),
            sms_success: own.add(
                "sms_last_success_timestamp_seconds",
                "When the gateway last accepted a message, in seconds since 1970; 0 if it has not since the start",
            ),
            homeservers: own.counters::<HomeserverOutcome>(
                "homeserver_requests",
                "Requests to homeservers, by outcome",
                "outcome",
            ),
            outbox,
            visits: own.counters::<VisitOutcome>(
                "visits",
                "Requests for the link to a person's own page, by outcome",
                "outcome",
            ),
            log_rows_lost: own.add(
                "log_rows_lost",
                "Log rows that were lost because they could not be written, by log",
            ),
            retention_success: own.add(
                "retention_last_success_timestamp_seconds",
                "Start of the last successful round of retention, in seconds since 1970; 0 before the first",
            ),
            retention_halted: own.add(
                "retention_halted",
                "1 while retention is halted because the clock has jumped, until the clock is right again or the operator confirms it",
            ),
            rewrite_overdue: own.add(
                "rewrite_overdue",
                "1 while the database file holds deleted rows for longer than privacy.deleted_binding_days, because the file could not be rewritten",
            ),
            observed: Gauges::new(&mut own),
            registry,
            limited_today: LastDay::default(),
            mails_today: LastDay::default(),
            sms_today: LastDay::default(),
        }
    }

    /// When the counting began.
    pub fn started(&self) -> Millis {
        self.started
    }

    /// The counts of another worker thread.
    pub fn worker(&self) -> Arc<WorkerRequests> {
        self.requests.worker()
    }

    /// Counts a request that a limit refused.
    pub fn count_limited(&self, limit: RequestLimit) {
        self.limited.get_or_create(&[("limit", limit.as_str())]).inc();
        self.limited_today.count(limit.as_str(), self.clock.now());
    }

    /// Counts a lookup or invitation that a lookup budget refused.
    pub fn count_exhausted(&self, of: BudgetOf) {
        self.budgets.get_or_create(&[("of", of.as_str())]).inc();
        self.limited_today.count(lookup_budget(of), self.clock.now());
    }

    /// The requests that limits and lookup budgets refused in the last 24 hours.
    pub fn limited_today(&self) -> BTreeMap<&'static str, u64> {
        self.limited_today.sums(self.clock.now())
    }

    /// The requests that limits and lookup budgets have refused since the start, without those that refused none.
    pub fn limited(&self) -> BTreeMap<&'static str, u64> {
        let limits = RequestLimit::ALL.iter().map(|limit| {
            let count = self.limited.get_or_create(&[("limit", limit.as_str())]).get();
            (limit.as_str(), count)
        });
        let budgets = BudgetOf::ALL
            .iter()
            .map(|of| (lookup_budget(*of), self.budgets.get_or_create(&[("of", of.as_str())]).get()));
        limits.chain(budgets).filter(|(_, count)| *count > 0).collect()
    }

    /// Counts a mail. One that was only rehearsed counts like a mail: a counter must not tell whether an address has
    /// opted out (design, section 4, rule 12).
    pub fn count_mail(&self, kind: MailKind, outcome: MailOutcome) {
        let now = self.clock.now();
        self.mails.get_or_create(&[("kind", kind.as_str()), ("outcome", outcome.as_str())]).inc();
        self.mails_today.count(outcome.as_str(), now);
        if outcome == MailOutcome::Accepted {
            self.mail_success.set(seconds(now));
        }
        *self.last_mail.lock().unwrap_or_else(PoisonError::into_inner) = Some((outcome, now));
    }

    /// What the relay said about the last mail, and when.
    pub fn last_mail(&self) -> Option<(MailOutcome, Millis)> {
        *self.last_mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mails of the last 24 hours, by outcome.
    pub fn mails_today(&self) -> BTreeMap<&'static str, u64> {
        self.mails_today.sums(self.clock.now())
    }

    /// Counts a message to a phone. One that was only rehearsed counts like a message.
    pub fn count_sms(&self, outcome: SmsOutcome) {
        let now = self.clock.now();
        self.sms.get_or_create(&[("outcome", outcome.as_str())]).inc();
        self.sms_today.count(outcome.as_str(), now);
        if outcome == SmsOutcome::Accepted {
            self.sms_success.set(seconds(now));
        }
    }

    /// The messages to phones of the last 24 hours, by outcome.
    pub fn sms_today(&self) -> BTreeMap<&'static str, u64> {
        self.sms_today.sums(self.clock.now())
    }

    /// Counts a request to a homeserver.
    pub fn count_homeserver_request(&self, outcome: HomeserverOutcome) {
        self.homeservers.get_or_create(&[("outcome", outcome.as_str())]).inc();
    }

    /// Counts an attempt to send a row of the outbox.
    pub fn count_outbox(&self, kind: Kind, settled: Settled) {
        self.outbox.get_or_create(&[("kind", kind.as_str()), ("outcome", settled.as_str())]).inc();
    }

    /// Counts lost rows of a log. The names of the logs are constants of `logs`.
    pub fn count_lost_log_rows(&self, log: &'static str, rows: u64) {
        self.log_rows_lost.get_or_create(&[("log", log)]).inc_by(rows);
    }

    /// Counts addresses that were looked up.
    pub fn count_looked_up(&self, addresses: u64) {
        self.looked_up.inc_by(addresses);
    }

    /// Sets whether more addresses were looked up today than the operator expects.
    pub fn show_lookup_alarm(&self, is_passed: bool) {
        self.lookup_alarm.set(is_passed.into());
    }

    /// Sets when the last successful round of retention began.
    pub fn show_retention_success(&self, begun: Millis) {
        self.retention_success.set(seconds(begun));
    }

    /// Sets whether retention is halted.
    pub fn show_retention_halted(&self, is_halted: bool) {
        self.retention_halted.set(is_halted.into());
    }

    /// Sets whether the file holds deleted bytes for longer than allowed.
    pub fn show_rewrite_overdue(&self, is_overdue: bool) {
        self.rewrite_overdue.set(is_overdue.into());
    }

    /// Counts a request for the link to a person's own page.
    pub fn count_visit(&self, outcome: VisitOutcome) {
        self.visits.get_or_create(&[("outcome", outcome.as_str())]).inc();
    }

    /// The metrics as text (OpenMetrics 1.0), with what was just observed.
    pub fn text(&self, observed: Option<&Observed>) -> String {
        if let Some(observed) = observed {
            self.observed.set(observed, self.clock.now());
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The name of a lookup budget among the limits.
fn lookup_budget(of: BudgetOf) -> &'static str {
    match of {
        BudgetOf::Account => "lookup_budget_of_account",
        BudgetOf::Homeserver => "lookup_budget_of_homeserver",
        BudgetOf::Network => "lookup_budget_of_network",
    }
}

fn pairs<A: Copy, B: Copy>(first: &[A], second: &[B]) -> impl Iterator<Item = (A, B)> {
    first.iter().flat_map(|a| second.iter().map(|b| (*a, *b)))
}

fn seconds(time: Millis) -> i64 {
    i64::try_from(time.0 / 1000).unwrap_or(i64::MAX)
}
