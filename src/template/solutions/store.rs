//! Found blocks on disk, until a node has taken them.
//!
//! A block is in a file of its own, named by its hash and in hexadecimal, so that it can be
//! submitted by hand too: `bitcoin-cli -stdin submitblock < HASH.block`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode;
use bitcoin::hex::DisplayHex;
use bitcoin::{Block, BlockHash};

use crate::template::FoundBlock;

/// What waits for a node to take it.
const BLOCK: &str = "block";
/// What every node has refused.
const REFUSED: &str = "refused";
/// How many of these are kept, for their owner to find out what was wrong.
const REFUSED_KEPT: usize = 32;
/// No block takes more bytes.
const MAX_BLOCK_LEN: u64 = 4_000_000;

/// A folder of found blocks. While it is open no other process gets it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// Why found blocks cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("{}: {source} (found blocks are kept there: see stratum_v2.data_dir)", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another server has it.
    #[error("{}: in use by another server: give each its own stratum_v2.data_dir", .path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
}

impl Store {
    /// Opens or makes the folder; answers the blocks in it too.
    pub fn open(folder: &Path) -> Result<(Self, Vec<FoundBlock>), StoreError> {
        let io = |source| StoreError::Io { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(io)?;
        let lock = File::create(folder.join("lock")).map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked { path: folder.to_owned() },
            TryLockError::Error(source) => io(source),
        })?;
        let mut blocks = Vec::new();
        for path in in_folder(folder, BLOCK).map_err(io)? {
            match read(&path) {
                Ok(block) => blocks.push(block),
                Err(reason) => {
                    tracing::error!(path = %path.display(), reason, "a found block is left where it is: it cannot be read");
                }
            }
        }
        Ok((Self { folder: folder.to_owned(), _lock: lock }, blocks))
    }

    /// Keeps a block, and returns when it is on disk. False if its transactions are not known yet.
    pub fn keep(&self, block: &FoundBlock) -> Result<bool, StoreError> {
        let Some(bytes) = block.bytes() else { return Ok(false) };
        let path = self.path(block.hash, BLOCK);
        let unfinished = path.with_extension("new");
        let written = (|| {
            let mut file = File::create(&unfinished)?;
            file.write_all(bytes.to_lower_hex_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.folder)?.sync_all()
        })();
        written.map(|()| true).map_err(|source| StoreError::Io { path, source })
    }

    /// A node has taken the block.
    pub fn taken(&self, hash: BlockHash) -> Result<(), StoreError> {
        let path = self.path(hash, BLOCK);
        gone(fs::remove_file(&path)).map_err(|source| StoreError::Io { path, source })
    }

    /// No node wants the block.
    pub fn refused(&self, hash: BlockHash) -> Result<(), StoreError> {
        let path = self.path(hash, BLOCK);
        let moved = gone(fs::rename(&path, path.with_extension(REFUSED))).and_then(|()| self.tidy());
        moved.map_err(|source| StoreError::Io { path, source })
    }

    /// Where a block is.
    #[must_use]
    pub fn path_of(&self, hash: BlockHash) -> PathBuf {
        self.path(hash, BLOCK)
    }

    /// The oldest refused blocks go.
    fn tidy(&self) -> io::Result<()> {
        let age = |path: PathBuf| Ok::<_, io::Error>((fs::metadata(&path)?.modified()?, path));
        let refused: io::Result<Vec<_>> = in_folder(&self.folder, REFUSED)?.into_iter().map(age).collect();
        let mut refused = refused?;
        refused.sort();
        let surplus = refused.len().saturating_sub(REFUSED_KEPT);
        refused.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }

    fn path(&self, hash: BlockHash, extension: &str) -> PathBuf {
        self.folder.join(format!("{hash}.{extension}"))
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn in_folder(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn read(path: &Path) -> Result<FoundBlock, String> {
    let len = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if len > 2 * MAX_BLOCK_LEN + 1 {
        return Err(format!("{len} bytes are no block"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let block: Block = encode::deserialize_hex(text.trim()).map_err(|error| error.to_string())?;
    FoundBlock::whole(block).ok_or_else(|| "it has no coinbase with a height".to_owned())
}
