//! As much as is allowed, and a little more.

use std::time::{Duration, Instant};

use blvm_stratum_v2::mining::share::Rejection;
use blvm_stratum_v2::server::Options;
use blvm_stratum_v2::template::{self, regtest};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::mining::{
    CloseChannel, NewExtendedMiningJob, OpenExtendedMiningChannelSuccess, OpenMiningChannelError,
    SetCustomMiningJobError, SubmitSharesError, SubmitSharesExtended, UpdateChannel, UpdateChannelError,
};
use blvm_stratum_v2::wire::{ChannelId, JobId, Message, SequenceNumber, Tlvs, U256};

use crate::house::honest::Honest;
use crate::house::{House, PATIENCE, frame, frame_of, soon};
use crate::raw::{End, Raw, connect, connect_from, is_refused, open};

fn update(channel: u32) -> UpdateChannel {
    UpdateChannel { channel_id: ChannelId(channel), nominal_hash_rate: 1.0, maximum_target: U256([0xff; 32]) }
}

fn close(channel_id: ChannelId) -> CloseChannel<'static> {
    CloseChannel { channel_id, reason_code: Str255::truncated("enough") }
}

fn share(channel_id: ChannelId, number: u32, job_id: u32) -> SubmitSharesExtended<'static> {
    SubmitSharesExtended {
        channel_id,
        sequence_number: SequenceNumber(number),
        job_id: JobId(job_id),
        nonce: 0,
        ntime: 0,
        version: 0,
        extranonce: Default::default(),
        tlvs: Tlvs::default(),
    }
}

#[tokio::test]
async fn beyond_max_channels_openings_are_refused_and_the_connection_lives() {
    const MOST: u32 = 100;
    const ASKED: u32 = 5_000;
    let house = House::server(|options| options.pool.session.max_channels = MOST as usize).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = Raw::set_up(&house).await;
    let mut burst = Vec::new();
    for number in 0..ASKED {
        burst.extend(raw.seal(&frame_of(&open(number))));
    }
    let (opened, refused) = honest
        .mines_during(async {
            let (mut opened, mut refused) = (0, 0);
            raw.write(&burst).await.unwrap();
            while opened + refused < ASKED {
                let (header, payload) = raw.next().await.unwrap();
                match header.msg_type {
                    OpenExtendedMiningChannelSuccess::TYPE => opened += 1,
                    OpenMiningChannelError::TYPE => {
                        let error = OpenMiningChannelError::decode(&payload).unwrap();
                        assert_eq!(error.request_id.0, opened + refused, "answered in order");
                        assert_eq!(error.error_code.as_str(), Some("channel-capacity-exhausted"));
                        refused += 1;
                    }
                    _ => {}
                }
            }
            raw.send(&update(0)).await;
            raw.until(UpdateChannelError::TYPE).await;
            (opened, refused)
        })
        .await;
    assert_eq!((opened, refused), (MOST, ASKED - MOST));
    assert_eq!(house.stats().channels.get(), u64::from(MOST) + 1);
    drop(raw);
    house.has_connections(1).await;
    assert_eq!(house.stats().channels.get(), 1);
    honest.block().await;
}

/// Many requests that arrive at once, with more answers than the server keeps unsent: the last is
/// answered without the peer or a timer having to stir again.
#[tokio::test]
async fn a_burst_is_answered_to_the_last_request() {
    const ASKED: u32 = 500;
    let chain = regtest::Options { transactions: 1_000, future_templates: true, ..Default::default() };
    let house = House::server(|options| options.template = template::Options::embedded(chain)).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = Raw::set_up(&house).await;
    // a long message first: it makes room for the rest in the server's buffer
    let custom = [&[0; 62][..], &60_000_u16.to_le_bytes(), &vec![0; 60_000], &[0; 5]].concat();
    let mut burst = raw.seal(&frame(0, 0x22, &custom));
    for number in 0..ASKED {
        burst.extend(raw.seal(&frame_of(&open(number))));
    }
    honest
        .mines_during(async {
            raw.write(&burst).await.unwrap();
            let started = Instant::now();
            raw.until(SetCustomMiningJobError::TYPE).await;
            for _ in 0..ASKED {
                raw.until(OpenExtendedMiningChannelSuccess::TYPE).await;
            }
            // the first timer of a channel is due after five seconds
            assert!(started.elapsed() < Duration::from_secs(4), "answered only when a timer was due");
        })
        .await;
}

#[tokio::test]
async fn channels_opened_and_closed_over_and_over_leave_nothing() {
    let house = House::server(|options| options.pool.session.max_channels = 1).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = Raw::set_up(&house).await;
    honest
        .mines_during(async {
            let mut ids = Vec::new();
            for _ in 0..50 {
                // in batches: ids are known beforehand, as each turn takes one for the channel
                // after one for its group
                let mut batch = Vec::new();
                for number in 0..100 {
                    let next = ids.len() as u32 + number;
                    batch.extend(raw.seal(&frame_of(&open(next))));
                    batch.extend(raw.seal(&frame_of(&close(ChannelId(2 * (next + 1))))));
                }
                raw.write(&batch).await.unwrap();
                for _ in 0..100 {
                    let payload = raw.until(OpenExtendedMiningChannelSuccess::TYPE).await;
                    ids.push(OpenExtendedMiningChannelSuccess::decode(&payload).unwrap().channel_id.0);
                }
            }
            assert!(ids.into_iter().eq((2..=10_000).step_by(2)));
            raw.send(&update(0)).await;
            raw.until(UpdateChannelError::TYPE).await;
        })
        .await;
    assert_eq!(house.stats().channels.get(), 1);
    honest.block().await;
}

