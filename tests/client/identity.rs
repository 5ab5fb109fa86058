//! Who is taken for the server in the URL, and what the owner of a miner is told about all others.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::config::Config;
use blvm_stratum_v2::server::{Identity, StratumV2Server};
use blvm_stratum_v2::transport::LinkError;
use blvm_stratum_v2::transport::client::{Client, ClientError, Device, Step};
use blvm_stratum_v2::transport::quic::{Code, EndpointKeys};
use blvm_stratum_v2::transport::tls::{
    IdentityError, OID, Proof, Roots, TlsIdentity, Verified, extension_value,
};
use blvm_stratum_v2::wire::certificate::{Certificate, Subject};
use blvm_stratum_v2::wire::noise::StaticIdentity;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport, Trust};
use quinn::{TransportConfig, VarInt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;

use super::fakes::{Fake, quic_config};
use super::house::House;
use super::support::{authority, extension, server, server_with, signing_key, spki_hash};
use super::{device, set_up, soon, trust, url};

const HOUR: u32 = 3600;

/// How the library's client judges this server, over QUIC.
async fn judge_by(tls: Arc<ServerConfig>, trust: Trust, roots: Roots, host: &str) -> Judgement {
    let fake = Fake::quic_only(tls);
    let url = StratumUrl { host: host.to_owned(), ..url(Transport::Quic, fake.address, trust) };
    judge(&url, &roots).await
}

async fn judge_tls(tls: Arc<ServerConfig>, trust: Trust) -> Judgement {
    judge_by(tls, trust, Roots::System, "127.0.0.1").await
}

async fn judge(url: &StratumUrl, roots: &Roots) -> Judgement {
    let mut seen = None;
    let device = device();
    let connecting = Client::connect_with(url, &device, roots, |step, _| {
        if let Step::Verified(verified) = step {
            seen = Some(verified);
        }
    });
    let connected = soon("a verdict", connecting).await;
    Judgement { seen, error: connected.err() }
}

/// Whom the client saw, and what it did not like.
#[derive(Debug)]
struct Judgement {
    seen: Option<Verified>,
    error: Option<ClientError>,
}

impl Judgement {
    #[track_caller]
    fn accepted(&self, by: Proof) -> Verified {
        assert!(self.error.is_none(), "{self:?}");
        let seen = self.seen.expect("the step is told");
        assert_eq!(seen.by, by);
        seen
    }

    #[track_caller]
    fn identity_error(&self, advice: &str) -> &IdentityError {
        assert_eq!(self.seen, None);
        let Some(error @ ClientError::Identity(identity)) = &self.error else { panic!("{self:?}") };
        assert!(error.to_string().contains(advice), "{advice:?} in {error}");
        assert!(error.is_lasting());
        identity
    }

    #[track_caller]
    fn refused(&self, expected: &IdentityError, advice: &str) {
        assert_eq!(self.identity_error(advice), expected);
    }

    #[track_caller]
    fn failed(&self, is: impl Fn(&ClientError) -> bool, advice: &str) {
        let error = self.error.as_ref().expect("it fails");
        assert!(is(error), "{error:?}");
        assert!(error.to_string().contains(advice), "{advice:?} in {error}");
    }
}

fn issued(from: u32, until: u32) -> TlsIdentity {
    TlsIdentity::issue(&authority(1), from, until).unwrap()
}

fn valid() -> TlsIdentity {
    issued(unix_now() - HOUR, unix_now() + HOUR)
}

/// The authority's word for a key, valid now.
fn word(key: &KeyPair) -> Vec<u8> {
    let (from, until) = (unix_now() - HOUR, unix_now() + HOUR);
    extension_value(&Certificate::issue(&authority(1), Subject::TlsKey(&spki_hash(key)), from, until))
        .to_vec()
}

#[tokio::test]
async fn the_authority_vouches_for_the_server() {
    let (from, until) = (unix_now() - HOUR, unix_now() + HOUR);
    let tls = issued(from, until).server_config().unwrap();
    let seen = judge_tls(tls, trust(&authority(1))).await.accepted(Proof::AuthorityKey);
    assert_eq!((seen.valid_from, seen.not_valid_after), (from, until));
}

#[tokio::test]
async fn another_authority_does_not() {
    let judged = judge_tls(valid().server_config().unwrap(), trust(&authority(2))).await;
    judged.refused(&IdentityError::WrongAuthority, "check the key at the end of the URL");
}

#[tokio::test]
async fn out_of_its_time() {
    let now = unix_now();
    let advice = "check this device's clock, else tell the pool's operator";
    let expired = issued(now - 2 * HOUR, now - HOUR).server_config().unwrap();
    judge_tls(expired, trust(&authority(1))).await.refused(&IdentityError::Expired(now - HOUR), advice);
    let early = issued(now + HOUR, now + 2 * HOUR).server_config().unwrap();
    judge_tls(early, trust(&authority(1))).await.refused(&IdentityError::NotYetValid(now + HOUR), advice);
}

#[tokio::test]
async fn a_word_that_was_changed() {
    let key = KeyPair::generate().unwrap();
    let changed = |at: usize| {
        let mut value = word(&key);
        value[at] ^= 1;
        judge_tls(server_with(&key, vec![extension(value)]), trust(&authority(1)))
    };
    // the last byte of the signature, and the first of the time when it ends
    for at in [75, 8] {
        changed(at).await.refused(&IdentityError::WrongAuthority, "somebody is between you and the pool");
    }
    // the version, then the length in DER
    changed(2).await.refused(&IdentityError::UnknownVersion(1), "update this miner's software");
    changed(1).await.refused(&IdentityError::MalformedExtension, "tell the pool's operator");
}

#[tokio::test]
async fn a_word_for_another_key() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let tls = server_with(&key, vec![extension(word(&other))]);
    judge_tls(tls, trust(&authority(1))).await.refused(&IdentityError::WrongAuthority, "check the key");
}

