//! One run: connections that come and go, and all that can happen to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::mining::Work;
use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::mining::share::{Share, Solution};
use blvm_stratum_v2::session::{CloseReason, Event, Input, Lane, Options, Output, Session};
use blvm_stratum_v2::wire::mining::Mining;
use blvm_stratum_v2::wire::{JobId, U256};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::books::{Books, Owed};
use super::lanes::Lanes;
use super::miner::{Miner, Profile, Sent, split};
use super::model::{Body, Fields, Kind, Model, Request, Verdict};
use super::network::{Direction, Parcel};
use super::shared::{SimPool, eager};
use super::source::Source;

/// How long miners act, and how long after that everything must have come to rest.
const ACTION: Duration = Duration::from_secs(10);
const REST: Duration = Duration::from_secs(8);
/// Connections at a time.
const CONNECTIONS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Connect,
    Disconnect(usize),
    /// The source has something new.
    Advance,
    /// A connection hears of it.
    Work(usize),
    Act(usize),
    ToServer(usize, Queue),
    ToClient(usize, Queue),
    Hangup(usize),
    Stored(usize, u64),
    Wake(usize),
}

/// A lane, in a form that has an order.
type Queue = (u8, u64);

fn queue(lane: Lane) -> Queue {
    match lane {
        Lane::Control => (0, 0),
        Lane::Push => (1, 0),
        Lane::Channel(number) => (2, number),
    }
}

fn lane(queue: Queue) -> Lane {
    match queue {
        (0, _) => Lane::Control,
        (1, _) => Lane::Push,
        (_, number) => Lane::Channel(number),
    }
}

struct Connection {
    session: Session,
    /// What the server has said, and how shares are to be judged.
    model: Model,
    miner: Miner,
    to_server: Direction,
    to_client: Direction,
    /// SetupConnection has been answered: lanes of channels are read.
    is_set_up: bool,
    lanes: Lanes,
    owed: Owed,
    work: Option<Arc<Work>>,
    work_pending: bool,
    last_stored: Moment,
    wake: Option<Moment>,
    closing: bool,
}

/// What came out of a session at once, apart from what went over the network.
#[derive(Default)]
struct Outcome {
    frames: usize,
    errors: Vec<(u32, u32, String)>,
    shares: Vec<Share>,
    solutions: Vec<Solution>,
}

pub(crate) struct World<'p> {
    rng: StdRng,
    now: Moment,
    agenda: BinaryHeap<Reverse<(Moment, u64, Happening)>>,
    scheduled: u64,
    pool: &'p SimPool,
    options: Arc<Options>,
    sink_is_slow: bool,
    source: Source,
    newest: Option<Arc<Work>>,
    connections: BTreeMap<usize, Connection>,
    next_connection: usize,
    books: Books,
    summary: Summary,
}

/// What a run has seen, to be sure that it is worth something.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) credited: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// Lanes.
    pub(crate) finished: u64,
    pub(crate) events: u64,
}

impl<'p> World<'p> {
    pub(crate) fn new(seed: u64, pool: &'p SimPool) -> Self {
        pool.reset();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pick = |choices: &[u64]| choices[rng.random_range(0..choices.len())];
        let options = Options {
            share_batch_size: pick(&[1, 3, 10]) as u32,
            share_batch_interval: Duration::from_millis(pick(&[0, 100, 1000])),
            max_channels: pick(&[2, 100, 100]) as usize,
            max_jobs: pick(&[2, 5, 64]) as usize,
            max_own_jobs: 64,
            max_seen_shares: pick(&[5, 20, 16_384]) as usize,
            max_bad_shares: pick(&[3, 1000, 1000]) as u32,
            vardiff: eager(),
            ..Options::default()
        };
        let source = Source::new(&mut rng);
        let sink_is_slow = rng.random_bool(0.7);
        Self {
            rng,
            now: Moment(1),
            agenda: BinaryHeap::new(),
            scheduled: 0,
            pool,
            options: Arc::new(options),
            sink_is_slow,
            source,
            newest: None,
            connections: BTreeMap::new(),
            next_connection: 0,
            books: Books::default(),
            summary: Summary::default(),
        }
    }

