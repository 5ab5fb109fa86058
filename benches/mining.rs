//! Shares and jobs, ours and SRI's (`channels_sv2`), side by side.
//!
//! Share: ours is `Session::handle` on a received frame: decoding, verdict, duplicate check,
//! credit, acknowledgement (one for ten). SRI's is `validate_share` on a message that is decoded
//! already, which has the verdict, the duplicate check and the accounting.
//!
//! Job: from a new template on the same tip to the frame that a connection sends. Ours is
//! `Session::handle` of the work, with the job made anew for each template; SRI's is
//! `on_new_template` (and `on_group_channel_job` for each channel of a group) and the encoding of
//! the message.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut};
use blvm_stratum_v2::mining::coinbase::Tag;
use blvm_stratum_v2::mining::extranonce::{BootEpoch, ServerId};
use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::mining::payout::PayoutPolicy;
use blvm_stratum_v2::mining::vardiff;
use blvm_stratum_v2::mining::{Coinbase, Hashrate, Target, Template, TemplateSerial, Tip, Work};
use blvm_stratum_v2::pool::{CountOnly, Options, StratumV2Pool};
use blvm_stratum_v2::session::{Input, Lane, Output, Session};
use blvm_stratum_v2::wire::codec::{B032, Str255};
use blvm_stratum_v2::wire::common::SetupConnection;
use blvm_stratum_v2::wire::mining::{
    Mining, OpenExtendedMiningChannel, OpenStandardMiningChannel, SubmitSharesExtended, SubmitSharesStandard,
};
use blvm_stratum_v2::wire::{ChannelId, Header, JobId, Message, RequestId, SequenceNumber, Tlvs, U256};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stratum_core::binary_sv2;
use stratum_core::channels_sv2::extranonce_manager::ExtranonceAllocator;
use stratum_core::channels_sv2::server::extended::ExtendedChannel;
use stratum_core::channels_sv2::server::group::GroupChannel;
use stratum_core::channels_sv2::server::standard::StandardChannel;
use stratum_core::mining_sv2::{SubmitSharesExtendedOwned, SubmitSharesStandardOwned};
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned as TemplatePrevHash};

/// So hard that no share is a block.
const NBITS: u32 = 0x1700_0000 | 0x01_0000;
const NTIME: u32 = 1_800_000_000;
const VERSION: u32 = 0x2000_0000;
const LEVELS: usize = 12;
const VALUE: u64 = 312_500_000;
/// Shares for one tip. SRI closes a channel that has more than a budget.
const SHARES: u32 = 5_000;
const MEMBERS: u32 = 256;

fn merkle_path() -> Vec<[u8; 32]> {
    (0..LEVELS).map(|level| [level as u8 + 1; 32]).collect()
}

fn outputs() -> Vec<TxOut> {
    let script_pubkey = ScriptBuf::from_bytes([&[0, 20][..], &[7; 20]].concat());
    vec![TxOut { value: Amount::from_sat(VALUE), script_pubkey }]
}

fn commitment() -> TxOut {
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[9; 32]].concat();
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
}

// ours

fn work(serial: u64, tip: u8) -> Arc<Work> {
    let target = Target::from_compact(NBITS).unwrap();
    let template = Template {
        serial: TemplateSerial(serial),
        version: VERSION,
        version_rolling: true,
        coinbase: Coinbase {
            version: 2,
            script_prefix: Coinbase::bip34(900_000),
            sequence: 0xffff_fffe,
            value: VALUE,
            trailing_outputs: vec![commitment()],
            lock_time: 899_999,
            witness_commitment: true,
        },
        merkle_path: merkle_path().into_iter().map(U256).collect(),
    };
    let tip = Tip {
        prev_hash: BlockHash::from_byte_array([tip; 32]),
        height: 900_000,
        min_ntime: NTIME,
        nbits: NBITS,
        network_target: target,
        report_target: target,
    };
    Arc::new(Work { tip: Arc::new(tip), template: Arc::new(template), future: Vec::new() })
}

struct Ours {
    pool: Arc<StratumV2Pool>,
    session: Session,
    now: Moment,
    frame: Vec<u8>,
    sent: Vec<u8>,
    last_job: JobId,
}

