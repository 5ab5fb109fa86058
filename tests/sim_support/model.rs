//! What the specification lets a server say, from a client's point of view (§5.3), and what a
//! share is worth by what the server has said.
//!
//! Panics at the first illegal message. Written without the server's own code for jobs and
//! shares.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use bitcoin::hashes::{Hash, sha256d};
use blvm_stratum_v2::mining::Target;
use blvm_stratum_v2::wire::U256;
use blvm_stratum_v2::wire::mining::{Mining, NewExtendedMiningJob, NewMiningJob, SetNewPrevHash, SetTarget};

/// The version bits of BIP323.
const ROLLING: u32 = 0x1fff_ffe0;

pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    sha256d::Hash::hash(bytes).to_byte_array()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Standard,
    Extended,
}

/// An extended job.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    version: u32,
    rolling: bool,
    pub(crate) path: Vec<U256>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

impl Content {
    fn root(&self, extranonce: &[u8]) -> [u8; 32] {
        let coinbase = hash(&[&self.prefix, extranonce, &self.suffix].concat());
        self.path.iter().fold(coinbase, |left, right| hash(&[left, right.0].concat()))
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// The merkle root is given.
    Fixed([u8; 32]),
    Extended(Rc<Content>),
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: u32,
    pub(crate) version: u32,
    pub(crate) rolling: bool,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) prev_hash: [u8; 32],
    pub(crate) min_ntime: u32,
    pub(crate) nbits: u32,
}

/// A job to hash on.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) job: Job,
    /// With the job's own smallest time.
    pub(crate) tip: Tip,
    pub(crate) target: U256,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) kind: Kind,
    pub(crate) group: u32,
    pub(crate) prefix: Vec<u8>,
    pub(crate) max_target: U256,
    pub(crate) target: U256,
    pub(crate) tip: Option<Tip>,
    pub(crate) futures: Vec<Job>,
    /// Oldest first.
    pub(crate) active: Vec<Active>,
    retired: HashSet<u32>,
    seen: HashSet<[u8; 32]>,
}

/// The fields of a share.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fields {
    pub(crate) channel: u32,
    pub(crate) job: u32,
    pub(crate) nonce: u32,
    pub(crate) ntime: u32,
    pub(crate) version: u32,
    pub(crate) extranonce: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Credit {
        hash: [u8; 32],
        target: Target,
        tip: [u8; 32],
    },
    Refuse(&'static str),
    /// For a job that is not to be mined yet: unknown, or given up already.
    NotYet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Group,
    Channel,
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) max_target: U256,
}

/// One connection as far as jobs and targets go.
#[derive(Debug)]
pub(crate) struct Model {
    /// Nothing the client does is in flight: at the server's end.
    at_server: bool,
    /// Whether jobs with a fixed merkle root leave the version's bits to roll.
    fixed_rolling: bool,
    max_jobs: usize,
    pub(crate) requests: HashMap<u32, Request>,
    pub(crate) channels: BTreeMap<u32, Channel>,
    roles: HashMap<u32, Role>,
    contents: HashMap<u32, Rc<Content>>,
    roots: HashMap<(u32, u32), [u8; 32]>,
    /// Search spaces that have become good for shares: previous block, merkle root with nothing
    /// rolled.
    pub(crate) spaces: Vec<(u32, u32, [u8; 32], [u8; 32])>,
}

impl Model {
    pub(crate) fn new(at_server: bool, fixed_rolling: bool, max_jobs: usize) -> Self {
        Self {
            at_server,
            fixed_rolling,
            max_jobs,
            requests: HashMap::new(),
            channels: BTreeMap::new(),
            roles: HashMap::new(),
            contents: HashMap::new(),
            roots: HashMap::new(),
            spaces: Vec::new(),
        }
    }

    /// Takes in a message of the server's.
    pub(crate) fn apply(&mut self, msg_type: u8, payload: &[u8]) {
        match Mining::decode(msg_type, payload).expect("the server's messages are well-formed") {
            Mining::OpenStandardMiningChannelSuccess(m) => {
                assert_eq!(m.extranonce_prefix.as_bytes().len(), 20, "§5.1.2.1: the whole extranonce");
                let prefix = m.extranonce_prefix.as_bytes();
                self.opened(
                    Kind::Standard,
                    m.request_id.0,
                    m.channel_id.0,
                    m.group_channel_id.0,
                    prefix,
                    m.target,
                );
            }
            Mining::OpenExtendedMiningChannelSuccess(m) => {
                assert_eq!(m.extranonce_prefix.as_bytes().len() + usize::from(m.extranonce_size), 20);
                let prefix = m.extranonce_prefix.as_bytes();
                self.opened(
                    Kind::Extended,
                    m.request_id.0,
                    m.channel_id.0,
                    m.group_channel_id.0,
                    prefix,
                    m.target,
                );
            }
            Mining::OpenMiningChannelError(m) => {
                assert!(self.requests.remove(&m.request_id.0).is_some(), "an answer without a request");
            }
            Mining::NewMiningJob(m) => self.standard_job(&m),
            Mining::NewExtendedMiningJob(m) => self.extended_job(&m),
            Mining::SetNewPrevHash(m) => self.prev_hash(&m),
            Mining::SetTarget(m) => self.new_target(&m),
            Mining::SubmitSharesSuccess(_)
            | Mining::SubmitSharesError(_)
            | Mining::UpdateChannelError(_)
            | Mining::SetCustomMiningJobError(_) => {}
            other => panic!("not for this client: {other:?}"),
        }
    }