#[tokio::test]
async fn no_word_at_all() {
    let key = KeyPair::generate().unwrap();
    let foreign = CustomExtension::from_oid_content(&[OID[0], OID[1], OID[2] - 1], word(&key));
    for extensions in [vec![], vec![foreign]] {
        let judged = judge_tls(server_with(&key, extensions), trust(&authority(1))).await;
        judged.refused(&IdentityError::NoExtension, "ask the pool whether its URL has a key at the end");
    }
}

#[tokio::test]
async fn a_copied_certificate() {
    let chain = CertificateDer::from_pem_slice(valid().chain_pem().as_bytes()).unwrap();
    let thief = server(vec![chain], signing_key(&KeyPair::generate().unwrap()));
    let judged = judge_tls(thief, trust(&authority(1))).await;
    judged.refused(&IdentityError::NotItsKey, "somebody is between you and the pool");
}

#[tokio::test]
async fn another_protocol() {
    let alpns: [&[&[u8]]; 3] = [&[b"sv2-quic/2"], &[b"h3", b"h3-29"], &[]];
    for alpn in alpns {
        let key = KeyPair::generate().unwrap();
        let mut tls = (*server_with(&key, vec![extension(word(&key))])).clone();
        tls.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let judged = judge_tls(Arc::new(tls), trust(&authority(1))).await;
        judged.failed(|error| matches!(error, ClientError::NotStratum), "is this a Stratum V2 port");
        assert!(judged.error.unwrap().is_lasting());
    }
}

#[tokio::test]
async fn pins() {
    let identity = valid();
    let pin = identity.spki_hash();
    for pins in [vec![pin], vec![[0; 32], pin]] {
        let judged = judge_tls(identity.server_config().unwrap(), Trust::Pins(pins)).await;
        judged.accepted(Proof::Pin);
    }
    let judged = judge_tls(identity.server_config().unwrap(), Trust::Pins(vec![[0; 32]])).await;
    judged.refused(&IdentityError::NotPinned { seen: pin }, &identity.pin());
}

/// A CA, and a certificate by it for localhost.
struct Ca {
    root: rcgen::Certificate,
    leaf: rcgen::Certificate,
    key: KeyPair,
}

impl Ca {
    fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut root = CertificateParams::new([]).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::OrganizationName, "test root");
        let certificate = root.self_signed(&root_key).unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
        Self { root: certificate, leaf, key }
    }

    fn roots(&self) -> Roots {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        Roots::Given(roots)
    }

    fn tls(&self) -> Arc<ServerConfig> {
        server(vec![self.leaf.der().clone()], signing_key(&self.key))
    }
}

#[tokio::test]
async fn as_a_web_server() {
    let ca = Ca::new();
    judge_by(ca.tls(), Trust::WebPki, ca.roots(), "localhost").await.accepted(Proof::WebPki);
    let elsewhere = judge_by(ca.tls(), Trust::WebPki, ca.roots(), "127.0.0.1").await;
    assert!(matches!(elsewhere.identity_error("check the host in the URL"), IdentityError::WebPki(_)));
    let unknown = judge_by(ca.tls(), Trust::WebPki, Ca::new().roots(), "localhost").await;
    let advice = "ask the pool for its URL with a key or a pin";
    assert!(matches!(unknown.identity_error(advice), IdentityError::WebPki(_)));
    let by_key = judge_by(valid().server_config().unwrap(), Trust::WebPki, ca.roots(), "localhost").await;
    by_key.identity_error("ask the pool for its URL with the key at the end");
}

