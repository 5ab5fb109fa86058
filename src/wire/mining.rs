//! The mining protocol's messages (§5.3).

use super::codec::{B032, B064K, B0255, Seq64K, Seq255, Str255};
use super::frame::messages;
use super::{ChannelId, JobId, RequestId, SequenceNumber, Tlvs, U256};

messages! {
    /// A message of the mining protocol.
    enum Mining, extension 0;

    /// §5.3.2 OpenStandardMiningChannel (client -> server)
    struct OpenStandardMiningChannel<'a> = 0x10, channel false {
        /// Unique among the connection's requests.
        request_id: RequestId,
        /// Who is to be credited, e.g. `ADDRESS.worker`.
        user_identity: Str255<'a>,
        /// Expected hashrate, in hashes per second.
        nominal_hash_rate: f32,
        /// The easiest target that the device can take.
        max_target: U256,
    }

    /// §5.3.3 OpenStandardMiningChannel.Success (server -> client)
    struct OpenStandardMiningChannelSuccess<'a> = 0x11, channel false {
        /// That of the request.
        request_id: RequestId,
        /// The new channel.
        channel_id: ChannelId,
        /// What a share's hash must not exceed.
        target: U256,
        /// The whole extranonce of a standard channel.
        extranonce_prefix: B032<'a>,
        /// The group that the channel belongs to.
        group_channel_id: ChannelId,
    }

    /// §5.3.6 OpenMiningChannel.Error (server -> client)
    struct OpenMiningChannelError<'a> = 0x12, channel false {
        /// That of the request.
        request_id: RequestId,
        /// Why the channel was refused.
        error_code: Str255<'a>,
    }

    /// §5.3.4 OpenExtendedMiningChannel (client -> server)
    struct OpenExtendedMiningChannel<'a> = 0x13, channel false {
        /// Unique among the connection's requests.
        request_id: RequestId,
        /// Who is to be credited, e.g. `ADDRESS.worker`.
        user_identity: Str255<'a>,
        /// Expected hashrate, in hashes per second.
        nominal_hash_rate: f32,
        /// The easiest target that the device can take.
        max_target: U256,
        /// The fewest extranonce bytes that the client can do with.
        min_extranonce_size: u16,
    }

    /// §5.3.5 OpenExtendedMiningChannel.Success (server -> client)
    struct OpenExtendedMiningChannelSuccess<'a> = 0x14, channel false {
        /// That of the request.
        request_id: RequestId,
        /// The new channel.
        channel_id: ChannelId,
        /// What a share's hash must not exceed.
        target: U256,
        /// How many bytes follow the prefix, the client's to roll.
        extranonce_size: u16,
        /// The first bytes of the extranonce.
        extranonce_prefix: B032<'a>,
        /// The group that the channel belongs to.
        group_channel_id: ChannelId,
    }

    /// §5.3.15 NewMiningJob (server -> client)
    struct NewMiningJob = 0x15, channel true {
        /// A standard channel.
        channel_id: ChannelId,
        /// Never reused on the connection.
        job_id: JobId,
        /// None announces a future job, which a SetNewPrevHash activates.
        min_ntime: Option<u32>,
        /// The block header's version; BIP323 bits may be rolled.
        version: u32,
        /// The block header's merkle root.
        merkle_root: U256,
    }

    /// §5.3.7 UpdateChannel (client -> server)
    struct UpdateChannel = 0x16, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// Expected hashrate, in hashes per second.
        nominal_hash_rate: f32,
        /// The easiest target that the device can take.
        maximum_target: U256,
    }

    /// §5.3.8 UpdateChannel.Error (server -> client)
    struct UpdateChannelError<'a> = 0x17, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// Why the update was refused.
        error_code: Str255<'a>,
    }

    /// §5.3.9 CloseChannel (either way)
    struct CloseChannel<'a> = 0x18, channel true {
        /// A channel, or a group and with it all its channels.
        channel_id: ChannelId,
        /// Why.
        reason_code: Str255<'a>,
    }

    /// §5.3.10 SetExtranoncePrefix (server -> client)
    struct SetExtranoncePrefix<'a> = 0x19, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// In force for jobs sent from now on.
        extranonce_prefix: B032<'a>,
    }

    /// §5.3.11 SubmitSharesStandard (client -> server)
    struct SubmitSharesStandard = 0x1a, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// The client's own numbering.
        sequence_number: SequenceNumber,
        /// The job worked on.
        job_id: JobId,
        /// The header's nonce.
        nonce: u32,
        /// The header's time.
        ntime: u32,
        /// The header's whole version.
        version: u32,
    }

    /// §5.3.12 SubmitSharesExtended (client -> server)
    struct SubmitSharesExtended<'a> = 0x1b, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// The client's own numbering.
        sequence_number: SequenceNumber,
        /// The job worked on.
        job_id: JobId,
        /// The header's nonce.
        nonce: u32,
        /// The header's time.
        ntime: u32,
        /// The header's whole version.
        version: u32,
        /// The rolled bytes, exactly as many as the channel has.
        extranonce: B032<'a>,
        /// Fields that extensions add.
        tlvs: Tlvs<'a>,
    }

    /// §5.3.13 SubmitShares.Success (server -> client)
    struct SubmitSharesSuccess = 0x1c, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// The newest of the shares acknowledged.
        last_sequence_number: SequenceNumber,
        /// How many shares this acknowledges.
        new_submits_accepted_count: u32,
        /// Their difficulty in all.
        new_shares_sum: u64,
    }

    /// §5.3.14 SubmitShares.Error (server -> client)
    struct SubmitSharesError<'a> = 0x1d, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// The share refused.
        sequence_number: SequenceNumber,
        /// Why.
        error_code: Str255<'a>,
    }

    /// §5.3.16 NewExtendedMiningJob (server -> client)
    struct NewExtendedMiningJob<'a> = 0x1f, channel true {
        /// An extended channel or a group.
        channel_id: ChannelId,
        /// Never reused on the connection.
        job_id: JobId,
        /// None announces a future job, which a SetNewPrevHash activates.
        min_ntime: Option<u32>,
        /// The block header's version.
        version: u32,
        /// Whether BIP323 bits may be rolled.
        version_rolling_allowed: bool,
        /// Sibling hashes, deepest first.
        merkle_path: Seq255<'a, U256>,
        /// The coinbase before the extranonce, without BIP141 fields.
        coinbase_tx_prefix: B064K<'a>,
        /// The coinbase after the extranonce, without BIP141 fields.
        coinbase_tx_suffix: B064K<'a>,
    }

    /// §5.3.17 SetNewPrevHash (server -> client)
    struct SetNewPrevHash = 0x20, channel true {
        /// A channel or a group.
        channel_id: ChannelId,
        /// The future job that becomes the one to mine.
        job_id: JobId,
        /// The block to build on.
        prev_hash: U256,
        /// The smallest header time allowed.
        min_ntime: u32,
        /// The header's compact network target.
        nbits: u32,
    }

    /// §5.3.21 SetTarget (server -> client)
    struct SetTarget = 0x21, channel true {
        /// A channel or a group.
        channel_id: ChannelId,
        /// What the hash of a share for a later job must not exceed.
        maximum_target: U256,
    }

    /// §5.3.18 SetCustomMiningJob (client -> server)
    struct SetCustomMiningJob<'a> = 0x22, channel true {
        /// An extended channel or a group.
        channel_id: ChannelId,
        /// Pairs the answer.
        request_id: RequestId,
        /// From the job declarator server.
        mining_job_token: B0255<'a>,
        /// The block header's version.
        version: u32,
        /// The block to build on.
        prev_hash: U256,
        /// The smallest header time allowed.
        min_ntime: u32,
        /// The header's compact network target.
        nbits: u32,
        /// The coinbase's nVersion.
        coinbase_tx_version: u32,
        /// Up to 8 bytes that start the coinbase's scriptSig.
        coinbase_prefix: B0255<'a>,
        /// The coinbase input's nSequence.
        coinbase_tx_input_n_sequence: u32,
        /// CompactSize count, then serialised outputs.
        coinbase_tx_outputs: B064K<'a>,
        /// The coinbase's nLockTime.
        coinbase_tx_locktime: u32,
        /// Sibling hashes, deepest first.
        merkle_path: Seq255<'a, U256>,
    }

    /// §5.3.19 SetCustomMiningJob.Success (server -> client)
    struct SetCustomMiningJobSuccess = 0x23, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// That of the request.
        request_id: RequestId,
        /// The job's id from now on.
        job_id: JobId,
    }

    /// §5.3.20 SetCustomMiningJob.Error (server -> client)
    struct SetCustomMiningJobError<'a> = 0x24, channel true {
        /// The channel.
        channel_id: ChannelId,
        /// That of the request.
        request_id: RequestId,
        /// Why the job was refused.
        error_code: Str255<'a>,
    }

    /// §5.3.22 SetGroupChannel (server -> client)
    struct SetGroupChannel<'a> = 0x25, channel false {
        /// The group.
        group_channel_id: ChannelId,
        /// Who is in it from now on.
        channel_ids: Seq64K<'a, ChannelId>,
    }
}
