//! A static key for Noise with its certificate on disk, for servers without the authority's secret.

use std::path::Path;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use zeroize::Zeroizing;

use super::CertsError;
use crate::transport::tls::{pem_decode, pem_encode};
use crate::wire::certificate::Certificate;
use crate::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use crate::wire::noise::{IdentityError, StaticIdentity};

/// The file, in the directory of the certificates. One for both, so that they are not mixed up.
pub const FILE_NAME: &str = "noise.pem";

/// 32 bytes: the static secret key.
const KEY: &str = "SV2 NOISE KEY";
/// The 74 bytes of `SIGNATURE_NOISE_MESSAGE` (§4.5.2).
const CERTIFICATE: &str = "SV2 NOISE CERTIFICATE";

/// A new key, certified for this span of unix time.
pub(super) fn make(authority: &AuthoritySecretKey, valid_from: u32, not_valid_after: u32) -> StaticIdentity {
    StaticIdentity::new(authority, valid_from, not_valid_after, &mut UnwrapErr(SysRng))
}

/// As it is kept.
pub(super) fn to_pem(identity: &StaticIdentity) -> Zeroizing<String> {
    let key = pem_encode(KEY, &*identity.static_secret());
    let certificate = pem_encode(CERTIFICATE, &identity.certificate().to_bytes());
    let mut both = Zeroizing::new(String::with_capacity(key.len() + certificate.len()));
    both.extend([&**key, &**certificate]);
    both
}

/// Reads what `path` holds. It must be by `authority`; its dates are not looked at.
pub(super) fn from_pem(
    path: &Path,
    pem: &[u8],
    authority: &AuthorityPublicKey,
) -> Result<StaticIdentity, CertsError> {
    let damaged = || CertsError::NotNoise(path.to_owned());
    let key = pem_decode(KEY, pem).ok_or_else(damaged)?;
    let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| damaged())?;
    let certificate = certificate(pem).ok_or_else(damaged)?;
    StaticIdentity::from_parts(key, certificate, authority, &mut UnwrapErr(SysRng)).map_err(|error| {
        match error {
            IdentityError::Key(_) => damaged(),
            IdentityError::Certificate(error) => CertsError::OtherNoise(path.to_owned(), error),
        }
    })
}

/// The certificate in what a file holds, if it is such a file. Nothing about it is checked.
pub(super) fn certificate(pem: &[u8]) -> Option<Certificate> {
    let bytes = pem_decode(CERTIFICATE, pem)?;
    bytes.as_slice().try_into().ok().map(Certificate::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> AuthoritySecretKey {
        AuthoritySecretKey::generate(&mut UnwrapErr(SysRng))
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let authority = authority();
        let made = make(&authority, 1000, 2000);
        let pem = to_pem(&made);
        let read = from_pem(Path::new(FILE_NAME), pem.as_bytes(), &authority.public_key()).unwrap();
        assert_eq!(read.certificate(), made.certificate());
        assert_eq!(read.static_secret(), made.static_secret());
        let labels: Vec<_> = pem.lines().filter(|line| line.starts_with("-----BEGIN")).collect();
        assert_eq!(labels, ["-----BEGIN SV2 NOISE KEY-----", "-----BEGIN SV2 NOISE CERTIFICATE-----"]);
    }

    #[test]
    fn what_is_not_vouched_for_is_refused() {
        let (one, other) = (authority(), authority());
        let (made, mixed) = (make(&one, 0, 1000), make(&one, 0, 1000));
        let read = |pem: &str, by: &AuthoritySecretKey| {
            from_pem(Path::new("certs/noise.pem"), pem.as_bytes(), &by.public_key()).unwrap_err()
        };
        let error = read(&to_pem(&made), &other);
        assert!(matches!(error, CertsError::OtherNoise(..)), "{error}");
        assert!(error.to_string().contains("certs/noise.pem"), "{error}");
        // the key of one with the certificate of another
        let mixed = [
            &**pem_encode(KEY, &*mixed.static_secret()),
            &pem_encode(CERTIFICATE, &made.certificate().to_bytes()),
        ];
        assert!(matches!(read(&mixed.concat(), &one), CertsError::OtherNoise(..)));
    }

    #[test]
    fn what_is_damaged_is_said_to_be() {
        let authority = authority();
        let whole = to_pem(&make(&authority, 0, 1000));
        let read = |pem: &[u8]| from_pem(Path::new(FILE_NAME), pem, &authority.public_key());
        for length in 0..whole.len() - 1 {
            assert!(matches!(read(&whole.as_bytes()[..length]), Err(CertsError::NotNoise(_))), "{length}");
        }
        let zero = whole.replacen(whole.lines().nth(1).unwrap(), &("A".repeat(43) + "="), 1);
        assert!(matches!(read(zero.as_bytes()), Err(CertsError::NotNoise(_))));
    }
}
