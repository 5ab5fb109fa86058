//! Channels of one client: many, ended by either side, and what is under way when it goes.

use std::time::Duration;

use blvm_stratum_v2::transport::LinkError;
use blvm_stratum_v2::transport::client::{Client, ClientError};
use blvm_stratum_v2::transport::quic::Code;
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::mining::{CloseChannel, Mining, OpenStandardMiningChannel, SubmitSharesStandard};
use blvm_stratum_v2::wire::url::Transport;
use blvm_stratum_v2::wire::{ChannelId, JobId, RequestId, SequenceNumber, U256};

use super::forwarder::{Forwarder, Path};
use super::house::House;
use super::restarting::Restarting;
use super::{becomes, device, scripted, set_up, soon, support, trust, url};

const BOTH: [Transport; 2] = [Transport::Quic, Transport::Tcp];

fn open(client: &mut Client, request: u32) {
    let open = OpenStandardMiningChannel {
        request_id: RequestId(request),
        user_identity: Str255::truncated("a.b"),
        nominal_hash_rate: 1.0,
        max_target: U256([0xff; 32]),
    };
    client.queue(&open).unwrap();
}

/// Waits for so many channels to be opened.
async fn opened(client: &mut Client, count: usize) -> Vec<ChannelId> {
    let mut channels = Vec::new();
    while channels.len() < count {
        if let Mining::OpenStandardMiningChannelSuccess(m) = soon("a channel", client.next()).await.unwrap() {
            channels.push(m.channel_id);
        }
    }
    channels
}

#[tokio::test]
async fn many_at_once_and_again() {
    for transport in BOTH {
        let house = House::listener(1, |_| {}).await;
        let mut client = Client::connect(&house.url(transport), &device()).await.unwrap();
        for round in 0..3 {
            (0..300).for_each(|request| open(&mut client, round * 300 + request));
            let channels = opened(&mut client, 300).await;
            assert_eq!(house.stats_of(transport).channels.get(), 300);
            for channel_id in channels {
                let reason_code = Str255::truncated("done");
                client.queue(&CloseChannel { channel_id, reason_code }).unwrap();
            }
            soon("all is sent", client.flush()).await.unwrap();
            becomes("all are closed", || house.stats_of(transport).channels.get() == 0).await;
        }
    }
}

/// Shares that are queued when the client goes are not lost, on a long way either.
#[tokio::test]
async fn whoever_goes_is_heard_to_the_end() {
    const SHARES: u32 = 200;
    for transport in BOTH {
        let house = House::listener(1, |options| options.pool.session.max_bad_shares = u32::MAX).await;
        let delay = Duration::from_millis(50);
        let path =
            Forwarder::start(house.address, Path { delay_up: delay, delay_down: delay, ..Path::default() });
        let server = match transport {
            Transport::Quic => house.url_by(transport, path.addr()),
            Transport::Tcp => house.url(transport),
        };
        let mut client = Client::connect(&server, &device()).await.unwrap();
        (0..20).for_each(|request| open(&mut client, request));
        let channels = opened(&mut client, 20).await;
        for number in 1..=SHARES {
            for channel_id in channels.iter().copied() {
                let share = SubmitSharesStandard {
                    channel_id,
                    sequence_number: SequenceNumber(number),
                    // there is no such job: it counts as a share that was refused
                    job_id: JobId(u32::MAX),
                    nonce: number,
                    ntime: 0,
                    version: 0,
                };
                client.queue(&share).unwrap();
            }
        }
        client.close().await;
        let all = u64::from(SHARES) * 20;
        let stats = house.stats_of(transport);
        becomes("the server has noticed", || stats.connections.get() == 0).await;
        assert_eq!(stats.shares_accepted.get() + stats.shares_rejected(), all, "{transport}");
    }
}

/// A client that only listens ends its half too, or the server would keep the stream.
#[tokio::test]
async fn a_channel_that_the_server_ends_is_ended_by_the_client() {
    let (fake, ended) = scripted::ends_a_channel();
    let server = url(Transport::Quic, fake.address, trust(&support::authority(1)));
    let mut client = Client::connect(&server, &device()).await.unwrap();
    open(&mut client, 1);
    let listening = async {
        loop {
            client.next().await.unwrap();
        }
    };
    tokio::select! {
        () = listening => {}
        ended = soon("the client ends its half", ended) => ended.unwrap(),
    }
}

/// It does not look as if the server closed one channel after another.
#[tokio::test]
async fn a_server_that_stops_says_so() {
    let mut server = Restarting::new();
    server.start().await;
    let mut client = Client::connect(&server.url(Transport::Quic), &device()).await.unwrap();
    (0..20).for_each(|request| open(&mut client, request));
    opened(&mut client, 20).await;
    let listening = async {
        loop {
            match client.next().await {
                Ok(Mining::CloseChannel(m)) => panic!("{m:?}"),
                Ok(_) => {}
                Err(error) => break error,
            }
        }
    };
    let (ended, ()) = tokio::join!(soon("the end", listening), server.stop(true));
    let ClientError::Link(LinkError::ClosedFor { code: Code::DRAINING, .. }) = ended else {
        panic!("{ended:?}")
    };
}

#[tokio::test]
async fn a_server_that_has_enough_says_why() {
    let house = House::listener(1, |options| {
        options.pool.session.open_timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = set_up(&house.url(Transport::Quic), &device()).await.unwrap();
    let ended = soon("the end", client.next()).await.unwrap_err();
    let ClientError::Link(LinkError::ClosedFor { code: Code::NO_CHANNEL, .. }) = ended else {
        panic!("{ended:?}")
    };
}

/// A program that closes its client and exits has told the server.
#[tokio::test(flavor = "multi_thread")]
async fn goodbye_is_said_before_the_runtime_ends() {
    let house = House::listener(1, |_| {}).await;
    for transport in BOTH {
        let server = house.url(transport);
        let program = std::thread::spawn(move || {
            // nothing in it runs any more once this has returned
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                set_up(&server, &device()).await.unwrap().close().await;
            });
        });
        tokio::task::spawn_blocking(|| program.join()).await.unwrap().unwrap();
        // well before the idle timeout
        let gone = async {
            while house.stats_of(transport).connections.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the server has been told");
    }
}