#[tokio::test]
async fn bad_shares_are_refused_one_by_one_until_there_are_too_many() {
    const MOST: u32 = 50;
    let house = House::server(|options| options.pool.session.max_bad_shares = MOST).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = Raw::set_up(&house).await;
    let channel = raw.open(|m| m.channel_id).await;
    let sent = raw.until(NewExtendedMiningJob::TYPE).await;
    let job = NewExtendedMiningJob::decode(&sent).unwrap().job_id.0;
    let unknown = ChannelId(99);
    // (channel, job, error): in turn, so that none of them alone is too many
    let cases = [(channel, job + 999, "invalid-job-id"), (unknown, job, "invalid-channel-id")];
    honest
        .mines_during(async {
            for number in 0..MOST + 10 {
                let (channel, job, _) = cases[number as usize % cases.len()];
                // the last may come too late
                let _ = raw.send_frame(&frame_of(&share(channel, number, job))).await;
            }
            let (frames, end) = raw.rest().await;
            let errors = frames.iter().filter(|(header, _)| header.msg_type == SubmitSharesError::TYPE);
            let mut count = 0;
            for (_, payload) in errors {
                let error = SubmitSharesError::decode(payload).unwrap();
                assert_eq!(error.sequence_number.0, count);
                let (_, _, code) = cases[count as usize % cases.len()];
                assert_eq!(error.error_code.as_str(), Some(code));
                count += 1;
            }
            assert_eq!((count, end), (MOST, End::Eof));
        })
        .await;
    house.has_connections(1).await;
    assert_eq!(house.stats().rejected(Rejection::InvalidJobId), u64::from(MOST / 2));
}

fn no_channel_for_long(options: &mut Options) {
    options.pool.session.open_timeout = Duration::from_secs(1);
}

#[tokio::test]
async fn a_connection_without_a_channel_ends() {
    let house = House::server(no_channel_for_long).await;
    let mut honest = Honest::at(&house).await;
    let mut never = Raw::set_up(&house).await;
    let mut no_more = Raw::set_up(&house).await;
    let channel = no_more.open(|m| m.channel_id).await;
    honest
        .mines_during(async {
            let (frames, end) = never.rest().await;
            assert_eq!((frames.len(), end), (0, End::Eof));
            // the other has outlived it by its channel
            no_more.send(&update(channel.0)).await;
            no_more.send(&update(0)).await;
            no_more.until(UpdateChannelError::TYPE).await;
            no_more.send(&close(channel)).await;
            assert_eq!(no_more.rest().await.1, End::Eof);
        })
        .await;
    house.has_connections(1).await;
}

/// Tries until a connection is served.
async fn served(house: &House) -> Raw {
    soon("a place comes back", async {
        loop {
            let mut stream = connect(house).await.unwrap();
            // refused ones end at once, the others wait for the handshake
            let waits = tokio::time::timeout(Duration::from_millis(50), is_refused(&mut stream)).await;
            if waits.is_err() {
                break Raw::over(stream, house).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_full_server_refuses_until_someone_leaves() {
    let house = House::server(|options| options.max_connections = 3).await;
    let mut honest = Honest::at(&house).await;
    let first = Raw::set_up(&house).await;
    let silent = connect(&house).await.unwrap();
    let started = Instant::now();
    honest
        .mines_during(async {
            for from in [1, 2, 3] {
                let mut stream = connect_from(&house, from).await.unwrap();
                assert!(is_refused(&mut stream).await);
            }
            assert!(started.elapsed() < PATIENCE / 2, "at once, not by a timeout");
            drop(first);
            let back = served(&house).await.introduced().await;
            assert!(is_refused(&mut connect(&house).await.unwrap()).await);
            drop(silent);
            served(&house).await.introduced().await;
            drop(back);
        })
        .await;
    house.has_connections(1).await;
    honest.block().await;
}

#[tokio::test]
async fn an_address_has_its_own_limit() {
    let house = House::server(|options| options.max_connections_per_ip = 2).await;
    let mut honest = Honest::at(&house).await;
    let second = Raw::set_up(&house).await;
    honest
        .mines_during(async {
            assert!(is_refused(&mut connect(&house).await.unwrap()).await);
            let elsewhere = connect_from(&house, 2).await.unwrap();
            let mut elsewhere = Raw::over(elsewhere, &house).await.introduced().await;
            elsewhere.open(|_| ()).await;
            drop(second);
            served(&house).await.introduced().await;
        })
        .await;
}
