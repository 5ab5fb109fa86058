//! One client that says whatever it is told to, and its session.

use std::sync::Arc;
use std::time::Duration;

use super::miner::{attempt, frame};
use super::model::{Fields, Kind, Model, Request, header_hash};
use super::shared::{SimPool, eager, user};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::mining::{Coinbase, Target, Template, TemplateSerial, Tip, Work};
use blvm_stratum_v2::session::{CloseReason, Input, Lane, Options, Output, Session};
use blvm_stratum_v2::wire::codec::{B032, Str255};
use blvm_stratum_v2::wire::common::{Common, SetupConnection};
use blvm_stratum_v2::wire::extensions::Negotiation;
use blvm_stratum_v2::wire::mining::*;
use blvm_stratum_v2::wire::{ChannelId, Header, JobId, Message, RequestId, SequenceNumber, Tlvs, U256};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) const ANY: U256 = U256([0xff; 32]);
pub(crate) const NOTHING: [&str; 0] = [];
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A client and its session.
pub(crate) struct Rig {
    pub(crate) pool: SimPool,
    pub(crate) session: Session,
    pub(crate) now: Moment,
    pub(crate) rng: StdRng,
    /// Strict about what the server says.
    pub(crate) model: Model,
    pub(crate) closed: Option<CloseReason>,
    /// The lanes of what was said last.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) finished: Vec<Lane>,
    /// Hashes of what was credited, and of what was handed in.
    pub(crate) credited: Vec<[u8; 32]>,
    pub(crate) solved: Vec<[u8; 32]>,
    /// The number up to which shares are to be stored.
    pub(crate) unstored: u64,
    pub(crate) requests: u32,
    pub(crate) sequence: u32,
}

pub(crate) fn rig(options: Options) -> Rig {
    Rig {
        pool: SimPool::roomy(),
        session: Session::new(Arc::new(Options { vardiff: eager(), ..options }), Moment(0)),
        now: Moment(0),
        rng: StdRng::seed_from_u64(1),
        model: Model::new(true, true, usize::MAX),
        closed: None,
        lanes: Vec::new(),
        finished: Vec::new(),
        credited: Vec::new(),
        solved: Vec::new(),
        unstored: 0,
        requests: 0,
        sequence: 0,
    }
}

/// Set up, with work.
pub(crate) fn ready(options: Options) -> Rig {
    ready_in(SimPool::roomy(), options)
}

pub(crate) fn ready_in(pool: SimPool, options: Options) -> Rig {
    let mut rig = Rig { pool, ..rig(options) };
    rig.say(&setup());
    rig.work(work(1, 1));
    rig
}

pub(crate) fn setup() -> SetupConnection<'static> {
    let none = Str255::default();
    SetupConnection {
        protocol: 0,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: none,
        endpoint_port: 0,
        vendor: none,
        hardware_version: none,
        firmware: none,
        device_id: none,
    }
}

pub(crate) fn work(block: u8, serial: u64) -> Work {
    let tip = Tip {
        prev_hash: BlockHash::from_byte_array([block; 32]),
        height: 100,
        min_ntime: 1_700_000_000,
        nbits: 0x207f_ffff,
        network_target: Target::ZERO,
        report_target: Target::ZERO,
    };
    let coinbase = Coinbase {
        version: 2,
        script_prefix: Coinbase::bip34(100),
        sequence: 0,
        value: 1,
        trailing_outputs: Vec::new(),
        lock_time: 0,
        witness_commitment: false,
    };
    let serial = TemplateSerial(serial);
    let template =
        Template { serial, version: 0x2000_0000, version_rolling: true, coinbase, merkle_path: Vec::new() };
    Work { tip: Arc::new(tip), template: Arc::new(template), future: Vec::new() }
}

