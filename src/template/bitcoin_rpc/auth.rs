//! What a node knows us by.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hyper::header::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::CallError;
use crate::wire::base64::digits;

/// RFC 4648 §4.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// A cookie is shorter.
const MAX_COOKIE_LEN: u64 = 4096;

/// What a node knows us by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// The file that the node writes anew each time it starts.
    CookieFile(PathBuf),
    /// What the node's `rpcauth`, or `rpcuser` and `rpcpassword`, says.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: Password,
    },
}

/// A password. It does not show when printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Password(Zeroizing<String>);

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self(Zeroizing::new(password))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Auth {
    /// The `Authorization` of requests, from what is in the cookie file now.
    pub(super) fn header(&self) -> Result<HeaderValue, CallError> {
        let credentials = match self {
            Self::CookieFile(path) => read_cookie(path)?,
            Self::UserPassword { user, password } => Zeroizing::new(format!("{user}:{}", &*password.0)),
        };
        Ok(basic(credentials.as_bytes()))
    }
}

fn read_cookie(path: &Path) -> Result<Zeroizing<String>, CallError> {
    let failed = |source| CallError::Cookie { path: path.to_owned(), source };
    // what is no file could be waited for without end
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a file")));
    }
    let mut cookie = Zeroizing::new(String::with_capacity(MAX_COOKIE_LEN as usize));
    File::open(path).map_err(failed)?.take(MAX_COOKIE_LEN).read_to_string(&mut cookie).map_err(failed)?;
    let line = cookie.trim_end_matches(['\r', '\n']);
    if !line.contains(':') || line.contains(char::is_control) {
        return Err(failed(io::Error::other("it does not hold USER:PASSWORD")));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// RFC 7617.
fn basic(credentials: &[u8]) -> HeaderValue {
    let mut text = Zeroizing::new(String::with_capacity(6 + credentials.len().div_ceil(3) * 4));
    text.push_str("Basic ");
    for group in credentials.chunks(3) {
        text.extend(digits(BASE64, group));
        text.extend((group.len()..3).map(|_| '='));
    }
    let mut header = HeaderValue::from_str(&text).expect("base64 is ASCII");
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(content: &[u8]) -> Result<HeaderValue, CallError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        Auth::CookieFile(file.path().to_owned()).header()
    }

    #[test]
    fn the_example_of_the_rfc() {
        let auth = Auth::UserPassword { user: "Aladdin".into(), password: "open sesame".to_owned().into() };
        assert_eq!(auth.header().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(cookie(b"Aladdin:open sesame\n").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn what_is_secret_is_not_printed() {
        let auth = Auth::UserPassword { user: "Aladdin".into(), password: "open sesame".to_owned().into() };
        let header = auth.header().unwrap();
        for printed in [format!("{auth:?}"), format!("{header:?}")] {
            assert!(!printed.contains("sesame") && !printed.contains("QWxh"), "{printed}");
        }
    }

    #[test]
    fn what_is_no_cookie() {
        for content in [&b""[..], b"\n", b"word", b"two:\nlines", b"\xff:\xff", &[b'x'; 10_000]] {
            assert!(matches!(cookie(content), Err(CallError::Cookie { .. })), "{content:?}");
        }
        let folder = Auth::CookieFile(std::env::temp_dir());
        assert!(folder.header().unwrap_err().to_string().contains("not a file"));
        let missing = Auth::CookieFile("/nowhere/.cookie".into()).header().unwrap_err().to_string();
        assert!(missing.contains("/nowhere/.cookie") && missing.contains("running"), "{missing}");
    }
}
