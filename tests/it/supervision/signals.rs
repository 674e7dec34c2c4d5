//! SIGTERM drains, a second signal aborts, SIGHUP and SIGUSR1 end nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

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
    run.line("the configuration is reloaded");
    run.signal(Signal::USR1);
    run.line("SIGUSR1 does nothing");
    assert!(answers(&base).await);
    run.stop();
}

/// Waits for the first byte of an answer, without a pause: a signal sent then is as early as it can be.
fn first_answer(socket: &std::path::Path) {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        let answered = UnixStream::connect(socket).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: control\r\n\r\n")?;
            stream.read_exact(&mut [0])
        });
        if answered.is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no answer");
}

#[test]
fn a_server_that_has_answered_drains_when_it_is_stopped() {
    let place = Place::new();
    for _ in 0..5 {
        let run = Run::start(place.command());
        // On one core, the threads that answer are ahead of the one that started them.
        let process = Some(Pid::from_child(&run.child));
        let mut only = CpuSet::new();
        let allowed = sched_getaffinity(process).expect("the cores");
        only.set((0..CpuSet::MAX_CPU).find(|&core| allowed.is_set(core)).expect("a core"));
        sched_setaffinity(process, &only).expect("pinned");
        first_answer(&place.path().join("data/control.sock"));
        let log = run.stop();
        assert!(log.contains("the database is closed"), "{log}");
    }
}
