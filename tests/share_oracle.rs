//! Our verdicts on shares against those of SRI's server channels (`channels_sv2::server`).
//!
//! A session is driven by a random history of tips, templates, targets and shares. What it sends
//! is read by SRI's parser and fed to SRI's channels, so that both judge the same jobs; then each
//! share goes to both. SRI computes coinbase, merkle root and header by itself.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use blvm_stratum_v2::mining::extranonce::BootEpoch;
use blvm_stratum_v2::mining::job::Job;
use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::mining::share::{MAX_NTIME_AHEAD, Share, VERSION_ROLLING_MASK};
use blvm_stratum_v2::mining::{TemplateSerial, Work};
use blvm_stratum_v2::pool::{CountOnly, StratumV2Pool};
use blvm_stratum_v2::session::{Input, Lane, Options, Output, Session, Shared};
use blvm_stratum_v2::wire::Header;
use common::{HeaderFields, MANY_BLOCKS, NO_BLOCKS, Source, merkle_root, pool_options, sri_reads};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use stratum_core::binary_sv2::{Encodable, GetSize, Sv2OptionOwned, to_bytes};
use stratum_core::bitcoin::{CompactTarget, Target};
use stratum_core::channels_sv2::extranonce_manager::{AllocatedExtranoncePrefix, ExtranonceAllocator};
use stratum_core::channels_sv2::server::extended::ExtendedChannel;
use stratum_core::channels_sv2::server::jobs::extended::ExtendedJob;
use stratum_core::channels_sv2::server::share_accounting::{
    ShareAccounting, ShareValidationError, ShareValidationResult,
};
use stratum_core::channels_sv2::server::standard::StandardChannel;
use stratum_core::common_messages_sv2::{Protocol, SetupConnectionOwned};
use stratum_core::mining_sv2::{
    NewExtendedMiningJobOwned, OpenExtendedMiningChannelOwned, OpenStandardMiningChannelOwned,
    SetNewPrevHashOwned, SubmitSharesExtendedOwned, SubmitSharesStandardOwned, UpdateChannelOwned,
};
use stratum_core::parsers_sv2::MiningOwned;
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned as TemplatePrevHash};

/// Where the two disagree on purpose: what we say, what SRI says, and why.
const MEANT: [(&str, &str, &str, &str); 6] = [
    (
        "several faults at once",
        "invalid-share",
        "bad-extranonce-size",
        "we examine ntime, version and extranonce in this order, SRI the extranonce first",
    ),
    (
        "a version rolled on a standard channel although the job forbids it",
        "version-rolling-not-allowed",
        "accepted",
        "a group's job says so to standard channels too, and whoever the work is from would refuse \
         the share. Of bits outside BIP323 SRI says invalid-non-rollable-version-bit",
    ),
    (
        "a future job that has been dropped",
        "stale-share",
        "invalid-job-id",
        "the miner was sent it and may have begun when the newer work came: it did nothing wrong",
    ),
    (
        "a job of the tip before the last",
        "stale-share",
        "invalid-job-id",
        "SRI remembers the jobs of one tip back, we the last 64",
    ),
    (
        "a job of this tip that is too old",
        "stale-share",
        "invalid-job-id",
        "SRI forgets it, we remember that it existed",
    ),
    (
        "a block that is no share, as the network's target is the easier one",
        "difficulty-too-low",
        "accepted, a block",
        "a miner never submits it: the channel's target is all it knows. SRI would credit it with \
         more than its work",
    ),
];

const ROLLABLE: usize = 16;
const EXTRANONCE: u8 = 20;
const ACCEPTED: &str = "accepted";
const BLOCK: &str = "accepted, a block";

/// What may happen to a connection.
#[derive(Debug, Clone)]
enum Event {
    NewTip { nbits: u32 },
    Refresh { version_rolling: bool },
    Prepare { keep: usize, new: usize },
    Update { channel: Index, hashrate: f32 },
    Submit { channel: Index, job: Index, recent: bool, fault: Fault, nonce: u32 },
    Repeat { channel: Index, share: Index },
}

/// What is special about a share. All but the last are mined to their target.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    Time(i64),
    RolledVersion(u32),
    VersionBit(u32),
    ExtranonceSize(usize),
    UnknownJob,
    LowDifficulty,
}

