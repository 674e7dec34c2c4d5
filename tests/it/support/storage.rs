//! A database on storage that is frozen at every sync, as a crash would leave it.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
};

use bindery::{
    domain::{
        association::Association, ids::UserId, lookup::LookupHash, server_name::ServerName,
        threepid::Address, time::Millis,
    },
    ops::genesis,
    store::Store,
};
use redb::StorageBackend;

/// What the disk would hold if the machine had stopped at some moment.
pub struct Image {
    /// How many operations had been acknowledged by then.
    pub acknowledged: usize,
    pub bytes: Vec<u8>,
}

/// Storage in memory that keeps what a crash could leave at each sync: everything written so far,
/// and the last synced state with only half of the writes since.
#[derive(Clone, Default)]
pub struct Frozen(Arc<Mutex<State>>);

#[derive(Default)]
pub struct State {
    bytes: Vec<u8>,
    pub synced: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    pub acknowledged: usize,
    pub images: Vec<Image>,
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Frozen")
    }
}

impl Frozen {
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { synced: bytes.clone(), bytes, ..State::default() })))
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }
}

fn write_at(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

impl StorageBackend for Frozen {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(state.bytes.get(range).ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.state();
        state.bytes.resize(len as usize, 0);
        state.synced.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.state();
        let acknowledged = state.acknowledged;
        let mut torn = state.synced.clone();
        for (offset, data) in &state.unsynced[..state.unsynced.len() / 2] {
            write_at(&mut torn, *offset, data);
        }
        let whole = state.bytes.clone();
        state.images.push(Image { acknowledged, bytes: torn });
        state.images.push(Image { acknowledged, bytes: whole.clone() });
        state.synced = whole;
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state();
        write_at(&mut state.bytes, offset, data);
        state.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}

pub fn association(number: usize) -> Association {
    Association {
        address: Address::email(&format!("person{number}@example.org")).expect("an address"),
        user_id: UserId::parse(&format!("@person{number}:example.org")).expect("a user ID"),
        ts: Millis(number as u64 + 1),
    }
}

pub fn open(backend: Frozen) -> Store {
    let name = ServerName::parse("id.test").expect("a name");
    Store::on_backend(backend, &name, || genesis(Millis(1))).expect("a database")
}

/// Whether association `number` is there, whole.
pub fn holds(store: &Store, number: usize) -> bool {
    let expected = association(number);
    let snapshot = store.read();
    let row = snapshot.association(&expected.address).expect("readable");
    let mut found = None;
    let hash = LookupHash::of(&expected.address, snapshot.pepper());
    snapshot.index().lookup(&hash, |user_id| found = Some(user_id.to_owned())).expect("readable");
    assert_eq!(row.is_some(), found.is_some(), "association {number} is half there");
    assert!(row.is_none_or(|row| row == expected));
    found.is_some()
}