impl Ours {
    fn new(flags: u32) -> Self {
        let options = Options {
            session: Default::default(),
            payout: PayoutPolicy::Pool { script: outputs()[0].script_pubkey.as_script().into() },
            tag: Tag::new("bench").unwrap(),
            server_id: ServerId::new(0).unwrap(),
        };
        let (pool, _) = StratumV2Pool::new(options, BootEpoch::of_start(0), Box::new(CountOnly));
        let now = Moment(0);
        let session_options = Arc::new(blvm_stratum_v2::session::Options {
            max_seen_shares: usize::MAX,
            vardiff: vardiff::Options { slowest: Hashrate::new(0.0).unwrap(), ..Default::default() },
            ..Default::default()
        });
        let session = Session::new(session_options, now);
        let mut ours = Self { pool, session, now, frame: Vec::new(), sent: Vec::new(), last_job: JobId(0) };
        ours.work(work(0, 0));
        let name = Str255::truncated("bench");
        ours.message(&SetupConnection {
            protocol: 0,
            min_version: 2,
            max_version: 2,
            flags,
            endpoint_host: name,
            endpoint_port: 0,
            vendor: name,
            hardware_version: name,
            firmware: name,
            device_id: name,
        });
        ours
    }

    fn open_standard(&mut self) {
        self.message(&OpenStandardMiningChannel {
            request_id: RequestId(1),
            user_identity: Str255::truncated("bench"),
            nominal_hash_rate: 0.0,
            max_target: U256([0xff; 32]),
        });
    }

    fn open_extended(&mut self) {
        self.message(&OpenExtendedMiningChannel {
            request_id: RequestId(1),
            user_identity: Str255::truncated("bench"),
            nominal_hash_rate: 0.0,
            max_target: U256([0xff; 32]),
            min_extranonce_size: 8,
        });
    }

    fn message<'m>(&mut self, message: &impl Message<'m>) {
        self.frame.clear();
        message.encode(&mut self.frame).unwrap();
        let (header, payload) = self.frame.split_first_chunk().unwrap();
        let input = Input::Frame(Lane::Control, Header::read(header), payload);
        self.session.handle(self.now, input, &*self.pool);
        self.drain();
    }

    fn work(&mut self, work: Arc<Work>) {
        self.pool.publish(work.clone());
        self.session.handle(self.now, Input::Work(work), &*self.pool);
        self.drain();
    }

    /// Copies what is sent, as a transport does.
    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            if let Output::Frame(_, frame) = output {
                self.sent.clear();
                self.sent.extend_from_slice(frame);
                black_box(&self.sent);
                if let [_, _, 0x15 | 0x1f, _, _, _, _, _, _, _, a, b, c, d, ..] = *frame {
                    self.last_job = JobId(u32::from_le_bytes([a, b, c, d]));
                }
            }
        }
        self.session.take_tally();
    }

    fn store(&mut self, shares: &mut Vec<blvm_stratum_v2::mining::share::Share>) {
        if let Some(number) = self.session.take_shares(shares) {
            shares.clear();
            self.session.handle(self.now, Input::Stored(number), &*self.pool);
            self.drain();
        }
    }
}

/// The time for `iterations` shares that `submit` makes, a new tip now and then.
fn our_shares(ours: &mut Ours, iterations: u64, submit: impl Fn(&mut Ours, u32)) -> Duration {
    let mut shares = Vec::new();
    let mut spent = Duration::ZERO;
    let mut left = iterations;
    let mut serial = 0;
    while left > 0 {
        serial += 1;
        ours.work(work(serial, serial as u8));
        let batch = left.min(SHARES.into()) as u32;
        let start = Instant::now();
        for nonce in 0..batch {
            submit(ours, nonce);
            // as many in one wake-up
            if nonce % 10 == 9 {
                ours.store(&mut shares);
            }
        }
        spent += start.elapsed();
        ours.store(&mut shares);
        left -= u64::from(batch);
    }
    spent
}

// SRI's

