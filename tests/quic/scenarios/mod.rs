//! What a miner goes through, the same over either transport.

mod player;

use blvm_stratum_v2::mining::payout::PayoutPolicy;
use blvm_stratum_v2::server::Options;
use blvm_stratum_v2::wire::codec::{Seq64K, Str255};
use blvm_stratum_v2::wire::extensions::{
    RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess,
};
use blvm_stratum_v2::wire::mining::{
    NewExtendedMiningJob, OpenExtendedMiningChannel, OpenStandardMiningChannel, SubmitSharesStandard,
    UpdateChannel,
};
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use blvm_stratum_v2::wire::{ChannelId, JobId, Message, RequestId, Tlvs, U256};
use futures_util::future::LocalBoxFuture;

use crate::house::House;
use crate::lanes::miner::{SINGLY, Work, close, open, open_extended, open_in_vain, worker_names};
use crate::lanes::work::{find_block, prepare_future, raise_fees};
use crate::raw::soon;
use player::{Player, Record, Said};

type Play = for<'a> fn(&'a House, &'a StratumUrl) -> LocalBoxFuture<'a, Record>;

const SCENARIOS: [(&str, Play); 15] = [
    ("a share is accepted", |house, url| Box::pin(a_share(house, url))),
    ("shares are refused", |house, url| Box::pin(bad_shares(house, url))),
    ("shares are acknowledged in batches", |house, url| Box::pin(batches(house, url))),
    ("an extended channel", |house, url| Box::pin(extended(house, url))),
    ("several channels of a group", |house, url| Box::pin(several(house, url, 0))),
    ("several channels by themselves", |house, url| Box::pin(several(house, url, SINGLY))),
    ("blocks are found", |house, url| Box::pin(blocks(house, url))),
    ("fees rise", |house, url| Box::pin(fees(house, url))),
    ("a future job is mined", |house, url| Box::pin(future(house, url))),
    ("the target changes", |house, url| Box::pin(target(house, url))),
    ("a channel is closed and another opened", |house, url| Box::pin(reopened(house, url))),
    ("a channel is refused", |house, url| Box::pin(refused(house, url))),
    ("miners are paid directly", |house, url| Box::pin(solo(house, url))),
    ("workers have names", |house, url| Box::pin(names(house, url))),
    ("the server stops", |house, url| Box::pin(shutdown(house, url))),
];

#[tokio::test]
async fn both_transports_tell_the_same() {
    for (name, play) in SCENARIOS {
        let mut records = Vec::new();
        for transport in [Transport::Tcp, Transport::Quic] {
            eprintln!("{name}, over {transport:?}");
            let house = House::listener(1, |options| prepare(name, options)).await;
            records.push(play(&house, &house.url(transport)).await);
        }
        assert!(!records[0].is_empty());
        assert_eq!(records[0], records[1], "{name}");
    }
}

fn prepare(scenario: &str, options: &mut Options) {
    if scenario == "miners are paid directly" {
        let network = bitcoin::Network::Regtest;
        options.pool.payout = PayoutPolicy::Solo { fee: None, network };
    }
}

async fn a_share(house: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, SINGLY).await;
    player.say(&open(1));
    let channel = player.opened(1).await;
    player.mines(channel, 1).await;
    assert_eq!(house.stats_of(url.transport).shares_accepted.get(), 1);
    player.record()
}

async fn bad_shares(house: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, SINGLY).await;
    player.say(&open(1));
    let channel = player.opened(1).await;
    let good = player.find(channel);
    player.say(&good);
    player.is_paid(channel).await;
    let bad = [
        good,
        SubmitSharesStandard { job_id: JobId(good.job_id.0 + 99), ..good },
        SubmitSharesStandard { job_id: JobId(good.job_id.0 - 99), ..good },
        SubmitSharesStandard { channel_id: ChannelId(99), ..good },
        SubmitSharesStandard { ntime: 0, ..good },
        SubmitSharesStandard { version: !good.version, ..good },
    ];
    for share in bad {
        // over QUIC there is no stream for a channel that is not open
        if share.channel_id == good.channel_id {
            let sequence_number = player.find(channel).sequence_number;
            player.say(&SubmitSharesStandard { sequence_number, ..share });
            player.is_refused().await;
        }
    }
    let old = player.find(channel);
    find_block(house);
    player.tips(1).await;
    player.say(&old);
    player.is_refused().await;
    player.mines(channel, 1).await;
    player.record()
}

