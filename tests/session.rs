//! One session, message by message.

#[allow(dead_code)] // this test needs a part of it
mod sim_support;

use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::mining::share::Rejection;
use blvm_stratum_v2::mining::{Difficulty, Target, Tip, Work, vardiff};
use blvm_stratum_v2::session::{CloseReason, Input, Lane, Options};
use blvm_stratum_v2::wire::codec::{Seq64K, Str255};
use blvm_stratum_v2::wire::common::SetupConnection;
use blvm_stratum_v2::wire::extensions::RequestExtensions;
use blvm_stratum_v2::wire::mining::*;
use blvm_stratum_v2::wire::{ChannelId, JobId, U256, write_frame};
use sim_support::miner::frame;
use sim_support::model::{Fields, Kind};
use sim_support::shared::{SLOTS, SimPool, eager, user};

use sim_support::rig::*;

#[test]
fn setup_is_refused_for_a_reason() {
    let base = setup();
    for (setup, answer, code) in [
        (SetupConnection { protocol: 1, ..base }, "flags: 0", "unsupported-protocol"),
        (SetupConnection { min_version: 3, max_version: 9, ..base }, "flags: 0", "protocol-version-mismatch"),
        (SetupConnection { min_version: 0, max_version: 1, ..base }, "flags: 0", "protocol-version-mismatch"),
        (SetupConnection { flags: 0b010, ..base }, "flags: 2", "unsupported-feature-flags"),
        // all that is not supported, whether asked for or not
        (SetupConnection { flags: 0b1000, ..base }, "flags: 10", "unsupported-feature-flags"),
    ] {
        let mut rig = rig(Options::default());
        let said = rig.say(&setup);
        assert_answer(&said, code);
        assert_answer(&said, answer);
        assert_eq!(rig.closed, Some(CloseReason::SetupRefused(code)));
    }
    for flags in [0, 1, 4, 5] {
        let said = rig(Options::default()).say(&SetupConnection { flags, max_version: 7, ..base });
        assert_answer(&said, "SetupConnectionSuccess { used_version: 2, flags: 0 }");
    }
}

#[test]
fn nothing_comes_before_setup_and_setup_comes_once() {
    let mut early = rig(Options::default());
    assert_eq!(early.open(Kind::Standard, Lane::Control), NOTHING);
    assert_eq!(early.closed, Some(CloseReason::Unexpected(0x10)));
    let mut early = rig(Options::default());
    early.say(&RequestExtensions { request_id: 1, requested_extensions: Seq64K::of(&[2]) });
    assert_eq!(early.closed, Some(CloseReason::Unexpected(0)));

    let mut twice = ready(Options::default());
    assert_eq!(twice.say(&setup()), NOTHING);
    assert!(twice.closed.is_some());

    let mut garbled = rig(Options::default());
    let mut bytes = Vec::new();
    write_frame(0, 0, false, &mut bytes, |out| out.push(0)).unwrap();
    garbled.say_on(Lane::Control, &bytes);
    assert!(matches!(garbled.closed, Some(CloseReason::Malformed { msg_type: 0, .. })));
}

#[test]
fn deadlines_are_kept_to_the_microsecond() {
    let mut silent = rig(Options { setup_timeout: 3 * SECOND, ..Options::default() });
    assert_eq!(silent.session.wake_at(), Some(Moment(3_000_000)));
    silent.wait(Duration::from_micros(2_999_999));
    assert_eq!(silent.closed, None);
    silent.wait(Duration::from_micros(1));
    assert_eq!(silent.closed, Some(CloseReason::SetupTimeout));
    assert_eq!(silent.session.wake_at(), None);

    let mut idle = ready(Options { open_timeout: 3 * SECOND, ..Options::default() });
    idle.wait(2 * SECOND);
    idle.open(Kind::Standard, Lane::Control);
    idle.wait(2 * SECOND);
    idle.close(2);
    assert!(idle.session.wake_at() <= Some(Moment(7_000_000)));
    idle.wait(3 * SECOND - Duration::from_micros(1));
    assert_eq!(idle.closed, None, "counted from the last channel's end");
    idle.wait(Duration::from_micros(1));
    assert_eq!(idle.closed, Some(CloseReason::NoChannel));
}

#[test]
fn extensions_are_negotiated() {
    let mut rig = ready(Options::default());
    for (requested, answer) in [
        (Seq64K::of(&[2]), "RequestExtensionsSuccess { request_id: 7, supported_extensions: [2]"),
        (Seq64K::of(&[9, 2]), "supported_extensions: [2]"),
        (
            Seq64K::of(&[9]),
            "RequestExtensionsError { request_id: 7, unsupported_extensions: [9], required_extensions: []",
        ),
        (Seq64K::default(), "supported_extensions: []"),
    ] {
        let said = rig.say(&RequestExtensions { request_id: 7, requested_extensions: requested });
        assert_answer(&said, answer);
    }
    let mut bytes = Vec::new();
    write_frame(0x1234, 0x10, true, &mut bytes, |out| out.push(1)).unwrap();
    assert_eq!(rig.say_on(Lane::Control, &bytes), NOTHING, "an unknown extension");
    assert_eq!(rig.closed, None);
}

