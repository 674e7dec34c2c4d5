//! Backup files: any bytes, and a good backup with some bytes changed and its checksum made again.
#![no_main]

use std::{
    fs, panic,
    sync::{Arc, LazyLock},
};

use bindery::{
    domain::{
        association::Association, ids::UserId, language::Language, secret::sha256, server_name::ServerName,
        threepid::Address, time::Millis,
    },
    ops::genesis,
    store::{
        Store,
        backup::{Contents, Progress, verify},
    },
};
use libfuzzer_sys::fuzz_target;
use redb::backends::InMemoryBackend;
use tempfile::TempDir;
use tokio::runtime::Builder;

const CHECKSUM: usize = 32;
const TRAILER: usize = 64;

struct Good {
    bytes: Vec<u8>,
    contents: Contents,
    dir: TempDir,
}

/// A backup of a few people, and a folder for what is made of it.
static GOOD: LazyLock<Good> = LazyLock::new(|| {
    // Bindery contains panics of redb; the fuzzer's own hook would end the process. It still sees those that get out.
    panic::set_hook(Box::new(|_| {}));
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("good.backup");
    let name = ServerName::parse("id.test").expect("a name");
    let store = Store::on_backend(InMemoryBackend::new(), &name, || genesis(Millis(1))).expect("a database");
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let contents = runtime.block_on(async {
        let fill = store.write(|tables| {
            (0..20).try_for_each(|number| {
                let address = Address::email(&format!("person{number}@example.org")).expect("an address");
                let user_id = UserId::parse(&format!("@person{number}:hs.test")).expect("a user ID");
                tables.put_association(&Association { address, user_id, ts: Millis(1) }, Language::En)
            })
        });
        fill.await.expect("written");
        let progress = Arc::new(Progress::default());
        store.back_up(path.clone(), Millis(1_800_000_000_000), progress).await.expect("a backup")
    });
    Good { bytes: fs::read(path).expect("readable"), contents, dir }
});

/// The good backup with the changes that `edits` says: four bytes of a place, and a byte to put there.
fn edited(edits: &[u8]) -> Vec<u8> {
    let mut bytes = GOOD.bytes.clone();
    let database_len = bytes.len() - TRAILER;
    for edit in edits.chunks_exact(5) {
        let place = u32::from_be_bytes(edit[..4].try_into().expect("four bytes")) as usize;
        bytes[place % database_len] = edit[4];
    }
    let (rest, checksum) = bytes.split_at_mut(database_len + TRAILER - CHECKSUM);
    checksum.copy_from_slice(&sha256(rest));
    bytes
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let is_edited = kind % 2 == 0;
    let path = GOOD.dir.path().join("fuzzed.backup");
    let bytes = if is_edited { edited(rest) } else { rest.to_vec() };
    fs::write(&path, &bytes).expect("written");
    let verified = verify(&path);
    assert!(fs::read(&path).expect("readable") == bytes, "the file is never changed");
    match verified {
        Err(error) => assert!(!error.to_string().is_empty()),
        // Each page has a checksum. So a change is found, or it is where nothing is read.
        Ok(contents) => assert!(is_edited && contents == GOOD.contents),
    }
});
