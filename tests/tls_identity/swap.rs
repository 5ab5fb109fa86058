//! Certificates that change while a server runs.

use blvm_stratum_v2::certs::Look;
use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::transport::client::{Client, ClientError};
use blvm_stratum_v2::transport::tls::{IdentityError, Proof};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::mining::{Mining, OpenExtendedMiningChannel};
use blvm_stratum_v2::wire::url::{StratumUrl, Transport, Trust};
use blvm_stratum_v2::wire::{RequestId, U256};

use super::served::*;

const BOTH: [Transport; 2] = [Transport::Quic, Transport::Tcp];

/// The server answers on this connection.
async fn works(client: &mut Client, request: u32) {
    client
        .queue(&OpenExtendedMiningChannel {
            request_id: RequestId(request),
            user_identity: Str255::truncated("a.b"),
            nominal_hash_rate: 1e12,
            max_target: U256([0xff; 32]),
            min_extranonce_size: 4,
        })
        .unwrap();
    loop {
        match client.next().await.unwrap() {
            Mining::OpenExtendedMiningChannelSuccess(m) if m.request_id == RequestId(request) => return,
            Mining::OpenMiningChannelError(m) => panic!("{}", m.error_code),
            _ => {}
        }
    }
}

#[tokio::test]
async fn made_elsewhere_it_is_known_by_the_right_key_alone() {
    let mut served = Served::prepared();
    served.start().await;
    assert!(!served.options.directory.join("authority.key").exists());
    for transport in BOTH {
        let url = served.url(transport);
        assert_eq!(url.trust, Trust::Authority(served.authority.public_key()));
        let (mut client, verified) = visit(&url).await.unwrap();
        assert_eq!(verified.by, Proof::AuthorityKey);
        assert!((88 * DAY..=90 * DAY).contains(&(verified.not_valid_after - unix_now())));
        works(&mut client, 1).await;
        let other = StratumUrl { trust: super::support::trust(&super::support::authority(2)), ..url };
        let error = visit(&other).await.unwrap_err();
        assert!(matches!(error, ClientError::Identity(IdentityError::WrongAuthority)), "{error:?}");
        assert!(error.to_string().contains("check the key at the end of the URL"), "{error}");
    }
}

#[tokio::test]
async fn who_is_connected_does_not_notice_and_who_comes_sees_the_new_one() {
    let mut served = Served::prepared();
    served.start().await;
    let mut before = Vec::new();
    for transport in BOTH {
        before.push(visit(&served.url(transport)).await.unwrap());
    }
    for (days, round) in [(100, 1), (110, 2), (120, 3)] {
        let made = served.make(days);
        let bad = served.options.directory.join("tls.key");
        let key = std::fs::read(&bad).unwrap();
        std::fs::write(&bad, "half").unwrap();
        assert!(matches!(served.look(), Look::Bad { seen_before: false, .. }));
        std::fs::write(&bad, key).unwrap();
        served.swap();
        for transport in BOTH {
            let (mut client, verified) = visit(&served.url(transport)).await.unwrap();
            assert_eq!(verified.not_valid_after, made.not_valid_after, "{transport}");
            works(&mut client, 1).await;
        }
        let pinned = format!("stratum2+quic://{}?pin={}", served.server().address(), made.pin);
        let pinned = pinned.parse().unwrap();
        assert_eq!(visit(&pinned).await.unwrap().1.by, Proof::Pin);
        for (client, _) in &mut before {
            works(client, round).await;
        }
    }
}

#[tokio::test]
async fn without_noise_nothing_listens_on_tcp() {
    let mut served = Served::prepared();
    served.start_with(|config| config.noise.enabled = false).await;
    assert_eq!(served.server().tcp_url("127.0.0.1"), None);
    std::net::TcpListener::bind(served.server().address()).expect("the TCP port is free");
    visit(&served.url(Transport::Quic)).await.unwrap();
}
