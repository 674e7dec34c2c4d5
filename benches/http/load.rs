//! The load: keep-alive connections that each send the next request as soon as the last one is
//! answered, all on one thread.
//!
//! It must cost less than any server it loads, so requests are bytes made beforehand, and of an
//! answer it reads the status, the length, and one thing that shows whether the body is right.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::{buffer::spare_capacity, event::epoll, net::sockopt};

/// A request as it goes over the wire, with what its answer must hold.
pub struct Request {
    bytes: Vec<u8>,
    /// How often `@` is in the body: every Matrix ID and every e-mail address has one, and no
    /// hash or signature does.
    at_signs: usize,
}

impl Request {
    /// A POST of JSON to a path of version 2 of the API.
    pub fn post(path: &str, token: &str, body: &str, at_signs: usize) -> Self {
        let length = body.len();
        let bytes = format!(
            "POST /_matrix/identity/v2{path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        Self { bytes: bytes.into_bytes(), at_signs }
    }
}

/// What came of one round.
pub struct Round {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// How long each answer took.
    pub latencies: Vec<Duration>,
}

impl Round {
    /// Answers in a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Connections to one server.
pub struct Load {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Whether the bodies are checked; the constant handler's are always the same.
    checks: bool,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// Where the body begins and ends, once the head has come.
    body: Option<(usize, usize)>,
    at_signs: usize,
    sent: Instant,
}

impl Load {
    /// Opens so many connections.
    pub fn connect(address: SocketAddr, connections: usize, checks: bool) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let open = |number: usize| -> anyhow::Result<Connection> {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            // The largest request fits, so that writing one never waits for the server.
            sockopt::set_socket_send_buffer_size(&stream, 1 << 18)?;
            let number = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &stream, number, epoll::EventFlags::IN)?;
            let buffer = vec![0; 1 << 17];
            Ok(Connection { stream, buffer, filled: 0, body: None, at_signs: 0, sent: Instant::now() })
        };
        let connections = (0..connections).map(open).collect::<anyhow::Result<_>>()?;
        Ok(Self { epoll, connections, checks })
    }

    /// Keeps every connection busy until the time is up or `next` has no more, then waits for the
    /// last answers.
    pub fn run<'a>(
        &mut self,
        time: Duration,
        mut next: impl FnMut() -> Option<&'a Request>,
    ) -> anyhow::Result<Round> {
        let began = Instant::now();
        let mut latencies = Vec::with_capacity(1 << 16);
        let mut waiting = 0;
        for connection in &mut self.connections {
            if let Some(request) = next() {
                connection.send(request, Instant::now())?;
                waiting += 1;
            }
        }
        let mut events = Vec::with_capacity(self.connections.len());
        let mut now = Instant::now();
        while waiting > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), None)?;
            for event in &events {
                let connection = &mut self.connections[event.data.u64() as usize];
                if !connection.receive(self.checks)? {
                    continue;
                }
                now = Instant::now();
                latencies.push(now - connection.sent);
                let request = if now - began < time { next() } else { None };
                match request {
                    Some(request) => connection.send(request, now)?,
                    None => waiting -= 1,
                }
            }
        }
        Ok(Round { elapsed: now - began, latencies })
    }

    /// Sends one request on every connection and goes away.
    pub fn send_and_leave<'a>(mut self, mut next: impl FnMut() -> &'a Request) -> anyhow::Result<()> {
        self.connections.iter_mut().try_for_each(|connection| connection.send(next(), Instant::now()))
    }
}

impl Connection {
    fn send(&mut self, request: &Request, now: Instant) -> anyhow::Result<()> {
        self.sent = now;
        self.at_signs = request.at_signs;
        Ok(self.stream.write_all(&request.bytes)?)
    }

    /// Takes what has come; true once the answer is complete.
    fn receive(&mut self, checks: bool) -> anyhow::Result<bool> {
        let read = self.stream.read(&mut self.buffer[self.filled..])?;
        ensure!(read > 0, "the server closed a connection");
        self.filled += read;
        if self.body.is_none() {
            self.body = body_of(&self.buffer[..self.filled])?;
        }
        let Some((begin, end)) = self.body else { return Ok(false) };
        ensure!(end < self.buffer.len(), "an answer of {end} bytes is longer than any should be");
        if self.filled < end {
            return Ok(false);
        }
        let found = self.buffer[begin..end].iter().filter(|byte| **byte == b'@').count();
        if checks && found != self.at_signs {
            let body = String::from_utf8_lossy(&self.buffer[begin..end]);
            bail!("an answer has {found} addresses and Matrix IDs, not {}: {body}", self.at_signs);
        }
        (self.filled, self.body) = (0, None);
        Ok(true)
    }
}

/// Where the body of an answer begins and ends; `None` until the head is complete.
fn body_of(answer: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let (head, begin) = (&answer[..head], head + 4);
    if !head.starts_with(b"HTTP/1.1 200 ") {
        bail!("an answer is not 200: {}", String::from_utf8_lossy(answer));
    }
    let name = b"content-length:";
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (own, value) = line.split_at_checked(name.len())?;
        own.eq_ignore_ascii_case(name).then_some(value)
    });
    let length = std::str::from_utf8(length.context("an answer without a length")?)?;
    Ok(Some((begin, begin + length.trim().parse::<usize>()?)))
}
