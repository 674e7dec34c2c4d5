//! The parts that must not end before the server does: threads that report their end, and a switch that lets
//! tests make any part panic.

use std::{
    io,
    thread::{self, JoinHandle},
};

/// Starts a thread and calls `on_end` when it ends, also when it panics.
///
/// # Errors
/// If the system starts no more threads.
pub fn spawn_thread(
    name: &'static str,
    on_end: impl FnOnce() + Send + 'static,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let on_end = OnDrop::new(on_end);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _on_end = on_end;
        work();
    })
}

/// Calls a function when it is dropped, also by a panic.
pub struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    /// Calls `on_drop` then.
    pub const fn new(on_drop: F) -> Self {
        Self(Some(on_drop))
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(on_end) = self.0.take() {
            on_end();
        }
    }
}

/// The environment variable that names the part to panic. Only debug builds read it.
#[cfg(debug_assertions)]
const PANIC_VARIABLE: &str = "PANIC_IN_BINDERY_PART";

/// Panics if a test has asked this part to. A release build has only an empty function here.
#[cfg(debug_assertions)]
#[expect(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests set the variable; it is not configuration"
)]
pub fn panic_if_asked(part: &str) {
    if std::env::var_os(PANIC_VARIABLE).is_some_and(|asked| asked == part) {
        panic!("a test asked this part to panic");
    }
}

/// See the variant for debug builds.
#[cfg(not(debug_assertions))]
pub const fn panic_if_asked(_: &str) {}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_end_of_a_thread_is_reported_even_if_it_panics() {
        let (report, ended) = mpsc::channel();
        for panics in [false, true] {
            let report = report.clone();
            let work = move || assert!(!panics, "on purpose");
            let on_end = move || report.send(()).expect("the test waits");
            let thread = spawn_thread("a part", on_end, work).expect("a thread");
            ended.recv().expect("a report");
            assert_eq!(thread.join().is_err(), panics);
        }
    }
}
