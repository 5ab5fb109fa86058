//! The authority key on disk.

use std::path::Path;

use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::{CertsError, private};
use crate::wire::keys::{AuthoritySecretKey, KeyError};

/// The authority key's file, in the directory of the certificates.
pub const FILE_NAME: &str = "authority.key";

/// Makes a new authority key and keeps it in `path`, where nothing must be yet.
pub fn create(path: &Path) -> Result<AuthoritySecretKey, CertsError> {
    let key = AuthoritySecretKey::generate(&mut UnwrapErr(SysRng));
    let mut text = key.to_text();
    text.push('\n');
    private::create(path, text.as_bytes())?;
    Ok(key)
}

/// The key in `path`, made now if there is none. True if it is new.
pub fn load_or_create(path: &Path) -> Result<(AuthoritySecretKey, bool), CertsError> {
    let Some(bytes) = private::read_secret(path)? else {
        return create(path).map(|key| (key, true));
    };
    // what is not text has no character of base58 at its first bad byte
    let text = std::str::from_utf8(&bytes).map_err(|error| KeyError::Character(error.valid_up_to()));
    text.and_then(|text| text.trim().parse())
        .map(|key| (key, false))
        .map_err(|error| CertsError::NotAuthority(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_kept_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certs").join(FILE_NAME);
        let (made, new) = load_or_create(&path).unwrap();
        assert!(new);
        assert!(matches!(create(&path), Err(CertsError::Exists(_))));
        let (loaded, new) = load_or_create(&path).unwrap();
        assert!(!new);
        assert_eq!(loaded.public_key(), made.public_key());
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for damaged in [&b"not a key"[..], b"", b"\xff\xfe"] {
            fs::write(&path, damaged).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, CertsError::NotAuthority(..)), "{error}");
            assert!(error.to_string().contains("authority.key is not"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }
}
