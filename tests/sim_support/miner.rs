//! A client: it opens channels, hashes, submits what it finds and much that it should not, and
//! keeps count of the answers.

use std::collections::{HashMap, HashSet, VecDeque};

use blvm_stratum_v2::mining::Target;
use blvm_stratum_v2::session::Lane;
use blvm_stratum_v2::wire::codec::{B032, Seq64K, Str255};
use blvm_stratum_v2::wire::common::SetupConnection;
use blvm_stratum_v2::wire::extensions::RequestExtensions;
use blvm_stratum_v2::wire::mining::*;
use blvm_stratum_v2::wire::{
    ChannelId, Header, JobId, Message, RequestId, SequenceNumber, Tlvs, U256, write_frame,
};
use rand::RngExt;
use rand::rngs::StdRng;

use super::model::{Active, Fields, Kind, Model, Request, header_hash};
use super::network::Parcel;
use super::shared::user;

/// Tried in a row on one job.
const BURST: u32 = 12;
/// What is remembered of what was sent, to send it again.
const MEMORY: usize = 30;

pub(crate) type Sent = (Lane, Parcel);

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
    homes: HashMap<u32, Home>,
    /// On which the channel was closed.
    closed: HashSet<Lane>,
    /// On which nothing more is said by the client, ...
    ended: HashSet<Lane>,
    /// ... of these, with nothing heard any more either.
    reset: HashSet<Lane>,
    /// On which nothing more is said by the server.
    finished: HashSet<Lane>,
    sequence: HashMap<u32, u32>,
    unanswered: HashMap<u32, VecDeque<Unanswered>>,
    sent: VecDeque<Fields>,
    /// Groups, and channels by themselves, that were closed on the control lane: what is said on
    /// their own lanes may be overtaken.
    closed_afar: HashSet<u32>,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
}

/// Where a channel lives.
#[derive(Debug, Clone, Copy)]
struct Home {
    lane: Lane,
    group: u32,
}

#[derive(Debug)]
struct Unanswered {
    sequence: u32,
    /// By the client's reckoning; not a number if it has no idea.
    difficulty: f64,
    honest: bool,
    /// Sent on a lane after the end of its channel: there is no answer.
    late: bool,
}

pub(crate) fn frame<'m>(message: &impl Message<'m>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn split(bytes: &[u8]) -> (Header, &[u8]) {
    let (header, payload) = bytes.split_first_chunk().expect("a frame has a header");
    let header = Header::read(header);
    assert_eq!(header.payload_len, payload.len());
    (header, payload)
}

