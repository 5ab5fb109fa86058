//! What of TLS is spoken: one version, one protocol, no tickets, no early data.

use std::sync::{Arc, Mutex};

use blvm_stratum_v2::transport::tls::{ALPN, IdentityError, Roots, TlsIdentity};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use rustls::pki_types::ServerName;
use rustls::quic::{self, Version};
use rustls::server::ServerSessionMemoryCache;
use rustls::{
    AlertDescription, ClientConfig, Connection, HandshakeKind, NamedGroup, ServerConfig, ServerConnection,
};

use super::support::*;

fn ours() -> (Arc<ServerConfig>, ClientConfig) {
    let (client, _) = client_at(&trust(&authority(1)), Roots::System, NOW);
    (identity().server_config().unwrap(), client)
}

#[test]
fn another_protocol_is_refused() {
    let (server, mut client) = ours();
    client.alpn_protocols = vec![b"h3".to_vec(), b"sv2-quic/2".to_vec()];
    let (of_client, of_server) = handshake(&server, &Arc::new(client), HOST);
    assert_eq!(of_server, Err(rustls::Error::NoApplicationProtocol));
    assert_eq!(of_client, Err(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)));

    let (server, client) = ours();
    let mut server = Arc::unwrap_or_clone(server);
    server.alpn_protocols = vec![b"h3".to_vec()];
    let (_, of_server) = handshake(&Arc::new(server), &Arc::new(client), HOST);
    assert_eq!(of_server, Err(rustls::Error::NoApplicationProtocol));
}

#[test]
fn the_protocol_is_agreed_on() {
    let (server, client) = ours();
    let (mut client, mut server) = sides(&server, &Arc::new(client), HOST);
    assert_eq!(exchange(&mut client, &mut server), (Ok(()), Ok(())));
    assert_eq!((client.alpn_protocol(), server.alpn_protocol()), (Some(ALPN), Some(ALPN)));
}

