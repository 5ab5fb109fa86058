//! The library's client, and a record of what it hears.

use std::collections::{BTreeMap, HashMap};

use blvm_stratum_v2::transport::client::{Client, ClientError, Device};
use blvm_stratum_v2::wire::codec::B032;
use blvm_stratum_v2::wire::mining::{Mining, SubmitSharesExtended, SubmitSharesStandard};
use blvm_stratum_v2::wire::url::StratumUrl;
use blvm_stratum_v2::wire::{ChannelId, JobId, Message, SequenceNumber, Tlvs};

use crate::lanes::miner::{Answer, Work};
use crate::raw::soon;

/// What was heard about each channel, group or request, in order. Shares that are acknowledged one
/// after the other are counted together, and jobs are counted from the connection's first.
pub(super) type Record = BTreeMap<String, Vec<String>>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Work(Work),
    Answer(Answer),
    Closed { channel: u32 },
}

impl Said {
    /// What it is about.
    fn about(&self) -> String {
        match self {
            Self::Answer(Answer::NotOpened { request, .. }) => format!("request {request}"),
            Self::Work(Work::Opened { channel, .. })
            | Self::Answer(
                Answer::Accepted { channel, .. }
                | Answer::Rejected { channel, .. }
                | Answer::NotUpdated { channel, .. }
                | Answer::NoCustomJob { channel, .. },
            )
            | Self::Closed { channel } => channel.to_string(),
            Self::Work(
                Work::Future { to, .. } | Work::Job { to, .. } | Work::Tip { to, .. } | Work::Target { to },
            ) => to.to_string(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Job {
    heard: u32,
    id: u32,
    version: u32,
    ntime: u32,
}

pub(super) struct Player {
    pub(super) client: Client,
    record: Record,
    /// The group of each channel.
    groups: HashMap<u32, u32>,
    /// The versions of future jobs, by their addressees and ids.
    futures: HashMap<(u32, u32), u32>,
    /// What to mine, by channel or group; of two, what was heard last.
    jobs: HashMap<u32, Job>,
    first_job: Option<u32>,
    shares: u32,
    /// Messages heard.
    heard: u32,
}

impl Player {
    pub(super) async fn at(url: &StratumUrl, flags: u32) -> Self {
        let device = Device { flags, ..Device::default() };
        let mut client = soon("a connection", Client::connect(url, &device)).await.unwrap();
        soon("it is set up", client.set_up()).await.unwrap();
        let (record, groups, futures, jobs) = Default::default();
        Self { client, record, groups, futures, jobs, first_job: None, shares: 0, heard: 0 }
    }

    pub(super) fn say<'m>(&mut self, message: &impl Message<'m>) {
        self.client.queue(message).unwrap();
    }

    /// The next message, which goes into the record.
    pub(super) async fn hear(&mut self) -> Result<Said, ClientError> {
        let message = soon("a message or an end", self.client.next()).await?;
        let answer = || Answer::of(&message).map(Said::Answer);
        let said = Work::of(&message).map(Said::Work).or_else(answer);
        let said = said.unwrap_or_else(|| match message {
            Mining::CloseChannel(m) => Said::Closed { channel: m.channel_id.0 },
            other => panic!("not for a client: {other:?}"),
        });
        let (version, ntime) = match message {
            Mining::NewMiningJob(m) => (m.version, m.min_ntime),
            Mining::NewExtendedMiningJob(m) => (m.version, m.min_ntime),
            Mining::SetNewPrevHash(m) => (0, Some(m.min_ntime)),
            _ => (0, None),
        };
        let ntime = ntime.unwrap_or(0);
        self.heard += 1;
        let heard = self.heard;
        match said {
            Said::Work(Work::Opened { channel, group, .. }) => {
                self.groups.insert(channel, group);
            }
            Said::Work(Work::Future { to, job }) => {
                self.futures.insert((to, job), version);
            }
            Said::Work(Work::Job { to, job: id }) => {
                self.jobs.insert(to, Job { heard, id, version, ntime });
            }
            Said::Work(Work::Tip { to, job: id }) => {
                let version = self.futures.remove(&(to, id)).expect("a job that was sent before");
                self.jobs.insert(to, Job { heard, id, version, ntime });
            }
            _ => {}
        }
        self.note(&said);
        Ok(said)
    }

    fn note(&mut self, said: &Said) {
        let mut said = said.clone();
        if let Said::Work(Work::Future { job, .. } | Work::Job { job, .. } | Work::Tip { job, .. }) =
            &mut said
        {
            *job -= *self.first_job.get_or_insert(*job);
        }
        let entries = self.record.entry(said.about()).or_default();
        let Said::Answer(Answer::Accepted { count, .. }) = &said else {
            return entries.push(format!("{said:?}"));
        };
        let before = entries.last().and_then(|last| last.strip_suffix(" accepted")?.parse().ok());
        if before.is_some() {
            entries.pop();
        }
        entries.push(format!("{} accepted", before.unwrap_or(0) + count));
    }

    /// Hears on until such a thing comes.
    pub(super) async fn until(&mut self, such: impl Fn(&Said) -> bool) -> Said {
        loop {
            let said = self.hear().await.unwrap();
            if such(&said) {
                return said;
            }
        }
    }

    /// Waits for the answer to a request, and if it is granted for a job. Returns the channel.
    pub(super) async fn opened(&mut self, request: u32) -> u32 {
        let is_it =
            |said: &Said| matches!(said, Said::Work(Work::Opened { request: of, .. }) if *of == request);
        let Said::Work(Work::Opened { channel, .. }) = self.until(is_it).await else { unreachable!() };
        self.until(|said| matches!(said, Said::Work(Work::Tip { to, .. }) if *to == channel)).await;
        channel
    }

    /// A share that has not been sent yet, for what the channel mines.
    pub(super) fn find(&mut self, channel: u32) -> SubmitSharesStandard {
        let own = self.jobs.get(&channel);
        let job = own.into_iter().chain(self.jobs.get(&self.groups[&channel])).max_by_key(|job| job.heard);
        let Job { id, version, ntime, .. } = *job.expect("a job has come");
        self.shares += 1;
        SubmitSharesStandard {
            channel_id: ChannelId(channel),
            sequence_number: SequenceNumber(self.shares),
            job_id: JobId(id),
            nonce: self.shares,
            ntime,
            version,
        }
    }

    pub(super) fn find_extended(&mut self, channel: u32) -> SubmitSharesExtended<'static> {
        let share = self.find(channel);
        SubmitSharesExtended {
            channel_id: share.channel_id,
            sequence_number: share.sequence_number,
            job_id: share.job_id,
            nonce: share.nonce,
            ntime: share.ntime,
            version: share.version,
            extranonce: B032::of(&[7; 16]),
            tlvs: Tlvs::default(),
        }
    }

    /// Sends shares on a standard channel, and has them acknowledged.
    pub(super) async fn mines(&mut self, channel: u32, shares: u32) {
        for _ in 0..shares {
            let share = self.find(channel);
            self.say(&share);
        }
        self.is_paid(channel).await;
    }

    /// Waits until the last share that was sent is acknowledged.
    pub(super) async fn is_paid(&mut self, channel: u32) {
        let newest = self.shares;
        let is_it = |said: &Said| matches!(said, Said::Answer(Answer::Accepted { channel: of, last, .. }) if (*of, *last) == (channel, newest));
        self.until(is_it).await;
    }

    /// Waits until the last share that was sent is refused.
    pub(super) async fn is_refused(&mut self) {
        let newest = self.shares;
        self.until(|said| matches!(said, Said::Answer(Answer::Rejected { number, .. }) if *number == newest))
            .await;
    }

    /// Waits until so many are on the newest block.
    pub(super) async fn tips(&mut self, count: u32) {
        for _ in 0..count {
            self.until(|said| matches!(said, Said::Work(Work::Tip { .. }))).await;
        }
    }

    pub(super) async fn jobs(&mut self, count: u32) {
        for _ in 0..count {
            self.until(|said| matches!(said, Said::Work(Work::Job { .. }))).await;
        }
    }

    pub(super) fn record(self) -> Record {
        self.record
    }
}
