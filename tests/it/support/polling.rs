//! Waiting for conditions that no event announces, and the turn that floods of requests take.

use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use super::{TICK, homeserver::PATIENCE};

/// Floods take turns: together they would be slow on a small machine.
pub static FLOOD_TURN: Mutex<()> = Mutex::const_new(());

/// Polls a condition until it holds. Fails if it does not hold in time.
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    assert!(holds_in_time(holds).await, "not in time: {what}");
}

/// Polls a condition until it holds, or the time is over.
pub async fn holds_in_time(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let waited = async {
        while !holds().await {
            sleep(TICK).await;
        }
    };
    timeout(PATIENCE, waited).await.is_ok()
}
