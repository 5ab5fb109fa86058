//! Whether work is for the chain that is meant. The protocol does not name the chain, but its
//! difficulty gives most mistakes away before a miner has worked for the wrong one.

use bitcoin::{Network, params::Params};

use crate::mining::{Difficulty, Target};

/// Far below the main chain's difficulty since 2014, and far above that of any other chain.
const BETWEEN: Difficulty = Difficulty(1e10);
/// What every block of a regtest chain has.
const REGTEST_NBITS: u32 = 0x207f_ffff;

/// The work is for another chain than the one that is configured.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "its node is on another network: blocks of difficulty {difficulty:.4} (nBits {nbits:#010x}) are none of {network}: \
     check that the address and the network belong together"
)]
pub(in crate::template) struct WrongNetwork {
    network: Network,
    nbits: u32,
    difficulty: f64,
}

/// Whether blocks of `network` can have these nBits, which stand for `target`.
pub(in crate::template) fn check(network: Network, nbits: u32, target: Target) -> Result<(), WrongNetwork> {
    let difficulty = target.difficulty();
    let easiest = Params::new(network).max_attainable_target.to_le_bytes();
    let fits = target <= Target::from_le_bytes(easiest)
        && match network {
            Network::Bitcoin => difficulty >= BETWEEN,
            Network::Regtest => nbits == REGTEST_NBITS,
            _ => difficulty < BETWEEN,
        };
    if fits { Ok(()) } else { Err(WrongNetwork { network, nbits, difficulty: difficulty.0 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(network: Network, nbits: u32) -> bool {
        check(network, nbits, Target::from_compact(nbits).unwrap()).is_ok()
    }

    #[test]
    fn each_chain_has_its_own_difficulty() {
        use Network::{Bitcoin, Regtest, Signet, Testnet, Testnet4};
        const MAIN_2025: u32 = 0x1701_f0cc;
        const SIGNET: u32 = 0x1e03_77ae;
        const TESTNET4: u32 = 0x1903_a30c;
        for (nbits, chains) in [
            (MAIN_2025, &[Bitcoin][..]),
            (0x1d00_ffff, &[Signet, Testnet, Testnet4]),
            (SIGNET, &[Signet]),
            (TESTNET4, &[Signet, Testnet, Testnet4]),
            (REGTEST_NBITS, &[Regtest]),
            (0x207f_fffe, &[]),
        ] {
            for network in [Bitcoin, Regtest, Signet, Testnet, Testnet4] {
                assert_eq!(fits(network, nbits), chains.contains(&network), "{network} {nbits:#x}");
            }
        }
    }

    #[test]
    fn an_operator_reads_what_is_wrong() {
        let regtest = Target::from_compact(REGTEST_NBITS).unwrap();
        let wrong = check(Network::Bitcoin, REGTEST_NBITS, regtest).unwrap_err().to_string();
        assert!(wrong.contains("0x207fffff") && wrong.contains("none of bitcoin"), "{wrong}");
    }
}