    pub(crate) fn run(mut self) -> Summary {
        for _ in 0..CONNECTIONS {
            self.after(0..2_000_000, Happening::Connect);
        }
        self.after(0..2_000_000, Happening::Advance);
        let end = self.now + ACTION + REST;
        while let Some(Reverse((at, _, happening))) = self.agenda.pop().filter(|Reverse((at, ..))| *at <= end)
        {
            assert!(at >= self.now);
            self.now = at;
            self.summary.events += 1;
            self.happen(happening);
        }
        for connection in self.connections.values() {
            let settled =
                connection.closing || connection.miner.unanswered() == 0 && connection.owed.is_settled();
            assert!(settled, "shares are left without an answer");
        }
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.disconnect(id);
        }
        assert_eq!(self.pool.in_use(), 0, "prefixes were not given back");
        Summary { credited: self.books.credited() as u64, ..self.summary }
    }

    fn acting(&self) -> bool {
        self.now.since(Moment(0)) < ACTION
    }

    fn at(&mut self, at: Moment, happening: Happening) {
        self.scheduled += 1;
        self.agenda.push(Reverse((at, self.scheduled, happening)));
    }

    fn after(&mut self, micros: std::ops::Range<u64>, happening: Happening) {
        let at = self.now + Duration::from_micros(self.rng.random_range(micros));
        self.at(at, happening);
    }

    fn happen(&mut self, happening: Happening) {
        let id = match happening {
            Happening::Connect => return self.connect(),
            Happening::Advance => return self.advance(),
            Happening::Disconnect(id) if self.connections.contains_key(&id) => {
                self.disconnect(id);
                return self.after(0..1_000_000, Happening::Connect);
            }
            Happening::Disconnect(id)
            | Happening::Work(id)
            | Happening::Act(id)
            | Happening::ToServer(id, _)
            | Happening::ToClient(id, _)
            | Happening::Hangup(id)
            | Happening::Stored(id, _)
            | Happening::Wake(id) => id,
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match happening {
            Happening::Hangup(_) => {
                self.disconnect(id);
                if self.acting() {
                    self.after(0..1_000_000, Happening::Connect);
                }
            }
            Happening::ToClient(_, key) => {
                let parcel = connection.to_client.deliver(lane(key));
                let sent = connection.miner.receive(lane(key), &parcel);
                self.transmit(id, sent);
            }
            Happening::Act(_) if self.now.since(Moment(0)) < ACTION => {
                let sent = connection.miner.act(&mut self.rng);
                self.transmit(id, sent);
                self.after(1000..400_000, Happening::Act(id));
            }
            Happening::ToServer(_, key) => {
                let lane = lane(key);
                if matches!(lane, Lane::Channel(_)) && !connection.is_set_up {
                    return self.after(1000..5000, happening);
                }
                match connection.to_server.deliver(lane) {
                    _ if connection.closing => {}
                    Parcel::Frame(bytes) => self.serve(id, lane, &bytes),
                    Parcel::End | Parcel::Reset => self.ended(id, lane),
                    Parcel::Lost => {}
                }
            }
            _ if connection.closing => {}
            Happening::Work(_) => self.inform(id),
            Happening::Stored(_, number) => {
                connection.owed.stored = number;
                self.uneventful(id, Input::Stored(number));
            }
            Happening::Wake(_) => {
                connection.wake = None;
                self.uneventful(id, Input::Tick);
                let session = &self.connections[&id].session;
                assert!(session.wake_at().is_none_or(|at| at > self.now), "a tick that leaves things undone");
            }
            _ => {}
        }
    }

    fn connect(&mut self) {
        if !self.acting() {
            return;
        }
        let profile = Profile {
            standard_only: self.rng.random_bool(0.3),
            per_channel: self.rng.random_bool(0.3),
            by_lane: self.rng.random_bool(0.4),
            rolling: self.source.rolling(),
        };
        let id = self.next_connection;
        self.next_connection += 1;
        // for every other they come round
        let first_job = JobId(if id.is_multiple_of(2) { 1 } else { u32::MAX - 20 });
        let connection = Connection {
            session: Session::new(self.options.clone(), self.now).with_jobs_from(first_job),
            model: Model::new(true, profile.rolling, self.options.max_jobs),
            miner: Miner::new(profile),
            to_server: Direction::new(profile.by_lane),
            to_client: Direction::new(profile.by_lane),
            is_set_up: false,
            lanes: Lanes::default(),
            owed: Owed::default(),
            work: None,
            work_pending: false,
            last_stored: self.now,
            wake: None,
            closing: false,
        };
        let hello = connection.miner.introduce();
        self.connections.insert(id, connection);
        if self.newest.is_some() {
            self.inform(id);
        }
        self.transmit(id, vec![(Lane::Control, Parcel::Frame(hello))]);
        self.after(1000..400_000, Happening::Act(id));
        if self.rng.random_bool(0.4) {
            self.after(0..10_000_000, Happening::Disconnect(id));
        }
    }

    fn disconnect(&mut self, id: usize) {
        let mut connection = self.connections.remove(&id).expect("it is connected");
        connection.session.end(self.pool);
        assert_eq!(connection.session.wake_at(), None);
        self.summary.acknowledged += connection.miner.acknowledged;
        self.summary.refused += connection.miner.refused;
        self.summary.finished += connection.lanes.finished() as u64;
    }

    fn advance(&mut self) {
        let work = self.source.advance(&mut self.rng);
        self.pool.publish(work.clone());
        self.newest = Some(work);
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            // whoever is slow sees only the newest
            if !std::mem::replace(&mut self.connections.get_mut(&id).unwrap().work_pending, true) {
                let lag = if self.rng.random_bool(0.1) { 4_000_000 } else { 2000 };
                self.after(0..lag, Happening::Work(id));
            }
        }
        if self.acting() {
            self.after(10_000..2_000_000, Happening::Advance);
        }
    }

    fn inform(&mut self, id: usize) {
        let connection = self.connections.get_mut(&id).unwrap();
        let work = self.newest.clone().expect("it was announced");
        connection.work_pending = false;
        connection.work = Some(work.clone());
        self.uneventful(id, Input::Work(work.clone()));
        for (id, channel) in &self.connections[&id].model.channels {
            let tip = channel.tip.expect("there is work");
            assert_eq!(
                U256(tip.prev_hash),
                U256(*work.tip.prev_hash.as_ref()),
                "channel {id} is on another block"
            );
            if let Some(Body::Extended(content)) = channel.active.last().map(|active| &active.job.body) {
                assert_eq!(content.path, work.template.merkle_path, "channel {id} works on something else");
            }
            assert!(channel.futures.len() >= work.future.len().min(8), "channel {id} lacks a future job");
        }
    }

    fn transmit(&mut self, id: usize, sent: Vec<Sent>) {
        for (lane, parcel) in sent {
            let arrival = self.arrival();
            let connection = self.connections.get_mut(&id).unwrap();
            if parcel == Parcel::Reset {
                connection.to_client.lose(lane);
            }
            let (key, at) = connection.to_server.send(lane, parcel, arrival);
            self.at(at, Happening::ToServer(id, queue(key)));
        }
    }

    /// When something sent now arrives, if nothing is ahead of it: late, if a packet gets lost.
    fn arrival(&mut self) -> Moment {
        let slowest = if self.rng.random_bool(0.05) { 1_000_000 } else { 50_000 };
        self.now + Duration::from_micros(self.rng.random_range(0..slowest))
    }

    /// The server hears that a lane has ended.
    fn ended(&mut self, id: usize, lane: Lane) {
        let connection = self.connections.get_mut(&id).unwrap();
        for channel in connection.lanes.channels_on(lane) {
            connection.model.close(channel);
        }
        connection.lanes.ended(lane);
        self.uneventful(id, Input::Ended(lane));
    }

    /// The server takes in a frame, and answers it rightly.
    fn serve(&mut self, id: usize, lane: Lane, bytes: &[u8]) {
        let (header, payload) = split(bytes);
        let connection = self.connections.get_mut(&id).unwrap();
        let model = &mut connection.model;
        if connection.lanes.is_over(lane, model) {
            let outcome = self.uneventful(id, Input::Frame(lane, header, payload));
            assert_eq!(outcome.frames, 0, "an answer to what comes after the end");
            return;
        }
        let mut submitted: Option<(Fields, u32)> = None;
        if header.extension == 0 && header.msg_type >= 0x10 {
            match Mining::decode(header.msg_type, payload).unwrap() {
                Mining::OpenStandardMiningChannel(m) => {
                    connection.lanes.request(lane, m.request_id.0);
                    let request = Request { kind: Kind::Standard, max_target: m.max_target };
                    model.requests.insert(m.request_id.0, request);
                }
                Mining::OpenExtendedMiningChannel(m) => {
                    connection.lanes.request(lane, m.request_id.0);
                    let request = Request { kind: Kind::Extended, max_target: m.max_target };
                    model.requests.insert(m.request_id.0, request);
                }
                Mining::UpdateChannel(m) => {
                    if let Some(channel) = model.channels.get_mut(&m.channel_id.0) {
                        channel.max_target = m.maximum_target;
                    }
                }
                Mining::CloseChannel(m) => {
                    let id = m.channel_id.0;
                    if lane == Lane::Control || connection.lanes.of(id) == Some(lane) {
                        model.close(id);
                    }
                }
                Mining::SubmitSharesStandard(m) => {
                    let fields = Fields {
                        channel: m.channel_id.0,
                        job: m.job_id.0,
                        nonce: m.nonce,
                        ntime: m.ntime,
                        version: m.version,
                        extranonce: None,
                    };
                    submitted = Some((fields, m.sequence_number.0));
                }
                Mining::SubmitSharesExtended(m) => {
                    let fields = Fields {
                        channel: m.channel_id.0,
                        job: m.job_id.0,
                        nonce: m.nonce,
                        ntime: m.ntime,
                        version: m.version,
                        extranonce: Some(m.extranonce.as_bytes().to_vec()),
                    };
                    submitted = Some((fields, m.sequence_number.0));
                }
                other => panic!("clients do not send {other:?}"),
            }
        }
        let input = Input::Frame(lane, header, payload);
        match submitted {
            None => {
                self.uneventful(id, input);
            }
            Some((fields, sequence)) => {
                let verdict = model.judge(&fields, self.options.max_seen_shares);
                if let Verdict::Credit { target, .. } = verdict {
                    connection.owed.credit(fields.channel, sequence, target.difficulty().0);
                }
                let outcome = self.handle(id, input);
                self.compare(verdict, (fields.channel, sequence), outcome);
            }
        }
    }

    fn compare(&mut self, verdict: Verdict, share: (u32, u32), outcome: Outcome) {
        let Outcome { errors, shares, solutions, .. } = outcome;
        match verdict {
            Verdict::Credit { hash, target, tip } => {
                assert_eq!(errors, [], "a good share is refused");
                assert_eq!(shares.len(), 1);
                assert_eq!((shares[0].hash, shares[0].difficulty), (hash, target.difficulty()));
                let wanted = U256(hash) <= U256::from(self.source.report_targets[&tip]);
                assert_eq!((shares[0].solution, solutions.len()), (wanted, usize::from(wanted)));
                self.books.credit(hash);
            }
            Verdict::Refuse(code) => {
                assert_eq!(errors, [(share.0, share.1, code.to_owned())]);
                assert_eq!((shares.len(), solutions.len()), (0, 0), "{code}, but credited");
            }
            Verdict::NotYet => {
                assert_eq!((errors.len(), shares.len(), solutions.len()), (1, 0, 0));
                assert!(["stale-share", "invalid-job-id"].contains(&&*errors[0].2), "{errors:?}");
            }
        }
    }

    /// Something that no share and no answer to one comes of.
    fn uneventful(&mut self, id: usize, input: Input<'_>) -> Outcome {
        let outcome = self.handle(id, input);
        assert_eq!((outcome.errors.len(), outcome.shares.len(), outcome.solutions.len()), (0, 0, 0));
        outcome
    }

    /// What the transport's loop does with a session.
    fn handle(&mut self, id: usize, input: Input<'_>) -> Outcome {
        let connection = self.connections.get_mut(&id).unwrap();
        let origin = if let Input::Frame(lane, ..) = input { Some(lane) } else { None };
        connection.session.handle(self.now, input, self.pool);
        let mut outcome = Outcome::default();
        self.drain(id, origin, &mut outcome);
        let connection = self.connections.get_mut(&id).unwrap();
        if let Some(number) = connection.session.take_shares(&mut outcome.shares) {
            assert_eq!(number, connection.owed.made);
            let delay = if self.sink_is_slow { self.rng.random_range(0..300_000) } else { 0 };
            connection.last_stored = connection.last_stored.max(self.now + Duration::from_micros(delay));
            let stored = connection.last_stored;
            if stored > self.now {
                self.at(stored, Happening::Stored(id, number));
            } else {
                connection.owed.stored = number;
                connection.session.handle(self.now, Input::Stored(number), self.pool);
                self.drain(id, None, &mut outcome);
            }
        }
        let connection = self.connections.get_mut(&id).unwrap();
        if !connection.closing {
            connection.lanes.check(&connection.model, &connection.owed);
        }
        let wake = connection.session.wake_at().map(|at| at.max(self.now));
        if let Some(at) = wake.filter(|at| connection.wake.is_none_or(|earlier| *at < earlier)) {
            connection.wake = Some(at);
            let late = self.rng.random_range(0..2000);
            self.at(at + Duration::from_micros(late), Happening::Wake(id));
        }
        outcome
    }

    fn drain(&mut self, id: usize, origin: Option<Lane>, outcome: &mut Outcome) {
        let connection = self.connections.get_mut(&id).unwrap();
        let mut sent: Vec<Sent> = Vec::new();
        let mut closed = None;
        while let Some(output) = connection.session.poll_output() {
            assert_eq!(closed, None, "nothing follows a close");
            match output {
                Output::Frame(lane, bytes) => sent.push((lane, Parcel::Frame(bytes.to_vec()))),
                Output::Finish(lane) => sent.push((lane, Parcel::End)),
                Output::Solution(solution) => outcome.solutions.push(*solution),
                Output::Event(
                    Event::SetUp { .. } | Event::Opened { .. } | Event::Refused { .. } | Event::Closed { .. },
                ) => {}
                Output::Close(reason) => closed = Some(reason),
            }
        }
        let mut last = self.now;
        for (lane, parcel) in sent {
            let arrival = self.arrival();
            let connection = self.connections.get_mut(&id).unwrap();
            if let Parcel::Frame(bytes) = &parcel {
                outcome.frames += 1;
                check(connection, lane, origin, bytes, &self.options, outcome);
            } else {
                connection.lanes.finish(lane);
            }
            for space in connection.model.spaces.drain(..) {
                self.books.assign(id, space);
            }
            let (key, at) = connection.to_client.send(lane, parcel, arrival);
            last = last.max(at);
            self.at(at, Happening::ToClient(id, queue(key)));
        }
        if let Some(reason) = closed {
            let expected = matches!(reason, CloseReason::BadShares(_)) && self.options.max_bad_shares < 1000;
            assert!(expected, "closed: {reason}");
            self.connections.get_mut(&id).unwrap().closing = true;
            self.at(last, Happening::Hangup(id));
        }
    }
}

