//! The messages of extension 0x0001, extensions negotiation.

use super::codec::Seq64K;
use super::frame::messages;

/// Extensions negotiation, the extension of this module.
pub const EXTENSIONS_NEGOTIATION: u16 = 0x0001;
/// Worker-specific hashrate tracking: shares name their worker, see [`Tlvs`](super::Tlvs).
pub const WORKER_HASHRATE_TRACKING: u16 = 0x0002;

messages! {
    /// A message of extensions negotiation.
    enum Negotiation, extension 0x0001;

    /// Extension 0x0001 §2 RequestExtensions (client -> server)
    struct RequestExtensions<'a> = 0x00, channel false {
        /// Pairs the answer.
        request_id: u16,
        /// What the client would like to use.
        requested_extensions: Seq64K<'a, u16>,
    }

    /// Extension 0x0001 §2 RequestExtensions.Success (server -> client)
    struct RequestExtensionsSuccess<'a> = 0x01, channel false {
        /// That of the request.
        request_id: u16,
        /// Those of the requested that may be used from now on.
        supported_extensions: Seq64K<'a, u16>,
    }

    /// Extension 0x0001 §2 RequestExtensions.Error (server -> client)
    struct RequestExtensionsError<'a> = 0x02, channel false {
        /// That of the request.
        request_id: u16,
        /// Those of the requested that the server does not know.
        unsupported_extensions: Seq64K<'a, u16>,
        /// Those that the client has to request to stay.
        required_extensions: Seq64K<'a, u16>,
    }
}
