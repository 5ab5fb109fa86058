//! The secret of the QUIC endpoint on disk: what stateless resets and address tokens are made
//! from. Kept across restarts, so that miners notice a restart at once (RFC 9000 §10.3.2).

use std::fmt;
use std::path::Path;

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use zeroize::Zeroizing;

use super::{CertsError, private};

/// The secret's file, in the directory of the certificates: 64 hex digits.
pub const FILE_NAME: &str = "endpoint.key";

/// 32 random bytes from which an endpoint derives its keys: erased on drop, never printed.
pub struct EndpointSecret(Zeroizing<[u8; 32]>);

impl EndpointSecret {
    /// The bytes, for a derivation.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        UnwrapErr(SysRng).fill_bytes(&mut *bytes);
        Self(bytes)
    }

    fn from_hex(text: &[u8]) -> Option<Self> {
        let digits: &[u8; 64] = text.trim_ascii().try_into().ok()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let mut bytes = Zeroizing::new([0; 32]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    fn to_hex(&self) -> Zeroizing<String> {
        let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
        // as large as it gets, so that no copy of it is left behind
        let mut text = Zeroizing::new(String::with_capacity(65));
        text.extend(self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
        text
    }
}

impl fmt::Debug for EndpointSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The secret in `directory`, made now if there is none. True if it is new.
pub fn load_or_create(directory: &Path) -> Result<(EndpointSecret, bool), CertsError> {
    let path = directory.join(FILE_NAME);
    if let Some(text) = private::read_secret(&path)? {
        let secret = EndpointSecret::from_hex(&text).ok_or(CertsError::NotEndpoint(path))?;
        return Ok((secret, false));
    }
    let secret = EndpointSecret::generate();
    let mut text = secret.to_hex();
    text.push('\n');
    private::create(&path, text.as_bytes())?;
    Ok((secret, true))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_kept_privately() {
        let directory = tempfile::tempdir().unwrap();
        let (made, new) = load_or_create(directory.path()).unwrap();
        assert!(new);
        let path = directory.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 65);
        let (loaded, new) = load_or_create(directory.path()).unwrap();
        assert!(!new);
        assert_eq!(loaded.as_bytes(), made.as_bytes());
        let other = load_or_create(&directory.path().join("other")).unwrap().0;
        assert_ne!(other.as_bytes(), made.as_bytes());
        assert_eq!(format!("{made:?}"), "<redacted>");
    }

    #[test]
    fn the_text_is_hex() {
        let secret =
            EndpointSecret::from_hex(&[b"00ff0A".as_slice(), &[b'7'; 58], b"\r\n"].concat()).unwrap();
        assert_eq!(secret.as_bytes()[..4], [0x00, 0xff, 0x0a, 0x77]);
        assert_eq!(&secret.to_hex()[..8], "00ff0a77");
    }

    #[test]
    fn a_damaged_secret_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let long = "0".repeat(66);
        for damaged in
            ["", "0123", &long[..63], &long, &format!("{}g", &long[..63]), &format!("+{}", &long[..63])]
        {
            fs::write(&path, damaged).unwrap();
            let error = load_or_create(directory.path()).unwrap_err();
            assert!(matches!(&error, CertsError::NotEndpoint(at) if *at == path), "{damaged:?}");
            assert!(error.to_string().contains("endpoint.key") && error.to_string().contains("move it away"));
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
