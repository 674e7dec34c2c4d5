//! A Unix socket for the reverse proxy.

use std::{fs, os::unix::fs::MetadataExt};

use super::{VERSIONS, connect, status};
use crate::supervision::{Place, Run};

/// A path that is limited by the caller's address, for callers without a token.
const LIMITED: &str = "/_matrix/identity/api/v1/sign-ed25519?mxid=@a:b.c&token=t&private_key=k";

#[test]
fn x_forwarded_for_counts_behind_a_unix_socket_and_its_absence_is_warned_of_once() {
    let (place, socket) = (Place::new(), "http.sock");
    let path = place.path().join(socket);
    // A server that was killed has left one behind.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let mut command = place.command();
    command
        .env("BINDERY_HTTP__LISTEN", format!("['unix:{}']", path.display()))
        // Who may use the socket is trusted, whatever this says.
        .env("BINDERY_HTTP__TRUSTED_PROXIES", "[]")
        .env("BINDERY_LIMITS__SIGN_PER_IP", "{ burst = 1, per_hour = 1 }");
    let mut run = Run::start(command);
    assert_eq!(run.base(), format!("http://unix:{}", path.display()));
    assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o660);
    let ask = |from: &str| {
        let forwarded = match from {
            "" => String::new(),
            from => format!("x-forwarded-for: {from}\r\n"),
        };
        status(&mut connect(&path), "POST", LIMITED, &format!("content-length: 0\r\n{forwarded}"))
    };
    for from in ["198.51.100.1", "198.51.100.2", ""] {
        assert_ne!(ask(from), 429, "the first of {from}");
        assert_eq!(ask(from), 429, "the second of {from}");
    }
    assert_eq!(ask("6.6.6.6, 198.51.100.1"), 429, "a client's own entry does not count");
    assert_eq!(status(&mut connect(&path), "GET", VERSIONS, ""), 200);
    let log = run.stop();
    let warnings = log.lines().filter(|line| line.contains("without X-Forwarded-For")).count();
    assert_eq!(warnings, 1, "{log}");
    assert!(!log.contains("198.51.100"), "no address of a caller is in the log: {log}");
    assert!(!path.exists(), "the socket is removed at the end");
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let place = Place::new();
    let path = place.path().join("http.sock");
    fs::write(&path, "precious").expect("written");
    let mut command = place.command();
    command.env("BINDERY_HTTP__LISTEN", format!("['unix:{}']", path.display()));
    let (status, log) = Run::start(command).end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("http.sock is there and is not a socket"), "{log}");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
}
