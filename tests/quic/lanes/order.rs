//! What comes on which stream, and in what order.

use std::time::Duration;

use bitcoin::hashes::Hash;
use blvm_stratum_v2::wire::codec::{B0255, Seq64K};
use blvm_stratum_v2::wire::common::SetupConnectionSuccess;
use blvm_stratum_v2::wire::extensions::{
    RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess,
};
use blvm_stratum_v2::wire::mining::{SetCustomMiningJob, UpdateChannel};
use blvm_stratum_v2::wire::{ChannelId, Message, RequestId, U256};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{sleep, timeout};

use super::miner::{
    Answer, Channel, Miner, SINGLY, Work, close, open, open_extended, open_in_vain, worker_names,
};
use super::work::{find_block, prepare_future, raise_fees};
use crate::forwarder::{Forwarder, Path};
use crate::house::House;
use crate::raw::{Dial, End};

fn update(channel: u32, nominal_hash_rate: f32) -> UpdateChannel {
    UpdateChannel { channel_id: ChannelId(channel), nominal_hash_rate, maximum_target: U256([0xff; 32]) }
}

fn custom_job(channel: u32) -> SetCustomMiningJob<'static> {
    SetCustomMiningJob {
        channel_id: ChannelId(channel),
        request_id: RequestId(9),
        mining_job_token: B0255::default(),
        version: 0,
        prev_hash: U256([0; 32]),
        min_ntime: 0,
        nbits: 0,
        coinbase_tx_version: 0,
        coinbase_prefix: B0255::default(),
        coinbase_tx_input_n_sequence: 0,
        coinbase_tx_outputs: Default::default(),
        coinbase_tx_locktime: 0,
        merkle_path: Default::default(),
    }
}

/// All that a server says, wherever it belongs.
async fn a_whole_session(flags: u32) {
    let house = House::listener(2, |_| {}).await;
    let mut miner = Miner::by(&Dial::new(), house.address, flags).await;
    miner.control.send(&worker_names()).await.unwrap();
    let unknown = RequestExtensions { request_id: 2, requested_extensions: Seq64K::of(&[99]) };
    miner.control.send(&unknown).await.unwrap();
    for (extension, msg_type) in [
        (0, SetupConnectionSuccess::TYPE),
        (1, RequestExtensionsSuccess::TYPE),
        (1, RequestExtensionsError::TYPE),
    ] {
        let (header, _) = miner.control.next().await.unwrap();
        assert_eq!((header.extension, header.msg_type), (extension, msg_type));
    }

    let mut refused = miner.raw.open_bi().await.unwrap();
    refused.send(&open_in_vain(1)).await.unwrap();
    let mut refused = Channel { id: 0, group: 0, stream: refused, sent: 0 };
    let code = "max-target-out-of-range".to_owned();
    assert_eq!(refused.answer().await, Ok(Answer::NotOpened { request: 1, code }));
    assert_eq!(refused.answer().await, Err(End::Fin));

    let mut first = miner.open(2).await;
    let mut second = miner.open(3).await;
    first.works(&miner).await;
    second.bad_share(&miner).await.unwrap();
    let rejected = second.answer().await.unwrap();
    assert!(matches!(&rejected, Answer::Rejected { channel, .. } if *channel == second.id), "{rejected:?}");

    prepare_future(&house);
    miner.until(|work| matches!(work, Work::Future { .. })).await;
    raise_fees(&house);
    miner.until(|work| matches!(work, Work::Job { .. })).await;
    find_block(&house);
    miner.until(|work| matches!(work, Work::Tip { .. })).await;

    first.stream.send(&update(first.id, 1e6)).await.unwrap();
    miner.until(|work| *work == Work::Target { to: first.id }).await;
    miner.until(|work| matches!(work, Work::Job { to, .. } if *to == first.id)).await;
    if flags == SINGLY {
        first.works(&miner).await;
    }
    first.stream.send(&update(first.id, f32::NAN)).await.unwrap();
    let code = "invalid-nominal-hashrate".to_owned();
    assert_eq!(first.answer().await, Ok(Answer::NotUpdated { channel: first.id, code }));
    // not this stream's channel
    second.stream.send(&update(first.id, 1.0)).await.unwrap();
    let code = "invalid-channel-id".to_owned();
    assert_eq!(second.answer().await, Ok(Answer::NotUpdated { channel: first.id, code }));
    second.stream.send(&custom_job(second.id)).await.unwrap();
    let code = "jd-not-supported".to_owned();
    assert_eq!(second.answer().await, Ok(Answer::NoCustomJob { channel: second.id, code }));

    if flags == 0 {
        let mut extended = miner.raw.open_bi().await.unwrap();
        extended.send(&open_extended(4)).await.unwrap();
        miner.opened(4, extended).await;
    }

    first.stream.send(&close(first.id)).await.unwrap();
    assert_eq!(first.answer().await, Err(End::Fin));
    assert_eq!(miner.streams_with_work(), 1);
    let more = timeout(Duration::from_millis(100), async {
        tokio::select! {
            _ = miner.raw.connection.accept_uni() => {}
            _ = miner.raw.connection.accept_bi() => {}
            _ = miner.control.recv.read_chunk(1, true) => {}
        }
    });
    assert!(more.await.is_err(), "the server opens one stream, and says no more than it was asked");
}

