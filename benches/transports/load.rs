//! Miners, many of them.

use std::time::Duration;

use blvm_stratum_v2::transport::client::{Client, Device};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::mining::{Mining, NewMiningJob, OpenStandardMiningChannel, SubmitSharesStandard};
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use blvm_stratum_v2::wire::{ChannelId, JobId, RequestId, SequenceNumber, U256};
use tokio::task::JoinSet;

use super::server::Server;

/// Connections that are made at the same time.
const AT_ONCE: usize = 16;

/// Miners on one transport.
pub(crate) struct Load {
    url: StratumUrl,
    miners: Vec<Miner>,
}

/// A connection with channels.
struct Miner {
    client: Client,
    channels: Vec<Channel>,
}

struct Channel {
    id: ChannelId,
    job: JobId,
    ntime: u32,
    version: u32,
    nonce: u32,
    in_flight: u32,
}

impl Load {
    pub(crate) fn new(server: &Server, transport: Transport) -> Self {
        Self { url: server.url(transport), miners: Vec::new() }
    }

    /// Makes and ends so many connections.
    pub(crate) async fn connect(&self, count: usize) {
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            while tasks.len() >= AT_ONCE {
                tasks.join_next().await.unwrap().unwrap();
            }
            let url = self.url.clone();
            tasks.spawn(async move { connect(&url).await.close().await });
        }
        tasks.join_all().await;
    }

    /// Opens so many connections more, with so many channels on each.
    pub(crate) async fn open(&mut self, connections: usize, channels: usize) {
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            while tasks.len() >= AT_ONCE {
                self.miners.push(tasks.join_next().await.unwrap().unwrap());
            }
            let url = self.url.clone();
            tasks.spawn(async move { Miner::open(&url, channels).await });
        }
        self.miners.extend(tasks.join_all().await);
    }

    /// Lets the server come to rest.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    /// Submits so many shares, with so many of each channel on their way at a time.
    pub(crate) async fn submit(&mut self, in_flight: u32, count: u64) {
        let each = count / self.miners.len() as u64;
        self.on_all(move |mut miner| async move {
            miner.submit(in_flight, each).await;
            miner
        })
        .await;
    }

    /// Waits until every channel has been sent a job.
    pub(crate) async fn all_have_a_new_job(&mut self) {
        self.on_all(|mut miner| async move {
            for _ in 0..miner.channels.len() {
                while !miner.hear().await {}
            }
            miner
        })
        .await;
    }

    async fn on_all<F>(&mut self, work: impl Fn(Miner) -> F)
    where
        F: Future<Output = Miner> + Send + 'static,
    {
        let tasks: JoinSet<Miner> = self.miners.drain(..).map(work).collect();
        self.miners = tasks.join_all().await;
    }
}

async fn connect(url: &StratumUrl) -> Client {
    let device = Device { flags: REQUIRES_STANDARD_JOBS, ..Device::default() };
    let mut client = Client::connect(url, &device).await.unwrap();
    client.set_up().await.unwrap();
    client
}

impl Miner {
    async fn open(url: &StratumUrl, channels: usize) -> Self {
        let mut client = connect(url).await;
        for number in 0..channels {
            client
                .queue(&OpenStandardMiningChannel {
                    request_id: RequestId(number as u32),
                    user_identity: Str255::truncated("load"),
                    nominal_hash_rate: 1.0,
                    max_target: U256([0xff; 32]),
                })
                .unwrap();
        }
        let mut miner = Self { client, channels: Vec::with_capacity(channels) };
        while miner.channels.len() < channels || miner.channels.iter().any(|channel| channel.ntime == 0) {
            miner.hear().await;
        }
        miner
    }

    /// Waits for a message. True if it was a job to be mined at once.
    async fn hear(&mut self) -> bool {
        match self.client.next().await.unwrap() {
            Mining::OpenStandardMiningChannelSuccess(m) => self.channels.push(Channel {
                id: m.channel_id,
                job: JobId(0),
                ntime: 0,
                version: 0,
                nonce: 0,
                in_flight: 0,
            }),
            Mining::NewMiningJob(m) => return self.job(m),
            Mining::SetNewPrevHash(m) => {
                let channel = self.channel(m.channel_id);
                assert_eq!(channel.job, m.job_id);
                channel.ntime = m.min_ntime;
            }
            Mining::SubmitSharesSuccess(m) => {
                self.channel(m.channel_id).in_flight -= m.new_submits_accepted_count;
            }
            Mining::SetTarget(_) => panic!("no target is to change"),
            other => panic!("{other:?}"),
        }
        false
    }

    fn job(&mut self, m: NewMiningJob) -> bool {
        let channel = self.channel(m.channel_id);
        // the first is followed by what it builds on; later future ones are for another block
        if channel.ntime == 0 || m.min_ntime.is_some() {
            (channel.job, channel.version) = (m.job_id, m.version);
        }
        channel.ntime = m.min_ntime.unwrap_or(channel.ntime);
        m.min_ntime.is_some()
    }

    /// Ids are given in order, and the group has the first.
    fn channel(&mut self, id: ChannelId) -> &mut Channel {
        &mut self.channels[id.0 as usize - 2]
    }

    async fn submit(&mut self, in_flight: u32, count: u64) {
        let mut left = count;
        while left > 0 || self.channels.iter().any(|channel| channel.in_flight >= 10) {
            for channel in &mut self.channels {
                while channel.in_flight < in_flight && left > 0 {
                    left -= 1;
                    channel.in_flight += 1;
                    channel.nonce += 1;
                    self.client
                        .queue(&SubmitSharesStandard {
                            channel_id: channel.id,
                            sequence_number: SequenceNumber(channel.nonce),
                            job_id: channel.job,
                            nonce: channel.nonce,
                            ntime: channel.ntime,
                            version: channel.version,
                        })
                        .unwrap();
                }
            }
            self.hear().await;
        }
    }
}