/// A QUIC handshake, as TLS sees it; `Err` is from either side.
fn quic_handshake(server: ServerConfig, client: ClientConfig) -> Result<(), rustls::Error> {
    let name = HOST.try_into().unwrap();
    let mut client: quic::Connection =
        quic::ClientConnection::new(Arc::new(client), Version::V1, name, vec![])?.into();
    let mut server: quic::Connection =
        quic::ServerConnection::new(Arc::new(server), Version::V1, vec![])?.into();
    for _ in 0..4 {
        flow(&mut client, &mut server)?;
        flow(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

fn flow(from: &mut quic::Connection, to: &mut quic::Connection) -> Result<(), rustls::Error> {
    loop {
        let mut bytes = Vec::new();
        let change = from.write_hs(&mut bytes);
        if bytes.is_empty() && change.is_none() {
            return Ok(());
        }
        to.read_hs(&bytes)?;
    }
}

#[test]
fn over_quic_the_protocol_must_be_named() {
    let config = || {
        let (server, client) = ours();
        (Arc::unwrap_or_clone(server), client)
    };
    let (server, client) = config();
    assert_eq!(quic_handshake(server, client), Ok(()));
    let (server, mut client) = config();
    client.alpn_protocols.clear();
    assert_eq!(quic_handshake(server, client), Err(rustls::Error::NoApplicationProtocol));
    let (mut server, client) = config();
    server.alpn_protocols.clear();
    assert_eq!(quic_handshake(server, client), Err(rustls::Error::NoApplicationProtocol));
}

/// Counts the tickets that a server sends.
#[derive(Debug)]
struct Tickets {
    seen: Mutex<usize>,
    store: ClientSessionMemoryCache,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.store.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.kx_hint(name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: rustls::client::Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: rustls::client::Tls13ClientSessionValue) {
        *self.seen.lock().unwrap() += 1;
        self.store.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(
        &self,
        name: &ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.store.take_tls13_ticket(name)
    }
}

/// How many tickets a client that keeps them gets, and whether it resumes with them.
fn tickets(server: &Arc<ServerConfig>, mut client: ClientConfig) -> (usize, HandshakeKind) {
    let tickets = Arc::new(Tickets { seen: Mutex::default(), store: ClientSessionMemoryCache::new(8) });
    client.resumption = Resumption::store(tickets.clone());
    let client = Arc::new(client);
    assert_eq!(handshake(server, &client, HOST), (Ok(()), Ok(())));
    let (mut again, mut server) = sides(server, &client, HOST);
    assert_eq!(exchange(&mut again, &mut server), (Ok(()), Ok(())));
    let seen = *tickets.seen.lock().unwrap();
    (seen, again.handshake_kind().unwrap())
}

/// As ours, but it gives out tickets with early data.
fn generous() -> Arc<ServerConfig> {
    let mut server = Arc::unwrap_or_clone(ours().0);
    server.session_storage = ServerSessionMemoryCache::new(8);
    server.send_tls13_tickets = 2;
    server.max_early_data_size = 1000;
    Arc::new(server)
}

#[test]
fn the_server_sends_no_tickets() {
    let (server, client) = ours();
    assert_eq!(tickets(&server, client.clone()), (0, HandshakeKind::Full));
    // the test would notice
    assert_eq!(tickets(&generous(), client), (4, HandshakeKind::Resumed));
}

#[test]
fn the_client_resumes_nothing_and_offers_no_early_data() {
    let server = generous();
    let (config, verdict) = client_at(&trust(&authority(1)), Roots::System, NOW);
    assert!(!config.enable_early_data);
    let config = Arc::new(config);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (mut client, mut server) = sides(&server, &config, HOST);
        let Connection::Client(connection) = &mut client else { unreachable!() };
        assert!(connection.early_data().is_none());
        assert_eq!(exchange(&mut client, &mut server), (Ok(()), Ok(())));
        kinds.push(client.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [HandshakeKind::Full; 2]);
    assert!(verdict.get().unwrap().is_ok());
}

#[test]
fn a_verdict_is_of_the_latest_handshake() {
    let (config, verdict) = client_at(&trust(&authority(1)), Roots::System, NOW);
    let config = Arc::new(config);
    assert_eq!(verdict.get(), None);
    let stranger = TlsIdentity::issue(&authority(2), FROM, UNTIL).unwrap();
    let stranger = stranger.server_config().unwrap();
    assert!(handshake(&stranger, &config, HOST).0.is_err());
    assert_eq!(verdict.get(), Some(Err(IdentityError::WrongAuthority)));
    assert_eq!(handshake(&ours().0, &config, HOST), (Ok(()), Ok(())));
    assert!(verdict.get().unwrap().is_ok());
}

/// A handshake message in a record of TLS 1.2.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = |length: usize| (length as u16).to_be_bytes();
    let message = [&[kind, 0], &length(body.len())[..], body].concat();
    [&[0x16, 3, 3], &length(message.len())[..], &message].concat()
}

#[test]
fn tls_1_2_is_refused_by_the_server() {
    // ClientHello: version, random, no session, one cipher suite of TLS 1.2, no compression,
    // signature_algorithms with ECDSA on P-256, supported_groups with P-256; no supported_versions
    let extensions = [0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23];
    let hello = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &[0, 2, 0xc0, 0x2b],
        &[1, 0],
        &(extensions.len() as u16).to_be_bytes(),
        &extensions,
    ]
    .concat();
    let mut server = ServerConnection::new(ours().0).unwrap();
    server.read_tls(&mut &record(1, &hello)[..]).unwrap();
    let error = server.process_new_packets().unwrap_err();
    assert!(matches!(error, rustls::Error::PeerIncompatible(_)), "{error:?}");
    let mut answer = Vec::new();
    server.write_tls(&mut answer).unwrap();
    assert_eq!(answer[5..], [2, u8::from(AlertDescription::ProtocolVersion)], "a fatal alert");
}

#[test]
fn tls_1_2_is_refused_by_the_client() {
    let (server, client) = ours();
    let (mut client, _) = sides(&server, &Arc::new(client), HOST);
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    // ServerHello: version, random, no session, a cipher suite of TLS 1.2, no compression
    let answer = [&[3, 3][..], &[7; 32], &[0], &[0xc0, 0x2b], &[0], &[0, 0]].concat();
    client.read_tls(&mut &record(2, &answer)[..]).unwrap();
    let error = client.process_new_packets().unwrap_err();
    assert!(
        matches!(error, rustls::Error::PeerIncompatible(_) | rustls::Error::PeerMisbehaved(_)),
        "{error:?}"
    );
}
