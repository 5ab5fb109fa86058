//! A QUIC client that can do everything wrong.

#![allow(dead_code)]

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::wire::{Header, Message};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connecting, Connection, ConnectionError, Endpoint, ReadError, ReadExactError, RecvStream,
    SendStream, TransportConfig, VarInt, WriteError,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;

use crate::house::frame_of;

pub(crate) const ALPN: &[u8] = b"sv2-quic/1";

/// What takes longer will not happen any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what is bound to happen.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The peer's application closed it.
    Application { code: u64, reason: String },
    /// The peer's QUIC closed it: an error code of RFC 9000 §20.1.
    ByTransport { code: u64, reason: String },
    /// We closed it over an error of the peer that our QUIC saw.
    OurTransport { code: u64, reason: String },
    /// By a stateless reset.
    StatelessReset,
    /// Nothing came for the idle timeout.
    TimedOut,
    /// By ourselves.
    Locally,
    /// No version in common, or no connection ids left.
    Never,
}

impl From<ConnectionError> for Ended {
    fn from(error: ConnectionError) -> Self {
        let text = |reason: &[u8]| String::from_utf8_lossy(reason).into_owned();
        match error {
            ConnectionError::ApplicationClosed(close) => {
                Self::Application { code: close.error_code.into_inner(), reason: text(&close.reason) }
            }
            ConnectionError::ConnectionClosed(close) => {
                Self::ByTransport { code: close.error_code.into(), reason: text(&close.reason) }
            }
            ConnectionError::TransportError(error) => {
                Self::OurTransport { code: error.code.into(), reason: error.reason }
            }
            ConnectionError::Reset => Self::StatelessReset,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::LocallyClosed => Self::Locally,
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => Self::Never,
        }
    }
}

/// How the peer's half of a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By FIN between two frames. A stream that we have stopped looks the same, at once.
    Fin,
    /// By FIN, after so many bytes of a frame.
    Cut(usize),
    /// By RESET_STREAM.
    Reset(u64),
    /// With its connection.
    Connection(Ended),
    /// There is nothing more to read from it.
    Closed,
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.into_inner()),
            ReadError::ConnectionLost(error) => Self::Connection(error.into()),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                Self::Closed
            }
        }
    }
}

/// Why bytes could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// By STOP_SENDING.
    Stopped(u64),
    /// The connection ended.
    Connection(Ended),
    /// We had finished or reset the stream.
    Closed,
}