async fn batches(_: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, SINGLY).await;
    player.say(&open(1));
    player.say(&open(2));
    let (first, second) = (player.opened(1).await, player.opened(2).await);
    for _ in 0..5 {
        player.mines(first, 200).await;
        player.mines(second, 7).await;
    }
    player.record()
}

async fn extended(house: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, 0).await;
    player.say(&open_extended(1));
    let channel = player.opened(1).await;
    for _ in 0..3 {
        let share = player.find_extended(channel);
        player.say(&share);
        player.is_paid(channel).await;
        raise_fees(house);
        player.jobs(1).await;
    }
    let mut share = player.find_extended(channel);
    share.extranonce = Default::default();
    player.say(&share);
    player.is_refused().await;
    player.say(&OpenExtendedMiningChannel { min_extranonce_size: 33, ..open_extended(2) });
    player.until(|said| matches!(said, Said::Answer(_))).await;
    player.record()
}

async fn several(house: &House, url: &StratumUrl, flags: u32) -> Record {
    let mut player = Player::at(url, flags).await;
    let mut channels = Vec::new();
    for request in 0..10 {
        player.say(&open(request));
    }
    for request in 0..10 {
        channels.push(player.opened(request).await);
    }
    let addressees = if flags == SINGLY { 10 } else { 1 };
    for _ in 0..3 {
        find_block(house);
        player.tips(addressees).await;
        raise_fees(house);
        player.jobs(addressees).await;
        for channel in &channels {
            player.mines(*channel, 3).await;
        }
    }
    player.record()
}

async fn blocks(house: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, SINGLY).await;
    player.say(&open(1));
    let channel = player.opened(1).await;
    for _ in 0..10 {
        find_block(house);
        player.tips(1).await;
        player.mines(channel, 2).await;
    }
    player.record()
}

async fn fees(house: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, SINGLY).await;
    player.say(&open(1));
    let channel = player.opened(1).await;
    for _ in 0..10 {
        let before = player.find(channel);
        raise_fees(house);
        player.jobs(1).await;
        // both can be mined
        player.mines(channel, 1).await;
        let sequence_number = player.find(channel).sequence_number;
        player.say(&SubmitSharesStandard { sequence_number, ..before });
        player.is_paid(channel).await;
    }
    player.record()
}

async fn future(house: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, 0).await;
    player.say(&open(1));
    let channel = player.opened(1).await;
    for _ in 0..5 {
        prepare_future(house);
        player.until(|said| matches!(said, Said::Work(Work::Future { .. }))).await;
        raise_fees(house);
        player.jobs(1).await;
        find_block(house);
        player.tips(1).await;
        player.mines(channel, 1).await;
    }
    // a channel that comes later hears of it all the same
    prepare_future(house);
    player.until(|said| matches!(said, Said::Work(Work::Future { .. }))).await;
    player.say(&open(2));
    let second = player.opened(2).await;
    player.until(|said| matches!(said, Said::Work(Work::Future { .. }))).await;
    find_block(house);
    player.tips(1).await;
    player.mines(second, 1).await;
    player.record()
}

async fn target(_: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, 0).await;
    player.say(&open(1));
    let channel = player.opened(1).await;
    let update = UpdateChannel {
        channel_id: ChannelId(channel),
        nominal_hash_rate: 1e6,
        maximum_target: U256([0xff; 32]),
    };
    player.say(&update);
    player.until(|said| *said == Said::Work(Work::Target { to: channel })).await;
    player.jobs(1).await;
    player.say(&UpdateChannel { nominal_hash_rate: -1.0, ..update });
    player.until(|said| matches!(said, Said::Answer(_))).await;
    player.record()
}

