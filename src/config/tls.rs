//! The `[tls]` and `[noise]` tables: what miners know the server by.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::problem::Checks;
use crate::certs;

/// The `[tls]` table: certificates for QUIC.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its chain, PEM, leaf first: `tls.pem` in `certs_dir` if there is none.
    pub cert_path: Option<PathBuf>,
    /// Its key, PEM: `tls.key` in `certs_dir` if there is none.
    pub key_path: Option<PathBuf>,
    /// Further certificates, shown to clients that ask for one of their names.
    pub certificate: Vec<Pair>,
    /// DNS names and IP addresses that the first certificate must be for.
    pub names: Vec<String>,
    /// Seconds between looks at the files.
    pub poll_interval: u64,
    /// The CA, PEM, whose certificates miners over QUIC must show. They need none if there is none.
    pub client_ca_path: Option<PathBuf>,
}

/// A `[[tls.certificate]]` table. Both must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pair {
    /// The certificate and its chain, PEM, leaf first.
    pub cert_path: PathBuf,
    /// Its key, PEM.
    pub key_path: PathBuf,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert_path: None,
            key_path: None,
            certificate: Vec::new(),
            names: Vec::new(),
            poll_interval: 30,
            client_ca_path: None,
        }
    }
}

/// The `[noise]` table: the TCP transport.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Whether to listen on TCP at all.
    pub enabled: bool,
    /// Seconds for which the server certifies its Noise key at a time, if it has the authority's secret.
    pub cert_validity: u64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { enabled: true, cert_validity: 24 * 3600 }
    }
}

impl Tls {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.must("tls.poll_interval", (1..=86_400).contains(&self.poll_interval), "1 to 86400 seconds");
        let both = self.cert_path.is_some() == self.key_path.is_some();
        checks.must("tls.cert_path", both, "there if tls.key_path is, and the other way round");
        for (key, path) in [
            ("tls.cert_path", &self.cert_path),
            ("tls.key_path", &self.key_path),
            ("tls.client_ca_path", &self.client_ca_path),
        ] {
            let there = path.as_ref().is_none_or(|path| !path.as_os_str().is_empty());
            checks.must(key, there, "the path of a file");
        }
        let names = self.names.iter().all(|name| ServerName::try_from(name.as_str()).is_ok());
        checks.must("tls.names", names, "a list of DNS names and IP addresses");
        for (number, pair) in self.certificate.iter().enumerate() {
            let entry = format!("tls.certificate[{}]", number + 1);
            for (key, path) in [("cert_path", &pair.cert_path), ("key_path", &pair.key_path)] {
                if path.as_os_str().is_empty() {
                    checks.tell(&format!("{entry}.{key}"), &[&entry], "is missing");
                }
            }
        }
    }
}

impl Noise {
    pub(super) fn check(&self, checks: &mut Checks) {
        let validity = 60..=10 * 365 * 86_400;
        checks.must("noise.cert_validity", validity.contains(&self.cert_validity), "60 to 315360000 seconds");
    }
}

impl super::Config {
    /// Where the server's keys and certificates are.
    #[must_use]
    pub fn certs(&self) -> certs::Options {
        let (tls, directory) = (&self.tls, &self.stratum_v2.certs_dir);
        let pair =
            |cert: &PathBuf, key: &PathBuf| certs::Pair { certificate: cert.clone(), key: key.clone() };
        let usual = certs::Options::usual_pair(directory);
        certs::Options {
            directory: directory.clone(),
            first: pair(
                tls.cert_path.as_ref().unwrap_or(&usual.certificate),
                tls.key_path.as_ref().unwrap_or(&usual.key),
            ),
            more: tls.certificate.iter().map(|more| pair(&more.cert_path, &more.key_path)).collect(),
            names: tls.names.clone(),
            client_ca: tls.client_ca_path.clone(),
            noise: self.noise.enabled,
            noise_validity: Duration::from_secs(self.noise.cert_validity),
        }
    }
}
