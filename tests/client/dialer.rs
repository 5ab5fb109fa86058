//! Which way a miner with both URLs goes, and how long it waits after a failure.

use std::future::Future;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::transport::client::{Client, ClientError, Dialer, Pace, Server};
use blvm_stratum_v2::transport::tls::TlsIdentity;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use quinn::VarInt;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tracing::instrument::WithSubscriber;

use super::fakes::Fake;
use super::forwarder::{Forwarder, Path};
use super::house::House;
use super::support::authority;
use super::{becomes, device, soon, trust, url};

/// Longer than any test: what waits for it never happens.
const NEVER: Duration = Duration::from_secs(86_400);

fn dialer(quic: StratumUrl, tcp: StratumUrl, pace: Pace) -> Dialer {
    Dialer::new(Server::at([quic, tcp]).unwrap(), device(), pace)
}

async fn connect(dialer: &Dialer) -> Result<Client, ClientError> {
    soon("an outcome of connecting", dialer.connect()).await
}

/// A lane that swallows everything until it is opened, and the URL of the house at its end.
fn swallowing(house: &House) -> (Forwarder, StratumUrl) {
    let path = Forwarder::start(house.address, Path::default());
    path.blackhole(true);
    let url = house.url_by(Transport::Quic, path.addr());
    (path, url)
}

/// What was logged meanwhile, from warnings up.
async fn warnings<T>(during: impl Future<Output = T>) -> (T, String) {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let outcome = during.with_subscriber(subscriber).await;
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (outcome, logged)
}

#[test]
fn the_pace_is_that_of_the_mapping() {
    let seconds = Duration::from_secs;
    let Pace { head_start, retry_quic, first_wait, longest_wait, lasting_wait } = Pace::default();
    assert_eq!([head_start, retry_quic], [seconds(2), seconds(600)]);
    assert_eq!([first_wait, longest_wait], [seconds(1), seconds(60)]);
    assert!(lasting_wait >= seconds(180), "every few minutes");
}

#[tokio::test]
async fn quic_comes_first() {
    let house = House::listener(1, |_| {}).await;
    let tcp = Fake::mute().await;
    let tcp_url = url(Transport::Tcp, tcp.address, trust(&authority(1)));
    let dialer = dialer(house.url(Transport::Quic), tcp_url, Pace::default());
    assert_eq!(connect(&dialer).await.unwrap().transport(), Transport::Quic);
    assert_eq!(tcp.visits(), 0, "TCP is not even tried");
}

#[tokio::test]
async fn tcp_is_tried_after_two_seconds() {
    let house = House::listener(1, |_| {}).await;
    let (_path, quic) = swallowing(&house);
    let start = Instant::now();
    let dialer = dialer(quic, house.url(Transport::Tcp), Pace::default());
    let (client, logged) = warnings(connect(&dialer)).await;
    assert_eq!(client.unwrap().transport(), Transport::Tcp);
    assert_eq!(logged, "", "QUIC has not been given up yet");
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn tcp_is_tried_at_once_when_quic_is_refused() {
    let house = House::listener(1, |_| {}).await;
    let refusing = {
        let server = quinn::ServerConfig::with_crypto(Arc::new(
            quinn::crypto::rustls::QuicServerConfig::try_from(tls()).unwrap(),
        ));
        quinn::Endpoint::server(server, ([127, 0, 0, 1], 0).into()).unwrap()
    };
    let address = refusing.local_addr().unwrap();
    let refuser = tokio::spawn(async move {
        while let Some(incoming) = refusing.accept().await {
            incoming.refuse();
        }
    });
    let cases = [
        // another server's key, and one that is full
        (url(Transport::Quic, house.address, trust(&authority(1))), "check the key at the end of the URL"),
        (url(Transport::Quic, address, trust(&authority(1))), "it is full"),
    ];
    for (quic, advice) in cases {
        let patient = Pace { head_start: NEVER, ..Pace::default() };
        let dialer = dialer(quic, house.url(Transport::Tcp), patient);
        let (client, logged) = warnings(connect(&dialer)).await;
        assert_eq!(client.unwrap().transport(), Transport::Tcp);
        assert!(logged.contains("WARN") && logged.contains(advice), "{advice:?} in {logged:?}");
    }
    refuser.abort();
}

fn tls() -> Arc<rustls::ServerConfig> {
    let now = unix_now();
    TlsIdentity::issue(&authority(1), now - 3600, now + 3600).unwrap().server_config().unwrap()
}

#[tokio::test]
async fn whichever_is_first_when_both_are_late() {
    let house = House::listener(1, |_| {}).await;
    let soon_both = Pace { head_start: Duration::from_millis(100), ..Pace::default() };
    // TCP answers nothing, and QUIC at last
    let tcp = Fake::mute().await;
    let tcp_url = url(Transport::Tcp, tcp.address, trust(&authority(1)));
    let (path, quic) = swallowing(&house);
    let dialer_of_both = dialer(quic, tcp_url, soon_both.clone());
    let opens = async {
        becomes("TCP is tried too", || tcp.visits() == 1).await;
        path.blackhole(false);
    };
    let (client, ()) = tokio::join!(connect(&dialer_of_both), opens);
    assert_eq!(client.unwrap().transport(), Transport::Quic);
    // QUIC answers nothing, and TCP at last
    let (path, quic) = swallowing(&house);
    let late = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp_url = house.url_by(Transport::Tcp, late.local_addr().unwrap());
    let serves = async {
        let (mut client, _) = late.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut server = tokio::net::TcpStream::connect(house.address).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    };
    let dialer_of_both = dialer(quic, tcp_url, soon_both);
    let client = tokio::select! {
        client = connect(&dialer_of_both) => client,
        () = serves => panic!("the connection stays"),
    };
    assert_eq!(client.unwrap().transport(), Transport::Tcp);
    drop(path);
}

#[tokio::test]
async fn the_other_way_is_waited_for_when_one_fails_late() {
    let house = House::listener(1, |_| {}).await;
    let at_once = Pace { head_start: Duration::ZERO, ..Pace::default() };
    // nobody listens on TCP any more
    let gone = url(Transport::Tcp, Fake::mute().await.address, trust(&authority(1)));
    let (path, quic) = swallowing(&house);
    let dialer_of_both = dialer(quic, gone, at_once.clone());
    let opens = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        path.blackhole(false);
    };
    let ((client, logged), ()) = tokio::join!(warnings(connect(&dialer_of_both)), opens);
    assert_eq!(client.unwrap().transport(), Transport::Quic);
    assert!(logged.contains("no connection over TCP"), "{logged:?}");
    // QUIC turns out to be somebody else while TCP is still at it
    let late = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp_url = house.url_by(Transport::Tcp, late.local_addr().unwrap());
    let delay = Duration::from_millis(100);
    let somebody = Forwarder::start(house.address, Path { delay_up: delay, ..Path::default() });
    let quic = url(Transport::Quic, somebody.addr(), trust(&authority(1)));
    let serves = async {
        let (mut client, _) = late.accept().await.unwrap();
        becomes("QUIC has answered", || somebody.counts().down.datagrams > 0).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut server = tokio::net::TcpStream::connect(house.address).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    };
    let dialer_of_both = dialer(quic, tcp_url, at_once);
    let (client, logged) = tokio::select! {
        connected = warnings(connect(&dialer_of_both)) => connected,
        () = serves => panic!("the connection stays"),
    };
    assert_eq!(client.unwrap().transport(), Transport::Tcp);
    assert!(logged.contains("check the key at the end of the URL"), "{logged:?}");
}

