//! A block as modules of the node give it to each other: its type `Block` in bincode 1.3 with the defaults. There are
//! no witnesses in it.

use bitcoin::consensus::encode::{self, Error};
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, TxIn, TxOut};

use crate::template::FoundBlock;

/// The block's bytes. None while its transactions have not come.
///
/// # Errors
///
/// A transaction is none.
pub fn encode(block: &FoundBlock) -> Result<Option<Vec<u8>>, Error> {
    let Some(others) = block.body.get() else { return Ok(None) };
    let mut out = Vec::new();
    let header = &block.header;
    out.extend(i64::from(header.version.to_consensus()).to_le_bytes());
    out.extend(header.prev_blockhash.to_byte_array());
    out.extend(header.merkle_root.to_byte_array());
    number(header.time, &mut out);
    number(header.bits.to_consensus(), &mut out);
    number(header.nonce, &mut out);
    length(1 + others.len(), &mut out);
    transaction(&block.coinbase, &mut out);
    for other in others {
        transaction(&encode::deserialize(other)?, &mut out);
    }
    Ok(Some(out))
}

fn transaction(transaction: &Transaction, out: &mut Vec<u8>) {
    // four bytes without a sign, says the node
    number(transaction.version.0 as u32, out);
    length(transaction.input.len(), out);
    for TxIn { previous_output, script_sig, sequence, .. } in &transaction.input {
        out.extend(previous_output.txid.to_byte_array());
        out.extend(previous_output.vout.to_le_bytes());
        number(sequence.to_consensus_u32(), out);
        bytes(script_sig.as_bytes(), out);
    }
    length(transaction.output.len(), out);
    for TxOut { value, script_pubkey } in &transaction.output {
        out.extend(value.to_sat().to_le_bytes());
        bytes(script_pubkey.as_bytes(), out);
    }
    number(transaction.lock_time.to_consensus_u32(), out);
}

/// What has four bytes on the network has eight here.
fn number(number: u32, out: &mut Vec<u8>) {
    out.extend(u64::from(number).to_le_bytes());
}

fn length(length: usize, out: &mut Vec<u8>) {
    out.extend((length as u64).to_le_bytes());
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len(), out);
    out.extend(bytes);
}
