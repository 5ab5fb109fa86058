//! The TLS key and its certificate on disk.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{CertsError, authority, private};
use crate::transport::tls::{Date, IdentityError, TlsError, TlsIdentity};
use crate::wire::certificate::Certificate;
use crate::wire::keys::AuthoritySecretKey;

/// The certificate's file, in the directory of the certificates: a chain in PEM, leaf first.
pub const CERTIFICATE_FILE: &str = "tls.pem";
/// The key's file beside it, in PEM.
pub const KEY_FILE: &str = "tls.key";

/// For how long the authority vouches for the TLS key, in seconds: two years. A server renews it
/// when it starts, so this, halved, is also how long it may run on end.
const VALIDITY: u32 = 2 * 365 * 24 * 3600;

/// What a server proves itself with, and how it came by it.
#[derive(Debug)]
pub struct TlsFiles {
    /// To be served.
    pub identity: TlsIdentity,
    /// What was done to have it.
    pub origin: Origin,
    /// How miners are to verify it.
    pub proof: ServedBy,
    certificate: PathBuf,
}

/// How a server came by its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// There was none: key and certificate are new.
    Issued,
    /// The authority vouches for the same key for longer.
    Renewed,
    /// As it was found.
    Loaded,
}

/// How miners are to verify a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedBy {
    /// By the authority key in their URL, until this unix time.
    AuthorityKey(u32),
    /// The certificate is the operator's own: as a web server's, or by a pin in their URL.
    WebPkiOrPin,
}

/// The TLS identity in `directory` at unix time `now`: issued if there is none, and renewed if
/// `authority` vouches for it and less than half of the time that it vouches for is left.
pub fn load_or_issue(
    directory: &Path,
    authority: &AuthoritySecretKey,
    now: u32,
) -> Result<TlsFiles, CertsError> {
    let (certificate, key) = (directory.join(CERTIFICATE_FILE), directory.join(KEY_FILE));
    match (private::read(&certificate)?, private::read_secret(&key)?) {
        (None, None) => issue(certificate, &key, authority, now),
        (Some(_), None) => Err(CertsError::Half { missing: key, present: certificate }),
        (None, Some(_)) => Err(CertsError::Half { missing: certificate, present: key }),
        (Some(chain_pem), Some(key_pem)) => match TlsIdentity::from_pem(&chain_pem, &key_pem) {
            Ok(identity) => keep_valid(identity, certificate, key, authority, now),
            Err(error) => Err(CertsError::Tls { certificate, key, error }),
        },
    }
}

fn issue(
    certificate: PathBuf,
    key: &Path,
    authority: &AuthoritySecretKey,
    now: u32,
) -> Result<TlsFiles, CertsError> {
    let (from, until) = validity(now);
    let identity = TlsIdentity::issue(authority, from, until)
        .map_err(|error| CertsError::Issue(certificate.clone(), error))?;
    private::create(key, identity.key_pem().as_bytes())?;
    private::create(&certificate, identity.chain_pem().as_bytes())?;
    Ok(TlsFiles { identity, origin: Origin::Issued, proof: ServedBy::AuthorityKey(until), certificate })
}

fn keep_valid(
    identity: TlsIdentity,
    certificate: PathBuf,
    key: PathBuf,
    authority: &AuthoritySecretKey,
    now: u32,
) -> Result<TlsFiles, CertsError> {
    let (identity, origin, proof) = match identity.vouched_by(&authority.public_key(), now) {
        Ok(word) if lasts(word.valid_from(), word.not_valid_after(), now) => {
            (identity, Origin::Loaded, ServedBy::AuthorityKey(word.not_valid_after()))
        }
        // a clock that was set back may leave a certificate in the future
        Ok(_) | Err(IdentityError::Expired(_) | IdentityError::NotYetValid(_)) => {
            let (from, until) = validity(now);
            let renewed = identity
                .renewed(authority, from, until)
                .map_err(|error| CertsError::Issue(certificate.clone(), error))?;
            private::replace(&certificate, renewed.chain_pem().as_bytes())?;
            (renewed, Origin::Renewed, ServedBy::AuthorityKey(until))
        }
        Err(IdentityError::NoExtension) => (identity, Origin::Loaded, ServedBy::WebPkiOrPin),
        Err(IdentityError::WrongAuthority) => {
            let authority = certificate.with_file_name(authority::FILE_NAME);
            return Err(CertsError::OtherAuthority { certificate, key, authority });
        }
        Err(error) => return Err(CertsError::Tls { certificate, key, error: TlsError::Identity(error) }),
    };
    Ok(TlsFiles { identity, origin, proof, certificate })
}