#[tokio::test]
async fn quic_is_tried_again_and_is_set_up_when_it_is_back() {
    let house = House::listener(1, |_| {}).await;
    let (path, quic) = swallowing(&house);
    let pace = Pace {
        head_start: Duration::from_millis(100),
        retry_quic: Duration::from_millis(100),
        ..Pace::default()
    };
    let dialer = dialer(quic, house.url(Transport::Tcp), pace);
    let client = connect(&dialer).await.unwrap();
    assert_eq!(client.transport(), Transport::Tcp);
    let opens = async {
        let dropped = path.counts().up.dropped;
        becomes("QUIC is tried again", || path.counts().up.dropped > dropped).await;
        path.blackhole(false);
    };
    let better = soon("QUIC is back", dialer.better_than(client.transport()));
    let (mut better, ()) = tokio::join!(better, opens);
    assert_eq!(better.transport(), Transport::Quic);
    assert_eq!(house.stats_of(Transport::Quic).connections.get(), 1);
    soon("it is set up already", better.set_up()).await.unwrap();
}

#[tokio::test]
async fn quic_that_does_not_set_up_is_not_better() {
    let closing = Fake::quic(tls(), |connection, _| async move {
        let _control = connection.accept_bi().await;
        connection.close(VarInt::from_u32(5), b"no");
        connection.closed().await;
    });
    let pace = Pace { retry_quic: Duration::from_millis(50), ..Pace::default() };
    let quic = url(Transport::Quic, closing.address, trust(&authority(1)));
    let dialer = dialer(quic.clone(), StratumUrl { transport: Transport::Tcp, ..quic }, pace);
    tokio::select! {
        client = dialer.better_than(Transport::Tcp) => panic!("{client:?}"),
        () = becomes("QUIC is tried again and again", || closing.visits() > 2) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_nothing_better_than_quic_or_the_only_url() {
    let house = House::listener(1, |_| {}).await;
    let (quic, tcp) = (house.url(Transport::Quic), house.url(Transport::Tcp));
    let both = dialer(quic, tcp.clone(), Pace::default());
    assert!(timeout(NEVER, both.better_than(Transport::Quic)).await.is_err());
    let only = Dialer::new(Server::at([tcp]).unwrap(), device(), Pace::default());
    assert!(timeout(NEVER, only.better_than(Transport::Tcp)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn waits_grow_and_start_over_and_are_long_where_someone_has_to_act() {
    let only = url(Transport::Tcp, ([127, 0, 0, 1], 1).into(), trust(&authority(1)));
    let mut dialer = Dialer::new(Server::at([only]).unwrap(), device(), Pace::default());
    // the clock is paused: these are exact
    async fn waited(dialer: &mut Dialer, lasting: bool, seconds: f64) {
        let start = Instant::now();
        dialer.wait_after(&ClientError::Timeout, lasting).await;
        let waited = start.elapsed().as_secs_f64();
        assert!((0.75 * seconds..=1.25 * seconds + 0.01).contains(&waited), "{waited} s for {seconds} s");
    }
    for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
        waited(&mut dialer, false, seconds).await;
    }
    waited(&mut dialer, true, 300.0).await;
    dialer.succeeded();
    waited(&mut dialer, false, 1.0).await;
    waited(&mut dialer, true, 300.0).await;
}