fn event() -> impl Strategy<Value = Event> {
    let ahead = i64::from(MAX_NTIME_AHEAD);
    let fault = prop_oneof![
        4 => Just(Fault::None),
        1 => prop_oneof![Just(-1), Just(1), Just(ahead), Just(ahead + 1), Just(-1_000_000)].prop_map(Fault::Time),
        1 => any::<u32>().prop_map(|bits| Fault::RolledVersion(bits & VERSION_ROLLING_MASK)),
        1 => (0..32_u32)
            .prop_filter("outside BIP323", |bit| VERSION_ROLLING_MASK >> bit & 1 == 0)
            .prop_map(Fault::VersionBit),
        1 => (0..=32_usize).prop_filter("wrong", |size| *size != ROLLABLE).prop_map(Fault::ExtranonceSize),
        1 => Just(Fault::UnknownJob),
        2 => Just(Fault::LowDifficulty),
    ];
    prop_oneof![
        1 => prop_oneof![Just(NO_BLOCKS), Just(MANY_BLOCKS)].prop_map(|nbits| Event::NewTip { nbits }),
        2 => prop::bool::weighted(0.7).prop_map(|version_rolling| Event::Refresh { version_rolling }),
        1 => (0..3_usize, 0..3_usize).prop_map(|(keep, new)| Event::Prepare { keep, new }),
        2 => (any::<Index>(), 0.5..6.0_f32).prop_map(|(channel, hashrate)| Event::Update { channel, hashrate }),
        12 => (any::<Index>(), any::<Index>(), prop::bool::weighted(0.6), fault, any::<u32>()).prop_map(
            |(channel, job, recent, fault, nonce)| Event::Submit { channel, job, recent, fault, nonce }
        ),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(channel, share)| Event::Repeat { channel, share }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        rng_seed: RngSeed::Fixed(0x5356_3203),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn verdicts_agree(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new(Options::default(), NO_BLOCKS, 2.0);
        for event in events {
            world.happen(event);
        }
        world.settle();
    }
}

/// A share that is exactly the target counts, one above it does not.
#[test]
fn the_target_itself_is_met() {
    for (above, verdict) in [(false, ACCEPTED), (true, "difficulty-too-low")] {
        for channel in 0..2 {
            let mut world = World::new(Options::default(), NO_BLOCKS, 2.0);
            let work = world.source.prepare(0, 1);
            world.publish(work);
            let job = *world.sides[channel].jobs.last_key_value().unwrap().0;

            // what the share will be is known before its job becomes active, and SetTarget holds
            // for future jobs
            let mut ahead = Source::new(NO_BLOCKS);
            let tip = ahead.new_tip(NO_BLOCKS).tip.clone();
            let side = &world.sides[channel];
            let mut share = side.draft(job, Fault::None);
            share.fields.prev_hash = *AsRef::<[u8; 32]>::as_ref(&tip.prev_hash);
            share.fields.ntime = tip.min_ntime;
            share.nonce = 7;
            let mut limit = share.fields.hash(7);
            if above {
                // the last byte that is not zero, less one: below the hash
                let byte = limit.iter().position(|byte| *byte > 0).unwrap();
                limit[byte] -= 1;
            }
            world.update(channel, 0.01, limit);
            let work = world.source.new_tip(NO_BLOCKS);
            world.publish(work);
            assert_eq!(world.submit(channel, share), (verdict.into(), verdict.into()));
        }
    }
}

#[test]
fn the_differences_are_those_that_are_meant() {
    let scenarios: [fn() -> (String, String); 6] = [
        || {
            let mut world = World::new(Options::default(), NO_BLOCKS, 2.0);
            let job = world.sides[1].newest();
            let mut share = world.sides[1].draft(job, Fault::ExtranonceSize(3));
            share.fields.ntime -= 1;
            world.submit(1, share)
        },
        || {
            let mut world = World::new(Options::default(), NO_BLOCKS, 2.0);
            let work = world.source.refresh(false);
            world.publish(work);
            let job = world.sides[0].newest();
            let share = world.sides[0].mined(job, Fault::RolledVersion(1 << 13), 0);
            world.submit(0, share)
        },
        || {
            let mut world = World::new(Options::default(), NO_BLOCKS, 2.0);
            let work = world.source.prepare(0, 1);
            world.publish(work);
            let job = *world.sides[1].jobs.last_key_value().unwrap().0;
            let work = world.source.prepare(0, 1);
            world.publish(work);
            let share = world.sides[1].draft(job, Fault::None);
            world.submit(1, share)
        },
        || {
            let mut world = World::new(Options::default(), NO_BLOCKS, 2.0);
            let job = world.sides[1].newest();
            for _ in 0..2 {
                let work = world.source.new_tip(NO_BLOCKS);
                world.publish(work);
            }
            let share = world.sides[1].draft(job, Fault::None);
            world.submit(1, share)
        },
        || {
            let mut world = World::new(Options { max_jobs: 2, ..Options::default() }, NO_BLOCKS, 2.0);
            let job = world.sides[1].newest();
            for _ in 0..2 {
                let work = world.source.refresh(true);
                world.publish(work);
            }
            let share = world.sides[1].draft(job, Fault::None);
            world.submit(1, share)
        },
        || {
            let mut world = World::new(Options::default(), 0x207f_ffff, 1000.0);
            let job = world.sides[1].newest();
            let mut share = world.sides[1].draft(job, Fault::None);
            share.nonce = share.fields.search(0, |hash| (0x10..0x70).contains(&hash[31]));
            world.submit(1, share)
        },
    ];
    for (scenario, (name, ours, sri, _)) in scenarios.into_iter().zip(MEANT) {
        assert_eq!(scenario(), (ours.into(), sri.into()), "{name}");
    }
}

/// A session with a standard and an extended channel in one group, and SRI's view of them.
struct World {
    pool: Arc<StratumV2Pool>,
    source: Source,
    session: Session,
    now: Moment,
    sides: Vec<Side>,
    group: u32,
    max_jobs: usize,
    sequence: u32,
    /// Errors since the last share.
    refused: Vec<String>,
    solutions: Vec<Vec<u8>>,
    acknowledged: u64,
}

/// One channel.
struct Side {
    id: u32,
    sri: Sri,
    prefix: Vec<u8>,
    jobs: BTreeMap<u32, Seen>,
    /// Which tip of the channel's life this is.
    tip: usize,
    prev_hash: [u8; 32],
    nbits: u32,
    accepted: Vec<Draft>,
    credited: f64,
}

enum Sri {
    Standard(Box<StandardChannel>),
    Extended(Box<ExtendedChannel>),
}

/// A job that the channel was sent.
struct Seen {
    serial: TemplateSerial,
    message: NewExtendedMiningJobOwned,
    target: Target,
    /// During which tip it was mined.
    mined: Option<usize>,
}

/// A share before it is submitted.
#[derive(Debug, Clone)]
struct Draft {
    job: u32,
    fields: HeaderFields,
    extranonce: Vec<u8>,
    nonce: u32,
}

impl World {
    fn new(options: Options, nbits: u32, hashrate: f32) -> Self {
        let max_jobs = options.max_jobs;
        let options = pool_options(options);
        let session = Arc::new(options.session.clone());
        let (pool, _) = StratumV2Pool::new(options, BootEpoch::default(), Box::new(CountOnly));
        let now = Moment(0);
        let mut world = Self {
            pool,
            source: Source::new(nbits),
            session: Session::new(session, now),
            now,
            sides: Vec::new(),
            group: 0,
            max_jobs,
            sequence: 0,
            refused: Vec::new(),
            solutions: Vec::new(),
            acknowledged: 0,
        };
        let work = world.source.work();
        world.publish(work);
        let text = |text: &str| text.as_bytes().to_vec().try_into().unwrap();
        let setup = SetupConnectionOwned {
            protocol: Protocol::MiningProtocol,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: text("localhost"),
            endpoint_port: 3333,
            vendor: text("oracle"),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        };
        world.send(0x00, setup);
        let max_target = [0xff; 32].into();
        let user_identity = text("alice.w1");
        world.send(
            0x10,
            OpenStandardMiningChannelOwned {
                request_id: 1,
                user_identity,
                nominal_hash_rate: hashrate,
                max_target,
            },
        );
        let max_target = [0xff; 32].into();
        let user_identity = text("alice.w2");
        world.send(
            0x13,
            OpenExtendedMiningChannelOwned {
                request_id: 2,
                user_identity,
                nominal_hash_rate: hashrate,
                max_target,
                min_extranonce_size: 4,
            },
        );
        assert_eq!(world.sides.len(), 2);
        world
    }

    fn happen(&mut self, event: Event) {
        let sides = self.sides.len();
        match event {
            Event::NewTip { nbits } => {
                let work = self.source.new_tip(nbits);
                self.publish(work);
            }
            Event::Refresh { version_rolling } => {
                let work = self.source.refresh(version_rolling);
                self.publish(work);
            }
            Event::Prepare { keep, new } => {
                let work = self.source.prepare(keep, new);
                self.publish(work);
            }
            Event::Update { channel, hashrate } => {
                // the next change is more than the least interval away
                self.now = self.now + core::time::Duration::from_secs(2);
                self.update(channel.index(sides), hashrate, [0xff; 32]);
            }
            Event::Submit { channel, job, recent, fault, nonce } => {
                let channel = channel.index(sides);
                let side = &self.sides[channel];
                let known: Vec<u32> = side.jobs.keys().copied().collect();
                let job = if recent { side.newest() } else { *job.get(&known) };
                let share = side.mined(job, fault, nonce);
                let meant = self.meant(channel, &share, fault);
                let (ours, sri) = self.submit(channel, share.clone());
                match meant {
                    Some(expected) => assert_eq!((&*ours, &*sri), expected, "{share:?}"),
                    None => assert_eq!(ours, sri, "{share:?} {fault:?}"),
                }
            }
            Event::Repeat { channel, share } => {
                let channel = channel.index(sides);
                let accepted = &self.sides[channel].accepted;
                if accepted.is_empty() {
                    return;
                }
                let share = share.get(accepted).clone();
                let meant = self.meant(channel, &share, Fault::None);
                let (ours, sri) = self.submit(channel, share);
                match meant {
                    Some(expected) => assert_eq!((&*ours, &*sri), expected),
                    None => {
                        assert_eq!(ours, sri);
                        assert!(ours == "duplicate-share" || ours == "stale-share", "{ours}");
                    }
                }
            }
        }
    }

    /// What is expected of a share on which the two disagree.
    fn meant(&self, channel: usize, share: &Draft, fault: Fault) -> Option<(&'static str, &'static str)> {
        let side = &self.sides[channel];
        let job = side.jobs.get(&share.job)?;
        let difference = match (job.mined, fault) {
            (Some(tip), _) if tip + 1 < side.tip => 3,
            (Some(tip), Fault::RolledVersion(_) | Fault::VersionBit(_))
                if tip == side.tip
                    && share.fields.version != job.message.version
                    && !job.message.version_rolling_allowed
                    && matches!(side.sri, Sri::Standard(_)) =>
            {
                let (_, ours, sri, _) = MEANT[1];
                let sri = match fault {
                    Fault::VersionBit(_) => "invalid-non-rollable-version-bit",
                    _ if is_block(&share.fields, share.nonce) => BLOCK,
                    _ => sri,
                };
                return Some((ours, sri));
            }
            (None, _) if self.source.work.future.iter().all(|future| future.serial != job.serial) => 2,
            _ => return None,
        };
        let (_, ours, sri, _) = MEANT[difference];
        Some((ours, sri))
    }

    fn publish(&mut self, work: Arc<Work>) {
        self.pool.publish(work.clone());
        self.session.handle(self.now, Input::Work(work), &*self.pool);
        self.drain();
    }

    fn update(&mut self, channel: usize, nominal_hash_rate: f32, maximum_target: [u8; 32]) {
        let channel_id = self.sides[channel].id;
        let maximum_target = maximum_target.into();
        self.send(0x16, UpdateChannelOwned { channel_id, nominal_hash_rate, maximum_target });
    }

    fn send(&mut self, msg_type: u8, message: impl Encodable + GetSize) {
        let payload = to_bytes(message).unwrap();
        let header = Header { extension: 0, msg_type, payload_len: payload.len() };
        self.session.handle(self.now, Input::Frame(Lane::Control, header, &payload), &*self.pool);
        self.drain();
    }

    /// Has both judge a share; what either says.
    fn submit(&mut self, channel: usize, share: Draft) -> (String, String) {
        self.sequence += 1;
        let side = &mut self.sides[channel];
        let HeaderFields { ntime, version, .. } = share.fields;
        let Draft { job: job_id, nonce, .. } = share;
        let (channel_id, sequence_number) = (side.id, self.sequence);
        let standard =
            SubmitSharesStandardOwned { channel_id, sequence_number, job_id, nonce, ntime, version };
        let extranonce = share.extranonce.clone().try_into().unwrap();
        let extended = SubmitSharesExtendedOwned {
            channel_id,
            sequence_number,
            job_id,
            nonce,
            ntime,
            version,
            extranonce,
        };
        let theirs = match &mut side.sri {
            Sri::Standard(sri) => sri.validate_share(standard.clone()),
            Sri::Extended(sri) => sri.validate_share(extended.clone()),
        };
        match side.sri {
            Sri::Standard(_) => self.send(0x1a, standard),
            Sri::Extended(_) => self.send(0x1b, extended),
        }

        let mut shares = Vec::new();
        if let Some(number) = self.session.take_shares(&mut shares) {
            self.session.handle(self.now, Input::Stored(number), &*self.pool);
            self.drain();
        }
        let ours = match (&shares[..], self.refused.pop()) {
            ([], Some(code)) => code,
            ([share], None) => if share.solution { BLOCK } else { ACCEPTED }.to_owned(),
            (shares, refused) => panic!("one share, one answer: {shares:?} {refused:?}"),
        };
        if let (Ok(theirs), [ours]) = (&theirs, &shares[..]) {
            self.same_credit(channel, &share, theirs, ours);
        }
        let theirs = match theirs {
            Ok(ShareValidationResult::Valid(_)) => ACCEPTED,
            Ok(ShareValidationResult::BlockFound(..)) => BLOCK,
            Err(error) => error_code(&error),
        };
        (ours, theirs.to_owned())
    }

    fn same_credit(&mut self, channel: usize, draft: &Draft, theirs: &ShareValidationResult, ours: &Share) {
        let side = &mut self.sides[channel];
        side.accepted.push(draft.clone());
        side.credited += ours.difficulty.0;
        let target = side.jobs[&draft.job].target;
        assert!((ours.difficulty.0 / target.difficulty_float() - 1.0).abs() < 1e-9);
        let (ShareValidationResult::Valid(hash) | ShareValidationResult::BlockFound(hash, ..)) = theirs;
        assert_eq!(ours.hash, *AsRef::<[u8; 32]>::as_ref(hash));
        assert_eq!(ours.hash, draft.fields.hash(draft.nonce));
        if let ShareValidationResult::BlockFound(_, template, coinbase) = theirs {
            assert_eq!(*template, Some(draft.job.into()));
            let solution = self.solutions.pop().expect("a block is handed in");
            // SRI builds a standard channel's coinbase anew, with tags of its own
            if let Sri::Extended(_) = side.sri {
                assert_eq!(solution, *coinbase);
            }
        }
    }

    /// Both sides' books agree in the end, and all that was accepted is acknowledged.
    fn settle(&mut self) {
        self.now = self.now + core::time::Duration::from_secs(1);
        self.session.handle(self.now, Input::Tick, &*self.pool);
        self.drain();
        let mut accepted = 0;
        for side in &self.sides {
            let books = side.sri.books();
            accepted += side.accepted.len() as u64;
            // those that SRI accepts and we do not are no part of this
            let disputed = u64::from(books.get_shares_accepted()) - side.accepted.len() as u64;
            if disputed == 0 {
                assert!((books.get_share_work_sum() - side.credited).abs() <= 1e-9 * side.credited);
            }
        }
        assert_eq!(self.acknowledged, accepted);
        assert_eq!(self.session.take_tally().accepted, accepted);
    }

    fn drain(&mut self) {
        let mut frames = Vec::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Frame(_, frame) => frames.push(frame.to_vec()),
                Output::Solution(solution) => {
                    let coinbase = solution.transaction().unwrap();
                    self.solutions.push(bitcoin::consensus::serialize(&coinbase));
                }
                Output::Event(_) | Output::Finish(_) => {}
                Output::Close(reason) => panic!("{reason}"),
            }
        }
        for mut frame in frames {
            let msg_type = frame[2];
            if msg_type != 0x01 {
                self.read(sri_reads(msg_type, &mut frame[Header::LEN..]));
            }
        }
    }

    /// Brings SRI's channels up to what the session sent.
    fn read(&mut self, message: MiningOwned) {
        match message {
            MiningOwned::OpenStandardMiningChannelSuccess(m) => {
                let prefix = m.extranonce_prefix.to_owned_bytes();
                assert_eq!(prefix.len(), usize::from(EXTRANONCE));
                let allocated = sri_prefix(&prefix).allocate_standard().unwrap();
                assert_eq!(allocated.as_bytes(), prefix);
                let target = Target::from_le_bytes(m.target.to_array());
                let sri = Sri::standard(m.channel_id, allocated, target, self.max_jobs);
                self.open(m.channel_id, m.group_channel_id, prefix, sri);
            }
            MiningOwned::OpenExtendedMiningChannelSuccess(m) => {
                assert_eq!(usize::from(m.extranonce_size), ROLLABLE);
                let prefix = m.extranonce_prefix.to_owned_bytes();
                let allocated = sri_prefix(&prefix).allocate_extended(ROLLABLE).unwrap();
                assert_eq!(allocated.as_bytes(), prefix);
                let target = Target::from_le_bytes(m.target.to_array());
                let sri = Sri::extended(m.channel_id, allocated, target, self.max_jobs);
                self.open(m.channel_id, m.group_channel_id, prefix, sri);
            }
            MiningOwned::NewExtendedMiningJob(m) => {
                let id = m.channel_id;
                let group = id == self.group;
                let prefix = m.coinbase_tx_prefix.to_owned_bytes();
                let (serial, _) = self.made_from(m.job_id, |job| job.coinbase.prefix == prefix);
                for side in self.sides.iter_mut().filter(|side| group || side.id == id) {
                    side.add(serial, m.clone());
                }
            }
            MiningOwned::NewMiningJob(m) => {
                let at = self.sides.iter().position(|side| side.id == m.channel_id).unwrap();
                let extranonce = self.sides[at].prefix.clone();
                let root = m.merkle_root.to_array();
                let (serial, job) = self.made_from(m.job_id, |job| job.merkle_root(&extranonce) == root);
                let message = NewExtendedMiningJobOwned {
                    channel_id: m.channel_id,
                    job_id: m.job_id,
                    min_ntime: m.min_ntime,
                    version: m.version,
                    version_rolling_allowed: job.template.version_rolling,
                    merkle_path: job
                        .template
                        .merkle_path
                        .iter()
                        .map(|hash| hash.0.into())
                        .collect::<Vec<_>>()
                        .try_into()
                        .unwrap(),
                    coinbase_tx_prefix: job.coinbase.prefix.clone().try_into().unwrap(),
                    coinbase_tx_suffix: job.coinbase.suffix.clone().try_into().unwrap(),
                };
                assert_eq!(merkle_root(&message, &extranonce), root, "SRI comes to the same merkle root");
                self.sides[at].add(serial, message);
            }
            MiningOwned::SetNewPrevHash(m) => {
                let (id, group) = (m.channel_id, self.group);
                for side in self.sides.iter_mut().filter(|side| id == group || side.id == id) {
                    side.activate(&m);
                }
            }
            MiningOwned::SetTarget(m) => {
                let target = Target::from_le_bytes(m.maximum_target.to_array());
                let side = self.sides.iter_mut().find(|side| side.id == m.channel_id).unwrap();
                match &mut side.sri {
                    Sri::Standard(sri) => sri.set_target(target).unwrap(),
                    Sri::Extended(sri) => sri.set_target(target).unwrap(),
                }
            }
            MiningOwned::SubmitSharesError(m) => {
                assert_eq!(m.sequence_number, self.sequence);
                self.refused.push(String::from_utf8(m.error_code.to_owned_bytes()).unwrap());
            }
            MiningOwned::SubmitSharesSuccess(m) => {
                self.acknowledged += u64::from(m.new_submits_accepted_count)
            }
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, id: u32, group: u32, prefix: Vec<u8>, sri: Sri) {
        self.group = group;
        self.sides.push(Side {
            id,
            sri,
            prefix,
            jobs: BTreeMap::new(),
            tip: 0,
            prev_hash: [0; 32],
            nbits: 0,
            accepted: Vec::new(),
            credited: 0.0,
        });
    }

    /// Which template a job was made from, and the job with its coinbase.
    fn made_from(&self, id: u32, is_it: impl Fn(&Job) -> bool) -> (TemplateSerial, Arc<Job>) {
        let class = self.pool.class_for("alice").unwrap();
        let work = &self.source.work;
        let jobs = [&work.template].into_iter().chain(&work.future).flat_map(|template| {
            [self.pool.job(template, &class).unwrap(), self.pool.variant(template, &class, id).unwrap()]
        });
        let job = jobs.into_iter().find(|job| is_it(job)).expect("a job of the present work");
        (job.template.serial, job)
    }
}