#[test]
fn channels_are_refused_for_a_reason() {
    let good = user(0);
    let (control, latin1) = (format!("{good}\n"), b"caf\xe9".to_vec());
    for (user, hashrate, min, code) in [
        (good.as_bytes(), f32::NAN, 0, "invalid-nominal-hashrate"),
        (good.as_bytes(), f32::INFINITY, 0, "invalid-nominal-hashrate"),
        (good.as_bytes(), -1.0, 0, "invalid-nominal-hashrate"),
        (control.as_bytes(), 1.0, 0, "invalid-user-identity"),
        (&latin1, 1.0, 0, "invalid-user-identity"),
        (b"", 1.0, 0, "invalid-user-identity"),
        (b"nobody.rig", 1.0, 0, "invalid-user-identity"),
        (good.as_bytes(), 1.0, 17, "min-extranonce-size-too-large"),
    ] {
        let mut rig = ready(Options::default());
        assert_answer(&rig.open_as(Kind::Extended, Lane::Control, user, hashrate, min), code);
        if min == 0 {
            assert_answer(&rig.open_as(Kind::Standard, Lane::Control, user, hashrate, min), code);
        }
        assert_eq!((rig.closed, rig.pool.in_use()), (None, 0));
        assert_names(
            &rig.open_as(Kind::Extended, Lane::Control, good.as_bytes(), 1.0, 16)[..1],
            &["OpenExtendedMiningChannelSuccess"],
        );
    }
    let mut standard = rig(Options::default());
    standard.say(&SetupConnection { flags: 1, ..setup() });
    let said = standard.open(Kind::Extended, Lane::Control);
    assert_answer(&said, "extended-channels-not-supported-for-standard-jobs");

    let mut full = ready(Options { max_channels: 2, ..Options::default() });
    full.open(Kind::Standard, Lane::Control);
    full.open(Kind::Standard, Lane::Control);
    assert_answer(&full.open(Kind::Standard, Lane::Control), "channel-capacity-exhausted");
    full.close(3);
    assert_names(&full.open(Kind::Standard, Lane::Control)[..1], &["OpenStandardMiningChannelSuccess"]);
}

#[test]
fn the_first_group_is_1_and_its_first_channel_2() {
    let mut rig = ready(Options::default());
    let said = rig.open(Kind::Extended, Lane::Control);
    assert_names(&said, &["OpenExtendedMiningChannelSuccess", "NewExtendedMiningJob", "SetNewPrevHash"]);
    assert!(
        said[0].contains("channel_id: ChannelId(2)") && said[0].contains("group_channel_id: ChannelId(1)")
    );
    let said = rig.open(Kind::Standard, Lane::Control);
    assert_names(&said, &["OpenStandardMiningChannelSuccess", "NewMiningJob", "SetNewPrevHash"]);
    assert!(
        said[0].contains("channel_id: ChannelId(3)") && said[0].contains("group_channel_id: ChannelId(1)")
    );
    let said = rig.open_as(Kind::Standard, Lane::Control, user(1).as_bytes(), 0.0, 0);
    assert!(
        said[0].contains("channel_id: ChannelId(5)") && said[0].contains("group_channel_id: ChannelId(4)")
    );
}

#[test]
fn work_goes_to_groups_or_to_each_channel() {
    let flagged = SetupConnection { flags: 1, ..setup() };
    let bitaxe = SetupConnection { vendor: Str255::truncated("BitAxe Gamma"), ..setup() };
    for (setup, fee, tip) in [
        (setup(), vec!["NewExtendedMiningJob"], vec!["NewExtendedMiningJob", "SetNewPrevHash"]),
        (flagged, vec!["NewMiningJob"; 2], ["NewMiningJob", "SetNewPrevHash"].repeat(2)),
        (bitaxe, vec!["NewMiningJob"; 2], ["NewMiningJob", "SetNewPrevHash"].repeat(2)),
    ] {
        let mut rig = rig(Options::default());
        rig.say(&setup);
        rig.work(work(1, 1));
        rig.open(Kind::Standard, Lane::Control);
        rig.open(Kind::Standard, Lane::Control);
        assert_names(&rig.work(work(1, 2)), &fee);
        assert_names(&rig.work(work(2, 3)), &tip);
        assert_eq!(rig.work(work(2, 3)), NOTHING, "nothing new");
    }
}

