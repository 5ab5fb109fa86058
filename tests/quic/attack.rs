//! Attacks, what they cost, and the limits that they run into.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use blvm_stratum_v2::transport::client::{Client, ClientError, Device};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::{SetupConnection, protocol};
use blvm_stratum_v2::wire::mining::{
    CloseChannel, Mining, OpenExtendedMiningChannel, SetCustomMiningJob, UpdateChannel,
};
use blvm_stratum_v2::wire::url::StratumUrl;
use blvm_stratum_v2::wire::{ChannelId, Message, RequestId, U256};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::sleep;

use crate::fleet::Miner;
use crate::floods::{HalfOpen, Sources, garbage, initials, short_headers};
use crate::house::{House, frame_of};
use crate::raw::{Dial, Ended, Raw, Stream, soon};
use crate::siege::Siege;
use crate::victim::Limits;

const LONG: Duration = Duration::from_secs(2);
const CALM: Duration = Duration::from_millis(500);

/// A connection that is set up, and its control stream.
async fn introduced(server: SocketAddr) -> (Raw, Stream) {
    let raw = Dial::new()
        .transport(|transport| {
            transport.max_concurrent_bidi_streams(0u32.into());
        })
        .connect(server)
        .await
        .unwrap();
    let mut control = raw.open_bi().await.unwrap();
    control.send(&setup()).await.unwrap();
    control.next().await.unwrap();
    (raw, control)
}

/// Writes bytes in a frame of their own: what comes next finds them sent.
async fn write_alone(raw: &Raw, stream: &mut Stream, bytes: &[u8]) {
    let frames = || raw.connection.stats().frame_tx.stream;
    let before = frames();
    stream.write(bytes).await.unwrap();
    soon("the bytes leave", async {
        while frames() == before {
            yield_now().await;
        }
    })
    .await;
}

fn setup() -> SetupConnection<'static> {
    SetupConnection {
        protocol: protocol::MINING,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: Str255::truncated("localhost"),
        endpoint_port: 3333,
        vendor: Str255::truncated("attacker"),
        hardware_version: Str255::default(),
        firmware: Str255::default(),
        device_id: Str255::default(),
    }
}

fn open(request: u32) -> OpenExtendedMiningChannel<'static> {
    OpenExtendedMiningChannel {
        request_id: RequestId(request),
        user_identity: Str255::truncated("attacker"),
        nominal_hash_rate: 1.0,
        max_target: U256([0xff; 32]),
        min_extranonce_size: 4,
    }
}

/// Sends some datagrams every ten milliseconds, over and over, until the time is up.
async fn flood(to: SocketAddr, ports: usize, per_tick: usize, datagrams: Vec<Vec<u8>>) -> u64 {
    spawn_blocking(move || {
        let (sources, began, mut sent) = (Sources::open(ports), Instant::now(), 0);
        for chunk in datagrams.chunks(per_tick).cycle() {
            if began.elapsed() > LONG {
                break;
            }
            sources.send(to, chunk);
            sent += chunk.len() as u64;
            std::thread::sleep(Duration::from_millis(10));
        }
        sent
    })
    .await
    .unwrap()
}

/// Does something again and again until the time is up.
async fn again<F: Future<Output = ()>>(mut once: impl FnMut() -> F) -> u64 {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < LONG {
        once().await;
        count += 1;
    }
    count
}

