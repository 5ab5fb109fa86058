//! A whole server on what lies in a directory, and a client that visits it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use blvm_stratum_v2::certs::make::{Wanted, make};
use blvm_stratum_v2::certs::{self, Look, Rotation, Started, Swap};
use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::config::Config;
use blvm_stratum_v2::mining::extranonce::BootEpoch;
use blvm_stratum_v2::server::{Identity, StratumV2Server};
use blvm_stratum_v2::transport::client::{Client, ClientError, Device, Step};
use blvm_stratum_v2::transport::tls::{Roots, Verified};
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport, Trust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

pub(crate) const DAY: u32 = 24 * 3600;

/// A server, its files, and who has made its certificates.
pub(crate) struct Served {
    pub(crate) home: tempfile::TempDir,
    pub(crate) options: certs::Options,
    pub(crate) authority: AuthoritySecretKey,
    running: Option<(StratumV2Server, Rotation)>,
}

impl Served {
    /// Certificates made elsewhere, and nothing that runs yet.
    pub(crate) fn prepared() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.stratum_v2.certs_dir = home.path().join("certs");
        let options = config.certs();
        let served = Self { home, options, authority: super::support::authority(1), running: None };
        served.make(90);
        served
    }

    pub(crate) async fn start(&mut self) {
        self.start_with(|_| {}).await;
    }

    pub(crate) async fn start_with(&mut self, set: impl FnOnce(&mut Config)) {
        let Started { rotation, parts, problems, .. } =
            Rotation::start(self.options.clone(), unix_now()).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let mut config = Config::default();
        config.stratum_v2.listen_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        set(&mut config);
        let identity = Identity::of(parts, BootEpoch::of_start(1));
        let server = StratumV2Server::start(config.options().unwrap(), identity).await.unwrap();
        self.running = Some((server, rotation));
    }

    /// Other certificates in place of those that there are, with another TLS key.
    pub(crate) fn make(&self, days: u32) -> certs::make::Made {
        let wanted = Wanted {
            directory: self.options.directory.clone(),
            valid_for: Duration::from_secs((days * DAY).into()),
            names: Vec::new(),
            replace: true,
            keep_key: false,
        };
        make(&self.authority, &wanted, unix_now()).unwrap()
    }

    /// Looks at the files, and serves what has changed.
    #[track_caller]
    pub(crate) fn swap(&mut self) -> Swap {
        let (server, rotation) = self.running.as_mut().unwrap();
        match rotation.look(&self.options, unix_now()) {
            Look::Swapped(swap) => {
                server.set_tls(swap.tls.clone()).unwrap();
                rotation.served(&swap);
                swap
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn look(&mut self) -> Look {
        let (_, rotation) = self.running.as_mut().unwrap();
        rotation.look(&self.options, unix_now())
    }

    pub(crate) fn server(&self) -> &StratumV2Server {
        &self.running.as_ref().unwrap().0
    }

    pub(crate) fn url(&self, transport: Transport) -> StratumUrl {
        match transport {
            Transport::Quic => self.server().quic_url("127.0.0.1"),
            Transport::Tcp => self.server().tcp_url("127.0.0.1").unwrap(),
        }
    }

    pub(crate) fn url_by(&self, host: &str, trust: Trust) -> StratumUrl {
        StratumUrl { host: host.to_owned(), trust, ..self.url(Transport::Quic) }
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// A connection that is set up, and what proved who the server is.
pub(crate) async fn visit_with(
    url: &StratumUrl,
    device: &Device,
    roots: Roots,
) -> Result<(Client, Verified), ClientError> {
    let mut seen = None;
    let tell = |step, _| {
        if let Step::Verified(verified) = step {
            seen = Some(verified);
        }
    };
    let mut client = Client::connect_with(url, device, &roots, tell).await?;
    client.set_up().await?;
    Ok((client, seen.expect("the step is told")))
}

pub(crate) async fn visit(url: &StratumUrl) -> Result<(Client, Verified), ClientError> {
    visit_with(url, &Device::default(), Roots::System).await
}

/// A certificate authority of the web, or of a pool.
pub(crate) struct Ca {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn named(name: &str) -> Self {
        let mut params = params(&[], unix_now() - DAY, unix_now() + 365 * DAY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, unix_now() + 90 * DAY)
    }

    pub(crate) fn issue_until(&self, names: &[&str], until: u32) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params(names, unix_now() - 10 * DAY, until).signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn roots(&self) -> Roots {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Roots::Given(roots)
    }
}

fn params(names: &[&str], from: u32, until: u32) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let time = |unix: u32| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix.into());
    (params.not_before, params.not_after) = (time(from), time(until));
    params
}
