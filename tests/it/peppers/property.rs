//! Whatever comes in between: a client that was told a pepper finds, for as long as that is honoured,
//! what is published and nothing else.

use std::{collections::BTreeMap, time::Duration};

use bindery::{
    domain::{audit::By, clock::Clock, refusal::Refusal, retention::PEPPER_GRACE, time::Millis},
    ops::lookup::{
        self,
        pepper::{self, Preparation},
    },
};
use proptest::prelude::*;

use super::{finds, publish, withdraw};
use crate::support::{
    TestClock,
    core::{authenticated, core_in_memory, find, user},
    storage::association,
};

const PEOPLE: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Withdraw(usize),
    Begin,
    Fill(usize),
    PutInUse,
    /// What is prepared is let go, as a crash would.
    Crash,
    Forget,
    Wait(u64),
    SetBack(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..PEOPLE).prop_map(Step::Publish),
        3 => (0..PEOPLE).prop_map(Step::Withdraw),
        3 => Just(Step::Begin),
        6 => (1..3_usize).prop_map(Step::Fill),
        4 => Just(Step::PutInUse),
        1 => Just(Step::Crash),
        2 => Just(Step::Forget),
        3 => (1..400_u64).prop_map(Step::Wait),
        1 => (1..2000_u64).prop_map(Step::SetBack),
    ]
}

async fn run(steps: Vec<Step>) {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let looker = authenticated(&core, user(0)).await;
    let mut there = [false; PEOPLE];
    let mut preparation = None;
    // Every pepper that anybody was ever told; until when it is honoured, if it is on its way out.
    let mut told: BTreeMap<String, Option<Millis>> = [(lookup::pepper(&core), None)].into();
    for step in steps {
        match step.clone() {
            Step::Publish(number) => {
                publish(&core.store, [number]).await;
                there[number] = true;
            }
            Step::Withdraw(number) => {
                withdraw(&core.store, number).await;
                there[number] = false;
            }
            Step::Begin => {
                preparation = Some(Preparation::begin(&core.store, clock.now()).await.expect("begun"));
            }
            Step::Fill(most) => {
                let Some(preparation) = &mut preparation else { continue };
                preparation.step(&core.store, most).await.expect("filled");
            }
            Step::PutInUse => {
                let Some(ready): Option<Preparation> = preparation.take() else { continue };
                if ready.put_in_use(&core.store, clock.now(), By::Server).await.is_ok() {
                    for until in told.values_mut().filter(|until| until.is_none()) {
                        *until = Some(clock.now().after(PEPPER_GRACE));
                    }
                    told.insert(lookup::pepper(&core), None);
                }
            }
            Step::Crash => preparation = None,
            Step::Forget => {
                pepper::forget(&core.store, clock.now()).await.expect("written");
                for until in told.values_mut().flatten() {
                    // Zero: it does not come back when the clock is set back.
                    let over = clock.now() >= *until;
                    *until = if over { Millis(0) } else { (*until).min(clock.now().after(PEPPER_GRACE)) };
                }
            }
            Step::Wait(seconds) => clock.forward(Duration::from_secs(seconds)),
            Step::SetBack(seconds) => clock.back(Duration::from_secs(seconds)),
        }
        let current = lookup::pepper(&core);
        assert!(told[&current].is_none());
        for (pepper, until) in &told {
            let is_honoured = until.is_none_or(|until| clock.now() < until);
            for (number, there) in there.iter().enumerate() {
                let expected = is_honoured.then_some(*there);
                assert_eq!(finds(&core, &looker, pepper, number), expected, "after {step:?}");
            }
            let Err(refusal) = find(&core, &looker, pepper, &association(0).address) else { continue };
            let expected = Refusal::InvalidPepper { algorithm: "sha256", lookup_pepper: current.clone() };
            assert_eq!(refusal, expected, "who comes too late is told the one in use");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_lookup_misses_what_is_there_or_finds_what_is_not(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
