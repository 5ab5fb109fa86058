//! The job declaration protocol's messages (§6.4).

use super::codec::{B016M, B032, B064K, B0255, Seq64K, Str255};
use super::frame::messages;
use super::{RequestId, U256};

messages! {
    /// A message of the job declaration protocol.
    enum JobDeclaration, extension 0;

    /// §6.4.2 AllocateMiningJobToken (client -> server)
    struct AllocateMiningJobToken<'a> = 0x50, channel false {
        /// Who asks, in whatever form the pool knows it.
        user_identifier: Str255<'a>,
        /// Pairs the answer.
        request_id: RequestId,
    }

    /// §6.4.3 AllocateMiningJobToken.Success (server -> client)
    struct AllocateMiningJobTokenSuccess<'a> = 0x51, channel false {
        /// That of the request.
        request_id: RequestId,
        /// Entitles to declare a job.
        mining_job_token: B0255<'a>,
        /// CompactSize count, then serialised outputs: first the pool's payout, all of them 0.
        coinbase_tx_outputs: B064K<'a>,
    }

    /// §6.4.7 ProvideMissingTransactions (server -> client)
    struct ProvideMissingTransactions<'a> = 0x55, channel false {
        /// That of the declaration.
        request_id: RequestId,
        /// Indices into the declaration's list of transactions, from 0.
        unknown_tx_position_list: Seq64K<'a, u16>,
    }

    /// §6.4.8 ProvideMissingTransactions.Success (client -> server)
    struct ProvideMissingTransactionsSuccess<'a> = 0x56, channel false {
        /// That of the declaration.
        request_id: RequestId,
        /// Whole transactions, in the order in which they were asked for.
        transaction_list: Seq64K<'a, B016M<'a>>,
    }

    /// §6.4.4 DeclareMiningJob (client -> server)
    struct DeclareMiningJob<'a> = 0x57, channel false {
        /// Pairs the answer.
        request_id: RequestId,
        /// From AllocateMiningJobToken.Success.
        mining_job_token: B0255<'a>,
        /// The block header's version.
        version: u32,
        /// The coinbase before the extranonce, with its BIP141 fields.
        coinbase_tx_prefix: B064K<'a>,
        /// The coinbase after the extranonce, with its BIP141 fields.
        coinbase_tx_suffix: B064K<'a>,
        /// The block's transactions in order, without the coinbase.
        wtxid_list: Seq64K<'a, U256>,
        /// Whatever else the pool needs to check the work.
        excess_data: B064K<'a>,
    }

    /// §6.4.5 DeclareMiningJob.Success (server -> client)
    struct DeclareMiningJobSuccess<'a> = 0x58, channel false {
        /// That of the declaration.
        request_id: RequestId,
        /// Entitles to SetCustomMiningJob.
        new_mining_job_token: B0255<'a>,
    }

    /// §6.4.6 DeclareMiningJob.Error (server -> client)
    struct DeclareMiningJobError<'a> = 0x59, channel false {
        /// That of the declaration.
        request_id: RequestId,
        /// Why the job was refused.
        error_code: Str255<'a>,
        /// More about it, in no set form.
        error_details: B064K<'a>,
    }

    /// §6.4.9 PushSolution (client -> server)
    struct PushSolution<'a> = 0x60, channel false {
        /// The coinbase's extranonce, all of it.
        extranonce: B032<'a>,
        /// The block that is built on.
        prev_hash: U256,
        /// The header's nonce.
        nonce: u32,
        /// The header's time.
        ntime: u32,
        /// The header's compact network target.
        nbits: u32,
        /// The header's whole version.
        version: u32,
    }
}
