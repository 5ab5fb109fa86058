//! The authority's keys (§4.7): whom a miner trusts, and what signs certificates.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1, SecretKey, XOnlyPublicKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// What stands before a public key in its text form: version 1, little-endian (§4.7).
const PUBLIC_KEY_VERSION: u16 = 1;

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A character that base58 does not have.
    #[error("the key has a character that base58 does not use, at position {0}")]
    Character(usize),
    /// The checksum does not match: the key was mistyped or cut off.
    #[error("the key's checksum does not match: a character is wrong or missing")]
    Checksum,
    /// The text is whole, but not as long as a key of this kind.
    #[error("the key has the wrong length for its kind (was a secret key given for a public one?)")]
    Length,
    /// A public key of a version other than 1.
    #[error("the key has version {0}, only version 1 is known")]
    Version(u16),
    /// The number is not a point of the curve, or not a scalar.
    #[error("the key is not on the secp256k1 curve")]
    Curve,
}

/// The key that vouches for a pool's servers: 32 bytes, the x coordinate of a point (BIP340).
///
/// Its text form is base58check over the bytes `01 00` and the key (§4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityPublicKey(XOnlyPublicKey);

impl AuthorityPublicKey {
    /// Refuses what is not the x coordinate of a point.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        XOnlyPublicKey::from_slice(bytes).map(Self).map_err(|_| KeyError::Curve)
    }

    /// The x coordinate.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.serialize()
    }

    /// Whether `signature` is this key's BIP340 signature of `digest`.
    #[must_use]
    pub fn verifies(&self, digest: [u8; 32], signature: &[u8; 64]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| {
            secp().verify_schnorr(&signature, &Message::from_digest(digest), &self.0).is_ok()
        })
    }
}

impl FromStr for AuthorityPublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let [v0, v1, key @ ..] = *base58check::<34>(text)?;
        match u16::from_le_bytes([v0, v1]) {
            PUBLIC_KEY_VERSION => Self::from_bytes(&key),
            version => Err(KeyError::Version(version)),
        }
    }
}

impl fmt::Display for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&PUBLIC_KEY_VERSION.to_le_bytes());
        bytes[2..].copy_from_slice(&self.to_bytes());
        f.write_str(&bs58::encode(bytes).with_check().into_string())
    }
}

/// The secret behind an [`AuthorityPublicKey`]. It need not be on the server: certificates can
/// be issued elsewhere.
///
/// Its text form, which SRI's tools read and write too, is base58check over the 32 bytes.
#[derive(Debug)]
pub struct AuthoritySecretKey(Secret);

impl AuthoritySecretKey {
    /// A new key.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Secret::generate(rng))
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public_key(&self) -> AuthorityPublicKey {
        AuthorityPublicKey(self.0.x_only())
    }

    /// The BIP340 signature of `digest`, always the same one.
    #[must_use]
    pub fn sign(&self, digest: [u8; 32]) -> [u8; 64] {
        let mut pair = Keypair::from_secret_key(secp(), &self.0.0);
        let signature = secp().sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair);
        pair.non_secure_erase();
        signature.serialize()
    }

    /// The text form. There is no `Display`, so that no log gets it by accident.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(bs58::encode(&*self.0.to_bytes()).with_check().into_string())
    }
}

impl FromStr for AuthoritySecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        base58check::<32>(text).and_then(|bytes| Secret::from_bytes(&bytes)).map(Self)
    }
}

/// A scalar that nobody else may know: erased on drop, never printed.
pub(super) struct Secret(pub(super) SecretKey);

impl Secret {
    pub(super) fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(&mut *bytes);
            // Fails for zero and from the group's order on: once in 2^128 tries.
            if let Ok(secret) = Self::from_bytes(&bytes) {
                return secret;
            }
        }
    }

    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        SecretKey::from_slice(bytes).map(Self).map_err(|_| KeyError::Curve)
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.secret_bytes())
    }

    pub(super) fn x_only(&self) -> XOnlyPublicKey {
        self.0.public_key(secp()).x_only_public_key().0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // A volatile write. The type holds no zero, so zeroize itself has no impl for it.
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The curve's precomputed tables.
pub(super) fn secp() -> &'static Secp256k1<All> {
    static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);
    &SECP
}

