//! Why a block is refused.

/// Why a block is refused, in the words of BIP22 and of the nodes that speak it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RejectReason {
    /// The template is none of those offered lately, or cannot be a block yet.
    #[error("unknown-work")]
    UnknownWork,
    /// The block is in the chain already.
    #[error("duplicate")]
    Duplicate,
    /// It builds on a block that is no longer the tip.
    #[error("stale-prevblk")]
    Stale,
    /// It builds on a block that this chain does not have.
    #[error("bad-prevblk")]
    UnknownParent,
    /// The block was good but could not be written to the chain's file; it was taken back.
    #[error("rejected")]
    NotStored,

    /// The header's compact target is not regtest's.
    #[error("bad-diffbits")]
    Bits,
    /// The header's hash exceeds its target.
    #[error("high-hash")]
    HighHash,
    /// The time is not past the median of the last 11 blocks.
    #[error("time-too-old")]
    TimeTooOld,
    /// The time is more than two hours ahead of the clock.
    #[error("time-too-new")]
    TimeTooNew,
    /// The version is older than the rules that are in force.
    #[error("bad-version")]
    Version,

    /// The header does not commit to the transactions.
    #[error("bad-txnmrklroot")]
    MerkleRoot,
    /// There are no transactions, or they are too long without their witnesses.
    #[error("bad-blk-length")]
    Length,
    /// The block weighs too much.
    #[error("bad-blk-weight")]
    Weight,
    /// The scripts count too many signature operations.
    #[error("bad-blk-sigops")]
    SignatureOperations,
    /// The first transaction is not a coinbase.
    #[error("bad-cb-missing")]
    CoinbaseMissing,
    /// A later transaction is a coinbase.
    #[error("bad-cb-multiple")]
    SecondCoinbase,
    /// The coinbase's scriptSig is shorter than 2 or longer than 100 bytes.
    #[error("bad-cb-length")]
    CoinbaseScriptLength,
    /// The coinbase's scriptSig does not start with the height.
    #[error("bad-cb-height")]
    CoinbaseHeight,
    /// The coinbase pays more than the subsidy and the fees.
    #[error("bad-cb-amount")]
    CoinbaseAmount,
    /// There is a witness commitment, but the coinbase's witness is not one item of 32 bytes.
    #[error("bad-witness-nonce-size")]
    WitnessReservedValue,
    /// The commitment does not commit to the witnesses.
    #[error("bad-witness-merkle-match")]
    WitnessCommitment,
    /// There are witnesses but no commitment.
    #[error("unexpected-witness")]
    UnexpectedWitness,

    /// A transaction has no input.
    #[error("bad-txns-vin-empty")]
    NoInputs,
    /// A transaction has no output.
    #[error("bad-txns-vout-empty")]
    NoOutputs,
    /// The outputs of a transaction exceed all the money there can be.
    #[error("bad-txns-txouttotal-toolarge")]
    OutputsTooLarge,
    /// A transaction spends the same output twice.
    #[error("bad-txns-inputs-duplicate")]
    DuplicateInputs,
    /// A transaction that is no coinbase has an input that spends nothing.
    #[error("bad-txns-prevout-null")]
    NullInput,
    /// A transaction's lock time is not over. Relative lock times (BIP68) are never over here.
    #[error("bad-txns-nonfinal")]
    NotFinal,
    /// A transaction spends what does not exist or is spent.
    #[error("bad-txns-inputs-missingorspent")]
    MissingInputs,
    /// A transaction spends a coinbase that is not 100 blocks deep.
    #[error("bad-txns-premature-spend-of-coinbase")]
    PrematureSpend,
    /// A transaction's outputs exceed its inputs.
    #[error("bad-txns-in-belowout")]
    Overspends,
    /// An input does not satisfy its output's script, or that script is not the one that this
    /// chain knows how to run.
    #[error("block-script-verify-flag-failed")]
    Script,
}
