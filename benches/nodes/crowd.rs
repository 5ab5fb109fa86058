//! Miners that tell when they have heard of a new block.

use std::time::Instant;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use blvm_stratum_v2::transport::client::{Client, Device};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::mining::{Mining, OpenStandardMiningChannel};
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use blvm_stratum_v2::wire::{RequestId, U256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::core::soon;
use crate::stage::Stage;

pub(crate) struct Crowd {
    heard: mpsc::UnboundedReceiver<(usize, BlockHash, Instant)>,
    /// The block that each miner's work is on.
    tips: Vec<Option<BlockHash>>,
    _miners: JoinSet<()>,
}

impl Crowd {
    /// So many miners on each transport.
    pub(crate) async fn gather(stage: &Stage, count: usize) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let mut miners = JoinSet::new();
        let transports = [Transport::Quic, Transport::Tcp].into_iter().cycle();
        for (number, transport) in transports.take(2 * count).enumerate() {
            let client = soon("a miner joins", join(&stage.url(transport))).await;
            miners.spawn(listen(client, number, tell.clone()));
        }
        Self { heard, tips: vec![None; 2 * count], _miners: miners }
    }

    /// Waits until all work on this block.
    pub(crate) async fn all_are_on(&mut self, tip: BlockHash) {
        soon("all miners are on the tip", async {
            while self.tips.iter().any(|known| *known != Some(tip)) {
                self.hear().await;
            }
        })
        .await;
    }

    /// Waits until all have heard of another block than the one they are all on: when the first
    /// and the last did.
    pub(crate) async fn next_tip(&mut self) -> (Instant, Instant) {
        let mut times = Vec::new();
        soon("all miners hear of the block", async {
            while times.len() < self.tips.len() {
                times.push(self.hear().await);
            }
        })
        .await;
        assert!(self.tips.iter().all(|tip| *tip == self.tips[0]));
        (*times.iter().min().unwrap(), *times.iter().max().unwrap())
    }

    async fn hear(&mut self) -> Instant {
        let (number, tip, when) = self.heard.recv().await.expect("miners listen");
        self.tips[number] = Some(tip);
        when
    }
}

async fn join(url: &StratumUrl) -> Client {
    let device = Device { flags: REQUIRES_STANDARD_JOBS, ..Device::default() };
    let mut client = Client::connect(url, &device).await.unwrap();
    client
        .queue(&OpenStandardMiningChannel {
            request_id: RequestId(1),
            user_identity: Str255::truncated("crowd"),
            nominal_hash_rate: 1.0,
            max_target: U256([0xff; 32]),
        })
        .unwrap();
    client
}

async fn listen(mut client: Client, number: usize, tell: mpsc::UnboundedSender<(usize, BlockHash, Instant)>) {
    loop {
        if let Mining::SetNewPrevHash(m) = client.next().await.expect("a miner stays connected") {
            let tip = BlockHash::from_byte_array(m.prev_hash.0);
            if tell.send((number, tip, Instant::now())).is_err() {
                return;
            }
        }
    }
}
