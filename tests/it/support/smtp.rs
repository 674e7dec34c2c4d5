//! A mail relay double: a real SMTP server on loopback (RFC 5321), in the clear, with STARTTLS or
//! inside TLS, with or without authentication, whose mood a test can change while it runs. It keeps
//! what it was told, what it accepted, and how many connections there were.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bindery::{
    config::{Config, MailTransport, SmtpSecurity},
    domain::bucket::Rate,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::{Mail, Server, doubles, tls::Authority};

/// The points of a conversation at which a mood can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first word to a new connection, or the answer to a `NOOP` on an old one.
    Greeting,
    /// The answer to `MAIL`.
    Sender,
    /// The answer to `RCPT`.
    Recipient,
    /// The answer to the whole message.
    Message,
}

/// How the relay behaves from now on, on old connections too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Takes every mail.
    #[default]
    Accept,
    /// Refuses at this point with this status and a text that quotes the address.
    Refuse(Stage, u16),
    /// As `Refuse`, with these words before the address.
    RefuseWith(Stage, &'static str),
    /// Says exactly this.
    Say(Stage, &'static [u8]),
    /// Says nothing to a `RCPT` of an address that contains this, ever, and takes the others.
    SilentTo(&'static str),
    /// Closes the connection after a `RCPT` of an address that contains this, and takes the others.
    DropAt(&'static str),
    /// Says nothing from this point on, ever, to those who get there.
    Silent(Stage),
    /// Closes the connection instead of answering.
    Drop(Stage),
    /// Takes every mail, but thinks for 5 to 15 ms about each recipient, and for 20 to 60 about each message.
    Slow,
    /// Has read the message and keeps its answer until the mood changes.
    Hold,
}

/// What a relay can do.
pub struct Offers {
    pub security: SmtpSecurity,
    /// The names in its certificate.
    pub names: &'static [&'static str],
    /// Who may send; everybody if nobody is named.
    pub login: Option<(&'static str, &'static str)>,
    /// The mechanisms it lists.
    pub mechanisms: &'static str,
    /// Whether it takes addresses that are not ASCII (RFC 6531).
    pub smtputf8: bool,
    /// Refuses everybody who logs in with PLAIN.
    pub refuses_plain: bool,
    /// Says no more than it must (RFC 5321 sections 2.4 and 4.2): no text after `250`, EHLO keywords in small letters;
    /// and Latin-1 in all else.
    pub is_terse: bool,
    /// Says nothing to `QUIT`, and leaves the connection open.
    pub ignores_quit: bool,
}

/// A mail that the relay accepted.
#[derive(Clone)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    /// What followed the sender in `MAIL`.
    pub parameters: String,
    /// The message as it was sent, without dot-stuffing.
    pub raw: Vec<u8>,
    pub encrypted: bool,
    /// Who had logged in.
    pub user: Option<String>,
}

impl Received {
    pub fn mail(&self) -> Mail {
        Mail::parse(self.raw.clone())
    }
}

/// What has happened so far.
#[derive(Default)]
pub struct Seen {
    mood: Mood,
    pub connections: usize,
    /// How many of them are still open.
    pub open: usize,
    /// How many answers are being held back.
    pub held: usize,
    /// How many at most were held back at a time.
    pub most_held: usize,
    pub mails: Vec<Received>,
    /// Every command, and whether it came encrypted.
    pub commands: Vec<(bool, String)>,
}

/// The running double.
pub struct Relay {
    pub address: SocketAddr,
    pub authority: Authority,
    inner: Arc<Inner>,
}

struct Inner {
    offers: Offers,
    acceptor: TlsAcceptor,
    seen: watch::Sender<Seen>,
}

/// No event that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

impl Relay {
    pub fn start(security: SmtpSecurity) -> Self {
        Self::start_with(security, |_| {})
    }

    pub fn start_with(security: SmtpSecurity, change: impl FnOnce(&mut Offers)) -> Self {
        Self::start_under(Authority::new(), security, change)
    }

    pub fn start_under(
        authority: Authority,
        security: SmtpSecurity,
        change: impl FnOnce(&mut Offers),
    ) -> Self {
        let mut offers = Offers {
            security,
            names: &["127.0.0.1", "localhost"],
            login: None,
            mechanisms: "PLAIN LOGIN",
            smtputf8: true,
            refuses_plain: false,
            is_terse: false,
            ignores_quit: false,
        };
        change(&mut offers);
        let acceptor = TlsAcceptor::from(authority.server(offers.names));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner { offers, acceptor, seen: watch::Sender::new(Seen::default()) });
        let there = inner.clone();
        doubles().spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let inner = there.clone();
                inner.note(|seen| {
                    seen.connections += 1;
                    seen.open += 1;
                });
                tokio::spawn(async move {
                    // A client that goes away ends its conversation; nobody else minds.
                    let _ = converse(stream, inner.clone()).await;
                    inner.note(|seen| seen.open -= 1);
                });
            }
        });
        Self { address, authority, inner }
    }

    /// Makes a server send through this relay, trusting its authority.
    pub fn configure(&self, config: &mut Config) {
        config.mail.transport = MailTransport::Smtp;
        config.mail.from = "Bindery <noreply@id.test>".to_owned();
        let smtp = &mut config.mail.smtp;
        smtp.host = "127.0.0.1".to_owned();
        smtp.port = self.address.port();
        smtp.security = self.inner.offers.security;
        smtp.extra_ca_file = Some(self.authority.file());
    }

    /// Changes the mood; answers held back are given in the new one.
    pub fn set(&self, mood: Mood) {
        self.inner.note(|seen| seen.mood = mood);
    }

    /// Reads what has happened.
    pub fn seen<T>(&self, read: impl FnOnce(&Seen) -> T) -> T {
        read(&self.inner.seen.borrow())
    }

    /// Every mail accepted so far.
    pub fn mails(&self) -> Vec<Received> {
        self.seen(|seen| seen.mails.clone())
    }

    /// The commands that came in the clear.
    pub fn clear_commands(&self) -> Vec<String> {
        self.seen(|seen| {
            let clear = seen.commands.iter().filter(|(encrypted, _)| !encrypted);
            clear.map(|(_, command)| command.clone()).collect()
        })
    }

    /// Waits until something has happened.
    pub async fn until(&self, holds: impl FnMut(&Seen) -> bool) {
        let mut seen = self.inner.seen.subscribe();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(holds)).await;
        waited.expect("it happens in time").expect("the relay is there");
    }
}

