//! The authority key on disk: both halves of it, or the public one alone.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::{CertsError, private};
use crate::wire::keys::{AuthorityPublicKey, AuthoritySecretKey, KeyError};

/// The secret's file, in the directory of the certificates.
pub const FILE_NAME: &str = "authority.key";
/// The public half's file beside it: one line, as the key stands in URLs.
pub const PUBLIC_FILE: &str = "authority.pub";

/// Whom miners trust.
#[derive(Debug)]
pub struct Authority {
    /// What miners have.
    pub public: AuthorityPublicKey,
    /// What certifies servers. It need not be here.
    pub secret: Option<Arc<AuthoritySecretKey>>,
    /// Whether it was made just now.
    pub new: bool,
}

/// Makes a new authority key and keeps it in `path`, where nothing must be yet, and its public half
/// beside it.
pub fn create(path: &Path) -> Result<AuthoritySecretKey, CertsError> {
    let public = beside(path);
    if public.try_exists().unwrap_or(true) {
        return Err(CertsError::Exists(public));
    }
    let key = AuthoritySecretKey::generate(&mut UnwrapErr(SysRng));
    let mut text = key.to_text();
    text.push('\n');
    private::create(path, text.as_bytes())?;
    create_public(&public, &key.public_key())?;
    Ok(key)
}

/// The secret in `path`, which must be there.
pub fn load_secret(path: &Path) -> Result<AuthoritySecretKey, CertsError> {
    let secret = read_secret(path)?;
    secret.ok_or_else(|| CertsError::NoSecret(path.to_owned()))
}

/// The key in `directory`, if there is one. Nothing is made.
pub fn load(directory: &Path) -> Result<Option<Authority>, CertsError> {
    let (key, public) = (directory.join(FILE_NAME), directory.join(PUBLIC_FILE));
    match (read_secret(&key)?, read_public(&public)?) {
        (Some(secret), Some(half)) if secret.public_key() != half => {
            Err(CertsError::TwoAuthorities { key, public })
        }
        (Some(secret), _) => {
            let public = secret.public_key();
            Ok(Some(Authority { public, secret: Some(Arc::new(secret)), new: false }))
        }
        (None, Some(public)) => Ok(Some(Authority { public, secret: None, new: false })),
        (None, None) => Ok(None),
    }
}

/// The key in `directory`, made now if there is neither half of it.
pub fn load_or_create(directory: &Path) -> Result<Authority, CertsError> {
    let Some(authority) = load(directory)? else {
        let secret = create(&directory.join(FILE_NAME))?;
        let public = secret.public_key();
        return Ok(Authority { public, secret: Some(Arc::new(secret)), new: true });
    };
    let public = directory.join(PUBLIC_FILE);
    if !public.exists()
        && let Err(error) = create_public(&public, &authority.public)
    {
        // good to have, but no reason not to serve
        tracing::warn!(%error, "the authority's public key is not kept beside its secret");
    }
    Ok(authority)
}

fn beside(key: &Path) -> PathBuf {
    let public = key.with_extension("pub");
    if public == key { key.with_extension("pub.pub") } else { public }
}

/// Keeps the public half in `path`, where nothing must be yet.
pub(super) fn create_public(path: &Path, key: &AuthorityPublicKey) -> Result<(), CertsError> {
    private::create(path, format!("{key}\n").as_bytes())
}

pub(super) fn read_public(path: &Path) -> Result<Option<AuthorityPublicKey>, CertsError> {
    let parsed = private::read(path)?.map(|bytes| parse(&bytes));
    parsed.transpose().map_err(|error| CertsError::NotAuthorityPublic(path.to_owned(), error))
}

fn read_secret(path: &Path) -> Result<Option<AuthoritySecretKey>, CertsError> {
    let parsed = private::read_secret(path)?.map(|bytes| parse(&bytes));
    parsed.transpose().map_err(|error| CertsError::NotAuthority(path.to_owned(), error))
}

fn parse<K: FromStr<Err = KeyError>>(bytes: &[u8]) -> Result<K, KeyError> {
    // what is not text has no character of base58 at its first bad byte
    let text = std::str::from_utf8(bytes).map_err(|error| KeyError::Character(error.valid_up_to()));
    text.and_then(|text| text.trim().parse())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_kept_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let certs = directory.path().join("certs");
        let made = load_or_create(&certs).unwrap();
        assert!(made.new);
        let path = certs.join(FILE_NAME);
        assert!(matches!(create(&path), Err(CertsError::Exists(_))));
        let loaded = load_or_create(&certs).unwrap();
        assert!(!loaded.new && loaded.secret.is_some());
        assert_eq!(loaded.public, made.public);
        assert_eq!(load_secret(&path).unwrap().public_key(), made.public);
        assert_eq!(fs::read_to_string(certs.join(PUBLIC_FILE)).unwrap(), format!("{}\n", made.public));
    }

    #[test]
    fn the_public_half_is_added_where_it_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let made = load_or_create(directory.path()).unwrap();
        let public = directory.path().join(PUBLIC_FILE);
        fs::remove_file(&public).unwrap();
        assert_eq!(load(directory.path()).unwrap().unwrap().public, made.public);
        assert!(!public.exists(), "to look makes nothing");
        load_or_create(directory.path()).unwrap();
        assert!(public.exists());
    }

    #[test]
    fn no_secret_is_made_where_the_public_half_is() {
        let directory = tempfile::tempdir().unwrap();
        let made = load_or_create(directory.path()).unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::remove_file(&path).unwrap();
        let loaded = load_or_create(directory.path()).unwrap();
        assert_eq!((loaded.public, loaded.secret.is_none(), loaded.new), (made.public, true, false));
        assert!(matches!(create(&path), Err(CertsError::Exists(at)) if at.ends_with(PUBLIC_FILE)));
        assert!(!path.exists());
        let error = load_secret(&path).unwrap_err().to_string();
        assert!(error.contains("authority.key"), "{error}");
    }

    #[test]
    fn halves_of_different_keys_are_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        load_or_create(one.path()).unwrap();
        load_or_create(other.path()).unwrap();
        let public = |directory: &tempfile::TempDir| directory.path().join(PUBLIC_FILE);
        fs::copy(public(&other), public(&one)).unwrap();
        let error = load_or_create(one.path()).unwrap_err().to_string();
        assert!(error.contains("authority.key") && error.contains("authority.pub"), "{error}");
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        for name in [FILE_NAME, PUBLIC_FILE] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            for damaged in [&b"not a key"[..], b"", b"\xff\xfe"] {
                fs::write(&path, damaged).unwrap();
                let error = load_or_create(directory.path()).unwrap_err().to_string();
                assert!(error.contains(&format!("{name} is not")), "{error}");
                assert_eq!(fs::read(&path).unwrap(), damaged);
                assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            }
        }
    }

    #[test]
    fn a_key_by_another_name_has_its_public_half_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        for (name, public) in [("pool.key", "pool.pub"), ("bare", "bare.pub"), ("odd.pub", "odd.pub.pub")] {
            let key = create(&directory.path().join(name)).unwrap();
            let text = fs::read_to_string(directory.path().join(public)).unwrap();
            assert_eq!(text.trim(), key.public_key().to_string());
        }
    }
}
