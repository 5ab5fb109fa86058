//! The client certificate of a miner, for pools that want one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use crate::transport::tls::TlsIdentity;

#[derive(Debug, clap::Args)]
pub(super) struct OwnCertificate {
    /// The certificate to show a pool over QUIC that wants one, PEM, leaf first.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl OwnCertificate {
    /// Reads it, if it was given.
    pub(super) fn load(&self) -> Result<Option<Arc<TlsIdentity>>, Failure> {
        let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) else { return Ok(None) };
        let read = |path: &Path| {
            fs::read(path)
                .map_err(|error| Failure::Run(format!("cannot read {}: {error}", path.display()).into()))
        };
        let identity = TlsIdentity::from_pem(&read(certificate)?, &read(key)?);
        identity.map(Arc::new).map(Some).map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            Failure::Run(format!("{certificate} and {key} cannot be used: {error}").into())
        })
    }
}
