//! The tools work.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::time::{Duration, Instant};

use quinn::{Connection, VarInt};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use crate::echo::{Door, Echo};
use crate::floods::{HalfOpen, Sources, garbage, initials, short_headers};
use crate::forwarder::Direction::{Down, Up};
use crate::forwarder::{Flight, Forwarder, Path, client_flights};
use crate::house::frame;
use crate::raw::{Dial, End, Ended, Raw, Refused, Stream, soon};
use crate::usage;

const QUIET: Duration = Duration::from_millis(100);

async fn echoes(stream: &mut Stream, len: usize) {
    let sent = frame(0, 1, &vec![7; len]);
    stream.write(&sent).await.unwrap();
    let (header, payload) = stream.next().await.unwrap();
    assert_eq!(frame(header.extension, header.msg_type, &payload), sent);
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lossy_path_loses_and_quic_gets_through() {
    let echo = Echo::start(Door::Open);
    let path = Forwarder::start(echo.addr, Path { loss_up: 0.2, loss_down: 0.2, seed: 1, ..Path::default() });
    let dial = Dial::new().transport(|transport| {
        transport.initial_rtt(Duration::from_millis(10));
    });
    let client = dial.connect(path.addr()).await.unwrap();
    let mut stream = client.open_bi().await.unwrap();
    for _ in 0..3 {
        echoes(&mut stream, 20_000).await;
    }
    let counts = path.counts();
    assert!(counts.up.dropped > 0 && counts.down.dropped > 0, "{counts:?}");
    assert!(counts.up.bytes > 50_000 && counts.down.bytes > 50_000, "{counts:?}");
    assert_eq!(counts.source_ports_seen, 1);
    path.set_loss(0.0, 0.0);
    echoes(&mut stream, 5_000).await;
}

#[tokio::test]
async fn a_long_path_takes_its_time() {
    let echo = Echo::start(Door::Open);
    let delay = Duration::from_millis(20);
    let path = Forwarder::start(echo.addr, Path { delay_up: delay, delay_down: delay, ..Path::default() });
    let client = Raw::at(path.addr()).await;
    let mut stream = client.open_bi().await.unwrap();
    let began = Instant::now();
    echoes(&mut stream, 10).await;
    assert!(began.elapsed() >= 2 * delay);
    assert!(client.connection.min_rtt() >= 2 * delay);
    path.set_delay(3 * delay, delay);
    let began = Instant::now();
    echoes(&mut stream, 10).await;
    assert!(began.elapsed() >= 4 * delay);
}

#[tokio::test]
async fn nothing_comes_out_of_a_black_hole() {
    let echo = Echo::start(Door::Open);
    let path = Forwarder::start(echo.addr, Path::default());
    let dial = Dial::new().transport(|transport| {
        transport.max_idle_timeout(Some(VarInt::from_u32(500).into()));
    });
    let client = dial.connect(path.addr()).await.unwrap();
    path.blackhole(true);
    assert_eq!(client.ended().await, Ended::TimedOut);
    path.blackhole(false);
    let client = dial.connect(path.addr()).await.unwrap();
    echoes(&mut client.open_bi().await.unwrap(), 10).await;
    assert_eq!(path.counts().source_ports_seen, 2);
}

async fn comes_from_elsewhere(server: &Connection, before: SocketAddr) {
    until("the server follows", || server.remote_address() != before).await;
}

#[tokio::test]
async fn a_connection_outlives_a_rotation() {
    let mut echo = Echo::start(Door::Open);
    let path = Forwarder::start(echo.addr, Path::default());
    let client = Raw::at(path.addr()).await;
    let server = echo.accepted().await;
    let mut stream = client.open_bi().await.unwrap();
    echoes(&mut stream, 100_000).await;

    // in the midst of a transfer
    let first = server.remote_address();
    let rotated = Cell::new(false);
    let transfer = async {
        let mut sent = 0;
        let mut left = 200;
        while left > 0 {
            stream.send.write_all(&[9; 10_000]).await.unwrap();
            sent += 10_000;
            left -= i32::from(rotated.get());
        }
        stream.send.finish().unwrap();
        sent
    };
    let rotation = async {
        let before = path.counts().up.bytes;
        until("the transfer is running", || path.counts().up.bytes > before + 100_000).await;
        path.rotate();
        rotated.set(true);
    };
    let reply = async {
        let mut received = 0;
        while let Some(chunk) = stream.recv.read_chunk(usize::MAX, true).await.unwrap() {
            received += chunk.bytes.len();
        }
        received
    };
    let (sent, (), received) =
        soon("the echo goes on", async { tokio::join!(transfer, rotation, reply) }).await;
    assert_eq!(sent, received);
    comes_from_elsewhere(&server, first).await;
    assert_eq!(path.counts().source_ports_seen, 2);

    // and with the old port open for a while
    let second = server.remote_address();
    path.rotate_lingering(Duration::from_millis(200));
    echoes(&mut client.open_bi().await.unwrap(), 100_000).await;
    comes_from_elsewhere(&server, second).await;
    assert_eq!(path.counts().source_ports_seen, 3);
    assert_eq!(client.connection.close_reason(), None);
}

#[tokio::test]
async fn clients_have_ports_of_their_own() {
    let mut echo = Echo::start(Door::Open);
    let path = Forwarder::start(echo.addr, Path::default());
    let mut remotes = HashSet::new();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let client = Raw::at(path.addr()).await;
        remotes.insert(echo.accepted().await.remote_address());
        clients.push(client);
    }
    for client in &clients {
        echoes(&mut client.open_bi().await.unwrap(), 1000).await;
    }
    assert_eq!(remotes.len(), 5);
    assert_eq!(path.counts().source_ports_seen, 5);
}

