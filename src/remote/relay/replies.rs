//! Rewrites the replies of the mail relay so that lettre can parse them.
//!
//! RFC 5321 lets a relay leave out the text after a code (section 4.2), write EHLO keywords in small letters
//! (section 2.4) and use codes that the client has never heard of (section 4.3.2); many quote text that is neither
//! ASCII nor UTF-8. lettre fails at each of these, and the code is lost. Bindery needs only the code.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A longer line is an error: RFC 5321 section 4.5.3.1.5 allows 512 bytes.
const MAX_LINE_RECEIVED: usize = 8192;
/// lettre gets only so many bytes of a line. The rest is dropped.
const MAX_LINE_PASSED_ON: usize = 512;

/// A connection to the relay, whose replies lettre can parse.
pub(super) struct NormalizedStream<S> {
    stream: S,
    /// Bytes that were received and not yet normalized: a part of a line, or later lines.
    received: Vec<u8>,
    /// The rest of the normalized line that lettre is reading.
    line: Vec<u8>,
}

impl<S> NormalizedStream<S> {
    /// Reads from the first byte.
    pub(super) fn of(stream: S) -> Self {
        Self { stream, received: Vec::new(), line: Vec::new() }
    }

    /// As [`NormalizedStream::of`]; the relay greeted before STARTTLS and does not greet again, but lettre waits for it.
    pub(super) fn after_greeting(stream: S) -> Self {
        Self { line: b"220 ok\r\n".to_vec(), ..Self::of(stream) }
    }
}

/// A line of a reply as lettre can parse it, with its end.
fn normalize_line(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let visible = |byte: &u8| if matches!(byte, b' '..=b'~') { *byte } else { b'?' };
    let mut line: Vec<u8> = line.iter().take(MAX_LINE_PASSED_ON).map(visible).collect();
    if let [b'2'..=b'5', second, third, ..] = &mut line[..]
        && second.is_ascii_digit()
        && third.is_ascii_digit()
    {
        // Only the first digit of an unknown code says something (RFC 5321 section 4.3.2). lettre knows no second
        // digit above 5.
        if *second > b'5' {
            (*second, *third) = (b'5', b'4');
        }
        if line.len() == 3 {
            line.push(b' ');
        }
        if line.len() == 4 {
            line.extend_from_slice(b"ok");
        }
        // Keywords of EHLO. Nothing reads the text of other replies with this code.
        if line.starts_with(b"250") {
            line.make_ascii_uppercase();
        }
    }
    line.extend_from_slice(b"\r\n");
    line
}

impl<S: AsyncRead + Unpin> AsyncRead for NormalizedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.line.is_empty() {
            if let Some(end) = this.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = this.received.drain(..=end).collect();
                this.line = normalize_line(&line);
                break;
            }
            if this.received.len() > MAX_LINE_RECEIVED {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let mut bytes = [0; 1024];
            let mut bytes = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut bytes))?;
            if bytes.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.received.extend_from_slice(bytes.filled());
        }
        let count = this.line.len().min(out.remaining());
        out.put_slice(&this.line[..count]);
        this.line.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NormalizedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The text of a relay may quote an address.
impl<S> fmt::Debug for NormalizedStream<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NormalizedStream").finish_non_exhaustive()
    }
}

impl AsyncTokioStream for NormalizedStream<TcpStream> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncTokioStream for NormalizedStream<TlsStream<TcpStream>> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().0.peer_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_keeps_its_code_whatever_its_text() {
        for (line, read) in [
            (&b"250 OK\r\n"[..], "250 OK\r\n"),
            (b"250\r\n", "250 OK\r\n"),
            (b"250 \r\n", "250 OK\r\n"),
            (b"250-\r\n", "250-OK\r\n"),
            (b"550\n", "550 ok\r\n"),
            (b"250-auth plain Login\r\n", "250-AUTH PLAIN LOGIN\r\n"),
            (b"220 caf\xe9 \xc4\xe3\r\n", "220 caf? ??\r\n"),
            (b"334 VXNlcm5hbWU6\r\n", "334 VXNlcm5hbWU6\r\n"),
            (b"571 5.7.1 no\r\n", "554 5.7.1 no\r\n"),
            (b"550 5.1.1 \x1b[0m\0\r\n", "550 5.1.1 ?[0m?\r\n"),
            (b"hello\r\n", "hello\r\n"),
            (b"\r\n", "\r\n"),
            (b"25\r\n", "25\r\n"),
        ] {
            assert_eq!(String::from_utf8(normalize_line(line)).as_deref(), Ok(read));
        }
        assert_eq!(
            normalize_line(&[&b"250 "[..], &[b'x'; 4000], b"\r\n"].concat()).len(),
            MAX_LINE_PASSED_ON + 2
        );
    }
}
