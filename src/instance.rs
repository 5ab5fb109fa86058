//! One server at a time on a data directory, and the count of its starts.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use crate::clock::unix_now;
use crate::mining::extranonce::BootEpoch;

/// Locked for as long as there is an instance, with its process's id in it.
const LOCK: &str = "lock";
/// How often there has been one.
const BOOTS: &str = "boots";
/// No id and no count is longer than this.
const MAX_LEN: u64 = 32;

/// The right to be the only server on a data directory. It ends with the value or the process, however that ends.
#[derive(Debug)]
pub struct Instance {
    /// The kernel lets go of it.
    _lock: File,
    boot: u64,
}

impl Instance {
    /// Takes the directory, which is made if need be, and counts this start of the server.
    pub fn acquire(data_dir: &Path) -> Result<Self, InstanceError> {
        let cannot_write = |path: &Path| {
            let path = path.to_owned();
            move |error| InstanceError::Write(path, error)
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        made.map_err(cannot_write(data_dir))?;
        let path = data_dir.join(LOCK);
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // whoever can open it can lock it
            .mode(0o600)
            .open(&path);
        let mut lock = open.map_err(cannot_write(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(InstanceError::Taken { data_dir: data_dir.to_owned(), holder: holder(&lock) });
            }
            Err(TryLockError::Error(error)) => return Err(InstanceError::Lock(path, error)),
        }
        name_holder(&mut lock).map_err(cannot_write(&path))?;
        let boot = count_start(data_dir)?;
        Ok(Self { _lock: lock, boot })
    }

    /// Tells the prefixes that this start hands out from those of the last 63, which may still be mined on.
    #[must_use]
    pub fn epoch(&self) -> BootEpoch {
        BootEpoch::of_start(self.boot)
    }
}

fn holder(lock: &File) -> Holder {
    let mut text = String::new();
    let read = lock.take(MAX_LEN).read_to_string(&mut text);
    Holder(read.ok().and_then(|_| text.trim().parse().ok()))
}

fn name_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", process::id())
}

/// Durable before anything is handed out.
fn count_start(data_dir: &Path) -> Result<u64, InstanceError> {
    let path = data_dir.join(BOOTS);
    let boot = match last_start(&path) {
        Ok(Some(last)) => last.wrapping_add(1),
        // not always the same one: nobody knows what was handed out before the directory was removed
        Ok(None) => unix_now().into(),
        Err(error) => {
            tracing::warn!(
                "{} does not tell how often the server has been started ({error}): counting on from the time of day",
                path.display()
            );
            unix_now().into()
        }
    };
    keep(data_dir, &path, boot).map_err(|error| InstanceError::Write(path, error))?;
    Ok(boot)
}

/// None if nothing has been counted yet.
fn last_start(path: &Path) -> io::Result<Option<u64>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(MAX_LEN).read_to_string(&mut text)?;
    let count = text.strip_suffix('\n').and_then(|count| count.parse().ok());
    count.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))
}

/// The file is whole at any time, and there once this returns. Only the holder of the lock writes it.
fn keep(data_dir: &Path, path: &Path, boot: u64) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    writeln!(file, "{boot}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(data_dir)?.sync_all()
}

/// The id of the process that has the lock, if it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(pub Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// Why a data directory is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another server is at work on it.
    #[error(
        "the data directory {data_dir} is in use by {holder}, another server: stop that one first, or give this one a \
         directory of its own (stratum_v2.data_dir)"
    )]
    Taken {
        /// The directory.
        data_dir: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// The file system does not lock files.
    #[error("cannot lock {0}: {1}; put the data directory on a local disk (stratum_v2.data_dir)")]
    Lock(PathBuf, io::Error),
    /// The directory, or what belongs there, cannot be written.
    #[error(
        "cannot write {0}: {1}; the data directory must be writable, with room on its disk (stratum_v2.data_dir)"
    )]
    Write(PathBuf, io::Error),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn count(data_dir: &Path) -> u64 {
        fs::read_to_string(data_dir.join(BOOTS)).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn there_is_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("a/data");
        let first = Instance::acquire(&data_dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data_dir), mode(&data_dir.join(LOCK))), (0o700, 0o600), "nobody else can lock it");
        let counted = count(&data_dir);
        let refused = Instance::acquire(&data_dir).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains(data_dir.to_str().unwrap()), "{told}");
        assert!(told.contains(&format!("process {}", process::id())), "{told}");
        assert_eq!(count(&data_dir), counted, "what is refused is no start");
        drop(first);
        Instance::acquire(&data_dir).unwrap();
    }

    #[test]
    fn a_longer_id_of_before_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(LOCK), "4000000000\n".repeat(9)).unwrap();
        let _instance = Instance::acquire(directory.path()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join(LOCK)).unwrap(), format!("{}\n", process::id()));
    }

    #[test]
    fn a_holder_that_cannot_be_told_is_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let _instance = Instance::acquire(directory.path()).unwrap();
        fs::write(directory.path().join(LOCK), "nobody").unwrap();
        let told = Instance::acquire(directory.path()).unwrap_err().to_string();
        assert!(told.contains("in use by another process"), "{told}");
    }

    #[test]
    fn each_start_has_an_epoch_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let epochs: Vec<_> = (0..64).map(|_| Instance::acquire(directory.path()).unwrap().epoch()).collect();
        for (position, epoch) in epochs.iter().enumerate() {
            assert!(!epochs[..position].contains(epoch));
        }
        assert_eq!(Instance::acquire(directory.path()).unwrap().epoch(), epochs[0]);
        let mut files: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, [BOOTS, LOCK]);
    }

    #[test]
    fn what_is_missing_or_damaged_starts_from_the_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(BOOTS);
        for damaged in
            [None, Some("".as_bytes()), Some(b"17"), Some(b"x17\n"), Some(b"\xff\n"), Some(&[b'1'; 99])]
        {
            let _ = fs::remove_file(&path);
            if let Some(damaged) = damaged {
                fs::write(&path, damaged).unwrap();
            }
            let before = u64::from(unix_now());
            let instance = Instance::acquire(directory.path()).unwrap();
            assert!((before..=u64::from(unix_now())).contains(&instance.boot), "{damaged:?}");
        }
        fs::write(&path, format!("{}\n", u64::MAX)).unwrap();
        assert_eq!(Instance::acquire(directory.path()).unwrap().boot, 0);
        // left by a crash
        fs::write(path.with_extension("new"), "half").unwrap();
        assert_eq!(Instance::acquire(directory.path()).unwrap().boot, 1);
    }

    #[test]
    fn a_directory_that_cannot_be_had_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let told = Instance::acquire(&file.join("data")).unwrap_err().to_string();
        assert!(told.contains(file.to_str().unwrap()) && told.contains("data_dir"), "{told}");
        // as if the disk were full: nothing can be written beside the count
        fs::create_dir_all(directory.path().join("boots.new/x")).unwrap();
        let told = Instance::acquire(directory.path()).unwrap_err().to_string();
        assert!(told.contains("cannot write") && told.contains(BOOTS), "{told}");
        // full in earnest
        let full = directory.path().join("full");
        fs::create_dir(&full).unwrap();
        std::os::unix::fs::symlink("/dev/full", full.join(BOOTS).with_extension("new")).unwrap();
        let told = Instance::acquire(&full).unwrap_err().to_string();
        assert!(told.contains("No space left"), "{told}");
    }
}