#[test]
fn an_operators_least_difficulty_holds_for_channels_old_and_new() {
    let target = |rig: &Rig, channel| U256(rig.model.channels[&channel].target.0);
    let mut rig = ready(Options::default());
    rig.open(Kind::Extended, Lane::Control);
    assert_eq!(target(&rig, 2), ANY);
    let least = Difficulty(2e-9);
    let floor = U256::from(Target::from_difficulty(least));
    rig.pool.set_min_difficulty(Some(least));
    assert_eq!(rig.wait(SECOND), NOTHING, "not before its hashrate is looked at");
    assert_names(&rig.wait(4 * SECOND), &["SetTarget", "NewExtendedMiningJob"]);
    assert_eq!(target(&rig, 2), floor);
    rig.mine_and_submit(2);
    assert_eq!(rig.credited.len(), 1);

    rig.open(Kind::Standard, Lane::Control);
    assert_eq!(target(&rig, 3), floor);
    assert_eq!(rig.update(2, 0.0, ANY), NOTHING, "what the client would take makes no difference");
    rig.wait(SECOND);
    assert_names(&rig.update(2, 0.0, all_of(7)), &["SetTarget", "NewExtendedMiningJob"]);
    assert_eq!(target(&rig, 2), all_of(7), "unless that is harder");

    rig.pool.set_min_difficulty(None);
    rig.wait(5 * SECOND);
    assert_eq!((target(&rig, 2), target(&rig, 3)), (all_of(7), ANY));
    assert_eq!(rig.closed, None);
}

#[test]
fn another_pace_has_a_settled_channel_looked_at_at_once() {
    let target = |rig: &Rig| Target::from(U256(rig.model.channels[&2].target.0)).hashes_per_share();
    let mut rig = ready(Options::default());
    rig.open_as(Kind::Extended, Lane::Control, user(0).as_bytes(), 100.0, 8);
    let before = target(&rig);
    // as it is to be, until it is looked at every minute only
    for _ in 0..31 {
        rig.wait(5 * SECOND);
        rig.mine_and_submit(2);
        rig.store();
    }
    rig.wait(SECOND);
    rig.store();
    assert_eq!(target(&rig), before);
    assert!(rig.session.wake_at() > Some(rig.now + 20 * SECOND), "{:?}", rig.session.wake_at());

    let slower = vardiff::Options { shares_per_minute: eager().shares_per_minute / 4.0, ..eager() };
    let options = Arc::new(Options { vardiff: slower, ..Options::default() });
    assert_eq!(rig.tell(Input::Options(options.clone())), NOTHING);
    assert!(rig.session.wake_at() <= Some(rig.now));
    assert_names(&rig.wait(Duration::ZERO), &["SetTarget", "NewExtendedMiningJob"]);
    assert!((3.9..4.1).contains(&(target(&rig) / before)), "what is known of the miner stays");
    assert_eq!(rig.tell(Input::Options(options)), NOTHING);
    assert!(rig.session.wake_at() > Some(rig.now), "the same is no news");
}

#[test]
fn a_new_difficulty_of_the_network_is_announced() {
    let mut rig = ready(Options::default());
    rig.open(Kind::Extended, Lane::Control);
    let mut easier = work(1, 2);
    easier.tip = Arc::new(Tip { nbits: 0x1f00_ffff, ..(*easier.tip).clone() });
    assert_names(&rig.work(easier), &["NewExtendedMiningJob", "SetNewPrevHash"]);
    assert_eq!(rig.model.channels[&2].tip.unwrap().nbits, 0x1f00_ffff);
    rig.mine_and_submit(2);
    assert_eq!(rig.credited.len(), 1);
}

#[test]
fn channels_opened_before_there_is_work_start_with_it() {
    let mut rig = rig(Options::default());
    rig.say(&setup());
    assert_names(&rig.open(Kind::Extended, Lane::Control), &["OpenExtendedMiningChannelSuccess"]);
    assert_names(&rig.open(Kind::Standard, Lane::Control), &["OpenStandardMiningChannelSuccess"]);
    let first = ["NewExtendedMiningJob", "SetNewPrevHash", "NewMiningJob", "SetNewPrevHash"];
    assert_names(&rig.work(work(1, 1)), &first);
    assert_names(&rig.work(work(1, 2)), &["NewExtendedMiningJob"]);
}

