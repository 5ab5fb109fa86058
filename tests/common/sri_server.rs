//! The server's end of a connection, made of SRI's crates: its Noise, its codec, its parser.

#![allow(dead_code, unreachable_pub)] // each test uses a part

use std::net::SocketAddr;
use std::time::Duration;

use blvm_stratum_v2::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use rand::SeedableRng;
use rand::rngs::StdRng;
use stratum_core::codec_sv2::{
    Decrypted, Handshake, NoiseDecoder, NoiseEncoder, TransportDecryptState, TransportEncryptState,
};
use stratum_core::common_messages_sv2::{Protocol, SetupConnectionOwned, SetupConnectionSuccess};
use stratum_core::framing_sv2::framing::{MessageFrame, SerializedFrame};
use stratum_core::noise_sv2::Responder;
use stratum_core::parsers_sv2::{AnyMessage, AnyMessageOwned, CommonMessagesOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Where clients connect.
pub struct Server {
    listener: TcpListener,
    secret: [u8; 32],
    pub authority: AuthorityPublicKey,
}

impl Server {
    pub async fn bind() -> Self {
        Self::bind_at(([127, 0, 0, 1], 0).into()).await
    }

    pub async fn bind_at(address: SocketAddr) -> Self {
        let secret = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(0x7d9));
        let authority = secret.public_key();
        let secret = bs58::decode(&*secret.to_text()).with_check(None).into_vec().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        Self { listener, secret: secret.try_into().unwrap(), authority }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A connection on which nothing has been said.
    pub async fn accept_plain(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// The next client. None if it does not get through the handshake.
    pub async fn accept(&self) -> Option<Wire> {
        let mut stream = self.accept_plain().await;
        let public = self.authority.to_bytes();
        let responder = Responder::from_authority_kp(&public, &self.secret, Duration::from_secs(3600));
        let mut act1 = [0; 64];
        stream.read_exact(&mut act1).await.ok()?;
        let (act2, transport) = Handshake::responder(responder.unwrap()).step_1(act1).ok()?;
        stream.write_all(act2.payload()).await.ok()?;
        let (seal, open) = transport.split();
        let (read, write) = stream.into_split();
        let reader = Reader { stream: read, decoder: NoiseDecoder::new(), open: Some(open) };
        Some(Wire { reader, writer: Writer { stream: write, encoder: NoiseEncoder::new(), seal } })
    }
}

/// An encrypted connection.
pub struct Wire {
    pub reader: Reader,
    pub writer: Writer,
}

pub struct Reader {
    stream: OwnedReadHalf,
    decoder: NoiseDecoder,
    open: Option<TransportDecryptState>,
}

pub struct Writer {
    stream: OwnedWriteHalf,
    encoder: NoiseEncoder,
    seal: TransportEncryptState,
}

impl Reader {
    /// The next message. None when the client has hung up.
    pub async fn next(&mut self) -> Option<AnyMessageOwned> {
        loop {
            match self.decoder.next_transport_frame(self.open.take()?).unwrap() {
                Decrypted::Frame(mut frame, state) => {
                    self.open = Some(state);
                    let header = frame.header();
                    return Some(AnyMessage::try_from((header, frame.payload())).unwrap().into_owned());
                }
                Decrypted::Incomplete(_, state) => {
                    self.open = Some(state);
                    self.stream.read_exact(self.decoder.writable()).await.ok()?;
                }
            }
        }
    }
}

impl Writer {
    pub async fn send(&mut self, message: AnyMessageOwned) -> std::io::Result<()> {
        let frame: MessageFrame<AnyMessageOwned> = message.try_into().unwrap();
        let sealed = self.encoder.encode_transport(frame, &mut self.seal).unwrap();
        self.stream.write_all(sealed.as_ref()).await
    }

    /// A frame as it stands.
    pub async fn send_raw(&mut self, frame: Vec<u8>) -> std::io::Result<()> {
        let frame = SerializedFrame::from_bytes(frame).unwrap();
        let sealed = self.encoder.encode_transport(frame, &mut self.seal).unwrap();
        self.stream.write_all(sealed.as_ref()).await
    }

    /// Bytes that nothing encrypts.
    pub async fn send_plain(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

impl Wire {
    /// Hears SetupConnection for this protocol, and accepts it.
    pub async fn set_up(&mut self, protocol: Protocol) -> SetupConnectionOwned {
        let setup = match self.reader.next().await {
            Some(AnyMessageOwned::Common(CommonMessagesOwned::SetupConnection(setup))) => setup,
            other => panic!("{other:?}"),
        };
        assert_eq!(setup.protocol, protocol);
        assert!((setup.min_version..=setup.max_version).contains(&2));
        let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
        let success = CommonMessagesOwned::SetupConnectionSuccess(success);
        self.writer.send(AnyMessageOwned::Common(success)).await.unwrap();
        setup
    }
}
