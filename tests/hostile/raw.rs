//! A client that can do everything wrong.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as Blocking};

use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::{Common, SetupConnection, protocol};
use blvm_stratum_v2::wire::mining::{Mining, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess};
use blvm_stratum_v2::wire::noise::{ACT2_LEN, FrameDecoder, Initiator, Sealer};
use blvm_stratum_v2::wire::{Header, Message, RequestId, U256, max_payload};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::house::{House, frame_of, soon};

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    sealer: Sealer,
    decoder: FrameDecoder,
}

/// How a server's stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Eof,
    /// By a reset.
    Reset,
}

pub(crate) type Frame = (Header, Vec<u8>);

impl Raw {
    /// A connection after the handshake.
    pub(crate) async fn at(house: &House) -> Self {
        Self::over(connect(house).await.unwrap(), house).await
    }

    /// The handshake over a stream.
    pub(crate) async fn over(mut stream: TcpStream, house: &House) -> Self {
        stream.set_nodelay(true).unwrap();
        let (initiator, act1) = Initiator::new(&mut StdRng::seed_from_u64(u64::from(unix_now())));
        let mut act2 = [0; ACT2_LEN];
        soon("a handshake", async {
            stream.write_all(&act1).await.unwrap();
            stream.read_exact(&mut act2).await.unwrap();
        })
        .await;
        let ((sealer, opener), _) = initiator.finish(&act2, &house.authority, unix_now()).unwrap();
        Self { stream, sealer, decoder: FrameDecoder::new(opener) }
    }

    /// A connection after SetupConnection.
    pub(crate) async fn set_up(house: &House) -> Self {
        Self::at(house).await.introduced().await
    }

    /// After SetupConnection.
    pub(crate) async fn introduced(mut self) -> Self {
        self.send(&setup()).await;
        let (header, payload) = self.next().await.unwrap();
        assert!(matches!(Common::decode(header.msg_type, &payload), Ok(Common::SetupConnectionSuccess(_))));
        self
    }

    /// The stream, to be used by threads of their own.
    pub(crate) fn take_stream(&mut self) -> Blocking {
        let stream = SockRef::from(&self.stream).try_clone().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.into()
    }

    /// Encrypts one frame.
    pub(crate) fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.sealer.seal_frame(frame, &mut sealed).unwrap();
        sealed
    }

    /// Sends a message.
    pub(crate) async fn send<'m>(&mut self, message: &impl Message<'m>) {
        let frame = frame_of(message);
        self.send_frame(&frame).await.unwrap();
    }

    pub(crate) async fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let sealed = self.seal(frame);
        self.write(&sealed).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        soon("the server takes bytes", self.stream.write_all(bytes)).await
    }

    /// The server's next frame, or how its stream ended.
    pub(crate) async fn next(&mut self) -> Result<Frame, End> {
        soon("the server says something or closes", self.receive()).await
    }

    async fn receive(&mut self) -> Result<Frame, End> {
        loop {
            let next = self.decoder.next(max_payload).expect("the server encrypts well");
            if let Some((header, payload)) = next {
                return Ok((header, payload.to_vec()));
            }
            match self.stream.read_buf(self.decoder.buffer()).await {
                Ok(0) => return Err(End::Eof),
                Ok(_) => {}
                Err(_) => return Err(End::Reset),
            }
        }
    }

    /// Reads until a message of this type, and returns its payload.
    pub(crate) async fn until(&mut self, msg_type: u8) -> Vec<u8> {
        loop {
            let (header, payload) = self.next().await.expect("a message before the end");
            if header.msg_type == msg_type {
                return payload;
            }
        }
    }

    /// Reads to the end.
    pub(crate) async fn rest(&mut self) -> (Vec<Frame>, End) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Ok(frame) => frames.push(frame),
                Err(end) => return (frames, end),
            }
        }
    }

    /// Opens an extended channel, and hands its opening on to `see`.
    pub(crate) async fn open<T>(
        &mut self,
        see: impl FnOnce(&OpenExtendedMiningChannelSuccess<'_>) -> T,
    ) -> T {
        self.send(&open(1)).await;
        let (header, payload) = self.next().await.unwrap();
        match Mining::decode(header.msg_type, &payload).unwrap() {
            Mining::OpenExtendedMiningChannelSuccess(m) => see(&m),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn connect(house: &House) -> io::Result<TcpStream> {
    soon("a connection", TcpStream::connect(house.address)).await
}

/// From another address of this machine.
pub(crate) async fn connect_from(house: &House, last: u8) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    soon("a connection", socket.connect(house.address)).await
}

/// Whether the server ends the stream before it says anything.
pub(crate) async fn is_refused(stream: &mut TcpStream) -> bool {
    soon("an end", stream.read(&mut [0])).await.unwrap_or(0) == 0
}

pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

pub(crate) fn setup() -> SetupConnection<'static> {
    SetupConnection {
        protocol: protocol::MINING,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: Str255::truncated("127.0.0.1"),
        endpoint_port: 3333,
        vendor: Str255::truncated("hostile"),
        hardware_version: Str255::default(),
        firmware: Str255::default(),
        device_id: Str255::default(),
    }
}

pub(crate) fn open(request_id: u32) -> OpenExtendedMiningChannel<'static> {
    OpenExtendedMiningChannel {
        request_id: RequestId(request_id),
        user_identity: Str255::truncated("hostile"),
        nominal_hash_rate: 1.0,
        max_target: U256([0xff; 32]),
        min_extranonce_size: 4,
    }
}