fn ping(url: &StratumUrl, roots: &std::path::Path) -> Output {
    let mut ping = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"));
    ping.args(["ping", "--url", &url.to_string()]).env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
    ping.env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_systems_roots() {
    let (ca, other) = (Ca::new(), Ca::new());
    let tls = TlsIdentity::from_pem(ca.leaf.pem().as_bytes(), ca.key.serialize_pem().as_bytes()).unwrap();
    let pin = tls.spki_hash();
    let mut options = Config::default().options().unwrap();
    options.listen_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoint = EndpointKeys::derive(&[1; 32]);
    let server = StratumV2Server::start(options, Identity::with_tls(authority(1), &tls, endpoint).unwrap());
    let server = server.await.unwrap();
    // who does not know its name can pin it
    let pinned = server.quic_url("localhost");
    assert_eq!(pinned.trust, Trust::Pins(vec![pin]));
    let url = StratumUrl { trust: Trust::WebPki, ..pinned };

    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let known = ping(&url, &file("known.pem", ca.root.pem()));
    let said = String::from_utf8(known.stdout).unwrap();
    assert!(known.status.success(), "{}", String::from_utf8(known.stderr).unwrap());
    assert!(said.contains("verified by a certificate authority of the web"), "{said}");
    // before it exits it says goodbye: else the server would hold its place for the idle timeout
    let gone = async {
        while server.pool().stats().of(Transport::Quic).connections.get() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the server has been told");
    let refused = [
        (file("other.pem", other.root.pem()), "ask the pool for its URL with a key or a pin"),
        (file("none.pem", String::new()), "no root certificates to verify the server with"),
    ];
    for (roots, advice) in refused {
        let output = ping(&url, &roots);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains(advice), "{advice:?} in {said}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn over_noise() {
    let now = unix_now();
    let judge = async |from: u32, until: u32, trusted: u64| {
        let identity = StaticIdentity::new(&authority(1), from, until, &mut StdRng::seed_from_u64(3));
        let fake = Fake::noise(identity).await;
        let url = url(Transport::Tcp, fake.address, trust(&authority(trusted)));
        // one that is accepted hears nothing more
        let mut seen = None;
        let device = device();
        let connecting = Client::connect_with(&url, &device, &Roots::System, |step, _| {
            if let Step::Verified(verified) = step {
                seen = Some(verified);
            }
        });
        let error = tokio::time::timeout(Duration::from_secs(1), connecting).await;
        Judgement { seen, error: error.ok().and_then(Result::err) }
    };
    let clock = "check this device's clock, else tell the pool's operator";
    let mut accepted = judge(now - HOUR, now + HOUR, 1).await;
    accepted.error = None;
    accepted.accepted(Proof::AuthorityKey);
    judge(now - HOUR, now + HOUR, 2)
        .await
        .refused(&IdentityError::WrongAuthority, "check the key at the end of the URL");
    judge(now - 2 * HOUR, now - HOUR, 1).await.refused(&IdentityError::Expired(now - HOUR), clock);
    judge(now + HOUR, now + 2 * HOUR, 1).await.refused(&IdentityError::NotYetValid(now + HOUR), clock);
}

/// Nothing will come, so the wait is skipped.
#[tokio::test(start_paused = true)]
async fn nobody_answers() {
    let advice = "check the host and the port in the URL";
    let timed_out = |error: &ClientError| matches!(error, ClientError::Timeout);
    let mute_udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tcp_only = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mute_tcp = Fake::mute().await;
    let cases = [
        (Transport::Quic, mute_udp.local_addr().unwrap()),
        (Transport::Quic, tcp_only.local_addr().unwrap()),
        (Transport::Tcp, mute_tcp.address),
    ];
    for (transport, address) in cases {
        let judged = judge(&url(transport, address, trust(&authority(1))), &Roots::System).await;
        judged.failed(timed_out, advice);
        assert!(!judged.error.unwrap().is_lasting(), "it may be back soon");
    }
}

#[tokio::test]
async fn something_else_answers_on_tcp() {
    let sv1 = b"{\"id\":null,\"result\":null,\"error\":[20,\"Other/Unknown\",null]}\n";
    let http = b"HTTP/1.1 400 Bad Request\r\nServer: something\r\nContent-Type: text/html\r\n\
        Content-Length: 156\r\nConnection: close\r\n\r\n\
        <html><head><title>400 Bad Request</title></head><body><center><h1>400 Bad Request</h1>\
        </center><hr><center>something else altogether</center></body></html>";
    assert!(http.len() > 234);
    for answer in [&sv1[..], http, b""] {
        let fake = Fake::answering(answer).await;
        let judged = judge(&url(Transport::Tcp, fake.address, trust(&authority(1))), &Roots::System).await;
        judged.failed(|error| matches!(error, ClientError::Handshake(_)), "this is no Stratum V2 port");
    }
    let gone = Fake::mute().await.address;
    let judged = judge(&url(Transport::Tcp, gone, trust(&authority(1))), &Roots::System).await;
    judged.failed(|error| matches!(error, ClientError::Unreachable(_)), "cannot connect");
}

#[tokio::test]
async fn no_such_host() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let url = StratumUrl {
            host: "no-such-host.invalid".to_owned(),
            ..url(transport, address, trust(&authority(1)))
        };
        let judged = judge(&url, &Roots::System).await;
        judged.failed(|error| matches!(error, ClientError::UnknownHost { .. }), "no-such-host.invalid");
    }
}

#[tokio::test]
async fn a_server_that_is_full() {
    let house = House::listener(1, |options| options.max_connections_per_ip = 1).await;
    let first = set_up(&house.url(Transport::Quic), &device()).await.unwrap();
    let judged = judge(&house.url(Transport::Quic), &Roots::System).await;
    judged.failed(|error| matches!(error, ClientError::Full), "it is full");
    let judged = judge(&house.url(Transport::Tcp), &Roots::System).await;
    judged.failed(|error| matches!(error, ClientError::Handshake(_)), "or the server is full");
    // and takes the next one when there is room
    first.close().await;
    let next = async {
        while set_up(&house.url(Transport::Quic), &device()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("there is room again", next).await;
}

#[tokio::test]
async fn a_server_that_refuses_to_set_up() {
    let house = House::listener(1, |_| {}).await;
    for transport in [Transport::Quic, Transport::Tcp] {
        let demanding = Device { flags: 1 << 31, ..Device::default() };
        let refused = soon("an answer", set_up(&house.url(transport), &demanding)).await.unwrap_err();
        let ClientError::Refused { code, flags } = &refused else { panic!("{refused:?}") };
        assert_eq!((code.as_str(), flags & 1 << 31), ("unsupported-feature-flags", 1 << 31));
        assert!(refused.to_string().contains("unsupported-feature-flags"), "{refused}");
        assert!(refused.is_lasting());
    }
}

#[tokio::test]
async fn each_code_that_a_server_closes_with() {
    let meanings = [
        "no error",
        "internal error",
        "protocol violation",
        "frame refused",
        "excessive load",
        "setup failed",
        "no channel opened in time",
        "too many bad shares",
        "unauthorized",
        "the server is stopping",
    ];
    let tls = valid().server_config().unwrap();
    let fake = Fake::quic(tls, |connection, visit| async move {
        let reason = if visit % 2 == 0 { &b"so there"[..] } else { b"" };
        // the first word of the client
        let _control = connection.accept_bi().await;
        connection.close(VarInt::from_u64(visit as u64 / 2).unwrap(), reason);
        connection.closed().await;
    });
    let url = url(Transport::Quic, fake.address, trust(&authority(1)));
    for visit in 0..24_u64 {
        let closed = soon("the end", set_up(&url, &device())).await.unwrap_err();
        let number = visit / 2;
        let known = if number < 10 { number } else { 1 };
        match &closed {
            ClientError::Link(LinkError::Closed) => assert_eq!(number, 0),
            ClientError::Link(LinkError::ClosedFor { code, reason }) => {
                assert_eq!(*code, Code::from(VarInt::from_u64(known).unwrap()));
                assert_eq!(reason, if visit % 2 == 0 { "so there" } else { "" });
                let text = closed.to_string();
                assert!(text.contains(&format!("code {known}, {}", meanings[known as usize])), "{text}");
                assert!(!text.contains("  ") && text.ends_with(|end: char| end.is_alphabetic()), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A call after the end must not wait for what cannot come.
#[tokio::test]
async fn the_end_is_told_again_to_whoever_asks_again() {
    let fake = Fake::quic(valid().server_config().unwrap(), |connection, _| async move {
        connection.close(VarInt::from_u32(9), b"");
    });
    let mut client =
        Client::connect(&url(Transport::Quic, fake.address, trust(&authority(1))), &device()).await.unwrap();
    for _ in 0..3 {
        let ended = soon("the end", client.next()).await.unwrap_err();
        let ClientError::Link(LinkError::ClosedFor { code: Code::DRAINING, .. }) = ended else {
            panic!("{ended:?}")
        };
    }
}

/// Neither must one that waits for a stream that the server never allowed.
#[tokio::test]
async fn a_connection_that_ends_before_it_has_a_stream() {
    let mut config = quic_config(valid().server_config().unwrap());
    let mut transport = TransportConfig::default();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.transport_config(Arc::new(transport));
    let fake = Fake::quic_with(config, |connection, _| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        connection.close(VarInt::from_u32(9), b"");
    });
    let mut client =
        Client::connect(&url(Transport::Quic, fake.address, trust(&authority(1))), &device()).await.unwrap();
    // whether it succeeds matters less than that it ends
    let _ = soon("nothing is left to send", client.flush()).await;
    soon("the end", client.next()).await.unwrap_err();
}