impl Side {
    fn add(&mut self, serial: TemplateSerial, message: NewExtendedMiningJobOwned) {
        let future = message.is_future();
        let job = sri_job(&message);
        match &mut self.sri {
            Sri::Standard(sri) => sri.on_group_channel_job(job).unwrap(),
            Sri::Extended(sri) => sri.on_group_channel_job(job).unwrap(),
        }
        let (target, mined) = (self.sri.target(), (!future).then_some(self.tip));
        self.jobs.insert(message.job_id, Seen { serial, message, target, mined });
    }

    fn activate(&mut self, m: &SetNewPrevHashOwned) {
        self.tip += 1;
        self.prev_hash = m.prev_hash.to_array();
        self.nbits = m.nbits;
        // SRI's server does not look at the job ids of its own messages: this check is ours
        let target = self.sri.target();
        let job = self.jobs.get_mut(&m.job_id).expect("the job was announced");
        assert!(job.mined.is_none(), "as a future job");
        job.message.min_ntime = Sv2OptionOwned::new(Some(m.min_ntime));
        job.target = target;
        job.mined = Some(self.tip);
        let message = TemplatePrevHash {
            template_id: m.job_id.into(),
            prev_hash: m.prev_hash.clone(),
            header_timestamp: m.min_ntime,
            n_bits: m.nbits,
            target: [0; 32].into(),
        };
        match &mut self.sri {
            Sri::Standard(sri) => sri.on_set_new_prev_hash(message).unwrap(),
            Sri::Extended(sri) => sri.on_set_new_prev_hash(message).unwrap(),
        }
    }