fn validity(now: u32) -> (u32, u32) {
    (now.saturating_sub(Certificate::BACKDATED), now.saturating_add(VALIDITY))
}

/// Whether at least half of the time is left.
fn lasts(from: u32, until: u32, now: u32) -> bool {
    until.saturating_sub(now) >= until.saturating_sub(from) / 2
}

/// One line for the operator.
impl fmt::Display for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = self.certificate.display();
        match self.origin {
            Origin::Issued => write!(f, "made the TLS certificate {certificate}")?,
            Origin::Renewed => write!(f, "renewed the TLS certificate {certificate}, with the same key")?,
            Origin::Loaded => write!(f, "TLS certificate {certificate}")?,
        }
        match self.proof {
            ServedBy::AuthorityKey(until) => {
                write!(f, ": miners verify it by the authority key, until {}", Date(until))
            }
            ServedBy::WebPkiOrPin => write!(
                f,
                " is not signed by the authority key: miners verify it as a web server's, until {}, or by ?pin={} in their URL",
                Date(self.identity.not_after()),
                self.identity.pin()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::transport::tls::OID;

    const NOW: u32 = 1_800_000_000;
    const YEAR: u32 = VALIDITY / 2;

    fn authority(seed: u64) -> AuthoritySecretKey {
        AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(seed))
    }

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn load(&self, now: u32) -> Result<TlsFiles, CertsError> {
            load_or_issue(self.0.path(), &authority(1), now)
        }

        fn texts(&self) -> [String; 2] {
            [CERTIFICATE_FILE, KEY_FILE].map(|name| fs::read_to_string(self.path(name)).unwrap())
        }
    }

    /// The error's text names these, and nothing has been changed.
    fn refused(directory: &Directory, now: u32, named: &[&str]) {
        let contents = || {
            let entries = fs::read_dir(directory.0.path()).unwrap();
            let mut all: Vec<_> =
                entries.map(|e| e.unwrap().path()).map(|p| (fs::read(&p).unwrap(), p)).collect();
            all.sort();
            all
        };
        let before = contents();
        let text = directory.load(now).unwrap_err().to_string();
        for named in named {
            assert!(text.contains(named), "{named} in {text}");
        }
        assert_eq!(contents(), before);
    }

    #[test]
    fn issued_once_and_then_loaded() {
        let directory = Directory::new();
        let made = directory.load(NOW).unwrap();
        assert_eq!((made.origin, made.proof), (Origin::Issued, ServedBy::AuthorityKey(NOW + VALIDITY)));
        let word = made.identity.vouched_by(&authority(1).public_key(), NOW).unwrap();
        assert_eq!((word.valid_from(), word.not_valid_after()), (NOW - 3600, NOW + VALIDITY));
        for name in [CERTIFICATE_FILE, KEY_FILE] {
            let mode = fs::metadata(directory.path(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let texts = directory.texts();
        let loaded = directory.load(NOW + YEAR - 3600).unwrap();
        assert_eq!((loaded.origin, loaded.proof), (Origin::Loaded, made.proof));
        assert_eq!(loaded.identity.pin(), made.identity.pin());
        assert_eq!(directory.texts(), texts);
        assert_eq!(fs::read_dir(directory.0.path()).unwrap().count(), 2);
        assert!(
            made.to_string().contains("tls.pem: miners verify it by the authority key, until 2029-01-14"),
            "{made}"
        );
    }

    #[test]
    fn renewed_with_the_same_key_when_half_is_over() {
        for later in [YEAR + 3600, VALIDITY + 3600, 3 * VALIDITY] {
            let directory = Directory::new();
            let made = directory.load(NOW).unwrap();
            let [certificate, key] = directory.texts();
            let renewed = directory.load(NOW + later).unwrap();
            let until = NOW + later + VALIDITY;
            assert_eq!((renewed.origin, renewed.proof), (Origin::Renewed, ServedBy::AuthorityKey(until)));
            assert_eq!(renewed.identity.pin(), made.identity.pin());
            assert_ne!(directory.texts()[0], certificate);
            assert_eq!(directory.texts()[1], key);
            assert_eq!(directory.load(NOW + later).unwrap().origin, Origin::Loaded);
            assert_eq!(fs::read_dir(directory.0.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn renewed_when_the_clock_was_set_back() {
        let directory = Directory::new();
        directory.load(NOW).unwrap();
        assert_eq!(directory.load(NOW - 2 * 3600).unwrap().origin, Origin::Renewed);
    }

    #[test]
    fn half_of_it_is_not_enough() {
        for (missing, present) in [(CERTIFICATE_FILE, KEY_FILE), (KEY_FILE, CERTIFICATE_FILE)] {
            let directory = Directory::new();
            directory.load(NOW).unwrap();
            fs::remove_file(directory.path(missing)).unwrap();
            let is_missing = format!("{missing} is missing");
            refused(&directory, NOW, &[&is_missing, &format!("{present} away")]);
        }
    }

    #[test]
    fn another_authoritys_certificate_is_left_alone() {
        // whether or not it would be due
        for now in [NOW, NOW + 2 * VALIDITY] {
            let directory = Directory::new();
            load_or_issue(directory.0.path(), &authority(2), NOW).unwrap();
            let named = ["tls.pem is signed by another", "restore", "authority.key", "tls.key away"];
            refused(&directory, now, &named);
        }
    }

    #[test]
    fn an_operators_own_certificate_is_served_as_it_is() {
        let directory = Directory::new();
        let own = rcgen::generate_simple_self_signed(["pool.example".to_owned()]).unwrap();
        fs::write(directory.path(CERTIFICATE_FILE), own.cert.pem()).unwrap();
        fs::write(directory.path(KEY_FILE), own.signing_key.serialize_pem()).unwrap();
        let texts = directory.texts();
        let loaded = directory.load(NOW).unwrap();
        assert_eq!((loaded.origin, loaded.proof), (Origin::Loaded, ServedBy::WebPkiOrPin));
        assert_eq!(directory.texts(), texts);
        assert!(loaded.to_string().contains(&format!("?pin={}", loaded.identity.pin())), "{loaded}");
    }

    #[test]
    fn what_does_not_fit_is_named_and_left_alone() {
        let directory = Directory::new();
        directory.load(NOW).unwrap();
        let [certificate, _] = directory.texts();
        let both = ["tls.pem and ", "tls.key cannot be used", "move both away"];
        fs::write(directory.path(CERTIFICATE_FILE), "damaged").unwrap();
        refused(&directory, NOW, &both);
        fs::write(directory.path(CERTIFICATE_FILE), &certificate).unwrap();
        fs::write(directory.path(KEY_FILE), "damaged").unwrap();
        refused(&directory, NOW, &both);
        let other = Directory::new();
        other.load(NOW).unwrap();
        fs::write(directory.path(KEY_FILE), &other.texts()[1]).unwrap();
        refused(&directory, NOW, &both);
    }

    #[test]
    fn the_key_is_there_before_its_certificate() {
        let directory = Directory::new();
        // a link to nowhere reads as absent, and cannot be replaced by a new file
        std::os::unix::fs::symlink("nowhere", directory.path(CERTIFICATE_FILE)).unwrap();
        assert!(matches!(directory.load(NOW), Err(CertsError::Exists(at)) if at.ends_with("tls.pem")));
        assert!(directory.path(KEY_FILE).exists());
    }

    #[test]
    fn a_damaged_extension_is_named() {
        let directory = Directory::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&OID, vec![5, 0]));
        fs::write(directory.path(CERTIFICATE_FILE), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(directory.path(KEY_FILE), key.serialize_pem()).unwrap();
        refused(&directory, NOW, &["tls.pem and ", "cannot be read", "move both away"]);
    }
}
