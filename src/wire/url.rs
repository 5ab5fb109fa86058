//! Where a server is and how it proves who it is, as miners write it (§4.7).
//!
//! ```text
//! stratum2+tcp://HOST[:PORT]/AUTHORITY_KEY
//! stratum2+quic://HOST[:PORT][/AUTHORITY_KEY]
//! stratum2+quic://HOST[:PORT]?pin=sha256/BASE64URL[&pin=...]
//! ```

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::base64::digits;
use super::keys::{AuthorityPublicKey, KeyError};

/// The port of a URL that names none.
pub const DEFAULT_PORT: u16 = 3333;

const PIN_ALGORITHM: &str = "sha256/";

/// A mining server's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StratumUrl {
    /// What carries the protocol.
    pub transport: Transport,
    /// A name or an address; an IPv6 address is without its brackets.
    pub host: String,
    /// The TCP or UDP port.
    pub port: u16,
    /// How the server proves who it is; over TCP always with an authority key.
    pub trust: Trust,
}

/// What carries the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Noise over TCP.
    Tcp,
    /// QUIC.
    Quic,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Noise-TCP",
            Self::Quic => "QUIC",
        })
    }
}

/// How a server proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// This key vouches for it.
    Authority(AuthorityPublicKey),
    /// As a web server does: by a public CA and the host's name.
    WebPki,
    /// Its public key (SPKI) has one of these SHA-256 hashes.
    Pins(Vec<[u8; 32]>),
}

/// What is wrong with a URL, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The URL of a Stratum V1 server.
    #[error(
        "stratum+tcp:// is Stratum V1; a V2 server's URL starts with stratum2+tcp:// or stratum2+quic://"
    )]
    StratumV1,
    /// Another scheme, or none.
    #[error("the URL must start with stratum2+tcp:// or stratum2+quic://")]
    Scheme,
    /// No host, or one with characters that no host has.
    #[error("the host is missing or not a name or an address")]
    Host,
    /// What is in brackets is not an IPv6 address.
    #[error("what is in the brackets is not an IPv6 address")]
    Ipv6,
    /// More than one colon outside brackets.
    #[error("an IPv6 address must be in brackets, as in [2001:db8::1]:3333")]
    Brackets,
    /// Not a number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// The path is not an authority key.
    #[error("what follows the slash is not the pool's authority key: {0}")]
    Key(#[from] KeyError),
    /// Over TCP nothing but the authority key can prove who the server is.
    #[error("a stratum2+tcp:// URL must end in a slash and the pool's authority key")]
    KeyMissing,
    /// A parameter other than `pin`.
    #[error("the only parameter is pin, as in ?pin=sha256/...")]
    Parameter,
    /// Not `sha256/` and 43 characters of base64url.
    #[error("a pin is sha256/ and 43 characters of base64url (A-Z, a-z, 0-9, - and _, no =)")]
    Pin,
    /// Pins belong to TLS.
    #[error("pins are for stratum2+quic://; over stratum2+tcp:// the authority key is what is checked")]
    PinOverTcp,
    /// It would be unclear whether one of them suffices.
    #[error("give either an authority key or pins, not both")]
    KeyAndPins,
}

impl FromStr for StratumUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(UrlError::Scheme)?;
        let transport = match scheme.to_ascii_lowercase().as_str() {
            "stratum2+tcp" => Transport::Tcp,
            "stratum2+quic" => Transport::Quic,
            "stratum+tcp" | "stratum+ssl" | "stratum" => return Err(UrlError::StratumV1),
            _ => return Err(UrlError::Scheme),
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(authority)?;
        let pins = query.map_or(Ok(Vec::new()), read_pins)?;
        let trust = match (transport, path, pins.is_empty()) {
            (Transport::Tcp, "", true) => return Err(UrlError::KeyMissing),
            (Transport::Tcp, _, false) => return Err(UrlError::PinOverTcp),
            (_, "", true) => Trust::WebPki,
            (_, "", false) => Trust::Pins(pins),
            (_, key, true) => Trust::Authority(key.parse()?),
            (_, _, false) => return Err(UrlError::KeyAndPins),
        };
        Ok(Self { transport, host, port, trust })
    }
}

impl fmt::Display for StratumUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.transport {
            Transport::Tcp => "stratum2+tcp://",
            Transport::Quic => "stratum2+quic://",
        })?;
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        match &self.trust {
            Trust::Authority(key) => write!(f, "/{key}"),
            Trust::WebPki => Ok(()),
            Trust::Pins(pins) => pins.iter().enumerate().try_for_each(|(i, pin)| {
                let separator = if i == 0 { '?' } else { '&' };
                write!(f, "{separator}pin={}", pin_text(pin))
            }),
        }
    }
}

/// A pin as it stands in a URL: `sha256/` and 43 characters of base64url.
#[must_use]
pub fn pin_text(spki_hash: &[u8; 32]) -> String {
    format!("{PIN_ALGORITHM}{}", base64url(spki_hash))
}

fn host_and_port(authority: &str) -> Result<(String, u16), UrlError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(UrlError::Ipv6)?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::Ipv6)?;
        match port {
            "" => (host, None),
            port => (host, Some(port.strip_prefix(':').ok_or(UrlError::Port)?)),
        }
    } else {
        let (host, port) = authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err(UrlError::Brackets);
        }
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(UrlError::Host);
        }
        (host, port)
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(UrlError::Port),
        },
        Some(_) => return Err(UrlError::Port),
    };
    Ok((host.to_owned(), port))
}

fn read_pins(query: &str) -> Result<Vec<[u8; 32]>, UrlError> {
    query
        .split('&')
        .map(|parameter| {
            let pin = parameter.strip_prefix("pin=").ok_or(UrlError::Parameter)?;
            pin.strip_prefix(PIN_ALGORITHM).and_then(from_base64url).ok_or(UrlError::Pin)
        })
        .collect()
}