impl From<WriteError> for Refused {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped(code.into_inner()),
            WriteError::ConnectionLost(error) => Self::Connection(error.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

pub(crate) type Frame = (Header, Vec<u8>);

/// How to connect. It offers [`ALPN`] and has quinn's transport parameters unless told otherwise.
#[derive(Clone)]
pub(crate) struct Dial {
    alpn: Vec<Vec<u8>>,
    transport: Arc<TransportConfig>,
    local: Ipv4Addr,
}

impl Dial {
    pub(crate) fn new() -> Self {
        Self { alpn: vec![ALPN.to_vec()], transport: Arc::default(), local: Ipv4Addr::LOCALHOST }
    }

    /// None at all if empty.
    pub(crate) fn alpn(mut self, protocols: &[&[u8]]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    /// Sets transport parameters, from quinn's defaults.
    pub(crate) fn transport(mut self, set: impl FnOnce(&mut TransportConfig)) -> Self {
        let mut transport = TransportConfig::default();
        set(&mut transport);
        self.transport = Arc::new(transport);
        self
    }

    /// From 127.0.0.`last`.
    pub(crate) fn from(mut self, last: u8) -> Self {
        self.local = Ipv4Addr::new(127, 0, 0, last);
        self
    }

    /// What this dials with, for clients that bring their own endpoint.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(self.tls()).unwrap()));
        config.transport_config(self.transport.clone());
        config
    }

    /// TLS as it is there.
    pub(crate) fn tls(&self) -> rustls::ClientConfig {
        let provider = Arc::new(ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        tls.alpn_protocols.clone_from(&self.alpn);
        tls
    }

    /// An endpoint of its own and the connection that it begins.
    pub(crate) fn begin(&self, server: SocketAddr) -> io::Result<(Endpoint, Connecting)> {
        let endpoint = Endpoint::client((self.local, 0).into())?;
        let connecting = endpoint.connect_with(self.config(), server, "sv2").map_err(io::Error::other)?;
        Ok((endpoint, connecting))
    }

    pub(crate) async fn connect(&self, server: SocketAddr) -> Result<Raw, Ended> {
        let (endpoint, connecting) = self.begin(server).unwrap();
        let connection = soon("a handshake ends", connecting).await?;
        Ok(Raw { endpoint, connection })
    }
}

/// A connection with an endpoint, so a port, of its own.
pub(crate) struct Raw {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Connection,
}

impl Raw {
    pub(crate) async fn at(server: SocketAddr) -> Self {
        Dial::new().connect(server).await.unwrap()
    }

    pub(crate) async fn open_bi(&self) -> Result<Stream, Ended> {
        let (send, recv) = soon("a stream is allowed", self.connection.open_bi()).await?;
        Ok(Stream { send, recv })
    }

    pub(crate) async fn open_uni(&self) -> Result<SendStream, Ended> {
        Ok(soon("a stream is allowed", self.connection.open_uni()).await?)
    }

    pub(crate) async fn accept_uni(&self) -> Result<Receiver, Ended> {
        Ok(Receiver(soon("the server opens a stream", self.connection.accept_uni()).await?))
    }

    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.connection.close(code.into(), reason.as_bytes());
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> Ended {
        soon("the connection ends", self.connection.closed()).await.into()
    }

    /// The leaf certificate that the server showed.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let identity = self.connection.peer_identity().unwrap();
        let chain = identity.downcast::<Vec<CertificateDer<'static>>>().unwrap();
        chain[0].clone()
    }
}

/// A bidirectional stream.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

impl Stream {
    pub(crate) async fn send<'m>(&mut self, message: &impl Message<'m>) -> Result<(), Refused> {
        self.write(&frame_of(message)).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        write(&mut self.send, bytes).await
    }

    /// The server's next frame, or how its half ended.
    pub(crate) async fn next(&mut self) -> Result<Frame, End> {
        next(&mut self.recv).await
    }

    /// FIN.
    pub(crate) fn finish(&mut self) {
        self.send.finish().unwrap();
    }

    /// RESET_STREAM.
    pub(crate) fn reset(&mut self, code: u32) {
        self.send.reset(code.into()).unwrap();
    }

    /// STOP_SENDING.
    pub(crate) fn stop(&mut self, code: u32) {
        self.recv.stop(code.into()).unwrap();
    }

    /// The code of the server's STOP_SENDING, or None once it has acknowledged all and the FIN.
    pub(crate) async fn stopped(&self) -> Option<u64> {
        let stopped = soon("the server stops or takes all", self.send.stopped()).await;
        stopped.unwrap().map(VarInt::into_inner)
    }
}

/// The server's unidirectional stream.
pub(crate) struct Receiver(pub(crate) RecvStream);

impl Receiver {
    pub(crate) async fn next(&mut self) -> Result<Frame, End> {
        next(&mut self.0).await
    }

    /// STOP_SENDING.
    pub(crate) fn stop(&mut self, code: u32) {
        self.0.stop(code.into()).unwrap();
    }
}

/// Writes bytes, whatever they are.
pub(crate) async fn write(to: &mut SendStream, bytes: &[u8]) -> Result<(), Refused> {
    Ok(soon("the server takes bytes", to.write_all(bytes)).await?)
}

/// Reads a frame.
pub(crate) async fn next(from: &mut RecvStream) -> Result<Frame, End> {
    soon("a frame or an end", async {
        let mut header = [0; Header::LEN];
        exact(from, &mut header, 0).await?;
        let header = Header::read(&header);
        let mut payload = vec![0; header.payload_len];
        exact(from, &mut payload, Header::LEN).await?;
        Ok((header, payload))
    })
    .await
}

async fn exact(from: &mut RecvStream, into: &mut [u8], before: usize) -> Result<(), End> {
    match from.read_exact(into).await {
        Ok(()) => Ok(()),
        Err(ReadExactError::FinishedEarly(read)) if before + read == 0 => Err(End::Fin),
        Err(ReadExactError::FinishedEarly(read)) => Err(End::Cut(before + read)),
        Err(ReadExactError::ReadError(error)) => Err(error.into()),
    }
}

/// Takes anyone for the server.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
