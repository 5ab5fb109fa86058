//! The template distribution protocol's messages (§7).

use super::codec::{B016M, B064K, B0255, Seq64K, Seq255, Str255};
use super::frame::messages;
use super::{TemplateId, U256};

messages! {
    /// A message of the template distribution protocol.
    enum TemplateDistribution, extension 0;

    /// §7.1 CoinbaseOutputConstraints (client -> server)
    struct CoinbaseOutputConstraints = 0x70, channel false {
        /// Bytes to leave free for the client's coinbase outputs.
        coinbase_output_max_additional_size: u32,
        /// Signature operations to leave free for the client's coinbase outputs.
        coinbase_output_max_additional_sigops: u16,
    }

    /// §7.2 NewTemplate (server -> client)
    struct NewTemplate<'a> = 0x71, channel false {
        /// Higher than that of any earlier template.
        template_id: TemplateId,
        /// Whether it is for a block that a later SetNewPrevHash will name.
        future_template: bool,
        /// The block header's version.
        version: u32,
        /// The coinbase's nVersion.
        coinbase_tx_version: u32,
        /// Up to 8 bytes that start the coinbase's scriptSig.
        coinbase_prefix: B0255<'a>,
        /// The coinbase input's nSequence.
        coinbase_tx_input_sequence: u32,
        /// Satoshis for the client's outputs: subsidy and fees, less what the template spends.
        coinbase_tx_value_remaining: u64,
        /// How many outputs the next field holds.
        coinbase_tx_outputs_count: u32,
        /// Serialised outputs without a count, to go last: the witness commitment.
        coinbase_tx_outputs: B064K<'a>,
        /// The coinbase's nLockTime.
        coinbase_tx_locktime: u32,
        /// Sibling hashes, deepest first.
        merkle_path: Seq255<'a, U256>,
    }

    /// §7.3 SetNewPrevHash (server -> client)
    struct SetNewPrevHash = 0x72, channel false {
        /// The future template that becomes the one to mine.
        template_id: TemplateId,
        /// The block to build on.
        prev_hash: U256,
        /// The header time to start from, which need not be the smallest allowed.
        header_timestamp: u32,
        /// The header's compact network target.
        n_bits: u32,
        /// What a block's hash must not exceed; may be harder than `n_bits` says.
        target: U256,
    }

    /// §7.4 RequestTransactionData (client -> server)
    struct RequestTransactionData = 0x73, channel false {
        /// The template.
        template_id: TemplateId,
    }

    /// §7.5 RequestTransactionData.Success (server -> client)
    struct RequestTransactionDataSuccess<'a> = 0x74, channel false {
        /// That of the request.
        template_id: TemplateId,
        /// Whatever else a pool needs to check the work, not for the client to read.
        excess_data: B064K<'a>,
        /// The template's transactions in order, without the coinbase.
        transaction_list: Seq64K<'a, B016M<'a>>,
    }

    /// §7.6 RequestTransactionData.Error (server -> client)
    struct RequestTransactionDataError<'a> = 0x75, channel false {
        /// That of the request.
        template_id: TemplateId,
        /// Why there are no transactions.
        error_code: Str255<'a>,
    }

    /// §7.7 SubmitSolution (client -> server)
    struct SubmitSolution<'a> = 0x76, channel false {
        /// The template that was mined.
        template_id: TemplateId,
        /// The header's whole version.
        version: u32,
        /// The header's time.
        header_timestamp: u32,
        /// The header's nonce.
        header_nonce: u32,
        /// The whole coinbase, with its BIP141 fields.
        coinbase_tx: B064K<'a>,
    }
}