    /// The client closes a channel, or all of a group.
    pub(crate) fn close(&mut self, id: u32) {
        self.channels.retain(|channel, state| *channel != id && state.group != id);
    }

    fn opened(&mut self, kind: Kind, request: u32, id: u32, group: u32, prefix: &[u8], target: U256) {
        let request = self.requests.remove(&request).expect("an answer without a request");
        assert_eq!(request.kind, kind, "the answer to another kind of request");
        assert!(target <= request.max_target, "the target is easier than the client can take");
        assert_eq!(self.roles.insert(id, Role::Channel), None, "id {id} comes twice");
        let known = *self.roles.entry(group).or_insert(Role::Group);
        assert_eq!(known, Role::Group, "group {group} is a channel");
        let channel = Channel {
            kind,
            group,
            prefix: prefix.to_vec(),
            max_target: request.max_target,
            target,
            tip: None,
            futures: Vec::new(),
            active: Vec::new(),
            retired: HashSet::new(),
            seen: HashSet::new(),
        };
        self.channels.insert(id, channel);
    }

    fn new_target(&mut self, m: &SetTarget) {
        for id in self.addressed(m.channel_id.0) {
            let channel = self.channels.get_mut(&id).unwrap();
            if self.at_server {
                assert!(m.maximum_target <= channel.max_target, "easier than the client can take");
            }
            channel.target = m.maximum_target;
        }
    }

    /// The open channels that a message is for. It may be for channels that the client has closed,
    /// but never for one that it does not know yet.
    fn addressed(&self, address: u32) -> Vec<u32> {
        assert!(self.roles.contains_key(&address), "work for the unknown channel {address}");
        let for_it =
            |(id, channel): (&u32, &Channel)| (*id == address || channel.group == address).then_some(*id);
        let open: Vec<u32> = self.channels.iter().filter_map(for_it).collect();
        assert!(!self.at_server || !open.is_empty(), "work for {address}, where no channel is open");
        open
    }

    fn standard_job(&mut self, m: &NewMiningJob) {
        let (address, id) = (m.channel_id.0, m.job_id.0);
        for to in self.addressed(address) {
            assert_eq!(to, address, "a standard job for a group");
            let channel = &self.channels[&to];
            assert_eq!(channel.kind, Kind::Standard, "a standard job for an extended channel");
            if let Some(content) = self.contents.get(&id) {
                assert_eq!(content.root(&channel.prefix), m.merkle_root.0, "job {id} is two different jobs");
            }
            let root = *self.roots.entry((to, id)).or_insert(m.merkle_root.0);
            assert_eq!(root, m.merkle_root.0, "job {id} is two different jobs");
            let body = Body::Fixed(root);
            self.job(to, Job { id, version: m.version, rolling: self.fixed_rolling, body }, m.min_ntime);
        }
    }

    fn extended_job(&mut self, m: &NewExtendedMiningJob<'_>) {
        let (address, id) = (m.channel_id.0, m.job_id.0);
        let content = Content {
            version: m.version,
            rolling: m.version_rolling_allowed,
            path: m.merkle_path.iter().collect(),
            prefix: m.coinbase_tx_prefix.as_bytes().to_vec(),
            suffix: m.coinbase_tx_suffix.as_bytes().to_vec(),
        };
        let known = self.contents.entry(id).or_insert_with(|| Rc::new(content)).clone();
        let same = known.prefix == m.coinbase_tx_prefix.as_bytes()
            && known.suffix == m.coinbase_tx_suffix.as_bytes()
            && known.version == m.version
            && known.path.iter().copied().eq(m.merkle_path.iter());
        assert!(same, "job {id} is two different jobs");
        for to in self.addressed(address) {
            let channel = &self.channels[&to];
            assert!(
                to != address || channel.kind == Kind::Extended,
                "an extended job for a standard channel"
            );
            if let Some(root) = self.roots.get(&(to, id)) {
                assert_eq!(known.root(&channel.prefix), *root, "job {id} is two different jobs");
            }
            let body = Body::Extended(known.clone());
            self.job(
                to,
                Job { id, version: m.version, rolling: m.version_rolling_allowed, body },
                m.min_ntime,
            );
        }
    }

