//! A gateway for messages to phones: plain HTTP on loopback, whose answer a test sets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bindery::config::{Config, SmsTransport};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};

use super::{
    doubles,
    homeserver::{Answer, Asked, Told, answer},
};

/// The running double.
pub struct Gateway {
    pub base: String,
    told: watch::Sender<Vec<Told>>,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
}

impl Gateway {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (told, answers, asked) =
            (watch::Sender::default(), Arc::<Mutex<BTreeMap<String, Answer>>>::default(), Asked::default());
        let (told_there, answers_there) = (told.clone(), answers.clone());
        doubles().spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, asked, told) = (answers_there.clone(), asked.clone(), told_there.clone());
                tokio::spawn(async move { answer(stream, &answers, &asked, &told).await });
            }
        });
        let double = Self { base, told, answers };
        double.answer("/send", Answer::Json(200, json!({ "status": "ok" })));
        double
    }

    /// Sets what a path answers.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().expect("not poisoned").insert(path.to_owned(), answer);
    }

    /// Makes a server send through it, everywhere and as often as anybody likes.
    pub fn configure(&self, config: &mut Config) {
        config.sms.gateway = SmsTransport::Http;
        config.sms.countries = vec!["*".to_owned()];
        config.sms.http.url = format!("{}/send", self.base);
        config.sms.http.body =
            [("to", "{to}"), ("text", "{text}")].map(|(name, value)| (name.to_owned(), json!(value))).into();
    }

    /// Every message so far, the oldest first.
    pub fn told(&self) -> Vec<Told> {
        self.told.borrow().clone()
    }

    /// The code of the latest message.
    pub fn code(&self) -> String {
        let told = self.told();
        let text = told.last().expect("a message").body["text"].as_str().expect("a text").to_owned();
        let code = text.split(' ').next().expect("a word");
        assert!(code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()), "{text}");
        code.to_owned()
    }
}
