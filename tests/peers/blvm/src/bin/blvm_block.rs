//! What blvm-node's own types make of blocks that a module gives to another one: reads blocks in bincode, a line of
//! hex each, from standard input, and prints of each the header, its hash, and all transaction ids, by the node's
//! code and in hex as SHA-256 puts it out; or ERROR and why not.

use std::error::Error;
use std::io::stdin;

use blvm_node::storage::hashing::double_sha256;
use blvm_protocol::Block;
use blvm_protocol::block::calculate_tx_id;
use blvm_protocol::serialization::block::serialize_block_header;

fn main() {
    for line in stdin().lines() {
        println!("{}", read(&line.unwrap()).unwrap_or_else(|error| format!("ERROR {error}")));
    }
}

fn read(line: &str) -> Result<String, Box<dyn Error>> {
    let bytes = hex::decode(line)?;
    let block: Block = bincode::deserialize(&bytes)?;
    if bincode::serialize(&block)? != bytes {
        return Err(format!("other bytes than the node's for {block:?}").into());
    }
    let header = serialize_block_header(&block.header);
    let mut words = vec![hex::encode(&header), hex::encode(double_sha256(&header))];
    words.extend(block.transactions.iter().map(|transaction| hex::encode(calculate_tx_id(transaction))));
    Ok(words.join(" "))
}