#[test]
fn a_closed_channel_is_owed_its_answers() {
    let mut rig = ready(Options::default());
    rig.open(Kind::Standard, Lane::Control);
    rig.open(Kind::Standard, Lane::Control);
    let late = rig.mine(2, 0);
    rig.mine_and_submit(2);
    assert_eq!(rig.close(2), NOTHING, "not safe yet");
    assert_answer(&rig.submit(&late), "invalid-channel-id");
    let said = rig.store();
    assert_answer(&said, "SubmitSharesSuccess { channel_id: ChannelId(2)");
    assert_answer(&said, "new_submits_accepted_count: 1");

    // stored before, but too early to be acknowledged
    rig.mine_and_submit(3);
    rig.wait(Duration::ZERO);
    assert_answer(&rig.store(), "SubmitSharesSuccess");
    rig.mine_and_submit(3);
    assert_eq!(rig.store(), NOTHING);
    assert_answer(&rig.close(3), "SubmitSharesSuccess { channel_id: ChannelId(3)");
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn a_group_closes_with_all_its_channels() {
    let mut rig = ready(Options::default());
    for kind in [Kind::Standard, Kind::Extended, Kind::Standard] {
        rig.open(kind, Lane::Control);
    }
    rig.open_as(Kind::Standard, Lane::Control, user(1).as_bytes(), 0.0, 0);
    rig.close(1);
    assert_eq!(rig.pool.in_use(), 1);
    assert_eq!(rig.work(work(2, 2)).len(), 2, "only the other group hears of it");
    rig.close(999);
    assert_eq!((rig.closed, rig.pool.in_use()), (None, 1));
}

#[test]
fn search_space_comes_back_with_the_next_template() {
    let mut rig = ready_in(SimPool::new(), Options::default());
    let mut id = 2;
    for serial in 2..5 {
        for _ in 0..SLOTS {
            assert_eq!(rig.open(Kind::Extended, Lane::Control).len(), 3, "answer, job and tip");
            rig.mine_and_submit(id);
            rig.close(id);
            // a group before each channel
            id += 2;
        }
        assert_answer(&rig.open(Kind::Extended, Lane::Control), "channel-capacity-exhausted");
        assert_eq!(rig.work(work(1, serial)), NOTHING);
    }
}

#[test]
fn an_update_is_reflected_once_a_second() {
    let mut rig = ready(Options::default());
    rig.open(Kind::Extended, Lane::Control);
    let old = rig.mine(2, 0);
    assert_names(&rig.update(2, 0.0, all_of(3)), &["SetTarget", "NewExtendedMiningJob"]);
    assert_eq!(rig.model.channels[&2].target, all_of(3));
    rig.submit(&old);
    assert_eq!(rig.credited.len(), 1, "the old job has the old target");

    assert_eq!(rig.update(2, 0.0, all_of(2)), NOTHING, "too soon");
    assert_eq!(rig.update(2, 0.0, all_of(4)), NOTHING, "too soon");
    let due = rig.session.wake_at().unwrap().since(rig.now);
    assert!(due <= SECOND);
    assert_eq!(rig.wait(SECOND - Duration::from_micros(1)), NOTHING);
    assert_names(&rig.wait(Duration::from_micros(1)), &["SetTarget", "NewExtendedMiningJob"]);
    assert_eq!(rig.model.channels[&2].target, all_of(4));

    rig.wait(SECOND);
    for (channel, hashrate, target, code) in [
        (9, 0.0, ANY, "invalid-channel-id"),
        (1, 0.0, ANY, "invalid-channel-id"),
        (2, f32::NAN, ANY, "invalid-nominal-hashrate"),
        (2, -1.0, ANY, "invalid-nominal-hashrate"),
        (2, 0.0, U256([0; 32]), "max-target-out-of-range"),
    ] {
        assert_answer(&rig.update(channel, hashrate, target), code);
    }
}

#[test]
fn many_updates_take_no_memory() {
    let mut rig = ready(Options::default());
    rig.open(Kind::Extended, Lane::Control);
    let size = |rig: &Rig| format!("{:?}", rig.session).len();
    for bits in 0..8 {
        rig.update(2, 0.0, all_of(bits % 4));
    }
    let before = size(&rig);
    for bits in 0..200 {
        rig.update(2, 0.0, all_of(bits % 4));
    }
    assert!(size(&rig) < before + 100, "{before} {}", size(&rig));
}

#[test]
fn withdrawn_future_jobs_take_no_memory() {
    let mut rig = ready(Options::default());
    rig.open(Kind::Extended, Lane::Control);
    let mut sizes = Vec::new();
    for serial in 1..300 {
        let future = vec![work(1, 1000 + serial).template];
        let said = rig.work(Work { future, ..work(1, 1) });
        assert_names(&said, &["NewExtendedMiningJob"]);
        sizes.push(format!("{:?}", rig.session).len());
    }
    assert!(sizes[298] < sizes[99] + 200, "{sizes:?}");
}

#[test]
fn payees_that_are_gone_are_forgotten() {
    let mut rig = ready(Options::default());
    for number in 0..5 {
        rig.open_as(Kind::Extended, Lane::Control, user(number).as_bytes(), 0.0, 0);
    }
    let known = |rig: &Rig| format!("{:?}", rig.session).matches("Solo {").count();
    assert!(known(&rig) >= 5);
    for channel in [2, 4, 6, 8, 10] {
        rig.close(channel);
    }
    assert_eq!(known(&rig), 0);
    let said = rig.open(Kind::Extended, Lane::Control);
    assert!(
        said[0].contains("channel_id: ChannelId(12), ")
            && said[0].contains("group_channel_id: ChannelId(11)")
    );
}

#[test]
fn shares_are_acknowledged_in_batches() {
    let options = Options { share_batch_size: 3, share_batch_interval: SECOND, ..Options::default() };
    let mut rig = ready(options);
    rig.open(Kind::Extended, Lane::Control);
    rig.mine_and_submit(2);
    rig.store();
    assert_answer(
        &rig.wait(Duration::ZERO),
        "last_sequence_number: SequenceNumber(1), new_submits_accepted_count: 1",
    );
    // the next come within a second: they wait until it has passed, or until there are three
    for _ in 0..3 {
        assert_eq!(rig.store(), NOTHING);
        rig.mine_and_submit(2);
    }
    assert_answer(&rig.store(), "last_sequence_number: SequenceNumber(4), new_submits_accepted_count: 3");
    rig.mine_and_submit(2);
    assert_eq!(rig.store(), NOTHING);
    assert_eq!(rig.session.wake_at(), Some(rig.now + SECOND));
    assert_eq!(rig.wait(SECOND - Duration::from_micros(1)), NOTHING);
    assert_answer(&rig.wait(Duration::from_micros(1)), "SequenceNumber(5), new_submits_accepted_count: 1");
}

#[test]
fn nothing_is_acknowledged_before_it_is_safe() {
    let mut rig = ready(Options { share_batch_size: 1, ..Options::default() });
    rig.open(Kind::Extended, Lane::Control);
    for _ in 0..3 {
        assert_eq!(rig.mine_and_submit(2), NOTHING);
    }
    assert!(rig.wait(10 * SECOND).iter().all(|said| !said.starts_with("SubmitShares")));
    assert_eq!(rig.tell(Input::Stored(0)), NOTHING);
    assert_answer(&rig.tell(Input::Stored(1)), "SequenceNumber(1)");
    assert_eq!(rig.tell(Input::Stored(3)).len(), 2);
}

#[test]
fn a_channel_with_too_many_shares_starts_over() {
    let mut rig = ready(Options { max_seen_shares: 3, ..Options::default() });
    rig.open(Kind::Standard, Lane::Control);
    let old: Vec<Fields> = (0..3).map(|_| rig.mine(2, 0)).collect();
    assert_eq!(rig.submit(&old[0]), NOTHING);
    assert_answer(&rig.submit(&old[0]), "duplicate-share");
    assert_eq!(rig.submit(&old[1]), NOTHING);
    let before = rig.model.channels[&2].target;
    let said = rig.submit(&old[2]);
    assert!(said.last().unwrap().starts_with("NewMiningJob"), "{said:?}");
    assert!(rig.model.channels[&2].target <= before);
    for share in &old {
        assert_answer(&rig.submit(share), "stale-share");
    }
    rig.mine_and_submit(2);
    assert_eq!(rig.credited.len(), 4);
}

#[test]
fn old_jobs_make_room_for_new_ones() {
    let mut rig = ready(Options { max_jobs: 2, ..Options::default() });
    rig.open(Kind::Extended, Lane::Control);
    for serial in 2..4 {
        rig.work(work(1, serial));
    }
    let [first, second, third] = [2, 1, 0].map(|ago| rig.mine(2, ago));
    assert_answer(&rig.submit(&first), "stale-share");
    assert_eq!(rig.submit(&second), NOTHING);
    assert_eq!(rig.submit(&third), NOTHING);
    rig.work(work(2, 4));
    for share in [&first, &second, &third] {
        assert_answer(&rig.submit(share), "stale-share");
    }
    assert_answer(&rig.submit(&Fields { job: 77, ..third }), "invalid-job-id");
    assert_eq!(rig.credited.len(), 2);
}

#[test]
fn jobs_made_for_one_channel_are_few() {
    let mut rig = ready(Options { max_own_jobs: 2, ..Options::default() });
    rig.open(Kind::Extended, Lane::Control);
    for bits in [1, 2, 3] {
        assert_names(&rig.update(2, 0.0, all_of(bits)), &["SetTarget", "NewExtendedMiningJob"]);
        rig.wait(SECOND);
    }
    let [groups, first, second, third] = [3, 2, 1, 0].map(|ago| rig.mine(2, ago));
    assert_answer(&rig.submit(&first), "stale-share");
    for share in [&groups, &second, &third] {
        assert_eq!(rig.submit(share), NOTHING);
    }
    assert_eq!(rig.credited.len(), 3);
}

#[test]
fn only_the_miners_own_mistakes_close_the_connection() {
    let mut rig = ready(Options { max_bad_shares: 3, ..Options::default() });
    rig.open(Kind::Extended, Lane::Control);
    let good = rig.mine(2, 0);
    let bad = Fields { extranonce: Some(vec![0; 3]), ..good.clone() };
    rig.submit(&good);
    for _ in 0..9 {
        assert_answer(&rig.submit(&good), "duplicate-share");
    }
    rig.submit(&bad);
    rig.submit(&bad);
    rig.mine_and_submit(2);
    rig.submit(&bad);
    rig.submit(&bad);
    assert_eq!(rig.closed, None, "a good one came between");
    assert_answer(&rig.submit(&bad), "bad-extranonce-size");
    assert_eq!(rig.closed, Some(CloseReason::BadShares(Rejection::BadExtranonceSize)));
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn a_block_is_handed_in_once() {
    let mut rig = ready(Options::default());
    let mut easy = work(2, 2);
    easy.tip = Arc::new(Tip { report_target: Target::MAX, ..(*easy.tip).clone() });
    rig.work(easy);
    rig.open(Kind::Extended, Lane::Control);
    let block = rig.mine(2, 0);
    rig.submit(&block);
    assert_answer(&rig.submit(&block), "duplicate-share");
    assert_eq!((rig.solved.len(), rig.credited == rig.solved), (1, true));
}

#[test]
fn custom_jobs_are_refused() {
    let mut rig = ready(Options::default());
    rig.open(Kind::Extended, Lane::Control);
    let mut payload = 2_u32.to_le_bytes().to_vec();
    payload.extend(9_u32.to_le_bytes());
    payload.push(0);
    payload.extend([0; 4 + 32 + 4 + 4 + 4]);
    payload.push(0);
    payload.extend([0; 4 + 2 + 4 + 1]);
    let mut bytes = Vec::new();
    write_frame(0, 0x22, true, &mut bytes, |out| out.extend(&payload)).unwrap();
    let said = rig.say_on(Lane::Control, &bytes);
    assert_answer(&said, "SetCustomMiningJobError { channel_id: ChannelId(2), request_id: RequestId(9)");
    assert_answer(&said, "jd-not-supported");
}

#[test]
fn a_channel_is_served_on_its_lane_alone() {
    let mut rig = ready(Options::default());
    rig.open(Kind::Extended, Lane::Channel(1));
    rig.open(Kind::Standard, Lane::Channel(2));
    let share = rig.mine(2, 0);
    for wrong in [Lane::Control, Lane::Channel(2)] {
        assert_answer(&rig.submit_on(wrong, &share), "invalid-channel-id");
    }
    assert_eq!(rig.submit_on(Lane::Channel(1), &share), NOTHING);
    let wrong_kind = Fields { extranonce: None, ..rig.mine(2, 0) };
    assert_answer(&rig.submit_on(Lane::Channel(1), &wrong_kind), "invalid-channel-id");
    assert_answer(&rig.update(2, 0.0, ANY), "invalid-channel-id");
    assert_eq!(rig.credited.len(), 1);
}

#[test]
fn the_answer_to_open_comes_with_the_work() {
    let mut rig = ready(Options::default());
    for (lane, kind) in [(1, Kind::Extended), (2, Kind::Standard)] {
        assert_eq!(rig.open(kind, Lane::Channel(lane)).len(), 3, "answer, job and tip");
        assert_eq!(rig.lanes, [Lane::Push; 3]);
    }
    // what is no work stays on the lane
    let lane = Lane::Channel(1);
    let update = |channel, target| {
        frame(&UpdateChannel {
            channel_id: ChannelId(channel),
            nominal_hash_rate: 0.0,
            maximum_target: target,
        })
    };
    assert_names(&rig.say_on(lane, &update(77, ANY)), &["UpdateChannelError"]);
    assert_eq!(rig.lanes, [lane]);
    let mut share = rig.mine(2, 0);
    rig.submit_on(lane, &share);
    assert_names(&rig.submit_on(lane, &share), &["SubmitSharesError"]);
    assert_eq!(rig.lanes, [lane]);
    rig.wait(Duration::ZERO);
    assert_names(&rig.store(), &["SubmitSharesSuccess"]);
    assert_eq!(rig.lanes, [lane]);
    share.job = 77;
    assert_names(&rig.submit_on(Lane::Channel(9), &share), &["SubmitSharesError"]);
    assert_eq!(rig.lanes, [Lane::Channel(9)]);
    assert_names(&rig.say_on(lane, &update(2, all_of(3))), &["SetTarget", "NewExtendedMiningJob"]);
    assert_eq!(rig.lanes, [Lane::Push; 2]);
    assert_eq!(rig.finished, []);
}

#[test]
fn a_share_for_a_job_of_an_earlier_connection_is_stale() {
    for first in [1000, u32::MAX, 1] {
        let mut rig = rig(Options::default());
        rig.session = rig.session.with_jobs_from(JobId(first));
        rig.say(&setup());
        rig.work(work(1, 1));
        rig.open(Kind::Extended, Lane::Control);
        rig.work(work(1, 2));
        let [before, now] = [1, 0].map(|ago| rig.mine(2, ago));
        assert_eq!(before.job, first);
        for ago in [1, 5, 1 << 30, 1 << 31] {
            let old = Fields { job: first.wrapping_sub(ago), ..now.clone() };
            assert_answer(&rig.submit(&old), "stale-share");
        }
        for ahead in [1, 77, 1 << 30] {
            let unknown = Fields { job: now.job.wrapping_add(ahead), ..now.clone() };
            assert_answer(&rig.submit(&unknown), "invalid-job-id");
        }
        assert_eq!(rig.credited, [[0; 32]; 0]);
        for good in [before, now] {
            assert_eq!(rig.submit(&good), NOTHING);
        }
        assert_eq!(rig.credited.len(), 2);
    }
}

#[test]
fn a_group_hears_of_future_jobs_after_its_channels() {
    let mut rig = rig(Options::default());
    rig.say(&setup());
    rig.open(Kind::Extended, Lane::Control);
    rig.open(Kind::Extended, Lane::Control);
    let said = rig.work(Work { future: vec![work(1, 9).template], ..work(1, 1) });
    let first = ["NewExtendedMiningJob", "SetNewPrevHash"];
    assert_names(&said, &[&first[..], &first, &["NewExtendedMiningJob"]].concat());
    assert!(said[4].contains("channel_id: ChannelId(1)"));
    // another group is new, and then it is not
    for future in ["channel_id: ChannelId(4)", "channel_id: ChannelId(6)"] {
        let said = rig.open_as(Kind::Extended, Lane::Control, user(1).as_bytes(), 0.0, 0);
        assert_names(&said[1..3], &first);
        assert_answer(&said[3..], future);
    }
}

#[test]
fn a_lane_with_two_channels_is_finished_with_the_last() {
    let mut rig = ready(Options::default());
    let lane = Lane::Channel(1);
    rig.open(Kind::Extended, lane);
    rig.open(Kind::Extended, lane);
    assert_answer(&rig.open_as(Kind::Standard, lane, b"nobody", 0.0, 0), "invalid-user-identity");
    rig.close(2);
    assert_eq!(rig.finished, []);
    rig.close(3);
    assert_eq!(rig.finished, [lane]);
}

#[test]
fn a_lane_that_ends_closes_its_channel() {
    let mut rig = ready(Options::default());
    rig.open(Kind::Extended, Lane::Channel(1));
    rig.open(Kind::Extended, Lane::Channel(2));
    rig.open(Kind::Extended, Lane::Control);
    for lane in [Lane::Control, Lane::Push] {
        assert_eq!(rig.tell(Input::Ended(lane)), NOTHING);
    }
    assert_eq!((rig.pool.in_use(), rig.finished.len()), (3, 0));
    rig.close(4);

    let share = rig.mine(2, 0);
    rig.submit_on(Lane::Channel(1), &share);
    rig.model.close(2);
    assert_eq!(rig.tell(Input::Ended(Lane::Channel(1))), NOTHING, "not safe yet");
    assert_eq!((rig.pool.in_use(), rig.finished.len()), (1, 0));
    assert_answer(&rig.store(), "SubmitSharesSuccess { channel_id: ChannelId(2)");
    assert_eq!((&rig.lanes[..], &rig.finished[..]), (&[Lane::Channel(1)][..], &[Lane::Channel(1)][..]));
    assert_eq!(rig.store(), NOTHING);
    assert_eq!(rig.finished.len(), 1, "once");

    // owes nothing
    rig.model.close(3);
    rig.tell(Input::Ended(Lane::Channel(2)));
    assert_eq!(rig.finished, [Lane::Channel(1), Lane::Channel(2)]);
    // never had a channel
    rig.tell(Input::Ended(Lane::Channel(3)));
    assert_eq!(rig.finished.len(), 3);
    assert_eq!((rig.pool.in_use(), rig.closed), (0, None));
    rig.wait(Options::default().open_timeout);
    assert_eq!(rig.closed, Some(CloseReason::NoChannel));

    let mut early = sim_support::rig::rig(Options::default());
    early.tell(Input::Ended(Lane::Control));
    early.tell(Input::Ended(Lane::Channel(1)));
    assert_eq!((early.finished, early.closed), (vec![Lane::Channel(1)], None));
}

#[test]
fn a_lane_is_finished_when_its_channel_is_closed_and_paid() {
    let mut rig = ready(Options::default());
    for lane in 1..=4 {
        rig.open(Kind::Extended, Lane::Channel(lane));
    }
    let lane = Lane::Channel;
    let late = rig.mine(2, 0);
    for (channel, shares) in [(2, 1), (3, 0), (4, 2)] {
        for _ in 0..shares {
            let share = rig.mine(channel, 0);
            rig.submit_on(lane(u64::from(channel) - 1), &share);
        }
        rig.model.close(channel);
        assert_eq!(rig.say_close(lane(u64::from(channel) - 1), channel), NOTHING);
    }
    assert_eq!(rig.finished, [lane(2)]);
    for (number, lanes) in [(1, vec![lane(2), lane(1)]), (3, vec![lane(2), lane(1), lane(3)])] {
        // between closing and the end, and after the end: all the same
        assert_eq!(rig.submit_on(lane(1), &late), NOTHING);
        assert_names(&rig.tell(Input::Stored(number)), &["SubmitSharesSuccess"]);
        assert_eq!(rig.finished, lanes);
    }
    assert_eq!(rig.open(Kind::Extended, lane(1)), NOTHING, "a lane is not used again");
    assert_eq!(rig.say_on(lane(2), &[0, 0x80, 0x1b, 0, 0, 0]), NOTHING, "whatever comes");
    for number in 1..=3 {
        rig.tell(Input::Ended(lane(number)));
    }
    assert_eq!((rig.finished.len(), rig.pool.in_use(), rig.closed), (3, 1, None));
}

#[test]
fn a_lane_whose_request_is_refused_is_finished() {
    let mut rig = ready(Options::default());
    let said = rig.open_as(Kind::Standard, Lane::Channel(1), b"nobody", 0.0, 0);
    assert_answer(&said, "invalid-user-identity");
    assert_eq!((&rig.lanes[..], &rig.finished[..]), (&[Lane::Channel(1)][..], &[Lane::Channel(1)][..]));
    let said = rig.open_as(Kind::Extended, Lane::Channel(2), user(0).as_bytes(), 0.0, 17);
    assert_answer(&said, "min-extranonce-size-too-large");
    rig.open_as(Kind::Standard, Lane::Control, b"nobody", 0.0, 0);
    rig.tell(Input::Ended(Lane::Channel(1)));
    assert_eq!(rig.finished, [Lane::Channel(1), Lane::Channel(2)]);
}

#[test]
fn only_on_the_control_lane_another_channel_or_a_group_is_closed() {
    let mut rig = ready(Options::default());
    for lane in 1..=3 {
        rig.open(Kind::Standard, Lane::Channel(lane));
    }
    for other in [1, 3, 99] {
        assert_eq!(rig.say_close(Lane::Channel(1), other), NOTHING);
    }
    assert_eq!((rig.pool.in_use(), rig.finished.len(), rig.closed), (3, 0, None));
    rig.close(3);
    assert_eq!((rig.pool.in_use(), &rig.finished[..]), (2, &[Lane::Channel(2)][..]));
    let share = rig.mine(4, 0);
    rig.submit_on(Lane::Channel(3), &share);
    rig.close(1);
    assert_eq!((rig.pool.in_use(), rig.finished.len()), (0, 2));
    assert_names(&rig.store(), &["SubmitSharesSuccess"]);
    assert_eq!(rig.finished, [2, 1, 3].map(Lane::Channel));
}

#[test]
fn lanes_that_have_ended_take_no_memory() {
    let mut rig = ready(Options::default());
    let mut sizes = Vec::new();
    for lane in 0..300 {
        rig.open(Kind::Extended, Lane::Channel(3 * lane));
        rig.open_as(Kind::Extended, Lane::Channel(3 * lane + 1), b"nobody", 0.0, 0);
        let channel = *rig.model.channels.keys().next().unwrap();
        rig.model.close(channel);
        rig.say_close(Lane::Channel(3 * lane), channel);
        for ended in 0..3 {
            rig.tell(Input::Ended(Lane::Channel(3 * lane + ended)));
        }
        // with its timer
        rig.wait(10 * SECOND);
        sizes.push(format!("{:?}", rig.session).len());
    }
    assert_eq!(rig.finished.len(), 900);
    assert!(sizes[299] < sizes[99] + 200, "{sizes:?}");
}

#[test]
fn what_only_a_server_says_ends_the_connection() {
    let mut rig = ready(Options::default());
    rig.say(&SetTarget { channel_id: ChannelId(2), maximum_target: ANY });
    assert_eq!(rig.closed, Some(CloseReason::Unexpected(0x21)));
}
