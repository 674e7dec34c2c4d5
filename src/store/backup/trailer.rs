//! The last bytes of a backup: what the file is, when it was made, and the checksum of the whole file.
//!
//! The checksum is read before redb reads anything, because redb may panic on a damaged file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
};

use sha2::{Digest, Sha256};

use crate::domain::time::Millis;

/// Marks the file as a backup of this format.
const MAGIC: &[u8; 24] = b"Bindery backup, format 1";
/// The length of the trailer: the magic, the time in eight bytes, and a SHA-256 of all bytes before it.
const LENGTH: usize = MAGIC.len() + 8 + 32;
/// How much is read at once for the checksum.
const READ_BYTES: usize = 1 << 20;

/// The trailer of a backup, and the length of the database before it.
pub struct Trailer {
    /// When the backup was made.
    pub made: Millis,
    /// The length of the database in bytes.
    pub database_len: u64,
    checksum: [u8; 32],
}

impl Trailer {
    /// Appends the trailer to the database in `file`.
    pub fn append(file: &mut File, made: Millis) -> io::Result<()> {
        let mut hash = Sha256::new();
        file.rewind()?;
        hash_up_to(file, u64::MAX, &mut hash)?;
        let head = head(made);
        hash.update(head);
        file.seek(SeekFrom::End(0))?;
        file.write_all(&head)?;
        file.write_all(&hash.finalize())
    }

    /// Reads the trailer of `file`. `None` if the file does not end with one, so it is no backup or its end is missing.
    pub fn read(file: &File) -> io::Result<Option<Self>> {
        let Some(database_len) = file.metadata()?.len().checked_sub(LENGTH as u64) else { return Ok(None) };
        let mut bytes = [0; LENGTH];
        file.read_exact_at(&mut bytes, database_len)?;
        let (magic, rest) = bytes.split_at(MAGIC.len());
        let (made, checksum) = rest.split_at(8);
        let (Ok(made), Ok(checksum)) = (made.try_into(), checksum.try_into()) else { return Ok(None) };
        let made = Millis(u64::from_be_bytes(made));
        // An empty database would be a new one for redb.
        Ok((magic == MAGIC && database_len > 0).then_some(Self { made, database_len, checksum }))
    }

    /// Whether the checksum is that of the file.
    pub fn is_right(&self, file: &mut File) -> io::Result<bool> {
        let mut hash = Sha256::new();
        file.rewind()?;
        hash_up_to(file, self.database_len, &mut hash)?;
        hash.update(head(self.made));
        Ok(hash.finalize()[..] == self.checksum)
    }
}

fn head(made: Millis) -> [u8; MAGIC.len() + 8] {
    let mut head = [0; MAGIC.len() + 8];
    head[..MAGIC.len()].copy_from_slice(MAGIC);
    head[MAGIC.len()..].copy_from_slice(&made.0.to_be_bytes());
    head
}

fn hash_up_to(file: &mut File, len: u64, hash: &mut Sha256) -> io::Result<()> {
    let (mut part, mut buffer) = (file.take(len), vec![0; READ_BYTES]);
    loop {
        match part.read(&mut buffer)? {
            0 => return Ok(()),
            read => hash.update(&buffer[..read]),
        }
    }
}
