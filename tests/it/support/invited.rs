//! Invitations, and waiting for what a server does by itself.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Mail, Server, TICK, User, homeserver::PATIENCE};

impl Server {
    /// Invites an address to a room.
    pub async fn invite(&self, sender: &User, address: &str, room_id: &str) -> Value {
        let body = json!({ "medium": "email", "address": address, "room_id": room_id, "sender": sender.id });
        self.post("/store-invite", sender, &body).await.ok()
    }

    /// What monitoring sees.
    pub async fn metrics(&self) -> String {
        self.client.get(&self.metrics).send().await.expect("an answer").text().await.expect("text")
    }

    /// Waits until monitoring sees this line.
    pub async fn until_counted(&self, line: &str) {
        let counted = async {
            while !self.metrics().await.lines().any(|counted| counted == line) {
                tokio::time::sleep(TICK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, counted).await.is_err() {
            panic!("not counted in time: {line}\n{}", self.metrics().await);
        }
    }

    /// Waits for a mail to somebody, after so many others; gives it.
    pub async fn mail_to(&self, address: &str, after: usize) -> Mail {
        let arrives = async {
            loop {
                let mut to_them = self.mails().into_iter().filter(|mail| mail.to == address);
                match to_them.nth(after) {
                    Some(mail) => return mail,
                    None => tokio::time::sleep(TICK).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, arrives).await.expect("the mail comes in time")
    }

    /// Waits until something is so.
    pub async fn until(&self, mut holds: impl AsyncFnMut() -> bool) {
        let waited = async {
            while !holds().await {
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.expect("it is so in time");
    }

    /// Moves the clock on until the homeserver has been told so many things.
    pub async fn forward_until_told(&self, step: Duration, count: usize) {
        let told = async {
            while self.homeserver.told().len() < count {
                self.clock.forward(step);
                tokio::time::sleep(TICK * 2).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("it is told in time");
    }
}

/// The part of a mail's link that signs for whoever joins with it: a path with its query.
pub fn sign_url(mail: &Mail) -> String {
    let link = mail.text.split_whitespace().find(|word| word.contains("signurl=")).expect("a link");
    let (_, query) = link.split_once('?').expect("a query");
    let query: Vec<(String, String)> = serde_urlencoded::from_str(query).expect("a query");
    let (_, url) = query.into_iter().find(|(name, _)| name == "signurl").expect("a URL");
    url.strip_prefix("https://id.test").expect("a URL of this server").to_owned()
}
