//! Transactions for a node's mempool: there is no wallet, and none is needed for coins that take no
//! signature.

use std::collections::VecDeque;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use blvm_stratum_v2::template::regtest::{COINBASE_MATURITY, spendable_script};

use crate::core::Core;

/// The program that all coins here are locked by.
const PROGRAM: [u8; 1] = [OP_PUSHNUM_1.to_u8()];

/// A coin that anyone may spend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coin {
    pub(crate) point: OutPoint,
    pub(crate) value: u64,
    lock: Lock,
}

/// How a coin names its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// P2WSH: who spends it shows the program in the witness.
    Segwit,
    /// P2SH: who spends it shows the program in the scriptSig.
    Legacy,
}

/// The coins that a node's first blocks pay.
#[derive(Debug)]
pub(crate) struct Purse(VecDeque<Coin>);

impl Purse {
    /// So many mature coins.
    pub(crate) async fn new(core: &Core, coins: u32) -> Self {
        let first = core.height().await + 1;
        core.generate(coins + COINBASE_MATURITY).await;
        let mut purse = VecDeque::new();
        for height in first..first + coins {
            let block = core.block_at(height).await;
            let txid = block["tx"][0]["txid"].as_str().unwrap().parse().unwrap();
            let value = sats(&block["tx"][0]["vout"][0]["value"]);
            purse.push_back(Coin { point: OutPoint { txid, vout: 0 }, value, lock: Lock::Segwit });
        }
        Self(purse)
    }

    /// A coin that has not been taken yet.
    pub(crate) fn take(&mut self) -> Coin {
        self.0.pop_front().expect("there are coins enough")
    }
}

/// Money in Core's JSON, in satoshis.
pub(crate) fn sats(bitcoins: &serde_json::Value) -> u64 {
    (bitcoins.as_f64().unwrap() * 1e8).round() as u64
}

/// A transaction that turns `coin` into one that is locked by `lock`, and leaves a fee.
pub(crate) fn spend(coin: Coin, lock: Lock, fee: u64) -> (Transaction, Coin) {
    let (transaction, mut coins) = split(coin, lock, 1, fee);
    (transaction, coins.remove(0))
}

/// A transaction that turns `coin` into `count` coins of the same value, and leaves a fee.
pub(crate) fn split(coin: Coin, lock: Lock, count: u32, fee: u64) -> (Transaction, Vec<Coin>) {
    let value = (coin.value - fee) / u64::from(count);
    let left_over = coin.value - fee - value * u64::from(count);
    let (script_sig, witness) = coin.lock.key();
    let mut transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: coin.point, script_sig, sequence: Sequence::MAX, witness }],
        output: vec![TxOut { value: Amount::from_sat(value), script_pubkey: lock.script() }; count as usize],
    };
    transaction.output[0].value += Amount::from_sat(left_over);
    let txid = transaction.compute_txid();
    let coins = transaction.output.iter().zip(0..).map(|(output, vout)| Coin {
        point: OutPoint { txid, vout },
        value: output.value.to_sat(),
        lock,
    });
    let coins = coins.collect();
    (transaction, coins)
}

impl Lock {
    fn script(self) -> ScriptBuf {
        match self {
            Self::Segwit => spendable_script(),
            Self::Legacy => ScriptBuf::from_bytes(PROGRAM.to_vec()).to_p2sh(),
        }
    }

    fn key(self) -> (ScriptBuf, Witness) {
        match self {
            Self::Segwit => (ScriptBuf::new(), Witness::from_slice(&[PROGRAM])),
            Self::Legacy => {
                (Builder::new().push_slice(PushBytesBuf::from(PROGRAM)).into_script(), Witness::new())
            }
        }
    }
}

impl Core {
    /// Has it take a transaction into its mempool.
    pub(crate) async fn send(&self, transaction: &Transaction) -> Txid {
        // whatever it pays
        let sent = self.ask(&["sendrawtransaction", &encode::serialize_hex(transaction), "0"]).await;
        sent.as_str().unwrap().parse().unwrap()
    }
}
