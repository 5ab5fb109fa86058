//! An extended channel, which sees what its blocks pay.

use std::collections::{HashMap, HashSet};

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction};
use blvm_stratum_v2::mining::hash::sha256d;
use blvm_stratum_v2::mining::{Target, merkle};
use blvm_stratum_v2::transport::client::{Client, ClientError, Device};
use blvm_stratum_v2::wire::codec::{B032, Str255};
use blvm_stratum_v2::wire::mining::{Mining, OpenExtendedMiningChannel, SubmitSharesExtended};
use blvm_stratum_v2::wire::url::StratumUrl;
use blvm_stratum_v2::wire::{ChannelId, JobId, RequestId, SequenceNumber, Tlvs, U256};

use crate::soon;

/// What was announced.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    id: JobId,
    version: u32,
    path: Vec<U256>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    pub(crate) prev_hash: BlockHash,
    nbits: u32,
    ntime: u32,
    pub(crate) target: Target,
}

/// A connection with one channel that must last for as long as the test.
pub(crate) struct Miner {
    client: Client,
    channel: ChannelId,
    group: ChannelId,
    extranonce: Vec<u8>,
    free: usize,
    pub(crate) target: Target,
    futures: HashMap<JobId, Job>,
    current: Option<Job>,
    nonce: u32,
    sent: u32,
    answered: HashMap<u32, Result<(), String>>,
    pub(crate) accepted_to: u32,
    /// The answers to requests for more channels.
    pub(crate) requests: HashMap<u32, Result<(), String>>,
    used: HashSet<[u8; 32]>,
}

impl Miner {
    /// Connects and waits for work.
    pub(crate) async fn at(url: &StratumUrl) -> Self {
        Self::of(url, "alice").await
    }

    pub(crate) async fn of(url: &StratumUrl, user: &str) -> Self {
        let mut miner = soon("a miner is let in", Self::join(url, user)).await.unwrap();
        miner.hears("work", |miner| miner.current.is_some()).await;
        miner
    }

    /// Whether somebody who comes now is let in.
    pub(crate) async fn is_let_in(url: &StratumUrl) -> bool {
        soon("an answer to one who comes", Self::join(url, "alice")).await.is_ok()
    }

    async fn join(url: &StratumUrl, user: &str) -> Result<Self, ClientError> {
        let mut client = Client::connect(url, &Device::default()).await?;
        client.queue(&request(0, user))?;
        let mut miner = match client.next().await? {
            Mining::OpenExtendedMiningChannelSuccess(m) => Self {
                channel: m.channel_id,
                group: m.group_channel_id,
                extranonce: m.extranonce_prefix.as_bytes().to_vec(),
                free: m.extranonce_size.into(),
                target: m.target.into(),
                client,
                futures: HashMap::new(),
                current: None,
                nonce: 0,
                sent: 0,
                answered: HashMap::new(),
                accepted_to: 0,
                requests: HashMap::new(),
                used: HashSet::new(),
            },
            other => panic!("no channel: {other:?}"),
        };
        miner.extranonce.resize(miner.extranonce.len() + miner.free, 0);
        Ok(miner)
    }

    pub(crate) fn job(&self) -> Job {
        self.current.clone().expect("it has work")
    }

    /// The coinbase that it mines on.
    pub(crate) fn coinbase(&self, job: &Job) -> Transaction {
        deserialize(&self.coinbase_bytes(job)).unwrap()
    }

    /// The first byte of the script that gets the reward, and how long it is.
    pub(crate) fn paid(&self, job: &Job) -> (u8, usize) {
        let script = &self.coinbase(job).output[0].script_pubkey;
        (script.as_bytes()[0], script.len())
    }

    fn coinbase_bytes(&self, job: &Job) -> Vec<u8> {
        [&job.prefix[..], &self.extranonce, &job.suffix].concat()
    }

    /// Listens until it is so.
    pub(crate) async fn hears(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        soon(what, async {
            while !is_so(self) {
                self.hear().await.expect("a miner stays connected");
            }
        })
        .await;
    }

    /// Listens until the connection is lost.
    pub(crate) async fn is_lost(&mut self) -> ClientError {
        soon("the connection is lost", async {
            loop {
                if let Err(error) = self.hear().await {
                    return error;
                }
            }
        })
        .await
    }

    /// Mines on a job until there is a share, or a block, and waits for what is said of it.
    pub(crate) async fn submit(&mut self, job: &Job, block: bool) -> Result<BlockHash, String> {
        let network = Target::from_compact(job.nbits).unwrap();
        self.submit_such(job, |hash| network.is_met_by(hash) == block).await
    }

    /// Mines on a job until there is a share that is no block, and waits for nothing: its number.
    pub(crate) fn send(&mut self, job: &Job) -> u32 {
        let network = Target::from_compact(job.nbits).unwrap();
        self.send_such(job, |hash| !network.is_met_by(hash)).0
    }

