//! A log that cannot be written takes nothing down and delays no request.

use std::{fs, io::Write, os::fd::OwnedFd, path::Path, process::Command};

use reqwest::{Method, StatusCode};
use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::{Value, json};

use super::{Place, Run, answers, free_address, open};
use crate::support::{accept_terms, client, homeserver::Homeserver, v2};

/// Starts the program with this as its standard error, sends requests, and ends it.
async fn serves_without_a_log(line: &str, stderr: fs::File) {
    let (place, address) = (Place::new(), free_address());
    let mut command = place.shell(line);
    command.env("BINDERY_HTTP__LISTEN", format!("['{address}']")).env("BINDERY_LOG__LEVEL", "trace");
    let run = Run::start_logging_to(command, stderr);
    place.hear("READY=1");
    for _ in 0..100 {
        assert!(answers(&format!("http://{address}")).await);
    }
    run.stop();
}

#[tokio::test]
async fn closed() {
    serves_without_a_log("exec \"$0\" \"$@\" 2>&-", open("/dev/null")).await;
}

#[tokio::test]
async fn full() {
    serves_without_a_log("exec \"$0\" \"$@\"", open("/dev/full")).await;
}

#[tokio::test]
async fn a_pipe_whose_reader_is_gone() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    serves_without_a_log("exec \"$0\" \"$@\"", OwnedFd::from(writer).into()).await;
}

#[tokio::test]
async fn a_pipe_whose_reader_does_not_read() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut pipe = fs::File::from(OwnedFd::from(writer));
    // Full, so that the first line of the log blocks.
    fcntl_setfl(&pipe, OFlags::NONBLOCK).expect("set");
    while pipe.write(&[b'x'; 1024]).is_ok() {}
    fcntl_setfl(&pipe, OFlags::empty()).expect("set");
    serves_without_a_log("exec \"$0\" \"$@\"", pipe).await;
    drop(reader);
}

/// A small file system in memory.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None` where this test may not mount one.
    fn mount(path: &'a Path) -> Option<Self> {
        fs::create_dir(path).expect("a directory");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(path))
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("a file");
        while file.write(&[b'x'; 512]).is_ok() {}
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

async fn register(base: &str, homeserver: &Homeserver) -> Option<(StatusCode, Value)> {
    let body = json!({
        "access_token": homeserver.openid_token(&format!("@alice:{}", homeserver.name())),
        "token_type": "Bearer", "matrix_server_name": homeserver.name(), "expires_in": 3600,
    });
    let request = client().request(Method::POST, format!("{base}{}", v2("/account/register")));
    let reply = request.body(body.to_string()).send().await.ok()?;
    let status = reply.status();
    Some((status, serde_json::from_str(&reply.text().await.ok()?).ok()?))
}

#[tokio::test]
async fn data_and_log_on_one_full_disk() {
    let (place, address) = (Place::new(), free_address());
    let mount = place.path().join("small");
    let Some(disk) = SmallDisk::mount(&mount) else {
        eprintln!("not tested: this user may not mount a tmpfs");
        return;
    };
    let start = || {
        let mut command = place.command();
        command
            .env("BINDERY_HTTP__LISTEN", format!("['{address}']"))
            .env("BINDERY_DATA_DIR", mount.join("data"));
        let log = fs::File::options().create(true).append(true).open(mount.join("log")).expect("a log");
        let run = Run::start_logging_to(command, log);
        place.hear("READY=1");
        run
    };
    let (run, base) = (start(), format!("http://{address}"));
    let (status, first) = register(&base, &place.homeserver).await.expect("an answer");
    assert_eq!(status, 200, "{first}");
    let token = first["token"].as_str().expect("a token");
    accept_terms(&base, token).await;
    disk.fill();
    // Pages that are free take a few more.
    let mut registered = 0;
    while register(&base, &place.homeserver).await.is_some_and(|(status, _)| status == 200) {
        registered += 1;
        assert!(registered < 100_000, "the disk is never full");
    }
    let (status, _) = run.end();
    assert_eq!(status.code(), Some(1));
    fs::remove_file(disk.filler()).expect("removed");
    let run = start();
    let account = client().get(format!("{base}{}", v2("/account"))).bearer_auth(token);
    assert_eq!(account.send().await.expect("an answer").status(), 200, "the old token is there");
    run.stop();
}