/// A frame as it leaves the server.
fn check(
    connection: &mut Connection,
    lane: Lane,
    origin: Option<Lane>,
    bytes: &[u8],
    options: &Options,
    outcome: &mut Outcome,
) {
    let (header, payload) = split(bytes);
    if header.extension != 0 || header.msg_type < 0x10 {
        assert_eq!((lane, origin), (Lane::Control, Some(Lane::Control)));
        connection.is_set_up |= (header.extension, header.msg_type) == (0, 1);
        return;
    }
    let tip = connection.work.as_ref().map(|work| &work.tip);
    let message = Mining::decode(header.msg_type, payload).expect("the server's messages are well-formed");
    connection.lanes.sent(lane, origin, &message);
    match message {
        Mining::SubmitSharesSuccess(m) => connection.owed.acknowledge(&m, options.share_batch_size),
        Mining::SubmitSharesError(m) => {
            let code = m.error_code.as_str().unwrap().to_owned();
            outcome.errors.push((m.channel_id.0, m.sequence_number.0, code));
        }
        Mining::SetNewPrevHash(m) => {
            let tip = tip.expect("no work, no block to build on");
            let said = (m.prev_hash, m.min_ntime, m.nbits);
            assert_eq!(said, (U256(*tip.prev_hash.as_ref()), tip.min_ntime, tip.nbits));
        }
        Mining::NewMiningJob(m) => assert_time(m.min_ntime, tip.map(|tip| tip.min_ntime)),
        Mining::NewExtendedMiningJob(m) => assert_time(m.min_ntime, tip.map(|tip| tip.min_ntime)),
        _ => {}
    }
    connection.model.apply(header.msg_type, payload);
}

fn assert_time(said: Option<u32>, tip: Option<u32>) {
    assert!(said.is_none() || said == tip, "a job starts at {said:?}, the tip at {tip:?}");
}
