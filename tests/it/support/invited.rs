//! Invitations, commands to a server, and waiting for what it does by itself.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Mail, Server, User, polling::holds_in_time};

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

    /// The status and the body of another path of the listener of the metrics.
    pub async fn monitoring(&self, path: &str) -> (u16, String) {
        let url = self.metrics.replace("/metrics", path);
        let reply = self.client.get(url).send().await.expect("an answer");
        (reply.status().as_u16(), reply.text().await.expect("text"))
    }

    /// Sends a command to the operator's socket; its answer, be it a refusal.
    pub async fn control(&self, path: &str, command: &Value) -> Value {
        self.control_text(path, command.to_string()).await.1
    }

    /// Sends a text to the operator's socket; the status and the answer.
    pub async fn control_text(&self, path: &str, body: String) -> (u16, Value) {
        let socket = self.config.data_dir.join(bindery::app::CONTROL_SOCKET);
        let client = reqwest::Client::builder().unix_socket(socket).build().expect("a client");
        let request = client.post(format!("http://control{path}")).body(body);
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON"))
    }

    /// Waits until monitoring sees this line.
    pub async fn until_counted(&self, line: &str) {
        self.until(line, async || self.metrics().await.lines().any(|counted| counted == line)).await;
    }

    /// Waits for a mail to somebody, after so many others; gives it.
    pub async fn mail_to(&self, address: &str, after: usize) -> Mail {
        let to_them = || self.mails().into_iter().filter(|mail| mail.to == address).nth(after);
        self.until("a mail", async || to_them().is_some()).await;
        to_them().expect("a mail")
    }

    /// Moves the clock on until the homeserver has been told so many things.
    pub async fn forward_until_told(&self, step: Duration, count: usize) {
        let told = async || {
            self.clock.forward(step);
            self.homeserver.told().len() >= count
        };
        self.until("the homeserver is told", told).await;
    }

    /// As [`super::polling::until`]; a failure shows the metrics.
    pub async fn until(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        if !holds_in_time(holds).await {
            panic!("not in time: {what}\n{}", self.metrics().await);
        }
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
