//! A client: it opens channels, hashes, submits what it finds and much that it should not, and
//! keeps count of the answers.

use std::collections::{HashMap, HashSet, VecDeque};

use blvm_stratum_v2::mining::Target;
use blvm_stratum_v2::session::Lane;
use blvm_stratum_v2::wire::codec::{B032, Seq64K, Str255};
use blvm_stratum_v2::wire::common::SetupConnection;
use blvm_stratum_v2::wire::extensions::RequestExtensions;
use blvm_stratum_v2::wire::mining::*;
use blvm_stratum_v2::wire::{ChannelId, JobId, Message, RequestId, SequenceNumber, Tlvs, U256, write_frame};
use rand::RngExt;
use rand::rngs::StdRng;

use super::model::{Active, Fields, Kind, Model, Request, header_hash};
use super::shared::user;

/// Tried in a row on one job.
const BURST: u32 = 12;
/// What is remembered of what was sent, to send it again.
const MEMORY: usize = 30;

pub(crate) type Sent = (Lane, Vec<u8>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) standard_only: bool,
    /// Firmware that takes no messages to groups.
    pub(crate) per_channel: bool,
    /// Each channel has a lane of its own.
    pub(crate) by_lane: bool,
    pub(crate) rolling: bool,
}

#[derive(Debug)]
pub(crate) struct Miner {
    profile: Profile,
    pub(crate) model: Model,
    is_set_up: bool,
    next_lane: u64,
    next_request: u32,
    requests: HashMap<u32, Lane>,
    lanes: HashMap<u32, Lane>,
    sequence: HashMap<u32, u32>,
    unanswered: HashMap<u32, VecDeque<Unanswered>>,
    sent: VecDeque<Fields>,
    closed_groups: HashSet<u32>,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
}

#[derive(Debug)]
struct Unanswered {
    sequence: u32,
    /// By the client's reckoning; not a number if it has no idea.
    difficulty: f64,
    honest: bool,
}

pub(crate) fn frame<'m>(message: &impl Message<'m>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

