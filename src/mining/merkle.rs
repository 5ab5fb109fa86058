//! The merkle tree over a block's transactions, seen from the coinbase.
//!
//! Hashes are in the byte order in which SHA-256 puts them out.

use super::hash::sha256d_pair;
use crate::wire::U256;

/// The merkle root of a block whose coinbase has this txid, given the coinbase's branch (§5.3.16).
pub fn fold(coinbase_txid: [u8; 32], path: &[U256]) -> [u8; 32] {
    path.iter().fold(coinbase_txid, |left, right| parent(&left, &right.0))
}

/// The coinbase's branch, deepest first, in a block whose other transactions are `txids`.
///
/// What [`fold`] takes together with any coinbase.
pub fn path(txids: &[[u8; 32]]) -> Vec<U256> {
    // One level of the tree without its leftmost node, the one above the coinbase.
    let mut level = txids.to_vec();
    let mut path = Vec::new();
    while let Some(sibling) = level.first() {
        path.push(U256(*sibling));
        // The last node of a level with an odd count is its own sibling.
        level = level[1..].chunks(2).map(|pair| parent(&pair[0], &pair[pair.len() - 1])).collect();
    }
    path
}

/// The merkle root over all of a block's `txids`, the coinbase's first; none if there are none.
pub fn root(txids: &[[u8; 32]]) -> Option<[u8; 32]> {
    let (coinbase, others) = txids.split_first()?;
    Some(fold(*coinbase, &path(others)))
}

fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256d_pair(left, right)
}

#[cfg(test)]
mod tests {
    use bitcoin::Txid;
    use bitcoin::hashes::Hash;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_of_one() {
        assert_eq!(path(&[]), []);
        assert_eq!(root(&[[7; 32]]), Some([7; 32]));
        assert_eq!(root(&[]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn agrees_with_the_bitcoin_crate(txids in prop::collection::vec(any::<[u8; 32]>(), 1..70)) {
            let oracle = txids.iter().copied().map(Txid::from_byte_array);
            let oracle = bitcoin::merkle_tree::calculate_root(oracle).map(|root| root.to_byte_array());
            prop_assert_eq!(root(&txids), oracle);
        }

        #[test]
        fn the_path_does_not_depend_on_the_coinbase(
            others in prop::collection::vec(any::<[u8; 32]>(), 0..70),
            coinbases in any::<[[u8; 32]; 2]>(),
        ) {
            let path = path(&others);
            for coinbase in coinbases {
                let mut txids = vec![coinbase];
                txids.extend(&others);
                prop_assert_eq!(Some(fold(coinbase, &path)), root(&txids));
            }
        }
    }
}
