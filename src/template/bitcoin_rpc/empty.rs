//! The block without transactions: the first to mine on a new tip, prepared before that is known.

use std::sync::Arc;

use bitcoin::{Amount, Network};

use crate::mining::{Coinbase, witness};
use crate::template::{Body, Draft};

/// How many blocks have the same target.
const RETARGET: u32 = 2016;

/// What a block at `height` creates, in satoshis.
pub(super) fn subsidy(network: Network, height: u32) -> u64 {
    let halving = if network == Network::Regtest { 150 } else { 210_000 };
    (50 * Amount::ONE_BTC.to_sat()).checked_shr(height / halving).unwrap_or(0)
}

/// Whether the target of a block at `height` is that of the block before. On test networks it may
/// jump to the easiest and back at any block.
pub(super) fn target_stays(network: Network, height: u32) -> bool {
    matches!(network, Network::Bitcoin | Network::Signet | Network::Regtest)
        && !height.is_multiple_of(RETARGET)
}

/// A block without transactions. `segwit` is whether it has to commit to them all the same.
pub(super) fn draft(network: Network, height: u32, version: u32, segwit: bool) -> Draft {
    let commitment = segwit.then(|| witness::commitment(&[]));
    Draft {
        version,
        version_rolling: true,
        coinbase: Coinbase::at(height, subsidy(network, height), commitment),
        merkle_path: Vec::new(),
        body: Arc::new(Body::known(Vec::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsidies() {
        for (network, height, satoshis) in [
            (Network::Bitcoin, 1, 5_000_000_000),
            (Network::Bitcoin, 209_999, 5_000_000_000),
            (Network::Bitcoin, 210_000, 2_500_000_000),
            (Network::Bitcoin, 840_000, 312_500_000),
            (Network::Bitcoin, 6_929_999, 1),
            (Network::Bitcoin, 6_930_000, 0),
            (Network::Bitcoin, u32::MAX, 0),
            (Network::Signet, 210_000, 2_500_000_000),
            (Network::Regtest, 149, 5_000_000_000),
            (Network::Regtest, 150, 2_500_000_000),
        ] {
            assert_eq!(subsidy(network, height), satoshis, "{network} {height}");
        }
    }

    #[test]
    fn where_the_target_is_known_beforehand() {
        for (network, height, known) in [
            (Network::Bitcoin, 2015, true),
            (Network::Bitcoin, 2016, false),
            (Network::Bitcoin, 2017, true),
            (Network::Signet, 4031, true),
            (Network::Signet, 4032, false),
            (Network::Regtest, 1, true),
            (Network::Testnet, 1, false),
            (Network::Testnet4, 1, false),
        ] {
            assert_eq!(target_stays(network, height), known, "{network} {height}");
        }
    }
}
