//! Where work comes from, and where solutions go.

pub mod regtest;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::regtest::{BlockSolution, RegtestChain};
use crate::clock::unix_now;
use crate::pool::{Found, StratumV2Pool};

/// How often miners get a new job when nothing has happened: time goes on, and some firmware
/// hangs up after three minutes without a job.
const REFRESH: Duration = Duration::from_secs(30);

/// After a new tip, everyone starts on the template that was prepared for it, which is empty; the
/// full one follows when the tip has reached them.
const FULL_AFTER: Duration = Duration::from_millis(100);

/// Runs the source of work: publishes what there is to mine on, and hands solutions in.
#[derive(Debug)]
pub struct BlockTemplateGenerator {
    chain: RegtestChain,
    pool: Arc<StratumV2Pool>,
    found: mpsc::Receiver<Found>,
}

impl BlockTemplateGenerator {
    /// Feeds `pool` from the embedded chain. `found` is what the pool's miners find.
    #[must_use]
    pub fn new(chain: RegtestChain, pool: Arc<StratumV2Pool>, found: mpsc::Receiver<Found>) -> Self {
        pool.publish(Arc::new(chain.work()));
        Self { chain, pool, found }
    }

    /// Runs until `shutdown` turns true. What was found before is still handed in then.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        refresh.reset();
        loop {
            tokio::select! {
                Some(found) = self.found.recv() => {
                    if self.hand_in(&found) {
                        refresh.reset_after(FULL_AFTER);
                    }
                }
                _ = refresh.tick() => {
                    let work = self.chain.refresh(unix_now());
                    self.pool.publish(Arc::new(work));
                }
                _ = shutdown.wait_for(|stop| *stop) => break,
            }
        }
        while let Ok(found) = self.found.try_recv() {
            self.hand_in(&found);
        }
    }

    /// True if the solution has become the tip, on which everyone mines now.
    fn hand_in(&mut self, found: &Found) -> bool {
        let Found { solution, transport, peer } = found;
        let stats = self.pool.stats().of(*transport);
        let user = &*solution.account.user;
        let accepted = solution.transaction().map_err(|error| error.to_string()).and_then(|coinbase| {
            let header: Header = deserialize(&solution.header).expect("80 bytes are a header");
            let block = BlockSolution {
                template: solution.job.template.serial,
                version: header.version.to_consensus() as u32,
                ntime: header.time,
                nonce: header.nonce,
                coinbase,
            };
            self.chain.submit(block, unix_now()).map_err(|reason| reason.to_string())
        });
        match accepted {
            Ok(block) => {
                stats.blocks.add(1);
                tracing::info!(hash = %block.hash, height = block.height, user, %peer, over = %transport, "block found");
                self.pool.publish(Arc::new(self.chain.work()));
                true
            }
            Err(reason) => {
                stats.solutions_refused.add(1);
                // two miners that solve the same height within a moment are no error
                tracing::info!(%reason, user, %peer, "solution refused");
                false
            }
        }
    }
}
