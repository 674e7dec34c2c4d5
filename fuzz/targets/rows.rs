//! Rows of the database that the disk damaged: the same bytes as the value of a row in every table about people.
#![no_main]

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};

use bindery::{
    domain::{
        secret::Key32,
        server_name::ServerName,
        signing::{KeyPair, PublicKey},
        threepid::Address,
        time::Millis,
    },
    ops::genesis,
    store::{Scan, Store, StoreError},
};
use libfuzzer_sys::fuzz_target;
use redb::{Database, StorageBackend, TableDefinition};
use tokio::runtime::{Builder, Runtime};

const KEY: [u8; 32] = [7; 32];
const TOKEN: &str = "token";
const ADDRESS: &str = "a@example.org";
const LIMIT: usize = 10;

/// A database in memory, which can be closed and opened again.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = offset as usize;
        self.0.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn open(memory: Memory) -> Store {
    let name = ServerName::parse("id.test").expect("a name");
    Store::on_backend(memory, &name, || genesis(Millis(1))).expect("a database")
}

/// The bytes of a database without rows.
static EMPTY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let memory = Memory::default();
    drop(open(memory.clone()));
    memory.0.lock().unwrap().clone()
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

/// The key of an invitation.
fn invitation_key() -> PublicKey {
    KeyPair::new("ed25519:0", &Key32::new(KEY)).public()
}

/// Inserts the row into each table, whose key and type are those of `src/store/tables.rs`.
fn insert(memory: Memory, row: &[u8]) -> Result<(), redb::Error> {
    let database = Database::builder().create_with_backend(memory)?;
    let write = database.begin_write()?;
    let (by_text, by_hash) = (TableDefinition::<&str, &[u8]>::new, TableDefinition::<&[u8; 32], &[u8]>::new);
    for table in ["sessions", "invitations"] {
        write.open_table(by_text(table))?.insert(TOKEN, row)?;
    }
    for table in ["session_index", "tokens", "visits", "suppressed"] {
        write.open_table(by_hash(table))?.insert(&KEY, row)?;
    }
    write.open_table(by_hash("ephemeral_keys"))?.insert(invitation_key().as_bytes(), row)?;
    let consents = TableDefinition::<(&str, &str), &[u8]>::new("consents");
    write.open_table(consents)?.insert(("@a:hs.test", "terms"), row)?;
    let associations = TableDefinition::<(u8, &str), &[u8]>::new("associations");
    write.open_table(associations)?.insert((1, ADDRESS), row)?;
    let outbox = TableDefinition::<(u8, &str), &[u8]>::new("outbox");
    write.open_table(outbox)?.insert((1, TOKEN), row)?;
    let due = TableDefinition::<(u64, u8, &str), ()>::new("outbox_due");
    write.open_table(due)?.insert((0, 1, TOKEN), ())?;
    let audit = TableDefinition::<u64, &[u8]>::new("audit");
    write.open_table(audit)?.insert(0, row)?;
    write.commit()?;
    Ok(())
}

/// Reads the rows that retention removes if they cannot be read.
fn read_removable(scan: &Scan<'_>) -> Result<(), StoreError> {
    let every = [
        scan.sessions_after(None, LIMIT).map(drop),
        scan.session_by_index(&KEY).map(drop),
        scan.invitations_after(None, LIMIT).map(drop),
        scan.invitation_by_key(&invitation_key()).map(drop),
        scan.tokens_after(None, LIMIT).map(drop),
        scan.visits_after(None, LIMIT).map(drop),
        scan.consenting_after(None, LIMIT).map(drop),
        scan.audit_after(None, LIMIT).map(drop),
        scan.due(Millis(u64::MAX), None, LIMIT)
            .and_then(|due| due.iter().try_for_each(|(_, key)| scan.outgoing(key).map(drop))),
    ];
    every.into_iter().collect()
}

/// Reads the rows that Bindery never removes by itself.
fn read_permanent(scan: &Scan<'_>) -> Result<(), StoreError> {
    let address = Address::email(ADDRESS).expect("an address");
    let association = scan.association(&address).map(drop);
    association.and(scan.suppressed_since(&KEY).map(drop))
}

fuzz_target!(|row: &[u8]| {
    let memory = Memory(Arc::new(Mutex::new(EMPTY.clone())));
    insert(memory.clone(), row).expect("inserted");
    let store = open(memory);
    RUNTIME.block_on(async {
        // They may fail, but not panic. Once retention has removed the unreadable rows, no reading fails.
        let _ = store.scan(read_permanent).await;
        let _ = store.scan(read_removable).await;
        store.write(|tables| tables.remove_unreadable_rows()).await.expect("removed");
        store.scan(read_removable).await.expect("what is left can be read");
    });
});
