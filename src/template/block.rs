//! A block that was found.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{self, VarInt};
use bitcoin::{Block, BlockHash, Transaction};
use tokio::time::{Instant, sleep};

use super::{Body, Draft};
use crate::mining::coinbase::{Coinbase, CoinbaseError};
use crate::mining::share::Solution;

/// How long the transactions of a block may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether they have.
const BODY_PERIOD: Duration = Duration::from_millis(20);

/// A block on its way to the network.
#[derive(Debug, Clone)]
pub struct FoundBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Its header.
    pub header: Header,
    /// Its coinbase with the witness.
    pub coinbase: Transaction,
    /// Its other transactions.
    pub body: Arc<Body>,
    /// What was mined on, if it was in this process.
    pub draft: Option<Arc<Draft>>,
}

impl FoundBlock {
    /// What `solution` makes of `draft`.
    pub fn new(solution: &Solution, draft: Arc<Draft>) -> Result<Self, CoinbaseError> {
        let header: Header = encode::deserialize(&solution.header).expect("80 bytes are a header");
        Ok(Self {
            hash: header.block_hash(),
            height: solution.tip.height,
            header,
            coinbase: solution.transaction()?,
            body: draft.body.clone(),
            draft: Some(draft),
        })
    }

    /// A block that is whole. None if it does not start with a coinbase that says its height.
    #[must_use]
    pub fn whole(block: Block) -> Option<Self> {
        let (coinbase, others) = block.txdata.split_first()?;
        let height = Coinbase::height(coinbase.input.first()?.script_sig.as_bytes())?;
        let others = others.iter().map(|transaction| encode::serialize(transaction).into()).collect();
        Some(Self {
            hash: block.block_hash(),
            height,
            header: block.header,
            coinbase: coinbase.clone(),
            body: Arc::new(Body::known(others)),
            draft: None,
        })
    }

    /// Waits until its transactions have come, for a while; answers whether they have.
    pub(super) async fn until_whole(&self) -> bool {
        let deadline = Instant::now() + BODY_PATIENCE;
        while self.body.get().is_none() && Instant::now() < deadline {
            sleep(BODY_PERIOD).await;
        }
        self.body.get().is_some()
    }

    /// The whole block as the network serialises it. None while its transactions have not come.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let transactions = self.body.get()?;
        let mut bytes = encode::serialize(&self.header);
        bytes.extend(encode::serialize(&VarInt::from(1 + transactions.len())));
        bytes.extend(encode::serialize(&self.coinbase));
        for transaction in transactions {
            bytes.extend_from_slice(transaction);
        }
        Some(bytes)
    }
}