#[tokio::test]
async fn flights_are_counted_by_what_caused_them() {
    let bind = async || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (client, server) = (bind().await, bind().await);
    let path = Forwarder::turns(server.local_addr().unwrap(), Path::default(), QUIET);
    client.connect(path.addr()).await.unwrap();
    let say = async |from: &UdpSocket, to: &UdpSocket, count: usize| {
        for _ in 0..count {
            from.send(&[0; 10]).await.unwrap();
        }
        for _ in 0..count {
            soon("it arrives", to.recv(&mut [0; 10])).await.unwrap();
        }
    };
    let knock = async {
        client.send(&[0; 10]).await.unwrap();
        let (_, port) = server.recv_from(&mut [0; 10]).await.unwrap();
        server.connect(port).await.unwrap();
    };
    soon("the first arrives", knock).await;
    say(&client, &server, 2).await;
    say(&server, &client, 2).await;
    say(&server, &client, 1).await; // the client passes
    say(&client, &server, 1).await;
    let flight = |direction, datagrams| Flight { direction, datagrams, bytes: 10 * datagrams };
    assert_eq!(path.flights(), [flight(Up, 3), flight(Down, 3), flight(Up, 1)]);
    assert_eq!(client_flights(&path.flights()), 1);
}

/// The client's flights until the echo of what it sends after the handshake.
async fn flights_until_an_echo(door: Door) -> usize {
    let echo = Echo::start(door);
    let path = Forwarder::turns(echo.addr, Path::default(), QUIET);
    let client = Raw::at(path.addr()).await;
    echoes(&mut client.open_bi().await.unwrap(), 100).await;
    let flights = path.flights();
    for pair in flights.windows(2) {
        assert_ne!(pair[0].direction, pair[1].direction);
    }
    client_flights(&flights)
}

#[tokio::test]
async fn a_handshake_and_a_request_take_two_flights() {
    assert_eq!(flights_until_an_echo(Door::Open).await, 2);
}

#[tokio::test]
async fn a_retry_takes_one_more() {
    assert_eq!(flights_until_an_echo(Door::Retry).await, 3);
}

