//! The form of a line of the operator's log: its format, the priority for the journal, and the identifier of the
//! request that caused it.

use std::{ffi::OsStr, os::fd::AsFd};

use rustix::fs::fstat;
use tracing::Level;

use crate::{config::LogFormat, http::RequestId};

/// systemd names the stream that it connects to the journal: its device and inode (systemd.exec(5)).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// The format to write on `stream`. The journal has a time stamp for each line.
pub fn format(chosen: LogFormat, stream: &impl AsFd) -> LogFormat {
    #[expect(clippy::disallowed_methods, reason = "systemd sets it; it is not configuration")]
    let journal = std::env::var_os(JOURNAL_STREAM);
    match chosen {
        LogFormat::Text if is_journal(journal.as_deref(), stream) => LogFormat::Journald,
        chosen => chosen,
    }
}

/// Whether `stream` is the one that systemd names. A program that was started with another standard error inherits
/// the variable, too.
fn is_journal(named: Option<&OsStr>, stream: &impl AsFd) -> bool {
    let named = named.and_then(OsStr::to_str).and_then(|named| {
        let (device, inode) = named.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    let stat = fstat(stream).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    named.is_some() && named == stat
}

/// The whole line.
pub fn complete(format: LogFormat, level: Level, line: &[u8], request: Option<RequestId>) -> Vec<u8> {
    let mut complete = Vec::with_capacity(line.len() + 48);
    if format == LogFormat::Journald {
        complete.extend(priority(level));
    }
    complete.extend(line);
    let Some(request) = request else { return complete };
    let (end, id) = match format {
        LogFormat::Json => (&b"}\n"[..], format!(",\"request_id\":\"{request}\"}}\n")),
        LogFormat::Text | LogFormat::Journald => (&b"\n"[..], format!(" request_id={request}\n")),
    };
    if complete.ends_with(end) {
        complete.truncate(complete.len() - end.len());
        complete.extend(id.into_bytes());
    }
    complete
}

/// The priority in front of a line, which the journal stores apart (sd-daemon(3)).
fn priority(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        Level::DEBUG | Level::TRACE => b"<7>",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn only_the_stream_that_systemd_names_is_the_journal() {
        let (stream, other) =
            (File::open("/dev/null").expect("a file"), File::open("/dev/zero").expect("a file"));
        let of = |file: &File| {
            let file = file.metadata().expect("a file");
            format!("{}:{}", file.dev(), file.ino())
        };
        let is_journal = |named: &str| is_journal(Some(OsStr::new(named)), &stream);
        assert!(is_journal(&of(&stream)));
        for named in [&of(&other), "", ":", "8:", "1:2:3", "a:b", "-1:-1"] {
            assert!(!is_journal(named), "{named}");
        }
        assert!(!super::is_journal(None, &stream));
    }

    #[test]
    fn a_line_has_the_priority_and_the_request_where_readers_look_for_them() {
        let of = |format, level, line: &str, request| {
            String::from_utf8(complete(format, level, line.as_bytes(), request)).expect("UTF-8")
        };
        let id = Some(RequestId::from(0xabc));
        assert_eq!(of(LogFormat::Text, Level::WARN, "12:00 WARN a\n", None), "12:00 WARN a\n");
        let line = of(LogFormat::Text, Level::WARN, "12:00 WARN a\n", id);
        assert_eq!(line, "12:00 WARN a request_id=0000000000000abc\n");
        assert_eq!(of(LogFormat::Journald, Level::ERROR, "ERROR a\n", None), "<3>ERROR a\n");
        let line = of(LogFormat::Json, Level::INFO, "{\"a\":{}}\n", id);
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["request_id"], "0000000000000abc");
    }
}