impl Miner {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            model: Model::new(false, profile.rolling, usize::MAX),
            is_set_up: false,
            next_lane: 1,
            next_request: 0,
            requests: HashMap::new(),
            homes: HashMap::new(),
            closed: HashSet::new(),
            ended: HashSet::new(),
            reset: HashSet::new(),
            finished: HashSet::new(),
            sequence: HashMap::new(),
            unanswered: HashMap::new(),
            sent: VecDeque::new(),
            closed_afar: HashSet::new(),
            acknowledged: 0,
            refused: 0,
        }
    }

    pub(crate) fn introduce(&self) -> Vec<u8> {
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
        frame(&message)
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.values().map(VecDeque::len).sum()
    }

    /// Takes in what arrives, and says what there is to say to it.
    pub(crate) fn receive(&mut self, lane: Lane, parcel: &Parcel) -> Vec<Sent> {
        if self.reset.contains(&lane) {
            return Vec::new();
        }
        assert!(!self.finished.contains(&lane), "something follows the end of {lane:?}");
        match parcel {
            Parcel::Frame(bytes) => {
                self.hear(bytes);
                Vec::new()
            }
            Parcel::End => self.finished(lane),
            Parcel::Reset | Parcel::Lost => panic!("the server resets nothing"),
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let (Header { extension, msg_type, .. }, payload) = split(bytes);
        match (extension, msg_type) {
            (0, 0x01) => self.is_set_up = true,
            (0, 0x02) => panic!("a proper SetupConnection is refused"),
            (0, _) => self.mining(msg_type, payload),
            (1, 1 | 2) => {}
            other => panic!("not for this client: {other:?}"),
        }
    }

    /// The server says nothing more on a lane: it owes nothing.
    fn finished(&mut self, lane: Lane) -> Vec<Sent> {
        self.finished.insert(lane);
        match self.homes.iter().find(|(_, home)| home.lane == lane).map(|(channel, _)| *channel) {
            Some(channel) => {
                let afar = self.is_closed_afar(channel);
                assert!(afar || !self.model.channels.contains_key(&channel), "an open channel's lane ends");
                self.model.close(channel);
                let unanswered = self.unanswered.remove(&channel).unwrap_or_default();
                assert!(afar || unanswered.iter().all(|share| share.late), "{lane:?} ends, owing answers");
            }
            None => {
                // refused, or closed before it was known to be open
                let mut asked = self.requests.iter().filter(|(_, known)| **known == lane);
                let refused = asked.all(|(request, _)| !self.model.requests.contains_key(request));
                let closed = self.ended.contains(&lane) || !self.closed_afar.is_empty();
                assert!(refused || closed, "{lane:?} ends before its request is answered");
            }
        }
        self.end(lane).into_iter().collect()
    }

    fn is_closed_afar(&self, channel: u32) -> bool {
        let group = self.homes.get(&channel).map(|home| home.group);
        self.closed_afar.contains(&channel) || group.is_some_and(|group| self.closed_afar.contains(&group))
    }

    fn mining(&mut self, msg_type: u8, payload: &[u8]) {
        let mut opened = None;
        match Mining::decode(msg_type, payload).unwrap() {
            Mining::OpenStandardMiningChannelSuccess(m) => {
                opened = Some((m.request_id.0, m.channel_id.0, m.group_channel_id.0));
            }
            Mining::OpenExtendedMiningChannelSuccess(m) => {
                opened = Some((m.request_id.0, m.channel_id.0, m.group_channel_id.0));
            }
            Mining::SubmitSharesSuccess(m) => self.acknowledged(&m),
            Mining::SubmitSharesError(m) => {
                self.refused(m.channel_id.0, m.sequence_number.0, m.error_code.as_str().unwrap());
            }
            _ => {}
        }
        self.model.apply(msg_type, payload);
        if let Some((request, channel, group)) = opened {
            let lane = self.requests[&request];
            self.homes.insert(channel, Home { lane, group });
            if self.ended.contains(&lane) || self.finished.contains(&lane) {
                self.model.close(channel);
            }
        }
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
        let closed = !self.model.channels.contains_key(&channel) || self.is_closed_afar(channel);
        let fair = code == "stale-share" || code == "invalid-channel-id" && closed;
        assert!(fair || !share.honest, "an honest share is refused: {code}");
        assert!(!share.late, "an answer to what came after the end: {code}");
        self.refused += 1;
    }

    /// Does something.
    pub(crate) fn act(&mut self, rng: &mut StdRng) -> Vec<Sent> {
        // on lanes of its own nobody has to wait
        if !self.is_set_up && !self.profile.by_lane {
            return Vec::new();
        }
        let channels: Vec<u32> = self.model.channels.keys().copied().collect();
        if channels.is_empty() {
            return self.open(rng);
        }
        let channel = channels[rng.random_range(0..channels.len())];
        match rng.random_range(0..100) {
            0..8 => self.open(rng),
            8..70 => self.mine(rng, channel),
            70..82 => self.annoy(rng, channel),
            82..90 => vec![self.update(rng, channel)],
            90..94 => self.close(rng, channel),
            94 => {
                let requested_extensions = Seq64K::of(&[2, 3]);
                let request = frame(&RequestExtensions { request_id: 1, requested_extensions });
                vec![(Lane::Control, Parcel::Frame(request))]
            }
            96 if self.profile.by_lane => {
                // what is not of this lane cannot be closed on it
                let Home { lane, group } = self.homes[&channel];
                let others: Vec<u32> =
                    self.homes.keys().copied().filter(|other| *other != channel).chain([group]).collect();
                vec![(lane, closing(others[rng.random_range(0..others.len())]))]
            }
            95 => {
                let mut bytes = Vec::new();
                write_frame(0x4242, 7, true, &mut bytes, |out| out.extend([1, 2, 3])).unwrap();
                vec![(Lane::Control, Parcel::Frame(bytes))]
            }
            _ => Vec::new(),
        }
    }

    fn close(&mut self, rng: &mut StdRng, channel: u32) -> Vec<Sent> {
        let Home { lane, group } = self.homes[&channel];
        if rng.random_bool(0.2) {
            self.closed_afar.insert(group);
            self.model.close(group);
            return vec![(Lane::Control, closing(group))];
        }
        self.model.close(channel);
        if !self.profile.by_lane {
            return vec![(lane, closing(channel))];
        }
        let mut sent = match rng.random_range(0..5) {
            0 => {
                self.closed_afar.insert(channel);
                return vec![(Lane::Control, closing(channel))];
            }
            1 => self.reset(lane).into_iter().collect(),
            2 => self.end(lane).into_iter().collect(),
            3 => {
                self.closed.insert(lane);
                vec![(lane, closing(channel))]
            }
            _ => [(lane, closing(channel))].into_iter().chain(self.end(lane)).collect(),
        };
        if rng.random_bool(0.5) {
            sent.extend(self.open(rng));
        }
        sent
    }

    /// Says nothing more on a lane.
    fn end(&mut self, lane: Lane) -> Option<Sent> {
        self.ended.insert(lane).then_some((lane, Parcel::End))
    }

    /// Nor listens any more.
    fn reset(&mut self, lane: Lane) -> Option<Sent> {
        let forgotten = self.homes.iter().filter(|(_, home)| home.lane == lane);
        for (channel, _) in forgotten {
            self.unanswered.remove(channel);
        }
        self.reset.insert(lane);
        self.ended.insert(lane).then_some((lane, Parcel::Reset))
    }

    fn open(&mut self, rng: &mut StdRng) -> Vec<Sent> {
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
        let mut sent = vec![(lane, Parcel::Frame(bytes))];
        if self.profile.by_lane {
            // or has a change of mind
            match rng.random_range(0..40) {
                0 => sent.extend(self.end(lane)),
                1 => sent.extend(self.reset(lane)),
                2 => {
                    let unused = Lane::Channel(self.next_lane);
                    self.next_lane += 1;
                    sent.extend(self.end(unused));
                }
                _ => {}
            }
        }
        sent
    }

    fn update(&mut self, rng: &mut StdRng, channel: u32) -> Sent {
        let message = UpdateChannel {
            channel_id: ChannelId(channel),
            nominal_hash_rate: hashrate(rng),
            maximum_target: max_target(rng),
        };
        (self.homes[&channel].lane, Parcel::Frame(frame(&message)))
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
        found.into_iter().filter_map(|fields| self.submit(fields, difficulty, true)).collect()
    }

    /// Submits what deserves no credit. Some of it may, by luck.
    fn annoy(&mut self, rng: &mut StdRng, channel: u32) -> Vec<Sent> {
        let again = self.sent.len().checked_sub(1).map(|last| self.sent[rng.random_range(0..=last)].clone());
        let state = &self.model.channels[&channel];
        let Some(active) = state.active.last().cloned() else { return Vec::new() };
        let mut fields = attempt(rng, channel, state.kind, &active);
        match rng.random_range(0..10) {
            0 => fields.job = fields.job.wrapping_add(1000),
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
        self.submit(fields, difficulty, false).into_iter().collect()
    }

    /// Unless the share's lane has ended.
    fn submit(&mut self, fields: Fields, difficulty: f64, honest: bool) -> Option<Sent> {
        let lane = self.homes.get(&fields.channel).map_or(Lane::Control, |home| home.lane);
        if self.ended.contains(&lane) {
            return None;
        }
        let late = self.closed.contains(&lane);
        let sequence = self.sequence.entry(fields.channel).or_default();
        *sequence += 1;
        let unanswered = Unanswered { sequence: *sequence, difficulty, honest, late };
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
        if self.sent.len() == MEMORY {
            self.sent.pop_front();
        }
        self.sent.push_back(fields);
        Some((lane, Parcel::Frame(bytes)))
    }
}

fn closing(id: u32) -> Parcel {
    let reason_code = Str255::truncated("done");
    Parcel::Frame(frame(&CloseChannel { channel_id: ChannelId(id), reason_code }))
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