/// A server that sends through `relay`.
pub async fn server_behind(relay: &Relay, change: impl FnOnce(&mut Config)) -> Server {
    let setup = |config: &mut Config| {
        relay.configure(config);
        unlimited(config);
        change(config);
    };
    Server::start_with(setup).await
}

/// Raises the rate limits of mails, which other tests check.
pub fn unlimited(config: &mut Config) {
    let rate = Rate::new(10_000, 10_000);
    let limits = &mut config.limits;
    limits.request_token_per_account = rate;
    limits.request_token_per_account_and_address = rate;
    limits.request_token_per_address = rate;
    limits.request_token_per_ip = rate;
    limits.submit_token_per_ip = rate;
    limits.invite_per_account = rate;
    limits.invite_per_address = rate;
    limits.invite_per_homeserver = rate;
    limits.invite_per_ip = rate;
}

impl Inner {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

struct Conversation {
    stream: BufReader<Box<dyn Duplex>>,
    encrypted: bool,
    inner: Arc<Inner>,
    user: Option<String>,
    from: String,
    parameters: String,
    to: Vec<String>,
}

async fn converse(stream: TcpStream, inner: Arc<Inner>) -> io::Result<()> {
    let encrypted = inner.offers.security == SmtpSecurity::Tls;
    let stream: Box<dyn Duplex> =
        if encrypted { Box::new(inner.acceptor.accept(stream).await?) } else { Box::new(stream) };
    let (user, from, parameters, to) = (None, String::new(), String::new(), Vec::new());
    let stream = BufReader::new(stream);
    let mut here = Conversation { stream, encrypted, inner, user, from, parameters, to };
    let greeting = here.answer_at(Stage::Greeting, "220 relay.test ESMTP").await?;
    here.write(&greeting).await?;
    loop {
        let line = here.line().await?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        here.inner.note(|seen| seen.commands.push((here.encrypted, line.clone())));
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => here.hello().await?,
            "STARTTLS" if here.inner.offers.security == SmtpSecurity::Starttls && !here.encrypted => {
                here.say("220 go on").await?;
                let stream = here.inner.acceptor.accept(here.stream.into_inner()).await?;
                here.stream = BufReader::new(Box::new(stream));
                here.encrypted = true;
            }
            "AUTH" => here.log_in(&line).await?,
            "MAIL" if here.inner.offers.login.is_some() && here.user.is_none() => {
                here.say("530 5.7.0 authenticate first").await?;
            }
            "MAIL" => {
                (here.from, here.parameters) = path(&line);
                here.to.clear();
                let answer = here.answer_at(Stage::Sender, "250 2.1.0 ok").await?;
                here.write(&answer).await?;
            }
            "RCPT" => {
                here.to.push(path(&line).0);
                let answer = here.answer_at(Stage::Recipient, "250 2.1.5 ok").await?;
                here.write(&answer).await?;
            }
            "DATA" => here.take_message().await?,
            "NOOP" => {
                let answer = here.answer_at(Stage::Greeting, "250 2.0.0 ok").await?;
                here.write(&answer).await?;
            }
            "RSET" => here.say("250 2.0.0 ok").await?,
            "QUIT" if here.inner.offers.ignores_quit => {}
            "QUIT" => return here.say("221 2.0.0 bye").await,
            _ => here.say("500 5.5.2 what?").await?,
        }
    }
}

