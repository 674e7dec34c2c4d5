//! The yardstick for binds: plain redb with group commit, as `store/writer.rs` does it, into a copy
//! of the same database: two rows an operation, of the same size, and nothing else.

use std::{
    cell::Cell,
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use bindery::store::MAX_BATCH;
use futures_util::future::join_all;
use redb::{Database, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::{
    data::{SESSIONS, address, user_id},
    process::{Side, pin},
};

const ASSOCIATIONS: TableDefinition<(u8, &str), &[u8]> = TableDefinition::new("associations");
const LOOKUP: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("lookup_1");

/// Two rows.
struct Rows {
    address: String,
    hash: [u8; 32],
    association: Vec<u8>,
    user_id: Vec<u8>,
}

impl Rows {
    /// What a bind of this person's address writes: a format byte and a length before each text, a
    /// time after one of them.
    fn of(person: u64, first: u64) -> Self {
        let (address, user_id) = (address(first + person), user_id(person % first));
        let mut text = vec![1];
        text.extend((user_id.as_str().len() as u64).to_le_bytes());
        text.extend(user_id.as_str().as_bytes());
        let mut association = text.clone();
        association.extend(person.to_le_bytes());
        let mut hash = [0; 32];
        for (part, number) in hash.chunks_mut(8).zip(1..) {
            part.copy_from_slice(&(person + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ number).to_be_bytes());
        }
        Self { address: address.as_str().to_owned(), hash, association, user_id: text }
    }
}

/// The number of the rows to write, and who waits for it.
type Job = (usize, oneshot::Sender<()>);

/// The thread that writes.
pub struct Raw {
    queue: mpsc::Sender<Job>,
    thread: JoinHandle<anyhow::Result<()>>,
    runtime: tokio::runtime::Runtime,
    next: Cell<usize>,
}

impl Raw {
    /// Opens the database, and writes on the server's core.
    pub fn open(file: &Path, cache_bytes: usize, bindings: u64) -> anyhow::Result<Self> {
        let database = Database::builder().set_cache_size(cache_bytes).open(file)?;
        let (queue, waiting) = mpsc::channel(MAX_BATCH);
        let rows: Vec<Rows> = (0..SESSIONS).map(|person| Rows::of(person, bindings)).collect();
        let thread = thread::spawn(move || write(&database, &rows, waiting));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { queue, thread, runtime, next: Cell::new(0) })
    }

    /// Operations in a second, with so many clients that each wait for the answer to the last one.
    pub fn rate(&self, clients: usize, time: Duration) -> anyhow::Result<f64> {
        let began = Instant::now();
        let before = self.next.get();
        let client = || async {
            while began.elapsed() < time {
                let number = self.next.replace(self.next.get() + 1);
                let (answer, answered) = oneshot::channel();
                self.queue.send((number, answer)).await.ok().context("the writer has stopped")?;
                answered.await?;
            }
            anyhow::Ok(())
        };
        let ends = self.runtime.block_on(join_all((0..clients).map(|_| client())));
        ends.into_iter().collect::<anyhow::Result<()>>()?;
        Ok((self.next.get() - before) as f64 / began.elapsed().as_secs_f64())
    }

    /// Closes the database.
    pub fn close(self) -> anyhow::Result<()> {
        drop(self.queue);
        self.thread.join().unwrap_or_else(|_| anyhow::bail!("the writer panicked"))
    }
}

fn write(database: &Database, rows: &[Rows], mut waiting: mpsc::Receiver<Job>) -> anyhow::Result<()> {
    pin(Side::Server)?;
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH {
            let Ok(job) = waiting.try_recv() else { break };
            batch.push(job);
        }
        let transaction = database.begin_write()?;
        let mut associations = transaction.open_table(ASSOCIATIONS)?;
        let mut lookup = transaction.open_table(LOOKUP)?;
        for (number, _) in &batch {
            let rows = &rows[number % rows.len()];
            associations.insert((1, rows.address.as_str()), rows.association.as_slice())?;
            lookup.insert(&rows.hash, rows.user_id.as_slice())?;
        }
        drop((associations, lookup));
        transaction.commit()?;
        for (_, answer) in batch {
            // Nobody goes away here.
            let _ = answer.send(());
        }
    }
    Ok(())
}