/// Exactly `N` bytes from their base58check form, which may be a secret.
fn base58check<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, KeyError> {
    use bs58::decode::Error;

    // Room for either kind of key and its checksum; a longer text fails without more work.
    let mut bytes = Zeroizing::new([0; 40]);
    let len = bs58::decode(text).with_check(None).onto(&mut bytes[..]).map_err(|error| match error {
        Error::InvalidCharacter { index, .. } | Error::NonAsciiCharacter { index } => {
            KeyError::Character(index)
        }
        Error::InvalidChecksum { .. } => KeyError::Checksum,
        _ => KeyError::Length,
    })?;
    bytes[..len].try_into().map(Zeroizing::new).map_err(|_| KeyError::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    /// §4.7.1
    const RAW: [u8; 32] = [
        118, 99, 112, 0, 151, 156, 28, 17, 175, 12, 48, 11, 205, 140, 127, 228, 134, 16, 252, 233, 185, 193,
        30, 61, 174, 227, 90, 224, 176, 138, 116, 85,
    ];
    const TEXT: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";

    fn text_of(bytes: &[u8]) -> String {
        bs58::encode(bytes).with_check().into_string()
    }

    #[test]
    fn public_key_of_the_specification() {
        let key = AuthorityPublicKey::from_bytes(&RAW).unwrap();
        assert_eq!(key.to_string(), TEXT);
        assert_eq!(TEXT.parse(), Ok(key));
        assert_eq!(key.to_bytes(), RAW);
    }

    #[test]
    fn what_is_not_a_public_key() {
        let parse = |text: &str| text.parse::<AuthorityPublicKey>().unwrap_err();
        assert_eq!(parse("9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXi"), KeyError::Checksum);
        assert_eq!(parse("9bXiEd8boQ0hq7"), KeyError::Character(10));
        assert_eq!(parse("9bXiEd8boQéhq7"), KeyError::Character(10));
        assert_eq!(parse(""), KeyError::Length);
        assert_eq!(parse(&"2".repeat(100_000)), KeyError::Length);
        assert_eq!(parse(&text_of(&RAW)), KeyError::Length);
        let mut bytes = [0; 34];
        bytes[2..].copy_from_slice(&RAW);
        assert_eq!(parse(&text_of(&bytes)), KeyError::Version(0));
        assert_eq!(parse(&text_of(&[&[1, 0][..], &[0xff; 32]].concat())), KeyError::Curve);
    }

    #[test]
    fn secret_key_pair_of_sri() {
        let secret: AuthoritySecretKey = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n".parse().unwrap();
        assert_eq!(secret.public_key().to_string(), "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72");
        assert_eq!(&*secret.to_text(), "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n");
        assert_eq!(format!("{secret:?}"), "AuthoritySecretKey(<redacted>)");
        assert_eq!(text_of(&[0; 32]).parse::<AuthoritySecretKey>().unwrap_err(), KeyError::Curve);
        assert_eq!(TEXT.parse::<AuthoritySecretKey>().unwrap_err(), KeyError::Length);
    }

    #[test]
    fn signs_and_verifies() {
        let mut rng = StdRng::seed_from_u64(1);
        let secret = AuthoritySecretKey::generate(&mut rng);
        let other = AuthoritySecretKey::generate(&mut rng);
        let signature = secret.sign([7; 32]);
        assert_eq!(signature, secret.sign([7; 32]));
        assert!(secret.public_key().verifies([7; 32], &signature));
        assert!(!secret.public_key().verifies([8; 32], &signature));
        assert!(!other.public_key().verifies([7; 32], &signature));
        assert!(!secret.public_key().verifies([7; 32], &[0xff; 64]));
    }
}
