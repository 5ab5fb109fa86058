//! A miner who tells the server one hashrate and then another, and picks what to submit when.

use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::mining::{Difficulty, Target};
use blvm_stratum_v2::session::{Input, Lane, Options, Output, Session};
use blvm_stratum_v2::wire::codec::{B032, Str255};
use blvm_stratum_v2::wire::mining::{
    OpenExtendedMiningChannel, OpenStandardMiningChannel, SubmitSharesExtended, SubmitSharesStandard,
    UpdateChannel,
};
use blvm_stratum_v2::wire::{ChannelId, Header, JobId, RequestId, SequenceNumber, Tlvs, U256};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::miner::{Miner, Profile, attempt, frame};
use super::model::{Active, Fields, Kind, Model, Request, header_hash};
use super::shared::{SimPool, eager, user};
use super::source::Source;

/// Rounds of hashing, and hashes in each.
const ROUNDS: u32 = 600;
const HASHES: u32 = 200;
/// So slow that the server would let him have easier targets than he asks for by turns.
const ROUND: Duration = Duration::from_secs(600);
const HASHRATE: f32 = 0.01;
/// Hashes for a share, at the targets that the miner asks for.
const EASY: f64 = 8.0;
const HARD: f64 = 64.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Strategy {
    /// One hashrate all the time.
    Steady,
    /// Two by turns.
    Oscillating,
    /// Two by turns; the best hashes wait for a hard turn, the others for an easy one.
    Hoarding,
}

struct Rig {
    rng: StdRng,
    now: Moment,
    session: Session,
    model: Model,
    credited: f64,
    sequence: u32,
}

/// What each hash has earned, in hashes.
pub(crate) fn earnings(kind: Kind, strategy: Strategy) -> f64 {
    let pool = SimPool::roomy();
    let mut rng = StdRng::seed_from_u64(7);
    let mut source = Source::new(&mut rng);
    let options = Options {
        max_bad_shares: u32::MAX,
        max_own_jobs: usize::MAX,
        vardiff: eager(),
        ..Options::default()
    };
    let mut rig = Rig {
        rng,
        now: Moment(0),
        session: Session::new(Arc::new(options), Moment(0)),
        model: Model::new(false, source.rolling(), usize::MAX),
        credited: 0.0,
        sequence: 0,
    };
    let profile =
        Profile { standard_only: false, per_channel: false, by_lane: false, rolling: source.rolling() };
    rig.say(&Miner::new(profile).introduce(), &pool);
    let work = source.advance(&mut rig.rng);
    pool.publish(work.clone());
    rig.tell(Input::Work(work), &pool);
    rig.open(kind, &pool);

    let mut hoard: Vec<(U256, Fields)> = Vec::new();
    for round in 0..ROUNDS {
        rig.now = rig.now + ROUND;
        rig.tell(Input::Tick, &pool);
        if round % 8 == 7 {
            let work = source.advance(&mut rig.rng);
            pool.publish(work.clone());
            rig.tell(Input::Work(work), &pool);
            hoard.clear();
        }
        let hard = round % 2 == 1;
        if strategy != Strategy::Steady || round == 0 {
            rig.update(if hard { HARD } else { EASY }, &pool);
        }
        // what was found before is submitted now that the target has changed; before there is a
        // new block all of it must be in
        let last = round % 8 == 6;
        let due = |hash: &U256| last || hard == (*hash <= for_hashes(HARD));
        let (now, later): (Vec<_>, Vec<_>) = hoard.drain(..).partition(|(hash, _)| due(hash));
        hoard = later;
        for (_, fields) in now {
            rig.submit(&fields, &pool);
        }
        for _ in 0..HASHES {
            let jobs = rig.jobs();
            let job = &jobs[rig.rng.random_range(0..jobs.len())];
            let fields = attempt(&mut rig.rng, 2, kind, job);
            let hash = U256(header_hash(&rig.model.channels[&2], job, &fields));
            match strategy {
                Strategy::Hoarding if hash > for_hashes(EASY) => {}
                Strategy::Hoarding if !last => hoard.push((hash, fields)),
                Strategy::Steady | Strategy::Oscillating if hash > job.target => {}
                _ => rig.submit(&fields, &pool),
            }
        }
    }
    rig.session.end(&pool);
    rig.credited / f64::from(ROUNDS * HASHES)
}

fn for_hashes(hashes: f64) -> U256 {
    Target::from_difficulty(Difficulty(hashes / Difficulty(1.0).hashes())).into()
}

impl Rig {
    fn jobs(&self) -> Vec<Active> {
        self.model.channels[&2].active.clone()
    }

    fn say(&mut self, bytes: &[u8], pool: &SimPool) {
        let (header, payload) = bytes.split_first_chunk().unwrap();
        self.tell(Input::Frame(Lane::Control, Header::read(header), payload), pool);
    }

    fn tell(&mut self, input: Input<'_>, pool: &SimPool) {
        self.session.handle(self.now, input, pool);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Frame(_, bytes) => {
                    let (header, payload) = bytes.split_first_chunk().unwrap();
                    let header = Header::read(header);
                    if header.msg_type >= 0x10 {
                        self.model.apply(header.msg_type, payload);
                    }
                }
                Output::Close(reason) => panic!("closed: {reason}"),
                Output::Solution(_) | Output::Event(_) | Output::Finish(_) => {}
            }
        }
        let mut shares = Vec::new();
        if let Some(number) = self.session.take_shares(&mut shares) {
            self.credited += shares.iter().map(|share| share.difficulty.hashes()).sum::<f64>();
            self.session.handle(self.now, Input::Stored(number), pool);
        }
    }

    fn open(&mut self, kind: Kind, pool: &SimPool) {
        let max_target = U256([0xff; 32]);
        let user = user(0);
        let (request_id, user_identity, nominal_hash_rate) =
            (RequestId(1), Str255::truncated(&user), HASHRATE);
        self.model.requests.insert(1, Request { kind, max_target });
        let bytes = match kind {
            Kind::Standard => {
                frame(&OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target })
            }
            Kind::Extended => frame(&OpenExtendedMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size: 16,
            }),
        };
        self.say(&bytes, pool);
    }

    fn update(&mut self, hashes: f64, pool: &SimPool) {
        let (channel_id, nominal_hash_rate) = (ChannelId(2), HASHRATE);
        let maximum_target = for_hashes(hashes);
        self.say(&frame(&UpdateChannel { channel_id, nominal_hash_rate, maximum_target }), pool);
    }

    fn submit(&mut self, fields: &Fields, pool: &SimPool) {
        self.sequence += 1;
        let Fields { nonce, ntime, version, .. } = *fields;
        let (channel_id, sequence_number, job_id) =
            (ChannelId(fields.channel), SequenceNumber(self.sequence), JobId(fields.job));
        let bytes = match &fields.extranonce {
            None => {
                frame(&SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version })
            }
            Some(extranonce) => frame(&SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
                extranonce: B032::new(extranonce).unwrap(),
                tlvs: Tlvs::default(),
            }),
        };
        self.say(&bytes, pool);
    }
}