/// All in one test: they must not disturb each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_are_bearable() {
    let siege = Siege::lay(Limits::default()).await;
    let address = siege.victim.address();

    let datagrams = garbage(2000, 1200, 1);
    siege.attack("garbage datagrams", CALM, flood(address, 50, 100, datagrams)).await.is_bearable(16.0);
    let datagrams = short_headers(2000, 40, 1);
    let resets = siege.attack("short headers of 40 bytes", CALM, flood(address, 50, 100, datagrams)).await;
    resets.is_bearable(16.0);
    assert!(resets.cpu < Duration::from_millis(1), "{resets:?}");
    let datagrams = short_headers(2000, 1200, 1);
    siege
        .attack("short headers of 1200 bytes", CALM, flood(address, 50, 100, datagrams))
        .await
        .is_bearable(16.0);

    let (raw, _control) = introduced(address).await;
    let resetting = again(async || {
        let mut stream = raw.open_bi().await.unwrap();
        write_alone(&raw, &mut stream, &[0]).await;
        stream.reset(0);
        stream.stop(0);
    });
    siege.attack("streams opened and reset", CALM, resetting).await.is_bearable(16.0);
    drop(raw);

    let (raw, mut control) = introduced(address).await;
    let update = frame_of(&UpdateChannel {
        channel_id: ChannelId(77),
        nominal_hash_rate: 1.0,
        maximum_target: U256([0xff; 32]),
    });
    let bytes = async {
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < LONG {
            for byte in &update {
                write_alone(&raw, &mut control, &[*byte]).await;
                count += 1;
            }
            control.next().await.unwrap();
        }
        count
    };
    siege.attack("frames byte by byte", CALM, bytes).await.is_bearable(16.0);
    drop(raw);

    let long = again(async || {
        let (raw, mut control) = introduced(address).await;
        let header = [0, 0, SetupConnection::TYPE, 0xff, 0xff, 0xff];
        let _ = control.write(&header).await;
        assert!(matches!(raw.ended().await, Ended::Application { code: 3, .. }));
    });
    siege.attack("oversized frames, each on a connection", CALM, long).await.is_bearable(32.0);

    let noise = garbage(1, 500, 3).remove(0);
    let long = again(async || {
        let raw = Raw::at(address).await;
        let mut control = raw.open_bi().await.unwrap();
        let _ = control.write(&noise).await;
        assert!(matches!(raw.ended().await, Ended::Application { code: 2 | 3, .. }));
    });
    siege.attack("garbage after the handshake, each on a connection", CALM, long).await.is_bearable(32.0);

    let mut churn = Churn::at(&siege.victim.quic).await;
    let channels = async {
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < LONG {
            churn.open_and_close(count as u32).await;
            count += 1;
        }
        count
    };
    siege.attack("channels opened and closed", CALM, channels).await.is_bearable(16.0);
}

struct Churn(Client);

impl Churn {
    async fn at(url: &StratumUrl) -> Self {
        Self(Client::connect(url, &Device::default()).await.unwrap())
    }