#[tokio::test]
async fn a_flood_of_initials_is_one_of_clients() {
    const COUNT: usize = 60;
    let echo = Echo::start(Door::Shut);
    let initials = initials(COUNT).await;
    assert!(initials.iter().all(|initial| initial.len() >= 1200));
    let sources = Sources::open(20);
    sources.send(echo.addr, &initials);
    until("all knock", || echo.knocks.lock().unwrap().len() == COUNT).await;
    let remotes: HashSet<_> = echo.knocks.lock().unwrap().iter().copied().collect();
    assert_eq!(remotes.len(), 20);
    assert!(sources.received().is_empty());
}

#[tokio::test]
async fn a_flood_of_rubbish_is_none_of_clients() {
    let echo = Echo::start(Door::Open);
    let sources = Sources::open(5);
    sources.send(echo.addr, &short_headers(20, 60, 1));
    // of a version that does not exist, so the server says which it has
    let mut unknown = garbage(1, 1300, 2);
    unknown[0][..6].copy_from_slice(&[0xc0, 0xba, 0xba, 0xba, 0xba, 8]);
    unknown[0][14] = 8;
    sources.send(echo.addr, &garbage(20, 60, 2));
    sources.send(echo.addr, &unknown);
    let answers = async {
        loop {
            // version negotiation names version 0
            if sources.received().iter().any(|answer| answer[1..5] == [0; 4]) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the server says which versions it has", answers).await;
    echoes(&mut Raw::at(echo.addr).await.open_bi().await.unwrap(), 10).await;
    assert_eq!(echo.knocks.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn half_open_clients_never_come_in() {
    for (door, knocks) in [(Door::Open, 10), (Door::Retry, 20)] {
        let mut echo = Echo::start(door);
        let mut clients = HalfOpen::new();
        for _ in 0..10 {
            clients.connect(echo.addr);
        }
        until("they knock", || echo.knocks.lock().unwrap().len() == knocks).await;
        let honest = Raw::at(echo.addr).await;
        let accepted = echo.accepted().await;
        assert_eq!(accepted.remote_address().port(), honest.endpoint.local_addr().unwrap().port());
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_as_it_is() {
    let mut echo = Echo::idle();
    let client = Raw::at(echo.addr).await;
    let server = echo.accepted().await;
    assert!(!client.certificate().is_empty());
    server.close(7u32.into(), b"too many bad shares");
    assert_eq!(
        client.ended().await,
        Ended::Application { code: 7, reason: "too many bad shares".to_owned() }
    );

    let client = Raw::at(echo.addr).await;
    let server = echo.accepted().await;
    client.close(3, "mine");
    assert_eq!(client.ended().await, Ended::Locally);
    let ended = Ended::from(soon("the server hears of it", server.closed()).await);
    assert_eq!(ended, Ended::Application { code: 3, reason: "mine".to_owned() });
}

#[tokio::test]
async fn another_protocol_fails_in_the_handshake() {
    const NO_APPLICATION_PROTOCOL: u64 = 0x178;
    let echo = Echo::idle();
    for protocols in [&[b"h3".as_slice()] as &[&[u8]], &[]] {
        match Dial::new().alpn(protocols).connect(echo.addr).await.map(|_| ()) {
            Err(Ended::ByTransport { code: NO_APPLICATION_PROTOCOL, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_end_of_a_stream_is_told_as_it_is() {
    let mut echo = Echo::idle();
    let client = Raw::at(echo.addr).await;
    let server = echo.accepted().await;
    let both = async || {
        let mut ours = client.open_bi().await.unwrap();
        ours.write(&frame(0, 9, b"hello")).await.unwrap();
        let (send, recv) = soon("it arrives", server.accept_bi()).await.unwrap();
        (ours, Stream { send, recv })
    };

    let (mut ours, mut theirs) = both().await;
    assert_eq!(theirs.next().await.unwrap().1, b"hello");
    theirs.write(&frame(0, 9, b"whole")).await.unwrap();
    theirs.write(&frame(0, 9, b"cut")[..8]).await.unwrap();
    theirs.finish();
    assert_eq!(ours.next().await.unwrap().1, b"whole");
    assert_eq!(ours.next().await, Err(End::Cut(8)));
    ours.finish();
    assert_eq!(theirs.next().await, Err(End::Fin));
    assert_eq!(ours.stopped().await, None);

    let (mut ours, mut theirs) = both().await;
    theirs.reset(5);
    assert_eq!(ours.next().await, Err(End::Reset(5)));
    theirs.stop(6);
    assert_eq!(ours.stopped().await, Some(6));
    assert_eq!(ours.write(b"more").await, Err(Refused::Stopped(6)));

    let (mut ours, mut theirs) = both().await;
    ours.reset(7);
    ours.stop(8);
    assert_eq!(theirs.stopped().await, Some(8));
    theirs.next().await.unwrap_err(); // the reset, whether or not the frame came first
    assert_eq!(ours.next().await, Err(End::Fin), "which is quinn's word for stopped");

    let (mut ours, _theirs) = both().await;
    server.close(9u32.into(), b"");
    let ended = Ended::Application { code: 9, reason: String::new() };
    assert_eq!(ours.next().await, Err(End::Connection(ended.clone())));
    assert_eq!(client.ended().await, ended);
}

#[tokio::test]
async fn a_client_may_grant_nothing() {
    let mut echo = Echo::idle();
    let dial = Dial::new().from(9).transport(|transport| {
        transport.max_concurrent_uni_streams(0u32.into()).receive_window(10u32.into());
    });
    let client = dial.connect(echo.addr).await.unwrap();
    let server = echo.accepted().await;
    assert!(server.remote_address().ip().to_string().ends_with(".9"));
    let opened = tokio::time::timeout(Duration::from_millis(200), server.open_uni()).await;
    assert!(opened.is_err(), "a stream without a grant");
    client.connection.set_max_concurrent_uni_streams(1u32.into());
    let mut push = soon("the grant arrives", server.open_uni()).await.unwrap();
    let mut wrote = 0;
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(200), push.write(&[0; 100])).await {
        wrote += written.unwrap();
    }
    assert_eq!(wrote, 10);
}

#[tokio::test]
async fn a_servers_stream_is_read_and_stopped() {
    let mut echo = Echo::idle();
    let client = Raw::at(echo.addr).await;
    let server = echo.accepted().await;
    let mut push = server.open_uni().await.unwrap();
    push.write_all(&frame(0, 9, b"work")).await.unwrap();
    let mut receiver = client.accept_uni().await.unwrap();
    assert_eq!(receiver.next().await.unwrap().1, b"work");
    receiver.stop(4);
    let stopped = soon("the server hears of it", push.stopped()).await;
    assert_eq!(stopped.unwrap(), Some(4u32.into()));
}

#[test]
fn memory_and_time_are_counted() {
    let me = process::id();
    let thread = usage::this_thread();
    assert!(usage::threads("").contains(&thread));
    let before = (usage::cpu(me), usage::cpu_of_thread(thread).unwrap());
    let began = Instant::now();
    while usage::cpu_of_thread(thread).unwrap() < before.1 + Duration::from_millis(30) {
        assert!(began.elapsed() < Duration::from_secs(60), "work takes no time");
    }
    assert!(usage::cpu(me) >= before.0 + Duration::from_millis(20));
    let memory = vec![1u8; 64 << 20];
    assert!(usage::resident(me) > 64 << 20, "{}", memory[memory.len() / 2]);
    let named = std::thread::Builder::new().name("tools-named".into());
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (running, runs) = std::sync::mpsc::channel();
    let named = named.spawn(move || {
        running.send(()).unwrap();
        let _ = stopped.recv();
    });
    runs.recv().unwrap();
    assert_eq!(usage::threads("tools-named").len(), 1);
    assert!(usage::cpu_of_threads("tools-named") < Duration::from_secs(60));
    drop(stop);
    named.unwrap().join().unwrap();
    assert_eq!(usage::cpu_of_thread(u32::MAX), None);
}