impl Miner {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            model: Model::new(false, profile.by_lane, profile.rolling, usize::MAX),
            is_set_up: false,
            next_lane: 1,
            next_request: 0,
            requests: HashMap::new(),
            lanes: HashMap::new(),
            sequence: HashMap::new(),
            unanswered: HashMap::new(),
            sent: VecDeque::new(),
            closed_groups: HashSet::new(),
            acknowledged: 0,
            refused: 0,
        }
    }

    pub(crate) fn introduce(&self) -> Sent {
        let vendor = if self.profile.per_channel { "Bitaxe" } else { "sim" };
        let message = SetupConnection {
            protocol: 0,
            min_version: 2,
            max_version: 2,
            flags: u32::from(self.profile.standard_only),
            endpoint_host: Str255::truncated("pool"),
            endpoint_port: 3333,
            vendor: Str255::truncated(vendor),
            hardware_version: Str255::default(),
            firmware: Str255::default(),
            device_id: Str255::default(),
        };
        (Lane::Control, frame(&message))
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.values().map(VecDeque::len).sum()
    }

    pub(crate) fn receive(&mut self, extension: u16, msg_type: u8, payload: &[u8]) {
        match (extension, msg_type) {
            (0, 0x01) => self.is_set_up = true,
            (0, 0x02) => panic!("a proper SetupConnection is refused"),
            (0, _) => self.mining(msg_type, payload),
            (1, 1 | 2) => {}
            other => panic!("not for this client: {other:?}"),
        }
    }

    fn mining(&mut self, msg_type: u8, payload: &[u8]) {
        match Mining::decode(msg_type, payload).unwrap() {
            Mining::OpenStandardMiningChannelSuccess(m) => {
                self.lanes.insert(m.channel_id.0, self.requests[&m.request_id.0]);
            }
            Mining::OpenExtendedMiningChannelSuccess(m) => {
                self.lanes.insert(m.channel_id.0, self.requests[&m.request_id.0]);
            }
            Mining::SubmitSharesSuccess(m) => self.acknowledged(&m),
            Mining::SubmitSharesError(m) => {
                self.refused(m.channel_id.0, m.sequence_number.0, m.error_code.as_str().unwrap());
            }
            _ => {}
        }
        self.model.apply(msg_type, payload);
    }

    fn acknowledged(&mut self, m: &SubmitSharesSuccess) {
        let waiting = self.unanswered.get_mut(&m.channel_id.0).expect("the channel has submitted");
        let mut count = 0;
        let mut sum = 0.0;
        while let Some(share) = waiting.pop_front_if(|share| share.sequence <= m.last_sequence_number.0) {
            count += 1;
            sum += share.difficulty;
        }
        assert_eq!(m.new_submits_accepted_count, count, "a share has no answer, or two");
        // a share for a job that was still a future one, or after the end of a group that is
        // overtaken on another lane, may be good by luck
        assert!(f64::is_nan(sum) || m.new_shares_sum == sum as u64, "not what the client was told to expect");
        self.acknowledged += u64::from(count);
    }

    fn refused(&mut self, channel: u32, sequence: u32, code: &str) {
        let waiting = self.unanswered.get_mut(&channel).expect("the channel has submitted");
        let position = waiting.iter().position(|share| share.sequence == sequence);
        let share = waiting.remove(position.expect("a share has two answers")).unwrap();
        // a group's end takes with it what is open when the server hears of it
        let open = self.model.channels.get(&channel);
        let closed = open.is_none_or(|channel| self.closed_groups.contains(&channel.group));
        let fair = code == "stale-share" || code == "invalid-channel-id" && closed;
        assert!(fair || !share.honest, "an honest share is refused: {code}");
        self.refused += 1;
    }

    /// Does something.
    pub(crate) fn act(&mut self, rng: &mut StdRng) -> Vec<Sent> {
        if !self.is_set_up {
            return Vec::new();
        }
        let channels: Vec<u32> = self.model.channels.keys().copied().collect();
        if channels.is_empty() {
            return vec![self.open(rng)];
        }
        let channel = channels[rng.random_range(0..channels.len())];
        match rng.random_range(0..100) {
            0..8 => vec![self.open(rng)],
            8..70 => self.mine(rng, channel),
            70..82 => self.annoy(rng, channel),
            82..90 => vec![self.update(rng, channel)],
            90..94 => {
                let group = self.model.channels[&channel].group;
                let id = if rng.random_bool(0.2) { group } else { channel };
                let lane = if id == group { Lane::Control } else { self.lanes[&channel] };
                if id == group {
                    self.closed_groups.insert(group);
                }
                self.model.close(id);
                let reason_code = Str255::truncated("done");
                vec![(lane, frame(&CloseChannel { channel_id: ChannelId(id), reason_code }))]
            }
            94 => {
                let requested_extensions = Seq64K::of(&[2, 3]);
                vec![(Lane::Control, frame(&RequestExtensions { request_id: 1, requested_extensions }))]
            }
            95 => {
                let mut bytes = Vec::new();
                write_frame(0x4242, 7, true, &mut bytes, |out| out.extend([1, 2, 3])).unwrap();
                vec![(Lane::Control, bytes)]
            }
            _ => Vec::new(),
        }
    }

    fn open(&mut self, rng: &mut StdRng) -> Sent {
        let kind = if rng.random_bool(0.5) { Kind::Standard } else { Kind::Extended };
        let lane = if self.profile.by_lane { Lane::Channel(self.next_lane) } else { Lane::Control };
        self.next_lane += 1;
        self.next_request += 1;
        let user = user(rng.random_range(0..3));
        let user_identity = Str255::truncated(&user);
        let nominal_hash_rate = hashrate(rng);
        let max_target = max_target(rng);
        let request_id = RequestId(self.next_request);
        self.requests.insert(self.next_request, lane);
        self.model.requests.insert(self.next_request, Request { kind, max_target });
        let bytes = match kind {
            Kind::Standard => {
                frame(&OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target })
            }
            Kind::Extended => frame(&OpenExtendedMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size: 8,
            }),
        };
        (lane, bytes)
    }

    fn update(&mut self, rng: &mut StdRng, channel: u32) -> Sent {
        let message = UpdateChannel {
            channel_id: ChannelId(channel),
            nominal_hash_rate: hashrate(rng),
            maximum_target: max_target(rng),
        };
        (self.lanes[&channel], frame(&message))
    }

    /// Hashes for a while, mostly on the newest job.
    fn mine(&mut self, rng: &mut StdRng, channel: u32) -> Vec<Sent> {
        let state = &self.model.channels[&channel];
        let Some(newest) = state.active.len().checked_sub(1) else { return Vec::new() };
        let chosen = if rng.random_bool(0.8) { newest } else { rng.random_range(0..=newest) };
        let active = state.active[chosen].clone();
        let mut found = Vec::new();
        for _ in 0..rng.random_range(1..=BURST) {
            let fields = attempt(rng, channel, state.kind, &active);
            if U256(header_hash(state, &active, &fields)) <= active.target {
                found.push(fields);
            }
        }
        let difficulty = Target::from(active.target).difficulty().0;
        found.into_iter().map(|fields| self.submit(fields, difficulty, true)).collect()
    }

    /// Submits what deserves no credit. Some of it may, by luck.
    fn annoy(&mut self, rng: &mut StdRng, channel: u32) -> Vec<Sent> {
        let again = self.sent.len().checked_sub(1).map(|last| self.sent[rng.random_range(0..=last)].clone());
        let state = &self.model.channels[&channel];
        let Some(active) = state.active.last().cloned() else { return Vec::new() };
        let mut fields = attempt(rng, channel, state.kind, &active);
        match rng.random_range(0..10) {
            0 => fields.job += 1000,
            1 => fields.channel += 1000,
            2 => fields.ntime = active.tip.min_ntime - 1,
            3 => fields.ntime = active.tip.min_ntime + 7201,
            4 => fields.version ^= 1,
            5 => fields.extranonce = Some(vec![0; 15]),
            6 => fields.extranonce = fields.extranonce.is_none().then(|| vec![0; 16]),
            7 if !state.futures.is_empty() => fields.job = state.futures[0].id,
            8 => fields.version ^= 1 << 13,
            _ => fields = again.unwrap_or(fields),
        }
        let known = self.model.channels.get(&fields.channel);
        let known = known.and_then(|state| state.active.iter().find(|active| active.job.id == fields.job));
        let difficulty = known.map_or(f64::NAN, |active| Target::from(active.target).difficulty().0);
        vec![self.submit(fields, difficulty, false)]
    }

    fn submit(&mut self, fields: Fields, difficulty: f64, honest: bool) -> Sent {
        let sequence = self.sequence.entry(fields.channel).or_default();
        *sequence += 1;
        let unanswered = Unanswered { sequence: *sequence, difficulty, honest };
        self.unanswered.entry(fields.channel).or_default().push_back(unanswered);
        let Fields { nonce, ntime, version, .. } = fields;
        let channel_id = ChannelId(fields.channel);
        let sequence_number = SequenceNumber(*sequence);
        let job_id = JobId(fields.job);
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
        let lane = self.lanes.get(&fields.channel).copied().unwrap_or(Lane::Control);
        if self.sent.len() == MEMORY {
            self.sent.pop_front();
        }
        self.sent.push_back(fields);
        (lane, bytes)
    }
}

/// A header of the search space.
pub(crate) fn attempt(rng: &mut StdRng, channel: u32, kind: Kind, active: &Active) -> Fields {
    let rolled = if active.job.rolling { rng.random::<u32>() & 0x1fff_ffe0 } else { 0 };
    Fields {
        channel,
        job: active.job.id,
        nonce: rng.random(),
        ntime: active.tip.min_ntime + rng.random_range(0..=7200),
        version: active.job.version ^ rolled,
        extranonce: (kind == Kind::Extended).then(|| rng.random::<[u8; 16]>().to_vec()),
    }
}

/// With 12 shares a minute, up to 20 hashes for a share.
fn hashrate(rng: &mut StdRng) -> f32 {
    if rng.random_bool(0.1) { 0.0 } else { rng.random_range(0.0..4.0) }
}

fn max_target(rng: &mut StdRng) -> U256 {
    let mut bytes = [0xff; 32];
    if rng.random_bool(0.3) {
        bytes[31] >>= rng.random_range(0..5);
    }
    U256(bytes)
}