/// RFC 4648 §5, without padding.
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64url(bytes: &[u8; 32]) -> String {
    bytes.chunks(3).flat_map(|group| digits(BASE64URL, group)).collect()
}

fn from_base64url(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut written = bytes.iter_mut();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes() {
        let value = BASE64URL.iter().position(|known| *known == digit)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            *written.next()? = (bits >> count) as u8;
            bits &= (1 << count) - 1;
        }
    }
    // 43 digits are two bits more than 32 bytes; one spelling only, so they are zero.
    (written.len() == 0 && count == 2 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
    /// SHA-256 of nothing.
    const PIN: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    const PIN_BYTES: [u8; 32] = [
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
        0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ];

    fn parse(url: &str) -> Result<StratumUrl, UrlError> {
        url.parse()
    }

    #[test]
    fn url_of_the_specification() {
        let text = format!("stratum2+tcp://thepool.com:34254/{KEY}");
        let url = parse(&text).unwrap();
        assert_eq!(url.transport, Transport::Tcp);
        assert_eq!((url.host.as_str(), url.port), ("thepool.com", 34254));
        assert_eq!(url.trust, Trust::Authority(KEY.parse().unwrap()));
        assert_eq!(url.to_string(), text);
    }

    #[test]
    fn every_form_round_trips() {
        for text in [
            format!("stratum2+quic://pool.example:3333/{KEY}"),
            "stratum2+quic://pool.example:443".to_owned(),
            format!("stratum2+quic://192.0.2.1:3333?pin=sha256/{PIN}"),
            format!("stratum2+quic://[2001:db8::1]:1?pin=sha256/{PIN}&pin=sha256/{}", "A".repeat(43)),
            format!("stratum2+tcp://[::1]:65535/{KEY}"),
        ] {
            assert_eq!(parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_may_be_left_out() {
        let url = parse(" STRATUM2+QUIC://pool/\n").unwrap();
        assert_eq!((url.port, url.trust), (DEFAULT_PORT, Trust::WebPki));
        let url = parse(&format!("stratum2+tcp://[::1]/{KEY}")).unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", DEFAULT_PORT));
        let url = parse(&format!("stratum2+quic://pool/?pin=sha256/{PIN}")).unwrap();
        assert_eq!(url.trust, Trust::Pins(vec![PIN_BYTES]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let standard_base64 = PIN.replace('-', "+");
        for (text, error) in [
            ("pool.example:3333".to_owned(), UrlError::Scheme),
            ("https://pool.example".to_owned(), UrlError::Scheme),
            ("stratum+tcp://pool.example:3333".to_owned(), UrlError::StratumV1),
            ("stratum2+quic://".to_owned(), UrlError::Host),
            ("stratum2+quic://:3333".to_owned(), UrlError::Host),
            ("stratum2+quic://user@pool".to_owned(), UrlError::Host),
            ("stratum2+quic://po ol".to_owned(), UrlError::Host),
            ("stratum2+quic://pool#x".to_owned(), UrlError::Host),
            ("stratum2+quic://2001:db8::1".to_owned(), UrlError::Brackets),
            ("stratum2+quic://[2001:db8::1".to_owned(), UrlError::Ipv6),
            ("stratum2+quic://[pool]:1".to_owned(), UrlError::Ipv6),
            ("stratum2+quic://[::1]3333".to_owned(), UrlError::Port),
            ("stratum2+quic://pool:".to_owned(), UrlError::Port),
            ("stratum2+quic://pool:0".to_owned(), UrlError::Port),
            ("stratum2+quic://pool:+80".to_owned(), UrlError::Port),
            ("stratum2+quic://pool:65536".to_owned(), UrlError::Port),
            ("stratum2+tcp://pool:3333".to_owned(), UrlError::KeyMissing),
            ("stratum2+tcp://pool:3333/".to_owned(), UrlError::KeyMissing),
            (format!("stratum2+tcp://pool/{KEY}x"), UrlError::Key(KeyError::Checksum)),
            (format!("stratum2+tcp://pool/{KEY}/x"), UrlError::Key(KeyError::Character(51))),
            (format!("stratum2+tcp://pool/{KEY}?pin=sha256/{PIN}"), UrlError::PinOverTcp),
            (format!("stratum2+tcp://pool?pin=sha256/{PIN}"), UrlError::PinOverTcp),
            (format!("stratum2+quic://pool/{KEY}?pin=sha256/{PIN}"), UrlError::KeyAndPins),
            ("stratum2+quic://pool?".to_owned(), UrlError::Parameter),
            (format!("stratum2+quic://pool?key={KEY}"), UrlError::Parameter),
            (format!("stratum2+quic://pool?pin={PIN}"), UrlError::Pin),
            (format!("stratum2+quic://pool?pin=sha256/{PIN}="), UrlError::Pin),
            (format!("stratum2+quic://pool?pin=sha256/{PIN}A"), UrlError::Pin),
            (format!("stratum2+quic://pool?pin=sha256/{}", &PIN[..42]), UrlError::Pin),
            (format!("stratum2+quic://pool?pin=sha256/{}V", &PIN[..42]), UrlError::Pin),
            (format!("stratum2+quic://pool?pin=sha256/{standard_base64}"), UrlError::Pin),
        ] {
            assert_eq!(parse(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn base64url_round_trips() {
        assert_eq!(base64url(&PIN_BYTES), PIN);
        for byte in 0..=u8::MAX {
            let bytes = [byte; 32].map(|b| b.wrapping_mul(31));
            assert_eq!(from_base64url(&base64url(&bytes)), Some(bytes));
        }
    }
}