fn sri_template(id: u64, future: bool) -> NewTemplateOwned {
    let commitment = bitcoin::consensus::serialize(&commitment());
    NewTemplateOwned {
        template_id: id,
        future_template: future,
        version: VERSION,
        coinbase_tx_version: 2,
        coinbase_prefix: Coinbase::bip34(900_000).try_into().unwrap(),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: VALUE,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: commitment.try_into().unwrap(),
        coinbase_tx_locktime: 899_999,
        merkle_path: merkle_path().into_iter().map(Into::into).collect::<Vec<_>>().try_into().unwrap(),
    }
}

fn sri_prev_hash(id: u64) -> TemplatePrevHash {
    let target = Target::from_compact(NBITS).unwrap().to_le_bytes();
    TemplatePrevHash {
        template_id: id,
        prev_hash: [id as u8; 32].into(),
        header_timestamp: NTIME,
        n_bits: NBITS,
        target: target.into(),
    }
}

fn sri_allocator() -> ExtranonceAllocator {
    ExtranonceAllocator::new(vec![1, 2], 20, 1 << 16).unwrap()
}

fn sri_standard(allocator: &mut ExtranonceAllocator) -> StandardChannel {
    let mut channel = StandardChannel::new_for_pool(
        2,
        "bench".to_owned(),
        allocator.allocate_standard().unwrap(),
        stratum_core::bitcoin::Target::from_le_bytes([0xff; 32]),
        0.001,
        10,
        1e6,
        "bench".to_owned(),
        None,
    )
    .unwrap();
    channel.on_new_template(sri_template(1, true), outputs()).unwrap();
    channel.on_set_new_prev_hash(sri_prev_hash(1)).unwrap();
    channel
}

fn sri_extended(allocator: &mut ExtranonceAllocator) -> ExtendedChannel {
    let mut channel = ExtendedChannel::new_for_pool(
        2,
        "bench".to_owned(),
        allocator.allocate_extended(16).unwrap(),
        stratum_core::bitcoin::Target::from_le_bytes([0xff; 32]),
        0.001,
        true,
        16,
        10,
        1e6,
        "bench".to_owned(),
        None,
    )
    .unwrap();
    channel.on_new_template(sri_template(1, true), outputs()).unwrap();
    channel.on_set_new_prev_hash(sri_prev_hash(1)).unwrap();
    channel
}

/// The time for `iterations` shares, each batch on a fresh channel.
fn sri_shares<C>(
    iterations: u64,
    mut channel: impl FnMut() -> C,
    mut submit: impl FnMut(&mut C, u32),
) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let mut channel = channel();
        let batch = left.min(SHARES.into()) as u32;
        let start = Instant::now();
        for nonce in 0..batch {
            submit(&mut channel, nonce);
        }
        spent += start.elapsed();
        left -= u64::from(batch);
    }
    spent
}

fn share_standard(c: &mut Criterion) {
    let mut group = c.benchmark_group("share, standard");
    let mut ours = Ours::new(1);
    ours.open_standard();
    let submit = |ours: &mut Ours, nonce| {
        ours.message(&SubmitSharesStandard {
            channel_id: ChannelId(2),
            sequence_number: SequenceNumber(nonce),
            job_id: ours.last_job,
            nonce,
            ntime: NTIME,
            version: VERSION,
        });
    };
    group.bench_function("ours", |b| b.iter_custom(|n| our_shares(&mut ours, n, submit)));
    let mut allocator = sri_allocator();
    group.bench_function("sri", |b| {
        b.iter_custom(|n| {
            sri_shares(
                n,
                || sri_standard(&mut allocator),
                |channel, nonce| {
                    let job_id = channel.get_active_job().unwrap().get_job_id();
                    let (channel_id, sequence_number) = (2, nonce);
                    let (ntime, version) = (NTIME, VERSION);
                    let share = SubmitSharesStandardOwned {
                        channel_id,
                        sequence_number,
                        job_id,
                        nonce,
                        ntime,
                        version,
                    };
                    black_box(channel.validate_share(share).unwrap());
                },
            )
        });
    });
    group.finish();
}

