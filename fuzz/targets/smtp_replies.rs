//! What a mail relay says: the first byte of the input decides whether Bindery logs in, the rest are all replies.
#![no_main]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    num::NonZeroU32,
    sync::{Arc, LazyLock, Mutex},
    thread,
};

use bindery::{
    config::{Config, MailTransport, Password, SmtpSecurity},
    domain::{ids::UserId, language::Language, threepid::Address},
    remote::{
        dns::Dns,
        mail::{Mailer, ValidationMail},
    },
};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// What the relay says to the next connection.
static REPLIES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// Without a login, and with one.
static MAILERS: LazyLock<[Mailer; 2]> = LazyLock::new(|| {
    let relay = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = relay.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut client in relay.incoming().flatten() {
            let replies = REPLIES.lock().unwrap().clone();
            // The client may have heard enough.
            let _ = client.write_all(&replies).and_then(|()| client.shutdown(Shutdown::Write));
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    [None, Some("password")].map(|password| {
        let mut config = Config::default();
        config.mail.transport = MailTransport::Smtp;
        config.mail.smtp.host = "127.0.0.1".to_owned();
        config.mail.smtp.port = port;
        config.mail.smtp.security = SmtpSecurity::None;
        config.mail.smtp.timeout_seconds = NonZeroU32::MIN;
        config.mail.smtp.username = password.map(str::to_owned);
        config.mail.smtp.password = password.map(|password| Password(password.to_owned()));
        Mailer::new(&config, Arc::new(Dns::system())).expect("a mailer")
    })
});

fuzz_target!(|input: &[u8]| {
    let Some((first, replies)) = input.split_first() else { return };
    let mailer = &MAILERS[usize::from(first % 2)];
    *REPLIES.lock().unwrap() = replies.to_vec();
    let mail = ValidationMail {
        to: Address::email("\u{fc}@example.org").expect("an address"),
        stop: "https://id.test/stop/x".to_owned(),
        account: UserId::parse("@alice:hs.test").expect("a user ID"),
        link: "https://id.test/c/x".to_owned(),
        token: "token".to_owned(),
        brand: None,
        language: Language::En,
    };
    let _ = RUNTIME.block_on(mailer.send_validation(&mail));
});
