//! The outbox of a test's server must be empty when the test ends.
//!
//! A row that is left is a mail or a request that the test never saw, because it was sent late, failed, or was not
//! meant. A test that means it calls [`Server::leaves_jobs`].

use std::{sync::mpsc, time::Duration};

use bindery::admin::{Command, GetRetentionStatus, RetentionStatus};

use super::{Server, TICK, doubles};

/// How long a server may take for the jobs that are under way when its test ends.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The name of the rule that counts the rows of the outbox.
pub const OUTBOX: &str = "queued mails and calls to homeservers";

impl Server {
    /// Allows rows in the outbox when the test ends.
    pub fn leaves_jobs(&mut self) {
        self.may_leave_jobs = true;
    }

    /// Waits until the outbox is empty; the rows that are left in the end.
    fn jobs_left(&self) -> u64 {
        let (socket, (sender, receiver)) =
            (self.config.data_dir.join(bindery::app::CONTROL_SOCKET), mpsc::channel());
        // The runtime of the test is not available here.
        doubles().spawn(async move {
            let client =
                reqwest::Client::builder().unix_socket(socket).timeout(MAX_WAIT).build().expect("a client");
            let mut rows = 0;
            for _ in 0..MAX_WAIT.as_millis() / TICK.as_millis() {
                let body = serde_json::to_vec(&GetRetentionStatus).expect("JSON");
                let request = client.post(format!("http://control{}", GetRetentionStatus::PATH)).body(body);
                let answer = request.send().await.expect("an answer").bytes().await.expect("a body");
                let status: RetentionStatus = serde_json::from_slice(&answer).expect("a status");
                let outbox = status.rules.into_iter().find(|rule| rule.what == OUTBOX);
                rows = outbox.expect("a rule for the outbox").rows;
                if rows == 0 {
                    break;
                }
                tokio::time::sleep(TICK).await;
            }
            sender.send(rows).expect("the test waits");
        });
        receiver.recv().expect("the server tells how many")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a restart the next server has the jobs.
        let is_running = self.thread.is_some();
        let left = if is_running && !self.may_leave_jobs && !std::thread::panicking() {
            self.jobs_left()
        } else {
            0
        };
        self.end();
        assert_eq!(left, 0, "jobs are left in the outbox; if the test means that, call server.leaves_jobs()");
    }
}
