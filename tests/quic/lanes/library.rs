//! The library's client, as a server sees it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use blvm_stratum_v2::server::Identity;
use blvm_stratum_v2::transport::LinkError;
use blvm_stratum_v2::transport::client::{Client, ClientError, Device};
use blvm_stratum_v2::transport::quic::Code;
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::{SetupConnection, SetupConnectionSuccess};
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::mining::{Mining, OpenMiningChannelError, OpenStandardMiningChannel};
use blvm_stratum_v2::wire::url::{StratumUrl, Transport, Trust};
use blvm_stratum_v2::wire::{Message, RequestId};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, ServerConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::miner::{open, open_in_vain};
use crate::house::House;
use crate::raw::{End, Ended, Stream, soon};

/// A server that is all the test's, and its client.
async fn pair() -> (Connection, Client) {
    let authority = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(3));
    let trust = Trust::Authority(authority.public_key());
    let tls = Identity::issue(authority).unwrap().tls.config;
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let (transport, host, port) = (Transport::Quic, address.ip().to_string(), address.port());
    let url = StratumUrl { transport, host, port, trust };
    let accepted = async { endpoint.accept().await.unwrap().await.unwrap() };
    let device = Device::default();
    let (server, client) = tokio::join!(accepted, Client::connect(&url, &device));
    (server, client.unwrap())
}

async fn accept(server: &Connection) -> Stream {
    let (send, recv) = soon("the client opens a stream", server.accept_bi()).await.unwrap();
    Stream { send, recv }
}

#[tokio::test]
async fn a_client_that_closes_at_once_has_said_all() {
    let (server, mut client) = pair().await;
    for request in 0..20 {
        client.queue(&open(request)).unwrap();
    }
    let closes = async {
        client.close().await;
        server.closed().await
    };
    let hears = async {
        let (header, _) = accept(&server).await.next().await.unwrap();
        assert_eq!(header.msg_type, SetupConnection::TYPE);
        let mut requests = Vec::new();
        for _ in 0..20 {
            let mut stream = accept(&server).await;
            let (_, payload) = stream.next().await.unwrap();
            requests.push(OpenStandardMiningChannel::decode(&payload).unwrap().request_id.0);
            assert_eq!(stream.next().await, Err(End::Fin));
        }
        requests
    };
    let (ended, requests) = tokio::join!(closes, hears);
    assert_eq!(requests, (0..20).collect::<Vec<_>>());
    assert_eq!(Ended::from(ended), Ended::Application { code: 0, reason: String::new() });
}

#[tokio::test]
async fn a_refused_channels_stream_is_ended_by_both() {
    let (server, mut client) = pair().await;
    client.queue(&open(1)).unwrap();
    let serves = async {
        let mut control = accept(&server).await;
        control.next().await.unwrap();
        control.send(&SetupConnectionSuccess { used_version: 2, flags: 0 }).await.unwrap();
        let mut channel = accept(&server).await;
        channel.next().await.unwrap();
        let error_code = Str255::truncated("no");
        channel.send(&OpenMiningChannelError { request_id: RequestId(1), error_code }).await.unwrap();
        channel.finish();
        assert_eq!(channel.next().await, Err(End::Fin));
        server.close(9u32.into(), b"");
    };
    let hears = async {
        let refused = matches!(client.next().await, Ok(Mining::OpenMiningChannelError(_)));
        (refused, client.next().await.map(|_| ()))
    };
    let ((), (refused, ended)) = tokio::join!(serves, hears);
    assert!(refused);
    let is_draining =
        matches!(ended, Err(ClientError::Link(LinkError::ClosedFor { code: Code::DRAINING, .. })));
    assert!(is_draining, "{ended:?}");
}

/// How the client fares until the connection ends.
async fn ends(mut client: Client) -> ClientError {
    soon("the end", async {
        loop {
            if let Err(error) = client.next().await {
                return error;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_client_is_told_why_the_connection_ends() {
    let house = House::listener(1, |options| {
        options.pool.session.open_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let url = house.url(Transport::Quic);
    let mut client = Client::connect(&url, &Device::default()).await.unwrap();
    client.queue(&open_in_vain(1)).unwrap();
    let error = ends(client).await;
    let told = matches!(error, ClientError::Link(LinkError::ClosedFor { code: Code::NO_CHANNEL, .. }));
    assert!(told, "{error:?}");

    let mut client = Client::connect(&url, &Device::default()).await.unwrap();
    client.queue(&open(1)).unwrap();
    client.next().await.unwrap();
    house.stop();
    let error = ends(client).await;
    let told = matches!(error, ClientError::Link(LinkError::ClosedFor { code: Code::DRAINING, .. }));
    assert!(told, "{error:?}");
}
