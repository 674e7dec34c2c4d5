//! The mailbox of the demo: serves the captured mails to a browser.

use std::{
    fmt::Write,
    net::TcpListener,
    path::{Path, PathBuf},
};

use actix_web::{App, HttpResponse, HttpServer, dev::Server, web};
use anyhow::Context;
use mail_parser::MessageParser;

/// The mailbox, bound and not yet running.
pub struct Mailbox {
    directory: PathBuf,
    listener: TcpListener,
    url: String,
}

/// The parts of a mail that a person reads.
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
}

impl Mailbox {
    /// Binds to loopback; the mails are those in `directory`.
    pub fn prepare(directory: PathBuf) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/", listener.local_addr()?);
        Ok(Self { directory, listener, url })
    }

    /// The URL for the browser.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Starts to answer.
    pub fn run(self) -> std::io::Result<Server> {
        let directory = self.directory;
        let app =
            move || App::new().app_data(web::Data::new(directory.clone())).route("/", web::get().to(show));
        Ok(HttpServer::new(app).workers(1).disable_signals().listen(self.listener)?.run())
    }
}

/// The mails in `directory`, the oldest first.
pub fn read(directory: &Path) -> anyhow::Result<Vec<Mail>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    paths.sort();
    paths.iter().map(|path| parse(&std::fs::read(path)?)).collect()
}

fn parse(bytes: &[u8]) -> anyhow::Result<Mail> {
    let message = MessageParser::default().parse(bytes).context("the mail cannot be read")?;
    let to = message
        .to()
        .and_then(|to| to.first())
        .and_then(|to| to.address())
        .context("the mail has no recipient")?;
    Ok(Mail {
        to: to.to_owned(),
        subject: message.subject().unwrap_or_default().to_owned(),
        text: message.body_text(0).unwrap_or_default().into_owned(),
    })
}

async fn show(directory: web::Data<PathBuf>) -> HttpResponse {
    let Ok(mails) = read(&directory) else { return HttpResponse::NotFound().body("There is no mail yet.") };
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>Mail of the demo</title><h1>Mail of the demo</h1>",
    );
    for mail in mails.iter().rev() {
        let linked = escape(&mail.text)
            .split('\n')
            .map(|line| match line.trim() {
                url if url.starts_with("http") => format!("<a href=\"{url}\">{url}</a>\n"),
                _ => format!("{line}\n"),
            })
            .collect::<String>();
        let (to, subject) = (escape(&mail.to), escape(&mail.subject));
        let _ = write!(
            page,
            "<h2>{subject}</h2><p>To: {to}</p><pre style=\"white-space: pre-wrap\">{linked}</pre>"
        );
    }
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
