//! Where a node's RPC is.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::header::HeaderValue;

/// `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// A name or an address, without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    authority: String,
}

/// Why a URL is not that of a node's RPC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not parse, or lacks the scheme, the host or the port.
    #[error("a node's RPC is at http://HOST:PORT, for example http://127.0.0.1:8332")]
    Shape,
    /// TLS, which nodes do not speak.
    #[error("nodes do not speak https: use http, and to another machine a tunnel or a private network")]
    Https,
    /// It holds a user or a password.
    #[error("user and password have keys of their own, and do not go into the URL")]
    UserInfo,
    /// It goes on behind the port.
    #[error("nothing goes behind the port: mining does not use a wallet's path")]
    Path,
}

impl Url {
    /// What an HTTP request says in its `Host`.
    pub(super) fn host_header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.authority).ok()
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Shape)?;
        let authority = uri.authority().ok_or(UrlError::Shape)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(UrlError::Https),
            _ => return Err(UrlError::Shape),
        }
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(UrlError::Path);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().filter(|port| *port != 0).ok_or(UrlError::Shape)?;
        if host.is_empty() {
            return Err(UrlError::Shape);
        }
        Ok(Self { host, port, authority: authority.as_str().to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port() {
        for (text, host, port) in [
            ("http://127.0.0.1:8332", "127.0.0.1", 8332),
            ("http://127.0.0.1:8332/", "127.0.0.1", 8332),
            ("http://node.lan:18443", "node.lan", 18443),
            ("http://[::1]:38332/", "::1", 38332),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((&*url.host, url.port), (host, port));
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
            assert_eq!(url.host_header().unwrap(), text.trim_end_matches('/').trim_start_matches("http://"));
        }
    }

    #[test]
    fn nothing_else() {
        for (text, error) in [
            ("", UrlError::Shape),
            ("127.0.0.1:8332", UrlError::Shape),
            ("node.lan", UrlError::Shape),
            ("http://node.lan", UrlError::Shape),
            ("http://node.lan:0", UrlError::Shape),
            ("http://node.lan:65536", UrlError::Shape),
            ("http://:8332", UrlError::Shape),
            ("http:///x", UrlError::Shape),
            ("tcp://node.lan:8332", UrlError::Shape),
            ("https://node.lan:8332", UrlError::Https),
            ("http://user:secret@node.lan:8332", UrlError::UserInfo),
            ("http://node.lan:8332/wallet/mine", UrlError::Path),
            ("http://node.lan:8332/?x", UrlError::Path),
        ] {
            assert_eq!(text.parse::<Url>(), Err(error), "{text}");
        }
    }
}