    /// The job that is to be mined.
    fn newest(&self) -> u32 {
        *self.jobs.iter().rfind(|(_, job)| job.mined == Some(self.tip)).unwrap().0
    }

    /// A share with any nonce.
    fn draft(&self, id: u32, fault: Fault) -> Draft {
        let job = &self.jobs[&id];
        let mut rolled = match self.sri {
            Sri::Standard(_) => Vec::new(),
            Sri::Extended(_) => vec![0xe0; ROLLABLE],
        };
        let root = merkle_root(&job.message, &[&self.prefix[..], &rolled].concat());
        let min_ntime = job.message.min_ntime.as_ref().copied().unwrap_or(common::START);
        let mut fields = HeaderFields {
            version: job.message.version,
            prev_hash: self.prev_hash,
            merkle_root: root,
            ntime: min_ntime,
            nbits: self.nbits,
        };
        let mut job = id;
        match fault {
            Fault::Time(offset) => fields.ntime = (i64::from(min_ntime) + offset) as u32,
            Fault::RolledVersion(bits) => fields.version ^= bits,
            Fault::VersionBit(bit) => fields.version ^= 1 << bit,
            Fault::ExtranonceSize(size) => rolled.resize(size, 0),
            Fault::UnknownJob => job += 1_000_000,
            Fault::None | Fault::LowDifficulty => {}
        }
        Draft { job, fields, extranonce: rolled, nonce: 0 }
    }

