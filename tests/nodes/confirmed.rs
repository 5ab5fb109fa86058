//! A block that a node has confirmed, and how the node reads it.

use bitcoin::{BlockHash, ScriptBuf, Txid};
use serde_json::Value;

use crate::core::{Core, until};
use crate::mempool::sats;

#[derive(Debug)]
pub(crate) struct Confirmed {
    block: Value,
    stats: Value,
}

impl Confirmed {
    /// Waits until the node has the block in its chain.
    pub(crate) async fn of(core: &Core, hash: BlockHash) -> Self {
        until("a found block is in the node's chain", async || core.has(hash).await).await;
        let hash = hash.to_string();
        Self {
            block: core.ask(&["getblock", &hash, "2"]).await,
            stats: core.ask(&["getblockstats", &hash]).await,
        }
    }

    pub(crate) fn height(&self) -> u32 {
        self.block["height"].as_u64().unwrap() as u32
    }

    /// What it may pay: the subsidy and its transactions' fees, in satoshis.
    pub(crate) fn reward(&self) -> u64 {
        self.stats["subsidy"].as_u64().unwrap() + self.fees()
    }

    pub(crate) fn fees(&self) -> u64 {
        self.stats["totalfee"].as_u64().unwrap()
    }

    /// Its transactions but for the coinbase.
    pub(crate) fn transactions(&self) -> Vec<Txid> {
        self.others().iter().map(|transaction| id(transaction, "txid")).collect()
    }

    /// How many of these have no witness.
    pub(crate) fn legacy_transactions(&self) -> usize {
        self.others().iter().filter(|transaction| id(transaction, "txid") == id(transaction, "hash")).count()
    }

    /// Whom its coinbase pays how much.
    pub(crate) fn payouts(&self) -> Vec<(ScriptBuf, u64)> {
        let outputs = self.coinbase()["vout"].as_array().unwrap().iter();
        let outputs = outputs.map(|output| (script(&output["scriptPubKey"]), sats(&output["value"])));
        outputs.filter(|(script, _)| !script.is_op_return()).collect()
    }

    /// Whether its coinbase commits to the witnesses. The node has checked that it does so rightly.
    pub(crate) fn commits_to_witnesses(&self) -> bool {
        let outputs = self.coinbase()["vout"].as_array().unwrap();
        outputs.iter().any(|output| {
            script(&output["scriptPubKey"]).as_bytes().starts_with(&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed])
        })
    }

    /// Whether its coinbase's script has this text in it.
    pub(crate) fn is_tagged(&self, text: &str) -> bool {
        let script = ScriptBuf::from_hex(self.coinbase()["vin"][0]["coinbase"].as_str().unwrap()).unwrap();
        script.as_bytes().windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn coinbase(&self) -> &Value {
        &self.block["tx"][0]
    }

    fn others(&self) -> &[Value] {
        &self.block["tx"].as_array().unwrap()[1..]
    }
}

fn id(transaction: &Value, key: &str) -> Txid {
    transaction[key].as_str().unwrap().parse().unwrap()
}

fn script(value: &Value) -> ScriptBuf {
    ScriptBuf::from_hex(value["hex"].as_str().unwrap()).unwrap()
}