/// What is between `<` and `>`, and what follows.
fn path(line: &str) -> (String, String) {
    let (_, rest) = line.split_once('<').unwrap_or_default();
    let (path, parameters) = rest.split_once('>').unwrap_or_default();
    (path.to_owned(), parameters.trim().to_owned())
}

impl Conversation {
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        let line = self.worded(text);
        self.write(&line).await
    }

    async fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.stream.write_all(&[line, b"\r\n"].concat()).await?;
        self.stream.flush().await
    }

    /// A line as this relay words it.
    fn worded(&self, text: &str) -> Vec<u8> {
        match (self.inner.offers.is_terse, text.get(..4)) {
            (true, Some("250 ")) => b"250".to_vec(),
            (true, Some(start)) if !["250-", "334 "].contains(&start) => {
                [start.as_bytes(), b"caf\xe9 \xc4\xe3\xba\xc3"].concat()
            }
            _ => text.as_bytes().to_vec(),
        }
    }

    /// The answer that the mood gives at this point, `good` if it has nothing against it.
    async fn answer_at(&mut self, stage: Stage, good: &str) -> io::Result<Vec<u8>> {
        let to = self.to.last().map_or("nobody", String::as_str).to_owned();
        let is_about = |part| stage == Stage::Recipient && to.contains(part);
        match self.mood_at(stage).await {
            Mood::Refuse(at, status) if at == stage => {
                Ok(self.worded(&format!("{status} 5.0.0 <{to}> is not wanted here")))
            }
            Mood::RefuseWith(at, words) if at == stage => {
                Ok(self.worded(&format!("{words} <{to}> is not wanted here")))
            }
            Mood::Say(at, line) if at == stage => Ok(line.to_vec()),
            Mood::Silent(at) if at == stage => self.say_nothing().await,
            Mood::SilentTo(part) if is_about(part) => self.say_nothing().await,
            Mood::Slow => {
                let thought = self.inner.seen.borrow().commands.len() as u64 * 7919;
                tokio::time::sleep(match stage {
                    Stage::Recipient => Duration::from_millis(5 + thought % 10),
                    Stage::Message => Duration::from_millis(20 + thought % 40),
                    Stage::Greeting | Stage::Sender => Duration::ZERO,
                })
                .await;
                Ok(self.worded(good))
            }
            Mood::Drop(at) if at == stage => Err(io::ErrorKind::ConnectionAborted.into()),
            Mood::DropAt(part) if is_about(part) => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(self.worded(good)),
        }
    }

    async fn say_nothing(&mut self) -> io::Result<Vec<u8>> {
        self.inner.note(|seen| {
            seen.held += 1;
            seen.most_held = seen.most_held.max(seen.held);
        });
        loop {
            if let Err(error) = self.line().await {
                self.inner.note(|seen| seen.held -= 1);
                return Err(error);
            }
        }
    }

    /// The mood now or, for an answer that is held back, the one that ends the waiting.
    async fn mood_at(&self, stage: Stage) -> Mood {
        let mood = self.inner.seen.borrow().mood;
        if stage != Stage::Message || mood != Mood::Hold {
            return mood;
        }
        let mut seen = self.inner.seen.subscribe();
        self.inner.note(|seen| {
            seen.held += 1;
            seen.most_held = seen.most_held.max(seen.held);
        });
        let ended = seen.wait_for(|seen| seen.mood != Mood::Hold).await.map(|seen| seen.mood);
        self.inner.note(|seen| seen.held -= 1);
        ended.unwrap_or_default()
    }

    async fn hello(&mut self) -> io::Result<()> {
        let offers = &self.inner.offers;
        let mut lines = vec!["relay.test".to_owned(), "8BITMIME".to_owned()];
        if offers.security == SmtpSecurity::Starttls && !self.encrypted {
            lines.push("STARTTLS".to_owned());
        } else if offers.login.is_some() {
            lines.push(format!("AUTH {}", offers.mechanisms));
        }
        if offers.smtputf8 {
            lines.push("SMTPUTF8".to_owned());
        }
        if offers.is_terse {
            // The last line has no text then.
            lines.iter_mut().for_each(|line| line.make_ascii_lowercase());
            lines.push("help".to_owned());
        }
        let last = lines.pop().expect("a line");
        for line in lines {
            self.say(&format!("250-{line}")).await?;
        }
        self.say(&format!("250 {last}")).await
    }

    /// RFC 4954, with the mechanisms PLAIN (RFC 4616) and LOGIN.
    async fn log_in(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split(' ').skip(1);
        let (mechanism, first) = (words.next().unwrap_or_default(), words.next());
        let (user, password) = match (mechanism, first) {
            ("PLAIN", Some(_)) if self.inner.offers.refuses_plain => {
                return self.say("535 5.7.8 not by this mechanism").await;
            }
            ("PLAIN", Some(initial)) => {
                let text = decoded(initial.as_bytes());
                let mut parts = text.split('\0').skip(1).map(str::to_owned);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            ("LOGIN", _) => {
                self.say(&format!("334 {}", STANDARD.encode("Username:"))).await?;
                let user = decoded(&self.line().await?);
                self.say(&format!("334 {}", STANDARD.encode("Password:"))).await?;
                (user, decoded(&self.line().await?))
            }
            _ => return self.say("504 5.5.4 no such mechanism").await,
        };
        if self.inner.offers.login == Some((&user, &password)) {
            self.user = Some(user);
            self.say("235 2.7.0 welcome").await
        } else {
            self.say("535 5.7.8 wrong user or password").await
        }
    }

    async fn take_message(&mut self) -> io::Result<()> {
        self.say("354 go on").await?;
        let mut raw = Vec::new();
        loop {
            let line = self.line().await?;
            if line == b".\r\n" && (raw.is_empty() || raw.ends_with(b"\r\n")) {
                break;
            }
            raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
        let answer = self.answer_at(Stage::Message, "250 2.0.0 queued").await?;
        if answer.starts_with(b"2") {
            let received = Received {
                from: self.from.clone(),
                to: self.to.clone(),
                parameters: self.parameters.clone(),
                raw,
                encrypted: self.encrypted,
                user: self.user.clone(),
            };
            self.inner.note(|seen| seen.mails.push(received));
        }
        self.write(&answer).await
    }
}

fn decoded(text: &[u8]) -> String {
    let bytes = STANDARD.decode(text.trim_ascii()).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}
