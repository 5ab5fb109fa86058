//! The messages that every sub-protocol shares (§3.6).

use super::ChannelId;
use super::codec::Str255;
use super::frame::messages;

/// [`SetupConnection::protocol`]: the sub-protocol that a connection is for (§3.6.1).
pub mod protocol {
    /// Mining (§5).
    pub const MINING: u8 = 0;
    /// Job declaration (§6).
    pub const JOB_DECLARATION: u8 = 1;
    /// Template distribution (§7).
    pub const TEMPLATE_DISTRIBUTION: u8 = 2;
}

/// Feature flags of a mining connection (§5.3.1), and of job declaration (§6.4.1).
pub mod flags {
    /// In [`SetupConnection`](super::SetupConnection): the client cannot take extended jobs.
    pub const REQUIRES_STANDARD_JOBS: u32 = 1 << 0;
    /// In [`SetupConnection`](super::SetupConnection): the client will send SetCustomMiningJob.
    pub const REQUIRES_WORK_SELECTION: u32 = 1 << 1;
    /// In [`SetupConnection`](super::SetupConnection): jobs must leave the BIP323 bits to roll.
    pub const REQUIRES_VERSION_ROLLING: u32 = 1 << 2;

    /// In [`SetupConnectionSuccess`](super::SetupConnectionSuccess): the server takes no share
    /// whose version differs from the job's.
    pub const REQUIRES_FIXED_VERSION: u32 = 1 << 0;
    /// In [`SetupConnectionSuccess`](super::SetupConnectionSuccess): the server opens no standard
    /// channel.
    pub const REQUIRES_EXTENDED_CHANNELS: u32 = 1 << 1;

    /// In [`SetupConnection`](super::SetupConnection) for job declaration: the client will show
    /// its transactions.
    pub const DECLARE_TX_DATA: u32 = 1 << 0;
}

messages! {
    /// A message of any connection.
    enum Common, extension 0;

    /// §3.6.1 SetupConnection (client -> server)
    struct SetupConnection<'a> = 0x00, channel false {
        /// One of [`protocol`].
        protocol: u8,
        /// The oldest protocol version that the client speaks; there is only 2.
        min_version: u16,
        /// The newest protocol version that the client speaks; there is only 2.
        max_version: u16,
        /// Some of [`flags`].
        flags: u32,
        /// The host that the client connected to, as it knows it.
        endpoint_host: Str255<'a>,
        /// The port that the client connected to.
        endpoint_port: u16,
        /// Who made the device or the software.
        vendor: Str255<'a>,
        /// The device's model, or the software's name.
        hardware_version: Str255<'a>,
        /// The firmware's name and version.
        firmware: Str255<'a>,
        /// The vendor's name for this one device; empty from a client that keeps it private.
        device_id: Str255<'a>,
    }

    /// §3.6.2 SetupConnection.Success (server -> client)
    struct SetupConnectionSuccess = 0x01, channel false {
        /// The version to speak from now on.
        used_version: u16,
        /// Some of [`flags`].
        flags: u32,
    }

    /// §3.6.3 SetupConnection.Error (server -> client)
    struct SetupConnectionError<'a> = 0x02, channel false {
        /// All the flags that the server does not support; 0 if they are not the reason.
        flags: u32,
        /// Why the connection was refused.
        error_code: Str255<'a>,
    }

    /// §3.6.4 ChannelEndpointChanged (server -> client)
    struct ChannelEndpointChanged = 0x03, channel true {
        /// The channel whose extensions have to be negotiated again.
        channel_id: ChannelId,
    }

    /// §3.6.5 Reconnect (server -> client)
    struct Reconnect<'a> = 0x04, channel false {
        /// Where to connect; empty for the present host.
        new_host: Str255<'a>,
        /// Where to connect; 0 for the present port.
        new_port: u16,
    }
}