fn share_extended(c: &mut Criterion) {
    let mut group = c.benchmark_group("share, extended, 12 levels");
    let mut ours = Ours::new(0);
    ours.open_extended();
    let submit = |ours: &mut Ours, nonce| {
        ours.message(&SubmitSharesExtended {
            channel_id: ChannelId(2),
            sequence_number: SequenceNumber(nonce),
            job_id: ours.last_job,
            nonce,
            ntime: NTIME,
            version: VERSION,
            extranonce: B032::of(&[5; 16]),
            tlvs: Tlvs::default(),
        });
    };
    group.bench_function("ours", |b| b.iter_custom(|n| our_shares(&mut ours, n, submit)));
    let mut allocator = sri_allocator();
    group.bench_function("sri", |b| {
        b.iter_custom(|n| {
            sri_shares(
                n,
                || sri_extended(&mut allocator),
                |channel, nonce| {
                    let job_id = channel.get_active_job().unwrap().get_job_id();
                    let share = SubmitSharesExtendedOwned {
                        channel_id: 2,
                        sequence_number: nonce,
                        job_id,
                        nonce,
                        ntime: NTIME,
                        version: VERSION,
                        extranonce: vec![5; 16].try_into().unwrap(),
                    };
                    black_box(channel.validate_share(share).unwrap());
                },
            )
        });
    });
    group.finish();
}

fn job_channel(c: &mut Criterion) {
    let mut group = c.benchmark_group("job, one standard channel, 12 levels");
    let mut ours = Ours::new(1);
    ours.open_standard();
    let mut serial = 0;
    group.bench_function("ours", |b| {
        b.iter(|| {
            serial += 1;
            ours.work(work(serial, 0));
        });
    });
    let mut channel = sri_standard(&mut sri_allocator());
    let mut id = 1;
    group.bench_function("sri", |b| {
        b.iter(|| {
            id += 1;
            channel.on_new_template(sri_template(id, false), outputs()).unwrap();
            let message = channel.get_active_job().unwrap().get_job_message().clone();
            black_box(binary_sv2::to_bytes(message).unwrap());
        });
    });
    group.finish();
}

fn job_group(c: &mut Criterion) {
    let mut group = c.benchmark_group("job, a group of 256 standard channels, 12 levels");
    group.throughput(Throughput::Elements(MEMBERS.into()));
    let mut ours = Ours::new(0);
    for _ in 0..MEMBERS {
        ours.open_standard();
    }
    let mut serial = 0;
    group.bench_function("ours", |b| {
        b.iter(|| {
            serial += 1;
            ours.work(work(serial, 0));
        });
    });
    let mut allocator = sri_allocator();
    let mut sri_group = GroupChannel::new_for_pool(1, 20, true, "bench".to_owned()).unwrap();
    let mut members: Vec<_> = (0..MEMBERS).map(|_| sri_standard(&mut allocator)).collect();
    sri_group.on_new_template(sri_template(1, true), outputs()).unwrap();
    sri_group.on_set_new_prev_hash(sri_prev_hash(1)).unwrap();
    let mut id = 1;
    group.bench_function("sri", |b| {
        b.iter(|| {
            id += 1;
            sri_group.on_new_template(sri_template(id, false), outputs()).unwrap();
            let job = sri_group.get_active_job().unwrap();
            for member in &mut members {
                member.on_group_channel_job(job.clone()).unwrap();
            }
            black_box(binary_sv2::to_bytes(job.get_job_message().clone()).unwrap());
        });
    });
    group.finish();
}

/// So that a bench whose shares are all refused cannot look fast.
fn check() {
    let mut ours = Ours::new(1);
    ours.open_standard();
    ours.work(work(1, 1));
    let share = SubmitSharesStandard {
        channel_id: ChannelId(2),
        sequence_number: SequenceNumber(1),
        job_id: ours.last_job,
        nonce: 1,
        ntime: NTIME,
        version: VERSION,
    };
    ours.frame.clear();
    share.encode(&mut ours.frame).unwrap();
    assert!(Mining::decode(0x1a, &ours.frame[6..]).is_ok());
    let (header, payload) = ours.frame.split_first_chunk().unwrap();
    let input = Input::Frame(Lane::Control, Header::read(header), payload);
    ours.session.handle(ours.now, input, &*ours.pool);
    assert_eq!(ours.session.take_tally().accepted, 1, "a share that is to be measured is refused");
}

fn all(c: &mut Criterion) {
    check();
    share_standard(c);
    share_extended(c);
    job_channel(c);
    job_group(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
