//! The server's certificate (§4.5.2, §4.5.3): the authority's word for a key of the server's.

use bitcoin::secp256k1::XOnlyPublicKey;
use ring::digest::{Context, SHA256, digest};

use super::keys::{AuthorityPublicKey, AuthoritySecretKey};

/// Why a certificate does not vouch for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A version other than 0.
    #[error("the server's certificate has the unknown version {0}")]
    UnknownVersion(u16),
    /// Not signed by this authority, or for another server key.
    #[error("the server's certificate is not signed by the expected authority key")]
    BadSignature,
    /// Its time has not come. Often it is the client's clock that is wrong.
    #[error("the server's certificate is not valid before unix time {0}, check the clock")]
    NotYetValid(u32),
    /// Its time is over. Often it is the client's clock that is wrong.
    #[error("the server's certificate expired at unix time {0}, check the clock")]
    Expired(u32),
}

/// Whose key a certificate vouches for. One for a kind of key says nothing about the other kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The server's static key in Noise (§4.5.3).
    NoiseKey(&'a XOnlyPublicKey),
    /// The server's TLS key: SHA-256 of its SubjectPublicKeyInfo in DER.
    TlsKey(&'a [u8; 32]),
}

/// `SIGNATURE_NOISE_MESSAGE` (§4.5.2): a certificate without the keys, which both sides know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    version: u16,
    valid_from: u32,
    not_valid_after: u32,
    signature: [u8; 64],
}

impl Certificate {
    /// The length of an encoded certificate.
    pub const LEN: usize = 74;
    /// How far apart, in seconds, the clocks of the two sides may be.
    pub const LEEWAY: u32 = 10;
    /// How far, in seconds, certificates are best dated back: miners' clocks are off by more.
    pub const BACKDATED: u32 = 3600;
    /// The only version there is.
    const VERSION: u16 = 0;

    /// What a TLS key's digest starts with, hashed and twice over, as BIP340 separates domains.
    const TLS_TAG: &[u8] = b"sv2-quic/1 tls key";

    /// The span of unix time of a certificate that is made at `now`, to last for so many seconds.
    #[must_use]
    pub fn span(now: u32, seconds: u32) -> (u32, u32) {
        (now.saturating_sub(Self::BACKDATED), now.saturating_add(seconds))
    }

    /// Signs `subject` for a span of time in unix seconds, both ends included.
    #[must_use]
    pub fn issue(
        authority: &AuthoritySecretKey,
        subject: Subject<'_>,
        valid_from: u32,
        not_valid_after: u32,
    ) -> Self {
        let unsigned = Self { version: Self::VERSION, valid_from, not_valid_after, signature: [0; 64] };
        Self { signature: authority.sign(unsigned.digest(subject)), ..unsigned }
    }

    /// Whether `authority` vouches for `subject` at unix time `now` (§4.5.3).
    pub fn verify(
        &self,
        authority: &AuthorityPublicKey,
        subject: Subject<'_>,
        now: u32,
    ) -> Result<(), CertificateError> {
        self.verify_signature(authority, subject)?;
        if now < self.valid_from.saturating_sub(Self::LEEWAY) {
            return Err(CertificateError::NotYetValid(self.valid_from));
        }
        if now > self.not_valid_after.saturating_add(Self::LEEWAY) {
            return Err(CertificateError::Expired(self.not_valid_after));
        }
        Ok(())
    }

    /// Whether `authority` signed `subject`, for whatever time.
    pub fn verify_signature(
        &self,
        authority: &AuthorityPublicKey,
        subject: Subject<'_>,
    ) -> Result<(), CertificateError> {
        if self.version != Self::VERSION {
            return Err(CertificateError::UnknownVersion(self.version));
        }
        if !authority.verifies(self.digest(subject), &self.signature) {
            return Err(CertificateError::BadSignature);
        }
        Ok(())
    }

    /// The first second of validity, in unix time.
    #[must_use]
    pub fn valid_from(&self) -> u32 {
        self.valid_from
    }

    /// The last second of validity, in unix time.
    #[must_use]
    pub fn not_valid_after(&self) -> u32 {
        self.not_valid_after
    }

