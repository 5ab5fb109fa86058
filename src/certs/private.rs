//! Files for the owner's eyes, which are there whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use zeroize::Zeroizing;

use super::CertsError;

/// The contents of a file, `None` if it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CertsError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CertsError::Read(path.to_owned(), error)),
    }
}

/// As [`read`], for a secret: warns if others can read it too.
pub(super) fn read_secret(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CertsError> {
    let bytes = read(path)?;
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others can read this secret; chmod 600 it");
    }
    Ok(bytes)
}

/// Keeps `bytes` in `path`, where nothing must be yet. Makes the directory too.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), CertsError> {
    if let Some(directory) = parent(path) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| CertsError::Write(path.to_owned(), error))?;
    }
    // a link, unlike a renaming, never takes the place of another file
    let put = |draft: &Path| fs::hard_link(draft, path).and_then(|()| fs::remove_file(draft));
    with_draft(path, bytes, put).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CertsError::Exists(path.to_owned()),
        _ => CertsError::Write(path.to_owned(), error),
    })
}

/// Keeps `bytes` in `path` instead of what is there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CertsError> {
    with_draft(path, bytes, |draft| fs::rename(draft, path))
        .map_err(|error| CertsError::Write(path.to_owned(), error))
}

/// Writes a file beside `path` and has it put into its place; either way no draft is left.
fn with_draft(path: &Path, bytes: &[u8], put: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let draft = path.with_extension(format!("new-{:016x}", UnwrapErr(SysRng).next_u64()));
    let kept = write_new(&draft, bytes).and_then(|()| put(&draft));
    if kept.is_err() {
        let _ = fs::remove_file(&draft); // what is to be told is why it was not kept
    }
    kept?;
    parent(path).map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The directory of a file, `None` for the current one.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|directory| !directory.as_os_str().is_empty())
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
