//! How often the client has to speak until it can mine.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use blvm_stratum_v2::clock::Clock;
use blvm_stratum_v2::transport::Admission;
use blvm_stratum_v2::transport::client::{Client, Device};
use blvm_stratum_v2::transport::quic::{EndpointKeys, Options, QuicListener};
use blvm_stratum_v2::transport::tls::TlsIdentity;
use blvm_stratum_v2::wire::mining::Mining;
use blvm_stratum_v2::wire::url::Transport;
use tokio::sync::watch;

use super::miner::{Miner, open, worker_names};
use crate::forwarder::{Forwarder, Path, client_flights};
use crate::house::House;
use crate::raw::{Dial, soon};

const QUIET: Duration = Duration::from_millis(150);

/// The flights of a client that says all it can as soon as it can.
async fn flights_until_work(server: SocketAddr) -> usize {
    let path = Forwarder::turns(server, Path::default(), QUIET);
    let mut miner = Miner::by(&Dial::new(), path.addr(), 0).await;
    miner.control.send(&worker_names()).await.unwrap();
    let mut channel = miner.raw.open_bi().await.unwrap();
    channel.send(&open(1)).await.unwrap();
    let opened = miner.opened(1, channel).await;
    let flights = client_flights(&path.flights());
    assert!(miner.control.next().await.is_ok(), "and all of it is answered");
    assert!(miner.control.next().await.is_ok());
    assert_ne!(opened.id, opened.group);
    flights
}

#[tokio::test]
async fn the_first_job_comes_on_the_second_flight() {
    let house = House::listener(1, |_| {}).await;
    assert_eq!(flights_until_work(house.address).await, 2);
}

#[tokio::test]
async fn a_retry_costs_one_flight() {
    let house = House::listener(1, |options| options.quic.validate_above = 0).await;
    assert_eq!(flights_until_work(house.address).await, 3);
}

#[tokio::test]
async fn a_long_certificate_costs_one_flight() {
    let house = House::listener(1, |_| {}).await;
    let names: Vec<_> =
        (0..100).map(|number| format!("a-name-that-takes-its-room.{number}.invalid")).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    assert!(made.cert.der().len() > 4096);
    let tls = TlsIdentity::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes());
    let listener = QuicListener::bind(
        (Ipv4Addr::LOCALHOST, 0).into(),
        tls.unwrap().server_config().unwrap(),
        &EndpointKeys::derive(&[1; 32]),
        Options::default(),
        Admission::new(10, 10),
    )
    .unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(listener.run(house.pool.clone(), Clock::start(), stopped));
    assert_eq!(flights_until_work(address).await, 3);
}

#[tokio::test]
async fn the_client_of_the_library_is_as_quick() {
    let house = House::listener(1, |_| {}).await;
    let path = Forwarder::turns(house.address, Path::default(), QUIET);
    let url = house.url_by(Transport::Quic, path.addr());
    let mut client = soon("a connection", Client::connect(&url, &Device::default())).await.unwrap();
    client.queue(&worker_names()).unwrap();
    client.queue(&open(1)).unwrap();
    let job = async { while !matches!(client.next().await.unwrap(), Mining::SetNewPrevHash(_)) {} };
    soon("the first job", job).await;
    assert_eq!(client_flights(&path.flights()), 2);
}
