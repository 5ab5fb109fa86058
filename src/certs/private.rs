//! Files for the owner's eyes, which are there whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind::{AlreadyExists, PermissionDenied, Unsupported};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use zeroize::Zeroizing;

use super::CertsError;

/// No key, and no chain of certificates that is of use, is larger.
const MAX_SIZE: usize = 1 << 20;

/// The contents of a file, `None` if it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CertsError> {
    match read_at_most(path) {
        Ok(bytes) if bytes.len() > MAX_SIZE => Err(CertsError::TooLarge(path.to_owned())),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CertsError::Read(path.to_owned(), error)),
    }
}

fn read_at_most(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // what is no file could be waited for without end
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let file = File::open(path)?;
    let room = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(MAX_SIZE) + 2;
    // as large as it gets, so that no copy of it is left behind
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As [`read`], for a secret: warns if others can read it too.
pub(super) fn read_secret(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CertsError> {
    let bytes = read(path)?;
    warn_of_readers(path);
    Ok(bytes)
}

/// Warns if others can read a secret too.
pub(super) fn warn_of_readers(path: &Path) {
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others can read this secret; chmod 600 it");
    }
}

/// Keeps `bytes` in `path`, where nothing must be yet. Makes the directory too.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), CertsError> {
    Draft::write(path, bytes)?.put_new()
}

/// Keeps `bytes` in `path` instead of what is there, or in the file that it is a link to.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CertsError> {
    Draft::write(path, bytes)?.put_over()
}

/// A file that is written whole beside its place, and not put there yet. Dropped, it is gone.
pub(super) struct Draft {
    at: PathBuf,
    /// Where it is to be, and what this is a link to.
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Makes the directory too.
    pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<Self, CertsError> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let at = target.with_extension(format!("new-{:016x}", UnwrapErr(SysRng).next_u64()));
        let draft = Self { at, path: path.to_owned(), target };
        let written = draft
            .directory()
            .map_or(Ok(()), |directory| DirBuilder::new().recursive(true).mode(0o700).create(directory));
        match written.and_then(|()| write_new(&draft.at, bytes)) {
            Ok(()) => Ok(draft),
            Err(error) => Err(CertsError::Write(draft.path.clone(), error)),
        }
    }

    /// Where nothing must be yet.
    pub(super) fn put_new(self) -> Result<(), CertsError> {
        self.put_new_by(|draft, target| fs::hard_link(draft, target))
    }

    fn put_new_by(self, link: impl FnOnce(&Path, &Path) -> io::Result<()>) -> Result<(), CertsError> {
        // a link, unlike a renaming, never takes the place of another file
        let put = match link(&self.at, &self.target) {
            // the file system may have none: then a crash can leave a part
            Err(error) if matches!(error.kind(), PermissionDenied | Unsupported) => self.copy(),
            linked => linked,
        };
        self.settled(put)
    }

    /// Instead of what is there.
    pub(super) fn put_over(self) -> Result<(), CertsError> {
        let put = fs::rename(&self.at, &self.target);
        self.settled(put)
    }

    fn copy(&self) -> io::Result<()> {
        let bytes = read_at_most(&self.at)?;
        let copied = write_new(&self.target, &bytes);
        if copied.as_ref().is_err_and(|error| error.kind() != AlreadyExists) {
            let _ = fs::remove_file(&self.target); // what is to be told is why it was not kept
        }
        copied
    }

    fn settled(self, put: io::Result<()>) -> Result<(), CertsError> {
        let sync = |directory: &Path| File::open(directory)?.sync_all();
        let kept = put.and_then(|()| self.directory().map_or(Ok(()), sync));
        kept.map_err(|error| match error.kind() {
            AlreadyExists => CertsError::Exists(self.path.clone()),
            _ => CertsError::Write(self.path.clone(), error),
        })
    }

    /// `None` for the current one.
    fn directory(&self) -> Option<&Path> {
        self.target.parent().filter(|directory| !directory.as_os_str().is_empty())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.at); // renamed, it is not there any more
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_file_is_private_and_never_overwritten_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/secret.key");
        assert!(read_secret(&path).unwrap().is_none());
        create(&path, b"one").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        assert!(matches!(create(&path, b"two"), Err(CertsError::Exists(at)) if at == path));
        assert_eq!(&**read_secret(&path).unwrap().unwrap(), b"one");
        assert_eq!(files(path.parent().unwrap()), 1, "no draft is left");

        replace(&path, b"three").unwrap();
        assert_eq!(&**read(&path).unwrap().unwrap(), b"three");
        assert_eq!((mode(&path), files(path.parent().unwrap())), (0o600, 1));
    }

    #[test]
    fn where_there_are_no_links_a_file_is_written_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.key");
        // EPERM of FAT, EOPNOTSUPP of some network file systems
        for errno in [1, 95] {
            let put = |bytes: &[u8]| {
                let none = |_: &Path, _: &Path| Err(io::Error::from_raw_os_error(errno));
                Draft::write(&path, bytes).unwrap().put_new_by(none)
            };
            put(b"one").unwrap();
            assert!(matches!(put(b"two"), Err(CertsError::Exists(at)) if at == path));
            assert_eq!(fs::read(&path).unwrap(), b"one");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(files(directory.path()), 1, "no draft is left");
            fs::remove_file(&path).unwrap();
        }
        let full = |_: &Path, _: &Path| Err(io::Error::from_raw_os_error(28));
        let error = Draft::write(&path, b"one").unwrap().put_new_by(full).unwrap_err();
        assert!(matches!(error, CertsError::Write(..)), "{error}");
        assert_eq!(files(directory.path()), 0);
    }

    #[test]
    fn what_a_link_points_to_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (link, file) = (directory.path().join("link"), directory.path().join("file"));
        fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::write(&path, vec![0; MAX_SIZE]).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len(), MAX_SIZE);
        fs::write(&path, vec![0; MAX_SIZE + 1]).unwrap();
        assert!(matches!(read(&path), Err(CertsError::TooLarge(at)) if at == path));
    }

    #[test]
    fn what_cannot_be_written_or_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(matches!(replace(&path, b"x"), Err(CertsError::Write(at, _)) if at == path));
        assert_eq!(files(directory.path()), 1, "no draft is left");
        assert!(matches!(read(&path), Err(CertsError::Read(at, _)) if at == path));
        let below_a_file = directory.path().join("file/x");
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(matches!(create(&below_a_file, b"x"), Err(CertsError::Write(..))));
    }
}
