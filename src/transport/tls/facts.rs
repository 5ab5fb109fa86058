//! What a certificate says, for people and for checks that are not the handshake's.

use std::fmt;
use std::net::IpAddr;

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{Date, IdentityError, NAME, TlsError};
use crate::wire::url::pin_text;

/// What stands in a certificate, none of it checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Whose it is.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// The DNS names and IP addresses that it is for.
    pub names: Vec<String>,
    /// The first second of X.509's validity in unix time, as far as 32 bits reach.
    pub valid_from: u32,
    /// The last.
    pub valid_until: u32,
    /// The pin of its key, as in a URL.
    pub pin: String,
    /// Whether it names itself as its issuer.
    pub self_signed: bool,
}

impl Facts {
    /// Of one certificate.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, x509) = X509Certificate::from_der(der).map_err(|_| IdentityError::MalformedCertificate)?;
        let alternatives = x509.subject_alternative_name().ok().flatten();
        let names = alternatives.map(|names| names.value.general_names.iter().filter_map(name).collect());
        let seconds = |timestamp: i64| timestamp.clamp(0, u32::MAX.into()) as u32;
        let spki = digest(&SHA256, x509.public_key().raw);
        Ok(Self {
            subject: printable(&x509.subject().to_string()),
            issuer: printable(&x509.issuer().to_string()),
            names: names.unwrap_or_default(),
            valid_from: seconds(x509.validity().not_before.timestamp()),
            valid_until: seconds(x509.validity().not_after.timestamp()),
            pin: pin_text(spki.as_ref().try_into().expect("SHA-256 is 32 bytes")),
            self_signed: x509.subject().as_raw() == x509.issuer().as_raw(),
        })
    }

    /// Of the first certificate in a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let der = CertificateDer::from_pem_slice(pem).map_err(|_| TlsError::NotPem("certificate"))?;
        Ok(Self::read(&der)?)
    }

    /// Its names, but for the one that stands for none.
    pub fn real_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| *name != NAME)
    }
}

/// For people, in lines.
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  of {}, signed by {}", self.subject, self.issuer)?;
        if self.names.iter().any(|name| name != NAME) {
            writeln!(f, "  for {}", self.real_names().collect::<Vec<_>>().join(", "))?;
        }
        writeln!(f, "  from {} until {}", Date(self.valid_from), Date(self.valid_until))?;
        write!(f, "  its pin is {}", self.pin)
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// A stranger's words go to a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ca_has_written() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["pool.example", "*.pool.example", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let mut params = rcgen::CertificateParams::new(names.clone()).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2150, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "pool\u{1b}[31m");
        let pem = params.self_signed(&key).unwrap().pem();
        let facts = Facts::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(facts.names, names);
        assert_eq!((facts.valid_from, facts.valid_until), (1_577_836_800, u32::MAX));
        assert!(facts.self_signed && facts.subject == facts.issuer);
        assert!(facts.subject.starts_with("CN=pool?"), "{:?}", facts.subject);
        let again = params.self_signed(&key).unwrap();
        assert_eq!(Facts::read(again.der()).unwrap().pin, facts.pin);
    }

    #[test]
    fn what_is_no_certificate() {
        assert!(matches!(Facts::from_pem(b"nothing"), Err(TlsError::NotPem("certificate"))));
        let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Facts::from_pem(damaged), Err(TlsError::Identity(_))));
    }
}