    /// A share that meets its target, unless it is not to.
    fn mined(&self, job: u32, fault: Fault, start: u32) -> Draft {
        let mut draft = self.draft(job, fault);
        let target = self.jobs[&job].target;
        let good = !matches!(fault, Fault::LowDifficulty);
        draft.nonce = draft.fields.search(start, |hash| (Target::from_le_bytes(hash) <= target) == good);
        draft
    }
}

impl Sri {
    fn standard(id: u32, prefix: AllocatedExtranoncePrefix, target: Target, max_jobs: usize) -> Self {
        let max_past = Some(max_jobs - 1);
        let channel = StandardChannel::new_for_pool(
            id,
            "alice".into(),
            prefix,
            Target::MAX,
            1.0,
            10,
            12.0,
            "oracle".into(),
            max_past,
        );
        let mut channel = channel.unwrap();
        channel.set_target(target).unwrap();
        Self::Standard(Box::new(channel))
    }

    fn extended(id: u32, prefix: AllocatedExtranoncePrefix, target: Target, max_jobs: usize) -> Self {
        let (size, max_past) = (ROLLABLE as u16, Some(max_jobs - 1));
        let channel = ExtendedChannel::new_for_pool(
            id,
            "alice".into(),
            prefix,
            Target::MAX,
            1.0,
            true,
            size,
            10,
            12.0,
            "oracle".into(),
            max_past,
        );
        let mut channel = channel.unwrap();
        channel.set_target(target).unwrap();
        Self::Extended(Box::new(channel))
    }

