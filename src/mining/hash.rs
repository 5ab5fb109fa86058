//! The one hash function of mining, with shorter ways for the lengths that every share needs.

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

/// The state before the first block (FIPS 180-4 §5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// SHA-256 of the SHA-256 of `data`: txids, merkle nodes and block hashes.
#[must_use]
pub fn sha256d(data: &[u8]) -> [u8; 32] {
    again(Sha256::digest(data).into())
}

/// [`sha256d`] of two hashes in a row: a node of a merkle tree.
#[must_use]
pub fn sha256d_pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut blocks = [[0; 64]; 2];
    blocks[0][..32].copy_from_slice(left);
    blocks[0][32..].copy_from_slice(right);
    pad(&mut blocks, 64);
    again(hash(&blocks))
}

/// [`sha256d`] of a block header.
#[must_use]
pub fn sha256d_header(header: &[u8; 80]) -> [u8; 32] {
    let mut blocks = [[0; 64]; 2];
    let (first, rest) = header.split_at(64);
    blocks[0].copy_from_slice(first);
    blocks[1][..rest.len()].copy_from_slice(rest);
    pad(&mut blocks, header.len());
    again(hash(&blocks))
}

/// SHA-256 that has taken in what many messages start with.
#[derive(Debug, Clone)]
pub struct Prefix(Sha256);

impl Prefix {
    /// Takes in `start`.
    #[must_use]
    pub fn new(start: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(start))
    }

    /// [`sha256d`] of what was taken in and `parts`.
    #[must_use]
    pub fn sha256d(&self, parts: [&[u8]; 2]) -> [u8; 32] {
        let whole = parts.into_iter().fold(self.0.clone(), Sha256::chain_update);
        again(whole.finalize().into())
    }
}

/// SHA-256 of a hash.
fn again(once: [u8; 32]) -> [u8; 32] {
    let mut blocks = [[0; 64]];
    blocks[0][..32].copy_from_slice(&once);
    pad(&mut blocks, once.len());
    hash(&blocks)
}

/// Ends a message of `len` bytes, the last of which leaves room in the last block.
fn pad(blocks: &mut [[u8; 64]], len: usize) {
    let bytes = blocks.as_flattened_mut();
    bytes[len] = 0x80;
    let end = bytes.len() - 8;
    bytes[end..].copy_from_slice(&(8 * len as u64).to_be_bytes());
}

fn hash(padded: &[[u8; 64]]) -> [u8; 32] {
    let mut state = INITIAL;
    compress256(&mut state, padded);
    let mut bytes = [0; 32];
    for (four, word) in bytes.as_chunks_mut().0.iter_mut().zip(state) {
        *four = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash, sha256d};
    use proptest::prelude::*;

    use super::*;

    fn expected(data: &[u8]) -> [u8; 32] {
        sha256d::Hash::hash(data).to_byte_array()
    }

    proptest! {
        #[test]
        fn agrees_with_the_bitcoin_crate(
            data in prop::collection::vec(any::<u8>(), 0..300),
            left: [u8; 32],
            right: [u8; 32],
            rest: [u8; 16],
            cut: prop::sample::Index,
        ) {
            prop_assert_eq!(super::sha256d(&data), expected(&data));
            let pair = [left, right].concat();
            prop_assert_eq!(sha256d_pair(&left, &right), expected(&pair));
            let header: [u8; 80] = [&pair[..], &rest].concat().try_into().unwrap();
            prop_assert_eq!(sha256d_header(&header), expected(&header));
            let (start, end) = data.split_at(cut.index(data.len() + 1));
            prop_assert_eq!(Prefix::new(start).sha256d([end, &left]), expected(&[&data[..], &left].concat()));
        }
    }
}
