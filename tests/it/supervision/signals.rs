//! SIGTERM drains, a second signal aborts, SIGHUP and SIGUSR1 change nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rustix::process::Signal;

use super::{LIMIT, Place, Run, answers};

/// A request whose body does not come, so that the server waits for it while it drains.
fn half_a_request(base: &str) -> TcpStream {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).expect("it accepts");
    let head = "POST /_matrix/identity/v2/account/register HTTP/1.1\r\nHost: id.test\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    // It has begun when the server asks for the body.
    stream.read_exact(&mut [0; 12]).expect("an answer");
    stream
}

#[test]
fn a_second_signal_ends_a_server_that_drains() {
    let place = Place::new();
    for (second, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut run = Run::start(place.command());
        let slow = half_a_request(&run.base());
        run.signal(Signal::TERM);
        run.line("stopping:");
        place.hear("STOPPING=1");
        run.signal(second);
        let (ended, log) = run.end();
        assert_eq!(ended.code(), Some(status), "{log}");
        assert!(log.contains("a second signal"), "{log}");
        drop(slow);
    }
    let mut next = Run::start(place.command());
    next.base();
    next.stop();
}

#[tokio::test]
async fn sighup_and_sigusr1_end_nothing() {
    let place = Place::new();
    let mut run = Run::start(place.command());
    let base = run.base();
    run.signal(Signal::HUP);
    run.line("SIGHUP reloads nothing yet; restart to read the configuration again");
    run.signal(Signal::USR1);
    run.line("SIGUSR1 does nothing");
    assert!(answers(&base).await);
    run.stop();
}