    /// Reads a certificate, without a judgement of it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let [v0, v1, f0, f1, f2, f3, a0, a1, a2, a3, signature @ ..] = *bytes;
        Self {
            version: u16::from_le_bytes([v0, v1]),
            valid_from: u32::from_le_bytes([f0, f1, f2, f3]),
            not_valid_after: u32::from_le_bytes([a0, a1, a2, a3]),
            signature,
        }
    }

    /// The certificate as it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..10].copy_from_slice(&self.signed_fields());
        bytes[10..].copy_from_slice(&self.signature);
        bytes
    }

    fn signed_fields(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&self.version.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.valid_from.to_le_bytes());
        bytes[6..].copy_from_slice(&self.not_valid_after.to_le_bytes());
        bytes
    }

    /// What is signed (§4.5.3.1): the hash of the fields and of the server's key.
    fn digest(&self, subject: Subject<'_>) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        let key = match subject {
            Subject::NoiseKey(key) => key.serialize(),
            Subject::TlsKey(spki_hash) => {
                let tag = digest(&SHA256, Self::TLS_TAG);
                hash.update(tag.as_ref());
                hash.update(tag.as_ref());
                *spki_hash
            }
        };
        hash.update(&self.signed_fields());
        hash.update(&key);
        hash.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::keys::Secret;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const FROM: u32 = 1_000;
    const UNTIL: u32 = 2_000;

    fn issued() -> (AuthorityPublicKey, XOnlyPublicKey, Certificate) {
        let mut rng = StdRng::seed_from_u64(2);
        let authority = AuthoritySecretKey::generate(&mut rng);
        let key = Secret::generate(&mut rng).x_only();
        (authority.public_key(), key, Certificate::issue(&authority, Subject::NoiseKey(&key), FROM, UNTIL))
    }

    #[test]
    fn valid_within_its_time_and_the_leeway() {
        let (authority, key, certificate) = issued();
        for now in [FROM - 10, FROM, UNTIL, UNTIL + 10] {
            assert_eq!(certificate.verify(&authority, Subject::NoiseKey(&key), now), Ok(()));
        }
        let verify = |now| certificate.verify(&authority, Subject::NoiseKey(&key), now);
        assert_eq!(verify(FROM - 11), Err(CertificateError::NotYetValid(FROM)));
        assert_eq!(verify(UNTIL + 11), Err(CertificateError::Expired(UNTIL)));
    }

    #[test]
    fn the_ends_of_time_do_not_wrap() {
        let mut rng = StdRng::seed_from_u64(3);
        let authority = AuthoritySecretKey::generate(&mut rng);
        let key = Secret::generate(&mut rng).x_only();
        let certificate = Certificate::issue(&authority, Subject::NoiseKey(&key), 0, u32::MAX);
        for now in [0, u32::MAX] {
            assert_eq!(certificate.verify(&authority.public_key(), Subject::NoiseKey(&key), now), Ok(()));
        }
    }

    #[test]
    fn every_byte_counts() {
        let (authority, key, certificate) = issued();
        let bytes = certificate.to_bytes();
        assert_eq!(Certificate::from_bytes(&bytes), certificate);
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 1;
            let expected = match at {
                0 => CertificateError::UnknownVersion(1),
                1 => CertificateError::UnknownVersion(0x100),
                _ => CertificateError::BadSignature,
            };
            let verdict = Certificate::from_bytes(&changed).verify(&authority, Subject::NoiseKey(&key), FROM);
            assert_eq!(verdict, Err(expected), "byte {at}");
        }
    }

    #[test]
    fn vouches_for_one_key_only() {
        let (authority, key, certificate) = issued();
        let other = Secret::generate(&mut StdRng::seed_from_u64(4)).x_only();
        assert_eq!(
            certificate.verify(&authority, Subject::NoiseKey(&other), FROM),
            Err(CertificateError::BadSignature)
        );
        let other = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(5)).public_key();
        assert_eq!(
            certificate.verify(&other, Subject::NoiseKey(&key), FROM),
            Err(CertificateError::BadSignature)
        );
    }

    #[test]
    fn a_key_of_another_kind_is_another_key() {
        let (authority, key, noise) = issued();
        let same_bytes = key.serialize();
        let secret = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(2));
        let tls = Certificate::issue(&secret, Subject::TlsKey(&same_bytes), FROM, UNTIL);
        assert_eq!(tls.verify(&authority, Subject::TlsKey(&same_bytes), FROM), Ok(()));
        let wrong = Err(CertificateError::BadSignature);
        assert_eq!(tls.verify(&authority, Subject::NoiseKey(&key), FROM), wrong);
        assert_eq!(noise.verify(&authority, Subject::TlsKey(&same_bytes), FROM), wrong);
        let mut other = same_bytes;
        other[31] ^= 1;
        assert_eq!(tls.verify(&authority, Subject::TlsKey(&other), FROM), wrong);
    }
}