    /// Mines on a job until there is a share that is as it is wanted.
    pub(crate) async fn submit_such(
        &mut self,
        job: &Job,
        such: impl Fn(&[u8; 32]) -> bool,
    ) -> Result<BlockHash, String> {
        let (number, hash) = self.send_such(job, such);
        let said = |miner: &Self| miner.accepted_to >= number || miner.answered.contains_key(&number);
        self.hears("a share is answered", said).await;
        self.answered.remove(&number).unwrap_or(Ok(())).map(|()| hash)
    }

    /// The share's number, and its hash.
    fn send_such(&mut self, job: &Job, such: impl Fn(&[u8; 32]) -> bool) -> (u32, BlockHash) {
        let root = merkle::fold(sha256d(&self.coinbase_bytes(job)), &job.path);
        let hash = loop {
            self.nonce += 1;
            assert!(self.nonce < 10_000_000, "there is no such share");
            let mut header = Vec::new();
            header.extend(job.version.to_le_bytes());
            header.extend(job.prev_hash.to_byte_array());
            header.extend(root);
            header.extend(job.ntime.to_le_bytes());
            header.extend(job.nbits.to_le_bytes());
            header.extend(self.nonce.to_le_bytes());
            let hash = sha256d(&header);
            if job.target.is_met_by(&hash) && such(&hash) && self.used.insert(hash) {
                break hash;
            }
        };
        self.sent += 1;
        let number = self.sent;
        let rolled = &self.extranonce[self.extranonce.len() - self.free..];
        let share = SubmitSharesExtended {
            channel_id: self.channel,
            sequence_number: SequenceNumber(number),
            job_id: job.id,
            nonce: self.nonce,
            ntime: job.ntime,
            version: job.version,
            extranonce: B032::of(<&[u8; 16]>::try_from(rolled).unwrap()),
            tlvs: Tlvs::default(),
        };
        self.client.queue(&share).unwrap();
        (number, BlockHash::from_byte_array(hash))
    }

    /// Asks for another channel, whose messages it does not heed: was it opened?
    pub(crate) async fn open(&mut self, number: u32) -> Result<(), String> {
        self.client.queue(&request(number, "alice")).unwrap();
        self.hears("an answer to a request", |miner| miner.requests.contains_key(&number)).await;
        self.requests.remove(&number).unwrap()
    }

    async fn hear(&mut self) -> Result<(), ClientError> {
        let (channel, group) = (self.channel, self.group);
        let mine = |id: ChannelId| id == channel || id == group;
        match self.client.next().await? {
            Mining::NewExtendedMiningJob(m) if mine(m.channel_id) => {
                let before = self.current.as_ref();
                let job = Job {
                    id: m.job_id,
                    version: m.version,
                    path: m.merkle_path.iter().collect(),
                    prefix: m.coinbase_tx_prefix.as_bytes().to_vec(),
                    suffix: m.coinbase_tx_suffix.as_bytes().to_vec(),
                    prev_hash: before.map_or(BlockHash::all_zeros(), |job| job.prev_hash),
                    nbits: before.map_or(0, |job| job.nbits),
                    ntime: m.min_ntime.unwrap_or(0),
                    target: self.target,
                };
                match m.min_ntime {
                    Some(_) => self.current = Some(job),
                    None => drop(self.futures.insert(m.job_id, job)),
                }
            }
            Mining::SetNewPrevHash(m) if mine(m.channel_id) => {
                let job = self.futures.remove(&m.job_id).expect("it was announced");
                self.futures.clear();
                self.current = Some(Job {
                    prev_hash: BlockHash::from_byte_array(m.prev_hash.0),
                    nbits: m.nbits,
                    ntime: m.min_ntime,
                    target: self.target,
                    ..job
                });
            }
            Mining::SetTarget(m) if mine(m.channel_id) => self.target = m.maximum_target.into(),
            Mining::SubmitSharesSuccess(m) => self.accepted_to = m.last_sequence_number.0,
            Mining::SubmitSharesError(m) => {
                self.answered.insert(m.sequence_number.0, Err(m.error_code.to_string()));
            }
            Mining::OpenExtendedMiningChannelSuccess(m) => {
                self.requests.insert(m.request_id.0, Ok(()));
            }
            Mining::OpenMiningChannelError(m) => {
                self.requests.insert(m.request_id.0, Err(m.error_code.to_string()));
            }
            Mining::CloseChannel(m) => panic!("a channel is closed: {}", m.reason_code),
            _ => {}
        }
        Ok(())
    }
}

fn request(number: u32, user: &str) -> OpenExtendedMiningChannel<'_> {
    OpenExtendedMiningChannel {
        request_id: RequestId(number),
        user_identity: Str255::truncated(user),
        nominal_hash_rate: 1.0,
        max_target: U256([0xff; 32]),
        min_extranonce_size: 8,
    }
}
