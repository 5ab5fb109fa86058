//! The outputs that nobody has spent yet, and the rules for spending them.

use std::collections::HashMap;

use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Transaction, TxIn, TxOut};

use super::RejectReason;
use super::rules::subsidy;

/// How many blocks deep a coinbase must be before it is spent.
pub const COINBASE_MATURITY: u32 = 100;
/// The most signature operations in a block, each weighing as much as BIP141 says.
const MAX_SIGOP_COST: usize = 80_000;

/// The one program that this chain can run: `OP_TRUE`. Who spends an output locked by its hash
/// reveals it and signs nothing.
pub(super) const SPENDABLE_PROGRAM: [u8; 1] = [OP_PUSHNUM_1.to_u8()];

/// The P2WSH script of the program `OP_TRUE`: anyone may spend what it locks.
#[must_use]
pub fn spendable_script() -> ScriptBuf {
    ScriptBuf::from_bytes(SPENDABLE_PROGRAM.to_vec()).to_p2wsh()
}

/// An unspent output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coin {
    pub(super) output: TxOut,
    height: u32,
    coinbase: bool,
}

impl Coin {
    /// Whether a block at `height` may spend it.
    pub(super) fn is_mature(&self, height: u32) -> bool {
        !self.coinbase || height - self.height >= COINBASE_MATURITY
    }
}

/// All unspent outputs.
#[derive(Debug, Default)]
pub(super) struct Coins(HashMap<OutPoint, Coin>);

/// What a block did to the [`Coins`], in order.
#[derive(Debug, Default)]
pub(super) struct Undo(Vec<Change>);

#[derive(Debug)]
enum Change {
    Spent(OutPoint, Coin),
    Created(OutPoint),
}

impl Coins {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.0.iter()
    }

    /// Spends and creates what `block` does at `height`; nothing if it breaks a rule.
    pub(super) fn apply(&mut self, block: &Block, height: u32) -> Result<Undo, RejectReason> {
        let mut undo = Undo::default();
        match self.try_apply(block, height, &mut undo) {
            Ok(()) => Ok(undo),
            Err(reason) => {
                self.revert(undo);
                Err(reason)
            }
        }
    }

    /// Takes a block's changes back.
    pub(super) fn revert(&mut self, undo: Undo) {
        for change in undo.0.into_iter().rev() {
            match change {
                Change::Spent(point, coin) => self.0.insert(point, coin),
                Change::Created(point) => self.0.remove(&point),
            };
        }
    }

    /// Never creates a coin twice (BIP30): coinbases differ by their height, and everything else
    /// spends what nothing else has spent.
    fn try_apply(&mut self, block: &Block, height: u32, undo: &mut Undo) -> Result<(), RejectReason> {
        let mut fees = Amount::ZERO;
        let mut sigop_cost = 0;
        for transaction in &block.txdata {
            sigop_cost +=
                transaction.total_sigop_cost(|point| self.0.get(point).map(|coin| coin.output.clone()));
            if sigop_cost > MAX_SIGOP_COST {
                return Err(RejectReason::SignatureOperations);
            }
            if !transaction.is_coinbase() {
                fees += self.spend(transaction, height, undo)?;
            }
            self.create(transaction, height, undo);
        }
        let paid: Amount = block.txdata[0].output.iter().map(|output| output.value).sum();
        if paid > Amount::from_sat(subsidy(height)) + fees {
            return Err(RejectReason::CoinbaseAmount);
        }
        Ok(())
    }

    /// Spends a transaction's inputs; answers the fee.
    fn spend(
        &mut self,
        transaction: &Transaction,
        height: u32,
        undo: &mut Undo,
    ) -> Result<Amount, RejectReason> {
        let mut available = Amount::ZERO;
        for input in &transaction.input {
            let coin = self.0.get(&input.previous_output).ok_or(RejectReason::MissingInputs)?;
            if !coin.is_mature(height) {
                return Err(RejectReason::PrematureSpend);
            }
            if !unlocks(input, &coin.output) {
                return Err(RejectReason::Script);
            }
            // Existing outputs never add up to more than there is.
            available += coin.output.value;
            undo.0.extend(
                self.0.remove(&input.previous_output).map(|c| Change::Spent(input.previous_output, c)),
            );
        }
        let spent: Amount = transaction.output.iter().map(|output| output.value).sum();
        available.checked_sub(spent).ok_or(RejectReason::Overspends)
    }

    fn create(&mut self, transaction: &Transaction, height: u32, undo: &mut Undo) {
        let coinbase = transaction.is_coinbase();
        for (point, output) in outputs(transaction).filter(|(_, output)| !output.script_pubkey.is_op_return())
        {
            self.0.insert(point, Coin { output: output.clone(), height, coinbase });
            undo.0.push(Change::Created(point));
        }
    }
}

fn outputs(transaction: &Transaction) -> impl Iterator<Item = (OutPoint, &TxOut)> {
    let txid = transaction.compute_txid();
    transaction.output.iter().zip(0..).map(move |(output, vout)| (OutPoint { txid, vout }, output))
}

/// Whether `input` satisfies the script of the `output` it spends. Everything but
/// [`spendable_script`] counts as locked for good.
fn unlocks(input: &TxIn, output: &TxOut) -> bool {
    output.script_pubkey == spendable_script()
        && input.script_sig.is_empty()
        && input.witness.iter().eq([&SPENDABLE_PROGRAM[..]])
}
