//! A storage backend that reads a file and keeps every write in memory, so that redb can repair and check a database
//! without changing its file.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// What is kept in memory at once when redb writes a byte.
const BLOCK: usize = 4096;

/// The first `file_len` bytes of a file, and the writes over them.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    file_len: u64,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// The bytes of the file beyond this were cut off.
    file_len: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl Overlay {
    /// Reads the first `len` bytes of `file`.
    pub fn over(file: File, len: u64) -> Self {
        let written = Written { len, file_len: len, blocks: BTreeMap::new() };
        Self { file, file_len: len, written: Mutex::new(written) }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the file. What is not in it is zero.
    fn read_file(&self, offset: u64, out: &mut [u8], file_len: u64) -> io::Result<()> {
        let there = file_len.min(self.file_len).saturating_sub(offset).min(out.len() as u64) as usize;
        self.file.read_exact_at(&mut out[..there], offset)?;
        out[there..].fill(0);
        Ok(())
    }
}

/// The number of the block at `offset`, where in it that is, and how many of `len` bytes are in it.
fn place(offset: u64, len: usize) -> (u64, usize, usize) {
    let inside = (offset % BLOCK as u64) as usize;
    (offset / BLOCK as u64, inside, len.min(BLOCK - inside))
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(offset, out, written.file_len)?;
        let end = offset + out.len() as u64;
        for (number, block) in written.blocks.range(offset / BLOCK as u64..end.div_ceil(BLOCK as u64)) {
            let start = number * BLOCK as u64;
            let (from, to) = (start.max(offset), (start + BLOCK as u64).min(end));
            let source = &block[(from - start) as usize..(to - start) as usize];
            out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.file_len = written.file_len.min(len);
        let (last, inside, _) = place(len, 0);
        written.blocks.split_off(&len.div_ceil(BLOCK as u64));
        if let Some(block) = written.blocks.get_mut(&last) {
            block[inside..].fill(0);
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        written.len = written.len.max(offset.saturating_add(data.len() as u64));
        while !data.is_empty() {
            let (number, inside, fits) = place(offset, data.len());
            if !written.blocks.contains_key(&number) {
                let mut block = Box::new([0; BLOCK]);
                self.read_file(number * BLOCK as u64, &mut block[..], written.file_len)?;
                written.blocks.insert(number, block);
            }
            if let Some(block) = written.blocks.get_mut(&number) {
                block[inside..inside + fits].copy_from_slice(&data[..fits]);
            }
            offset += fits as u64;
            data = &data[fits..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain vector, with writes and lengths around the borders of blocks.
        #[test]
        fn it_reads_what_was_written_and_the_file_is_unchanged(
            steps in proptest::collection::vec((0u64..14_000, 0usize..9000, any::<u8>(), any::<bool>()), 1..12),
        ) {
            let original: Vec<u8> = (0..10_000).map(|at| (at % 251) as u8).collect();
            let path = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(path.path(), &original).expect("written");
            let overlay = Overlay::over(File::open(path.path()).expect("open"), 9000);
            let mut model = original[..9000].to_vec();
            for (offset, len, byte, resizes) in steps {
                if resizes {
                    overlay.set_len(offset).expect("set");
                    model.resize(offset as usize, 0);
                } else {
                    let data = vec![byte; len];
                    let end = offset as usize + len;
                    model.resize(model.len().max(end), 0);
                    model[offset as usize..end].copy_from_slice(&data);
                    overlay.write(offset, &data).expect("written");
                }
                let mut read = vec![7; model.len()];
                prop_assert_eq!(overlay.len().expect("a length"), model.len() as u64);
                overlay.read(0, &mut read).expect("read");
                prop_assert!(read == model);
                prop_assert!(overlay.read(model.len() as u64, &mut [0]).is_err());
            }
            prop_assert!(std::fs::read(path.path()).expect("readable") == original);
        }
    }
}