    fn job(&mut self, to: u32, job: Job, min_ntime: Option<u32>) {
        let max_jobs = self.max_jobs;
        let channel = self.channels.get_mut(&to).unwrap();
        let in_use = channel.futures.iter().any(|future| future.id == job.id)
            || channel.active.iter().any(|active| active.job.id == job.id)
            || channel.retired.contains(&job.id);
        assert!(!in_use, "channel {to} gets job {} twice", job.id);
        let Some(min_ntime) = min_ntime else {
            channel.futures.push(job);
            return;
        };
        let tip = channel.tip.unwrap_or_else(|| panic!("job {} for {to} has nothing to build on", job.id));
        assert!(min_ntime >= tip.min_ntime, "a job's time lies before its SetNewPrevHash's");
        let active = Active { job, tip: Tip { min_ntime, ..tip }, target: channel.target };
        let space = space(channel, &active);
        self.spaces.push((to, active.job.id, active.tip.prev_hash, space));
        channel.active.push(active);
        if channel.active.len() > max_jobs {
            let oldest = channel.active.remove(0);
            channel.retired.insert(oldest.job.id);
        }
    }

    fn prev_hash(&mut self, m: &SetNewPrevHash) {
        let tip = Tip { prev_hash: m.prev_hash.0, min_ntime: m.min_ntime, nbits: m.nbits };
        let id = m.job_id.0;
        for to in self.addressed(m.channel_id.0) {
            let channel = self.channels.get_mut(&to).unwrap();
            let position = channel.futures.iter().position(|future| future.id == id);
            let position = position.unwrap_or_else(|| panic!("job {id} is no future job of {to}"));
            let job = channel.futures.remove(position);
            channel.retired.extend(channel.futures.drain(..).map(|job| job.id));
            channel.retired.extend(channel.active.drain(..).map(|active| active.job.id));
            channel.seen.clear();
            channel.tip = Some(tip);
            let active = Active { job, tip, target: channel.target };
            let space = space(channel, &active);
            self.spaces.push((to, id, tip.prev_hash, space));
            channel.active.push(active);
        }
    }

    /// What the server has to say to a share that it gets now. Remembers the share.
    pub(crate) fn judge(&mut self, share: &Fields, max_seen: usize) -> Verdict {
        use Verdict::Refuse;
        let kind = if share.extranonce.is_some() { Kind::Extended } else { Kind::Standard };
        let channel = self.channels.get_mut(&share.channel).filter(|channel| channel.kind == kind);
        let Some(channel) = channel else { return Refuse("invalid-channel-id") };
        if channel.futures.iter().any(|future| future.id == share.job) {
            return Verdict::NotYet;
        }
        let Some(active) = channel.active.iter().find(|active| active.job.id == share.job) else {
            let known = channel.retired.contains(&share.job);
            return Refuse(if known { "stale-share" } else { "invalid-job-id" });
        };
        if share.ntime < active.tip.min_ntime || share.ntime - active.tip.min_ntime > 7200 {
            return Refuse("invalid-share");
        }
        let changed = share.version ^ active.job.version;
        if changed != 0 && !active.job.rolling {
            return Refuse("version-rolling-not-allowed");
        }
        if changed & !ROLLING != 0 {
            return Refuse("invalid-non-rollable-version-bit");
        }
        if share.extranonce.as_ref().is_some_and(|extranonce| extranonce.len() != 16) {
            return Refuse("bad-extranonce-size");
        }
        let hash = header_hash(channel, active, share);
        if U256(hash) > active.target {
            return Refuse("difficulty-too-low");
        }
        if !channel.seen.insert(hash) {
            return Refuse("duplicate-share");
        }
        let verdict = Verdict::Credit { hash, target: active.target.into(), tip: active.tip.prev_hash };
        if channel.seen.len() >= max_seen {
            channel.seen.clear();
            channel.retired.extend(channel.active.drain(..).map(|active| active.job.id));
        }
        verdict
    }
}

/// The hash of the header that a share stands for.
pub(crate) fn header_hash(channel: &Channel, active: &Active, share: &Fields) -> [u8; 32] {
    let root = match &active.job.body {
        Body::Fixed(root) => *root,
        Body::Extended(content) => {
            let rolled = share.extranonce.as_deref().unwrap_or_default();
            content.root(&[&channel.prefix, rolled].concat())
        }
    };
    let mut header = share.version.to_le_bytes().to_vec();
    header.extend(active.tip.prev_hash);
    header.extend(root);
    for number in [share.ntime, active.tip.nbits, share.nonce] {
        header.extend(number.to_le_bytes());
    }
    hash(&header)
}

/// Tells search spaces apart: the merkle root with nothing rolled.
fn space(channel: &Channel, active: &Active) -> [u8; 32] {
    match &active.job.body {
        Body::Fixed(root) => *root,
        Body::Extended(content) => {
            let mut extranonce = channel.prefix.clone();
            extranonce.resize(20, 0);
            content.root(&extranonce)
        }
    }
}