    fn target(&self) -> Target {
        match self {
            Self::Standard(sri) => *sri.get_target(),
            Self::Extended(sri) => *sri.get_target(),
        }
    }

    fn books(&self) -> &ShareAccounting {
        match self {
            Self::Standard(sri) => sri.get_share_accounting(),
            Self::Extended(sri) => sri.get_share_accounting(),
        }
    }
}

fn is_block(fields: &HeaderFields, nonce: u32) -> bool {
    let target = Target::from_compact(CompactTarget::from_consensus(fields.nbits));
    Target::from_le_bytes(fields.hash(nonce)) <= target
}

/// An allocator of SRI's whose next prefix starts with the four bytes that we chose.
fn sri_prefix(prefix: &[u8]) -> ExtranonceAllocator {
    let mut allocator = ExtranonceAllocator::new(prefix[..3].to_vec(), EXTRANONCE, 256).unwrap();
    for _ in 0..prefix[3] {
        allocator.allocate_standard().unwrap();
    }
    allocator
}

/// The job as SRI's server would hold it. Its template's number is the job's id.
fn sri_job(message: &NewExtendedMiningJobOwned) -> ExtendedJob {
    let template = NewTemplateOwned {
        template_id: message.job_id.into(),
        future_template: message.is_future(),
        version: message.version,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![].try_into().unwrap(),
        coinbase_tx_input_sequence: 0,
        coinbase_tx_value_remaining: 0,
        coinbase_tx_outputs_count: 0,
        coinbase_tx_outputs: vec![].try_into().unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: message.merkle_path.clone(),
    };
    // with the fields of BIP141, as a block has them
    let prefix = message.coinbase_tx_prefix.as_bytes();
    let prefix = [&prefix[..4], &[0, 1], &prefix[4..]].concat();
    let suffix = message.coinbase_tx_suffix.as_bytes();
    let (outputs, lock_time) = suffix.split_at(suffix.len() - 4);
    let suffix = [outputs, &[1, 32], &[0; 32], lock_time].concat();
    ExtendedJob::from_template(template, Vec::new(), Vec::new(), prefix, suffix, message.clone()).unwrap()
}

fn error_code(error: &ShareValidationError) -> &'static str {
    match error {
        ShareValidationError::Invalid(code)
        | ShareValidationError::Stale(code)
        | ShareValidationError::InvalidJobId(code)
        | ShareValidationError::DoesNotMeetTarget(code)
        | ShareValidationError::VersionRollingNotAllowed(code)
        | ShareValidationError::DuplicateShare(code)
        | ShareValidationError::BadExtranonceSize(code) => code,
        other => panic!("{other:?}"),
    }
}