async fn reopened(_: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, SINGLY).await;
    for request in 0..50 {
        player.say(&open(request));
        let channel = player.opened(request).await;
        player.mines(channel, 2).await;
        // the last is answered, though the channel is closed
        let share = player.find(channel);
        player.say(&share);
        player.say(&close(channel));
        player.is_paid(channel).await;
    }
    player.record()
}

async fn refused(_: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, SINGLY).await;
    let nameless = [0xff; 3];
    for request in 0..60 {
        player.say(&open_in_vain(request));
        player.say(&OpenStandardMiningChannel { nominal_hash_rate: f32::NAN, ..open(100 + request) });
        let user_identity = Str255::from_bytes(&nameless).unwrap();
        player.say(&OpenStandardMiningChannel { user_identity, ..open(200 + request) });
        player.say(&open_extended(300 + request));
        for _ in 0..4 {
            assert!(matches!(player.hear().await, Ok(Said::Answer(_))));
        }
    }
    player.say(&open(1000));
    let channel = player.opened(1000).await;
    player.mines(channel, 1).await;
    player.record()
}

async fn solo(house: &House, url: &StratumUrl) -> Record {
    const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    /// The hash in it.
    const PROGRAM: [u8; 4] = [0x75, 0x1e, 0x76, 0xe8];
    let mut player = Player::at(url, 0).await;
    player.say(&open(1));
    player.until(|said| matches!(said, Said::Answer(_))).await;
    let user_identity = Str255::truncated(ADDRESS);
    let request_id = RequestId(2);
    let wanted = OpenExtendedMiningChannel { request_id, user_identity, ..open_extended(2) };
    player.say(&wanted);
    let channel = player.opened(2).await;
    let share = player.find_extended(channel);
    player.say(&share);
    player.is_paid(channel).await;
    raise_fees(house);
    let job = async {
        loop {
            let (header, payload) = player.client.next_frame().await.unwrap();
            if header.msg_type == NewExtendedMiningJob::TYPE {
                return payload.windows(4).any(|bytes| bytes == PROGRAM);
            }
        }
    };
    assert!(soon("a job", job).await, "the miner is paid");
    player.record()
}

async fn names(_: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, 0).await;
    player.say(&worker_names());
    player.say(&RequestExtensions { request_id: 2, requested_extensions: Seq64K::of(&[7, 9]) });
    for expected in [RequestExtensionsSuccess::TYPE, RequestExtensionsError::TYPE] {
        let (header, _) = soon("an answer", player.client.next_frame()).await.unwrap();
        assert_eq!((header.extension, header.msg_type), (1, expected));
    }
    player.say(&open_extended(1));
    let channel = player.opened(1).await;
    let mut buffer = [0; Tlvs::MAX_USER_IDENTITY_FIELD];
    let tlvs = Tlvs::with_user_identity("worker", &mut buffer).unwrap();
    let share = player.find_extended(channel);
    player.say(&blvm_stratum_v2::wire::mining::SubmitSharesExtended { tlvs, ..share });
    player.is_paid(channel).await;
    player.record()
}

async fn shutdown(house: &House, url: &StratumUrl) -> Record {
    let mut player = Player::at(url, SINGLY).await;
    player.say(&open(1));
    let channel = player.opened(1).await;
    for _ in 0..20 {
        player.mines(channel, 1).await;
        let share = player.find(channel);
        player.say(&share);
    }
    player.client.flush().await.unwrap();
    let stats = house.stats_of(url.transport);
    let accepted = async {
        while stats.shares_accepted.get() < 40 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    soon("the shares are accepted", accepted).await;
    house.stop();
    let mut record = Record::new();
    while let Ok(said) = player.hear().await {
        // over QUIC the channel's stream ends first
        assert!(matches!(said, Said::Answer(_) | Said::Closed { .. }), "{said:?}");
    }
    record.extend(player.record());
    for entries in record.values_mut() {
        entries.retain(|entry| !entry.starts_with("Closed"));
    }
    record
}
