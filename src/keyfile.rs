//! The authority key on disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use zeroize::Zeroizing;

use crate::wire::keys::{AuthoritySecretKey, KeyError};

/// The authority key's file, in the directory of the certificates.
pub const FILE_NAME: &str = "authority.key";

/// Reads the authority key.
pub fn load(path: &Path) -> Result<AuthoritySecretKey, KeyFileError> {
    let failed = |error| KeyFileError::Read(path.to_owned(), error);
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others can read the authority key; chmod 600 it");
    }
    text.trim().parse().map_err(|error| KeyFileError::Malformed(path.to_owned(), error))
}

/// Makes a new authority key and keeps it in `path`, where nothing must be yet.
pub fn create(path: &Path) -> Result<AuthoritySecretKey, KeyFileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Write(path.to_owned(), error),
    };
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let key = AuthoritySecretKey::generate(&mut UnwrapErr(SysRng));
    let mut text = key.to_text();
    text.push('\n');
    // the key appears under its name whole or not at all, and never over another
    let draft = path.with_extension(format!("new-{:016x}", UnwrapErr(SysRng).next_u64()));
    let kept = write_new(&draft, text.as_bytes()).and_then(|()| fs::hard_link(&draft, path));
    let cleared = fs::remove_file(&draft);
    kept.and(cleared).map_err(failed)?;
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    Ok(key)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The key in `path`, made now if there is none. True if it is new.
pub fn load_or_create(path: &Path) -> Result<(AuthoritySecretKey, bool), KeyFileError> {
    match load(path) {
        Err(KeyFileError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            create(path).map(|key| (key, true))
        }
        loaded => loaded.map(|key| (key, false)),
    }
}

/// What is wrong with a key file, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read the authority key {0}: {1}")]
    Read(PathBuf, io::Error),
    /// It holds something else.
    #[error(
        "{0} is not an authority key ({1}); restore it from a backup, or move it away to have a new one made, which every miner must then be told"
    )]
    Malformed(PathBuf, KeyError),
    /// It cannot be written.
    #[error("cannot write the authority key {0}: {1}")]
    Write(PathBuf, io::Error),
    /// There is one already.
    #[error("{0} exists and is left alone: miners know the server by that key")]
    Exists(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_privately_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certs").join(FILE_NAME);
        let (made, new) = load_or_create(&path).unwrap();
        assert!(new);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(create(&path), Err(KeyFileError::Exists(_))));
        let (loaded, new) = load_or_create(&path).unwrap();
        assert!(!new);
        assert_eq!(loaded.public_key(), made.public_key());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(load_or_create(&path), Err(KeyFileError::Malformed(..))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }
}