    async fn open_and_close(&mut self, request: u32) {
        self.0.queue(&open(request)).unwrap();
        let channel_id = loop {
            if let Mining::OpenExtendedMiningChannelSuccess(m) = self.0.next().await.unwrap() {
                break m.channel_id;
            }
        };
        self.0.queue(&CloseChannel { channel_id, reason_code: Str255::default() }).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_bring_nothing_are_bounded() {
    const CONNECTIONS: usize = 5;
    let siege = Siege::lay(Limits::default()).await;
    let address = siege.victim.address();
    for (name, bytes, bound) in [
        ("idle streams", vec![0], 30.0),
        ("channels with a part of the longest frame", part_of_the_longest(), 30.0),
    ] {
        let mut held = Vec::new();
        let opening = async {
            let mut streams = 0;
            for _ in 0..CONNECTIONS {
                let (raw, control) = introduced(address).await;
                while let Ok(Ok(mut stream)) =
                    tokio::time::timeout(Duration::from_millis(500), raw.connection.open_bi()).await
                {
                    if stream.0.write_all(&bytes).await.is_err() {
                        break;
                    }
                    streams += 1;
                    held.push((None, Some(stream)));
                }
                held.push((Some((raw, control)), None));
            }
            sleep(CALM).await;
            streams
        };
        siege.attack(name, CALM, opening).await.is_bearable(bound);
        drop(held);
        sleep(CALM).await;
    }
}

/// A channel, then all but the last byte of what it may send.
fn part_of_the_longest() -> Vec<u8> {
    let mut frames = frame_of(&open(1));
    frames.extend([0, 0, SetCustomMiningJob::TYPE, 0, 0x10, 0x01]);
    frames.extend([0; 0x1_1000 - 1]);
    frames
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_packets_from_everywhere_keep_nobody_out() {
    let siege = Siege::lay(Limits { handshake_seconds: 3, ..Limits::default() }).await;
    let address = siege.victim.address();
    let first = initials(1000).await;

    let sources = Sources::open(500);
    let flooding = async {
        // more than are let in without a question
        sources.send(address, &first[..100]);
        let raw = soon("a client gets in after a Retry", Dial::new().connect(address)).await.unwrap();
        raw.close(0, "");
        let sent = flood(address, 500, 10, first[100..].to_vec());
        let joining = async {
            sleep(LONG / 2).await;
            let began = Instant::now();
            let miner = Miner::at(&siege.victim.quic, 1).await;
            println!("a miner joins within {:.1?}", began.elapsed());
            miner
        };
        let (sent, mut miner) = tokio::join!(sent, joining);
        miner.submit().unwrap();
        assert_eq!(miner.settle().await.accepted, 1);
        sent + 100
    };
    let outcome = siege.attack("Initials from many ports", Duration::from_secs(8), flooding).await;
    outcome.is_bearable(64.0);
    let answers = sources.received();
    let retries = answers.iter().filter(|answer| answer[0] & 0xf0 == 0xf0).count();
    println!("{retries} of 100 were asked where they are");
    assert!((36..=40).contains(&retries), "{retries}");

    let same = vec![first[0].clone(); 2000];
    siege
        .attack("one Initial replayed from one port", CALM, flood(address, 1, 100, same.clone()))
        .await
        .is_bearable(64.0);
    siege
        .attack("one Initial replayed from many ports", CALM, flood(address, 500, 100, same))
        .await
        .is_bearable(64.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_go_nowhere_are_bounded_and_forgotten() {
    const HANDSHAKES: usize = 500;
    let limits =
        Limits { max_handshakes: HANDSHAKES, handshake_seconds: 4, per_address: 5000, ..Limits::default() };
    let siege = Siege::lay(limits).await;
    let address = siege.victim.address();
    let mut ends = Vec::new();
    for wave in 1..=2 {
        let mut clients = HalfOpen::new();
        let began = Instant::now();
        let opening = async {
            for _ in 0..(HANDSHAKES + 100) / 10 {
                (0..10).for_each(|_| clients.connect(address));
                // their one socket holds so many answers
                sleep(Duration::from_millis(5)).await;
            }
            let url = &siege.victim.quic;
            soon("there is no room", async {
                while !matches!(Miner::join(url, 1).await, Err(ClientError::Full)) {
                    // some answers were lost on a busy machine
                    (0..10).for_each(|_| clients.connect(address));
                }
            })
            .await;
            soon("there is room again", async {
                while let Err(error) = Miner::join(url, 1).await {
                    assert!(matches!(error, ClientError::Full), "{error}");
                    sleep(Duration::from_millis(50)).await;
                }
            })
            .await;
            println!("there is room again after {:.1?}", began.elapsed());
            // without a timeout of its own, the transport's for idle connections would be waited for
            assert!((3..20).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
            HANDSHAKES as u64
        };
        let name = format!("half-open handshakes, wave {wave}");
        let outcome = siege.attack(&name, Duration::from_secs(6), opening).await;
        outcome.is_bearable(100.0);
        ends.push(outcome.memory);
        clients.forget();
    }
    // what is not given back is used again
    assert!(ends[1][1] < ends[0][1] + 10.0, "{ends:?}");
}

#[tokio::test]
async fn one_address_takes_no_more_than_an_eighth_of_the_handshakes() {
    let house = House::listener(2, |options| options.quic.max_handshakes = 16).await;
    let mut clients = HalfOpen::new();
    (0..2).for_each(|_| clients.connect(house.address));
    let refused = soon("the address has its share", async {
        loop {
            if let Err(ended) = Dial::new().connect(house.address).await {
                break ended;
            }
        }
    });
    // CONNECTION_REFUSED
    assert!(matches!(refused.await, Ended::ByTransport { code: 2, .. }));
    Dial::new().from(2).connect(house.address).await.unwrap();
}
