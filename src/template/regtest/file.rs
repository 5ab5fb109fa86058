//! A chain's blocks in a file.
//!
//! The format is that of Bitcoin Core's block files: for each block, genesis included, the network's
//! magic, a length (u32, little-endian) and the block. A record is on disk before its block counts. Whatever was being written when the process or the machine stopped is a
//! part of a record at the end, and is cut off when the file is opened next.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bitcoin::Block;
use bitcoin::consensus::encode;

use super::{Chain, RejectReason};

/// Regtest's network magic.
const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];
const HEAD_LEN: u64 = 8;
/// No valid block takes more bytes.
const MAX_BLOCK_LEN: u32 = 4_000_000;

/// The file behind a chain. While it is open no other process gets it.
#[derive(Debug)]
pub(super) struct BlockFile {
    path: PathBuf,
    file: File,
    /// Where each record ends.
    ends: Vec<u64>,
}

/// Why a chain's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses to open, read or write it.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has the file open, or this one a second time.
    #[error("{}: in use by another process", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is not a regtest chain. Nothing has been changed.
    #[error("{}: at byte {offset}: {flaw}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where the record in question starts.
        offset: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
}

/// What is wrong with a record of a chain's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It does not start as records of regtest do.
    #[error("no record of a regtest block starts here")]
    Magic,
    /// It claims a length that no block has, or that the records after it contradict.
    #[error("the record's length is wrong")]
    Length,
    /// The bytes are not a block.
    #[error("the record is not a block")]
    Encoding,
    /// The first block is not regtest's genesis.
    #[error("the first block is not regtest's genesis")]
    Genesis,
    /// The block breaks a rule.
    #[error("the block is not valid: {0}")]
    Block(RejectReason),
}

enum Record {
    Whole(Vec<u8>),
    Torn,
}

impl BlockFile {
    /// Opens or creates the file and connects its blocks to `chain`, which has none yet but genesis.
    pub(super) fn open(path: &Path, chain: &mut Chain) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut this = Self { path: path.to_owned(), file, ends: Vec::new() };
        this.load(chain)?;
        if this.ends.is_empty() {
            for block in chain.blocks() {
                this.append(block)?;
            }
            sync_directory(path).map_err(io)?;
        }
        Ok(this)
    }

    /// Adds a block, and returns when it is on disk. On failure the file stays as it was.
    pub(super) fn append(&mut self, block: &Block) -> Result<(), FileError> {
        let block = encode::serialize(block);
        let record = [&MAGIC[..], &(block.len() as u32).to_le_bytes(), &block].concat();
        let start = self.end();
        let written = (|| {
            // An append that failed may have left something.
            self.file.set_len(start)?;
            self.file.seek(SeekFrom::Start(start))?;
            self.file.write_all(&record)?;
            self.file.sync_data()
        })();
        if let Err(source) = written {
            // If this fails too, the next append tries again.
            let _ = self.file.set_len(start);
            return Err(self.error(source));
        }
        self.ends.push(start + record.len() as u64);
        Ok(())
    }

    /// Takes the last block off.
    pub(super) fn pop(&mut self) -> Result<(), FileError> {
        let end = self.ends.len().checked_sub(2).map_or(0, |last| self.ends[last]);
        self.file.set_len(end).and_then(|()| self.file.sync_data()).map_err(|source| self.error(source))?;
        self.ends.pop();
        Ok(())
    }

    fn load(&mut self, chain: &mut Chain) -> Result<(), FileError> {
        let len = self.file.metadata().map_err(|source| self.error(source))?.len();
        let mut reader = BufReader::new(self.file.try_clone().map_err(|source| self.error(source))?);
        while self.end() < len {
            let offset = self.end();
            let invalid = |flaw| FileError::Invalid { path: self.path.clone(), offset, flaw };
            let record = read_record(&mut reader, len - offset, offset == 0);
            match record.map_err(|source| self.error(source))?.map_err(invalid)? {
                Record::Whole(bytes) => {
                    connect(chain, &bytes, offset == 0).map_err(invalid)?;
                    self.ends.push(offset + HEAD_LEN + bytes.len() as u64);
                }
                Record::Torn => {
                    tracing::warn!(
                        path = %self.path.display(),
                        offset,
                        bytes = len - offset,
                        "the last block was not completely written: cut off"
                    );
                    self.file.set_len(offset).map_err(|source| self.error(source))?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The same file, but writing to it fails.
    #[cfg(test)]
    pub(super) fn read_only(&self) -> Self {
        let file = File::open(&self.path).expect("the file is there");
        Self { path: self.path.clone(), file, ends: self.ends.clone() }
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn error(&self, source: io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }
}

fn connect(chain: &mut Chain, bytes: &[u8], first: bool) -> Result<(), Flaw> {
    let block: Block = encode::deserialize(bytes).map_err(|_| Flaw::Encoding)?;
    if first {
        return if block.block_hash() == chain.tip() { Ok(()) } else { Err(Flaw::Genesis) };
    }
    // Its time was held against the clock when it came; the clock may have been set back since.
    let now = block.header.time;
    chain.connect(block, now).map(drop).map_err(Flaw::Block)
}

/// Reads one of the `rest` bytes' records. Torn is only what an interrupted append leaves: the
/// start of a record, or space that was made for one and never filled.
fn read_record(reader: &mut impl Read, rest: u64, first: bool) -> io::Result<Result<Record, Flaw>> {
    let mut head = [0; HEAD_LEN as usize];
    let head = &mut head[..rest.min(HEAD_LEN) as usize];
    reader.read_exact(head)?;
    let (magic, len) = head.split_at(head.len().min(MAGIC.len()));
    if !MAGIC.starts_with(magic) {
        let blank = !first && rest <= HEAD_LEN + u64::from(MAX_BLOCK_LEN);
        return Ok(if blank && is_blank(head, reader)? { Ok(Record::Torn) } else { Err(Flaw::Magic) });
    }
    let Ok(len) = <[u8; 4]>::try_from(len).map(u32::from_le_bytes) else {
        return Ok(Ok(Record::Torn));
    };
    if len > MAX_BLOCK_LEN {
        return Ok(Err(Flaw::Length));
    }
    let body = rest - HEAD_LEN;
    let mut bytes = vec![0; body.min(len.into()) as usize];
    reader.read_exact(&mut bytes)?;
    if body >= len.into() {
        return Ok(Ok(Record::Whole(bytes)));
    }
    // More records behind it: then its length is damaged, and the others must not be cut off.
    let more = bytes.windows(MAGIC.len()).any(|window| window == MAGIC);
    Ok(if more { Err(Flaw::Length) } else { Ok(Record::Torn) })
}

fn is_blank(head: &[u8], reader: &mut impl Read) -> io::Result<bool> {
    let mut tail = Vec::new();
    reader.read_to_end(&mut tail)?;
    Ok(head.iter().chain(&tail).all(|byte| *byte == 0))
}

/// Makes the name of a new file survive a crash of the machine.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if cfg!(unix) { File::open(parent.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
}
