//! Two sides in memory, certificates made by hand, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::transport::tls::{
    ALPN, IdentityError, OID, Proof, Roots, TlsIdentity, Verdict, Verified, client_config, extension_value,
};
use blvm_stratum_v2::wire::certificate::{Certificate, Subject};
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::Trust;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData};
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

pub(crate) const FROM: u32 = 1_800_000_000;
pub(crate) const UNTIL: u32 = FROM + 1_000_000;
pub(crate) const NOW: u64 = FROM as u64 + 1_000;
pub(crate) const HOST: &str = "pool.example";

pub(crate) fn authority(seed: u64) -> AuthoritySecretKey {
    AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(seed))
}

pub(crate) fn trust(authority: &AuthoritySecretKey) -> Trust {
    Trust::Authority(authority.public_key())
}

pub(crate) fn identity() -> TlsIdentity {
    TlsIdentity::issue(&authority(1), FROM, UNTIL).unwrap()
}

pub(crate) fn spki_hash(key: &KeyPair) -> [u8; 32] {
    digest(&SHA256, &key.subject_public_key_info()).as_ref().try_into().unwrap()
}

/// The extension's value as `authority` makes it for `key`.
pub(crate) fn word(authority: &AuthoritySecretKey, key: &KeyPair) -> Vec<u8> {
    let certificate = Certificate::issue(authority, Subject::TlsKey(&spki_hash(key)), FROM, UNTIL);
    extension_value(&certificate).to_vec()
}

pub(crate) fn extension(value: Vec<u8>) -> CustomExtension {
    CustomExtension::from_oid_content(&OID, value)
}

/// A self-signed leaf with these extensions, whose names and dates are good for nothing.
pub(crate) fn leaf(key: &KeyPair, extensions: Vec<CustomExtension>) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(["elsewhere.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(1999, 1, 1);
    params.not_after = rcgen::date_time_ymd(1999, 1, 2);
    params.custom_extensions = extensions;
    params.self_signed(key).unwrap().into()
}

pub(crate) fn signing_key(key: &KeyPair) -> Arc<dyn SigningKey> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    rustls::crypto::ring::default_provider().key_provider.load_private_key(key).unwrap()
}

/// A server with any chain and any key.
pub(crate) fn server(chain: Vec<CertificateDer<'static>>, key: Arc<dyn SigningKey>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

/// A server with one leaf and its key.
pub(crate) fn server_with(key: &KeyPair, extensions: Vec<CustomExtension>) -> Arc<ServerConfig> {
    server(vec![leaf(key, extensions)], signing_key(key))
}

#[derive(Debug)]
struct Fixed(u64);

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

/// A client's configuration with its clock stopped at unix time `now`.
pub(crate) fn client_at(trust: &Trust, roots: Roots, now: u64) -> (ClientConfig, Arc<Verdict>) {
    let (mut config, verdict) = client_config(trust, roots).unwrap();
    config.time_provider = Arc::new(Fixed(now));
    (config, verdict)
}

/// What came of a handshake, on each side.
pub(crate) struct Outcome {
    pub(crate) client: Result<(), rustls::Error>,
    pub(crate) server: Result<(), rustls::Error>,
    pub(crate) verdict: Option<Result<Verified, IdentityError>>,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn accepted(&self) -> Verified {
        assert_eq!((&self.client, &self.server), (&Ok(()), &Ok(())), "{:?}", self.verdict);
        self.verdict.clone().unwrap().unwrap()
    }

    #[track_caller]
    pub(crate) fn accepted_by(&self, proof: Proof, valid_from: u32, not_valid_after: u32) {
        assert_eq!(self.accepted(), Verified { by: proof, valid_from, not_valid_after });
    }

    /// Refused for this very reason, of which the text says what to do; and the server is told.
    #[track_caller]
    pub(crate) fn refused(&self, error: IdentityError, advice: &str) {
        assert_eq!(self.verdict, Some(Err(error.clone())));
        self.not_connected();
        assert!(error.to_string().contains(advice), "{advice:?} in {error}");
    }

    /// What the server learns.
    #[track_caller]
    pub(crate) fn alerted(&self, alert: AlertDescription) {
        assert_eq!(self.server, Err(rustls::Error::AlertReceived(alert)));
    }

    #[track_caller]
    pub(crate) fn not_connected(&self) {
        assert!(matches!(self.client, Err(rustls::Error::InvalidCertificate(_))), "{:?}", self.client);
        assert!(matches!(self.server, Err(rustls::Error::AlertReceived(_))), "{:?}", self.server);
    }
}

pub(crate) fn connect(server: &Arc<ServerConfig>, trust: &Trust, now: u64) -> Outcome {
    let (client, verdict) = client_at(trust, Roots::System, now);
    let (client, server) = handshake(server, &Arc::new(client), HOST);
    Outcome { client, server, verdict: verdict.get() }
}

pub(crate) fn sides(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    host: &'static str,
) -> (Connection, Connection) {
    let client = ClientConnection::new(client.clone(), host.try_into().unwrap()).unwrap();
    (client.into(), ServerConnection::new(server.clone()).unwrap().into())
}

/// The result of each side after everything that either had to say has arrived.
pub(crate) fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    host: &'static str,
) -> (Result<(), rustls::Error>, Result<(), rustls::Error>) {
    let (mut client, mut server) = sides(server, client, host);
    exchange(&mut client, &mut server)
}

pub(crate) fn exchange(
    client: &mut Connection,
    server: &mut Connection,
) -> (Result<(), rustls::Error>, Result<(), rustls::Error>) {
    let (mut of_client, mut of_server) = (Ok(()), Ok(()));
    while client.wants_write() || server.wants_write() {
        of_server = of_server.and(carry(client, server));
        of_client = of_client.and(carry(server, client));
    }
    if of_client.is_ok() && of_server.is_ok() {
        assert!(!client.is_handshaking() && !server.is_handshaking());
    }
    (of_client, of_server)
}

fn carry(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}