#[tokio::test]
async fn each_message_comes_where_it_belongs() {
    a_whole_session(0).await;
    a_whole_session(SINGLY).await;
}

#[tokio::test]
async fn a_future_job_a_fee_update_and_a_block_come_in_this_order() {
    let house = House::listener(2, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut channel = miner.open(1).await;
    let id = channel.id;
    for _ in 0..50 {
        let before = miner.assignment(id).job_id;
        prepare_future(&house);
        let Work::Future { to, job: future } = miner.hear().await.unwrap() else {
            panic!("a future job is first")
        };
        assert_eq!(to, id);
        raise_fees(&house);
        let Work::Job { to, job } = miner.hear().await.unwrap() else { panic!("then one with more fees") };
        assert_eq!((to, job), (id, future + 1));
        find_block(&house);
        assert_eq!(miner.hear().await, Ok(Work::Tip { to: id, job: future }));
        assert_eq!(miner.assignment(id).job_id.0, future);
        channel.works(&miner).await;
        // and the server is of the same opinion
        let mut late = channel.find(&miner);
        late.job_id = before;
        channel.stream.send(&late).await.unwrap();
        let rejected = channel.answer().await.unwrap();
        assert!(matches!(&rejected, Answer::Rejected { code, .. } if code == "stale-share"), "{rejected:?}");
    }
}

/// Channels are opened, on a path that loses and delays, while the work changes.
async fn opened_amid_changes(flags: u32, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let house = House::listener(1, |_| {}).await;
    let path = Forwarder::start(house.address, Path { seed, ..Path::default() });
    let mut miner = Miner::at(path.addr(), flags).await;
    path.set_loss(0.15, 0.15);
    let changes = async {
        for _ in 0..12 {
            // what is sent now overtakes what was sent before
            path.set_delay(
                Duration::from_millis(dice.random_range(0..4)),
                Duration::from_millis(dice.random_range(0..4)),
            );
            sleep(Duration::from_millis(dice.random_range(0..6))).await;
            match dice.random_range(0..3) {
                0 => prepare_future(&house),
                1 => raise_fees(&house),
                _ => find_block(&house),
            }
        }
    };
    let openings = async {
        let mut streams = Vec::new();
        for request in 0..6 {
            let mut stream = miner.raw.open_bi().await.unwrap();
            stream.send(&open(request)).await.unwrap();
            streams.push(stream);
            sleep(Duration::from_millis(3)).await;
        }
        let mut opened = 0;
        // hear() looks whether everything is known
        while opened < 6 {
            opened += u32::from(matches!(miner.hear().await.unwrap(), Work::Opened { .. }));
        }
        streams
    };
    let (_streams, ()) = tokio::join!(openings, changes);
    path.set_loss(0.0, 0.0);
    // the last block reaches everyone
    find_block(&house);
    let tip = house.pool.work().borrow().as_ref().unwrap().tip.prev_hash.to_byte_array();
    if flags == SINGLY {
        let mut on_it = 0;
        while on_it < 6 {
            if let Work::Tip { to, .. } = miner.hear().await.unwrap() {
                on_it += u32::from(miner.assignment(to).prev_hash == tip);
            }
        }
    } else {
        miner.until(|work| matches!(work, Work::Tip { .. })).await;
    }
}

#[tokio::test]
async fn nothing_comes_for_a_channel_before_it_is_open() {
    for seed in 0..12 {
        opened_amid_changes(0, seed).await;
        opened_amid_changes(SINGLY, seed).await;
    }
}