impl Rig {
    pub(crate) fn say<'m>(&mut self, message: &impl Message<'m>) -> Vec<String> {
        self.say_on(Lane::Control, &frame(message))
    }

    /// The answers, each as its `Debug` has it.
    pub(crate) fn say_on(&mut self, lane: Lane, bytes: &[u8]) -> Vec<String> {
        let (header, payload) = bytes.split_first_chunk().unwrap();
        self.tell(Input::Frame(lane, Header::read(header), payload))
    }

    pub(crate) fn work(&mut self, work: Work) -> Vec<String> {
        let work = Arc::new(work);
        self.pool.publish(work.clone());
        self.tell(Input::Work(work))
    }

    pub(crate) fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now = self.now + time;
        self.tell(Input::Tick)
    }

    pub(crate) fn store(&mut self) -> Vec<String> {
        self.tell(Input::Stored(self.unstored))
    }

    pub(crate) fn tell(&mut self, input: Input<'_>) -> Vec<String> {
        self.session.handle(self.now, input, &self.pool);
        self.lanes.clear();
        let mut said = Vec::new();
        while let Some(output) = self.session.poll_output() {
            assert_eq!(self.closed, None, "nothing follows a close");
            match output {
                Output::Frame(lane, bytes) => {
                    assert!(!self.finished.contains(&lane), "nothing follows the end of a lane");
                    self.lanes.push(lane);
                    let (header, payload) = bytes.split_first_chunk().unwrap();
                    let Header { extension, msg_type, .. } = Header::read(header);
                    said.push(match (extension, msg_type) {
                        (0, ..0x10) => format!("{:?}", Common::decode(msg_type, payload).unwrap()),
                        (0, _) => {
                            self.model.apply(msg_type, payload);
                            format!("{:?}", Mining::decode(msg_type, payload).unwrap())
                        }
                        _ => format!("{:?}", Negotiation::decode(msg_type, payload).unwrap()),
                    });
                }
                Output::Solution(solution) => self.solved.push(solution.hash),
                Output::Event(_) => {}
                Output::Finish(lane) => self.finished.push(lane),
                Output::Close(reason) => self.closed = Some(reason),
            }
        }
        let mut shares = Vec::new();
        if let Some(number) = self.session.take_shares(&mut shares) {
            self.unstored = number;
            self.credited.extend(shares.iter().map(|share| share.hash));
        }
        said
    }

    pub(crate) fn open(&mut self, kind: Kind, lane: Lane) -> Vec<String> {
        self.open_as(kind, lane, user(0).as_bytes(), 0.0, 8)
    }

    pub(crate) fn open_as(
        &mut self,
        kind: Kind,
        lane: Lane,
        user: &[u8],
        nominal_hash_rate: f32,
        min: u16,
    ) -> Vec<String> {
        self.requests += 1;
        let request_id = RequestId(self.requests);
        let user_identity = Str255::from_bytes(user).unwrap();
        let max_target = ANY;
        self.model.requests.insert(self.requests, Request { kind, max_target });
        let bytes = match kind {
            Kind::Standard => {
                frame(&OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target })
            }
            Kind::Extended => frame(&OpenExtendedMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size: min,
            }),
        };
        self.say_on(lane, &bytes)
    }

    /// A share that meets the channel's target, for its newest job or an earlier one.
    pub(crate) fn mine(&mut self, channel: u32, jobs_ago: usize) -> Fields {
        let state = &self.model.channels[&channel];
        let job = &state.active[state.active.len() - 1 - jobs_ago];
        loop {
            let fields = attempt(&mut self.rng, channel, state.kind, job);
            if U256(header_hash(state, job, &fields)) <= job.target {
                return fields;
            }
        }
    }

    pub(crate) fn submit(&mut self, fields: &Fields) -> Vec<String> {
        self.submit_on(Lane::Control, fields)
    }

    pub(crate) fn submit_on(&mut self, lane: Lane, fields: &Fields) -> Vec<String> {
        self.sequence += 1;
        let Fields { nonce, ntime, version, .. } = *fields;
        let (channel_id, job_id) = (ChannelId(fields.channel), JobId(fields.job));
        let sequence_number = SequenceNumber(self.sequence);
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
        self.say_on(lane, &bytes)
    }

    pub(crate) fn mine_and_submit(&mut self, channel: u32) -> Vec<String> {
        let fields = self.mine(channel, 0);
        self.submit(&fields)
    }

    pub(crate) fn update(
        &mut self,
        channel: u32,
        nominal_hash_rate: f32,
        maximum_target: U256,
    ) -> Vec<String> {
        if let Some(channel) = self.model.channels.get_mut(&channel) {
            channel.max_target = maximum_target;
        }
        self.say(&UpdateChannel { channel_id: ChannelId(channel), nominal_hash_rate, maximum_target })
    }

    pub(crate) fn close(&mut self, channel: u32) -> Vec<String> {
        self.model.close(channel);
        self.say_close(Lane::Control, channel)
    }

    /// Leaves it to the caller to know what that closes.
    pub(crate) fn say_close(&mut self, lane: Lane, channel: u32) -> Vec<String> {
        let reason_code = Str255::default();
        self.say_on(lane, &frame(&CloseChannel { channel_id: ChannelId(channel), reason_code }))
    }
}

/// Exactly one answer, of which this is a part.
pub(crate) fn assert_answer(said: &[String], part: &str) {
    assert!(said.len() == 1 && said[0].contains(part), "{said:?} is not {part}");
}

/// The messages begin with these names.
pub(crate) fn assert_names(said: &[String], names: &[&str]) {
    let is = |said: &String, name: &&str| said.starts_with(&format!("{name}("));
    assert!(
        said.len() == names.len() && said.iter().zip(names).all(|(said, name)| is(said, name)),
        "{said:#?}"
    );
}

/// No difficulty is fine enough to matter.
pub(crate) fn all_of(bits: u8) -> U256 {
    let mut bytes = [0xff; 32];
    bytes[31] >>= bits;
    U256(bytes)
}
