//! A backup that ends half way leaves the earlier file or the new one, and nothing that a later one does not remove.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    sync::Arc,
};

use bindery::{
    domain::time::Millis,
    ops::genesis,
    store::{
        Store,
        backup::{Progress, verify},
    },
};
use redb::backends::InMemoryBackend;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;

use super::{back_up, backup_in, commands::Place, fill, name, names, open, real_time};

#[tokio::test]
async fn kill_9_at_any_moment_leaves_the_earlier_file_or_the_new_one() {
    const KILLS: u64 = 12;
    let place = Place::new();
    {
        let store = open(&place.data());
        fill(&store, 0..5000, real_time()).await;
    }
    let target = place.dir.path().join("one.backup");
    assert!(place.run(&["backup", target.to_str().expect("UTF-8")]).status.success());
    let partial = place.dir.path().join("one.backup.new");
    let whole = fs::metadata(&target).expect("there").len();
    let mut killed = 0;
    for step in 0..KILLS {
        let before = fs::read(&target).expect("readable");
        let mut child = place.command(&["backup", target.to_str().expect("UTF-8")]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        // Killed at a growing size of the new file; the last times, while it is checked.
        let size = whole * step / (KILLS - 3);
        let is_over = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break Some(status);
            }
            if fs::metadata(&partial).is_ok_and(|file| file.len() >= size.min(whole)) {
                break None;
            }
            std::thread::yield_now();
        };
        if is_over.is_none() {
            // It may have ended by itself in the meantime.
            let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        }
        let status = child.wait().expect("it ends");
        killed += usize::from(status.signal() == Some(Signal::KILL.as_raw()));
        let after = fs::read(&target).expect("readable");
        let contents = verify(&target).expect("a whole backup, whichever");
        assert!(after == before || contents.rows.is_some_and(|rows| rows.bindings == 5000), "{step}");
    }
    assert!(killed > 0, "at least one was killed half way");
    assert!(place.run(&["backup", target.to_str().expect("UTF-8")]).status.success());
    assert!(!partial.exists(), "the next backup removes what a killed one left");
}

/// Set in the process that may write only small files.
const LIMITED: &str = "TEST_SMALL_FILES";

#[tokio::test]
async fn a_full_disk_is_reported_and_leaves_the_earlier_file() {
    if let Ok(target) = std::env::var(LIMITED) {
        return back_up_with_full_disk(target.into()).await;
    }
    let dir = TempDir::new().expect("a directory");
    {
        let store = open(&dir.path().join("data"));
        fill(&store, 0..10, Millis(1)).await;
        back_up(&store, &backup_in(&dir), real_time()).await;
    }
    let before = fs::read(backup_in(&dir)).expect("readable");
    let test = "backup::interrupted::a_full_disk_is_reported_and_leaves_the_earlier_file";
    // Ignored signals stay ignored, so that writing fails instead of killing the process.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().expect("this test"));
    let output = command.args(["--exact", test, "--nocapture"]).env(LIMITED, backup_in(&dir)).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(backup_in(&dir)).expect("readable") == before, "the earlier backup is unchanged");
    assert_eq!(names(dir.path()), ["data", "one.backup"], "the half written file is gone");
}

async fn back_up_with_full_disk(target: std::path::PathBuf) {
    let store =
        Store::on_backend(InMemoryBackend::new(), &name(), || genesis(Millis(1))).expect("a database");
    fill(&store, 0..5000, Millis(1)).await;
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(600 << 10), ..limit }).expect("lowered");
    let made = store.back_up(target.clone(), real_time(), Arc::new(Progress::default())).await;
    let error = made.expect_err("the disk is full").to_string();
    assert!(
        error.contains("is the disk full?") && error.contains(target.to_str().expect("UTF-8")),
        "{error}"
    );
    fill(&store, 5000..5010, Millis(1)).await;
}

#[tokio::test]
async fn a_cancelled_backup_leaves_nothing() {
    let dir = TempDir::new().expect("a directory");
    let store = open(&dir.path().join("data"));
    fill(&store, 0..100, Millis(1)).await;
    let progress = Arc::new(Progress::default());
    progress.cancel();
    let made = store.back_up(backup_in(&dir), real_time(), progress).await;
    assert!(made.expect_err("cancelled").to_string().contains("interrupted"));
    assert_eq!(names(dir.path()), ["data"]);
}
