//! Found blocks, for whoever wants to have them besides the sources.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::FoundBlock;

/// Blocks that may wait for the listener, those included whose transactions have not come. What would be more is
/// dropped: it is the courier that never drops one.
const QUEUE: usize = 16;

/// Gives one listener the blocks that are found.
#[derive(Debug, Clone, Default)]
pub struct Blocks(Arc<Mutex<Option<mpsc::Sender<FoundBlock>>>>);

impl Blocks {
    /// Those found from now on, each as soon as its transactions have come, in place of whoever listened before.
    pub fn listen(&self) -> mpsc::Receiver<FoundBlock> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Gives the block to the listener, if there is one. To be called where tokio runs.
    pub fn give(&self, block: &FoundBlock) {
        let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let (hash, height) = (block.hash, block.height);
        match sender.try_reserve_owned() {
            Ok(place) => {
                let block = block.clone();
                // ends by itself when there has been time enough for the transactions
                tokio::spawn(async move {
                    if block.until_whole().await {
                        place.send(block);
                    } else {
                        tracing::warn!(%hash, height, "a block goes to the sources only: its transactions have not come");
                    }
                });
            }
            Err(TrySendError::Full(_)) => {
                tracing::warn!(%hash, height, "a block goes to the sources only: too many wait to be offered elsewhere");
            }
            Err(TrySendError::Closed(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bitcoin::consensus::encode;
    use bitcoin::{Block, Network};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::template::Body;

    fn block() -> FoundBlock {
        let genesis: Block = bitcoin::constants::genesis_block(Network::Regtest);
        let [coinbase] = &genesis.txdata[..] else { unreachable!() };
        FoundBlock {
            hash: genesis.block_hash(),
            height: 0,
            header: encode::deserialize(&encode::serialize(&genesis.header)).unwrap(),
            coinbase: coinbase.clone(),
            body: Arc::new(Body::default()),
            draft: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_comes_when_it_is_whole() {
        let blocks = Blocks::default();
        blocks.give(&block());
        let mut listener = blocks.listen();
        let (first, second) = (block(), block());
        blocks.give(&first);
        blocks.give(&second);
        sleep(Duration::from_secs(1)).await;
        assert!(listener.try_recv().is_err());
        second.body.set(vec![]);
        assert!(
            Arc::ptr_eq(&listener.recv().await.unwrap().body, &second.body),
            "another's lack holds up nobody"
        );
        let before = Instant::now();
        first.body.set(vec![]);
        assert!(Arc::ptr_eq(&listener.recv().await.unwrap().body, &first.body));
        assert!(before.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_there_are_places() {
        let blocks = Blocks::default();
        let mut listener = blocks.listen();
        let never_whole = block();
        for _ in 0..=QUEUE {
            blocks.give(&never_whole);
        }
        let whole = block();
        whole.body.set(vec![]);
        blocks.give(&whole);
        sleep(Duration::from_secs(60)).await;
        assert!(listener.try_recv().is_err(), "there was no place for it");
        blocks.give(&whole);
        assert!(listener.recv().await.is_some(), "the places of those that never came are free again");
        for _ in 0..QUEUE + 2 {
            blocks.give(&whole);
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(std::iter::from_fn(|| listener.try_recv().ok()).count(), QUEUE);
        drop(listener);
        blocks.give(&whole);
    }
}
