//! What a header may announce, so that a frame's length is judged before its payload is awaited.

use super::Header;
use super::common::Common;
use super::declare::JobDeclaration;
use super::extensions::{EXTENSIONS_NEGOTIATION, Negotiation};
use super::mining::Mining;
use super::template::TemplateDistribution;

/// Messages of unknown extensions have to be skipped (§3.4.1), whatever their length. They are
/// not to be sent unless negotiated, so nothing of size is expected, and this much costs nobody.
const UNKNOWN_EXTENSION: usize = 4 * 1024;

/// Extensions are listed in at most 2^16 numbers, which takes 128 KiB. Two extensions exist: this
/// is enough for some 500.
const NEGOTIATION: usize = 1024;

/// The longest payload to accept from a peer behind this header, whichever sub-protocol it speaks.
/// `None` is a message that no known extension has.
#[must_use]
pub fn max_payload(header: &Header) -> Option<usize> {
    max_payload_to_mining_server(header).or_else(|| match header.extension {
        0 => JobDeclaration::max_payload(header.msg_type)
            .or_else(|| TemplateDistribution::max_payload(header.msg_type)),
        _ => None,
    })
}

/// [`max_payload`] without the job declaration and template distribution protocols, whose
/// transaction lists make 16 MiB legal: no client of a mining server needs a buffer like that.
#[must_use]
pub fn max_payload_to_mining_server(header: &Header) -> Option<usize> {
    match header.extension {
        0 => Common::max_payload(header.msg_type).or_else(|| Mining::max_payload(header.msg_type)),
        EXTENSIONS_NEGOTIATION => Negotiation::max_payload(header.msg_type).map(|len| len.min(NEGOTIATION)),
        _ => Some(UNKNOWN_EXTENSION),
    }
}

/// [`max_payload`] of what a template provider may send (§3.6, §7).
#[must_use]
pub fn max_payload_from_template_provider(header: &Header) -> Option<usize> {
    match header.extension {
        0 => Common::max_payload(header.msg_type)
            .or_else(|| TemplateDistribution::max_payload(header.msg_type)),
        _ => Some(UNKNOWN_EXTENSION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(extension: u16, msg_type: u8) -> (Option<usize>, Option<usize>) {
        let header = Header { extension, msg_type, payload_len: 0 };
        (max_payload(&header), max_payload_to_mining_server(&header))
    }

    #[test]
    fn a_message_is_limited_by_its_fields() {
        let same = |len| (Some(len), Some(len));
        assert_eq!(limits(0, 0x00), same(1 + 2 + 2 + 4 + 2 + 5 * 256)); // SetupConnection
        assert_eq!(limits(0, 0x10), same(4 + 256 + 4 + 32)); // OpenStandardMiningChannel
        assert_eq!(limits(0, 0x1a), same(24)); // SubmitSharesStandard
        assert_eq!(limits(0, 0x1b), same(24 + 33 + 64)); // SubmitSharesExtended
        assert_eq!(
            limits(0, 0x22), // SetCustomMiningJob
            same(4 + 4 + 256 + 4 + 32 + 4 + 4 + 4 + 256 + 4 + 65537 + 4 + 1 + 255 * 32)
        );
    }

    #[test]
    fn policy_is_tighter_than_the_types() {
        for msg_type in 0..3 {
            assert_eq!(limits(1, msg_type), (Some(1024), Some(1024)));
        }
        assert_eq!(limits(0, 0x56), (Some(Header::MAX_PAYLOAD), None));
        assert_eq!(limits(0, 0x73), (Some(8), None));
    }

    #[test]
    fn a_template_provider_is_not_to_send_what_belongs_to_mining() {
        let limit = |extension, msg_type| {
            max_payload_from_template_provider(&Header { extension, msg_type, payload_len: 0 })
        };
        assert_eq!((limit(0, 0x01), limit(0, 0x72)), (Some(6), Some(8 + 32 + 4 + 4 + 32)));
        assert_eq!((limit(0, 0x15), limit(0, 0x50), limit(0, 0x77)), (None, None, None));
        assert_eq!(limit(0, 0x74), Some(Header::MAX_PAYLOAD));
        assert_eq!((limit(1, 0), limit(2, 0x15)), (Some(4096), Some(4096)));
    }

    #[test]
    fn unknown_messages_are_refused_and_unknown_extensions_bounded() {
        for msg_type in [0x05, 0x1e, 0x26, 0x52, 0x61, 0x77, 0xff] {
            assert_eq!(limits(0, msg_type), (None, None));
        }
        assert_eq!(limits(1, 3), (None, None));
        for extension in [2, 0x4000, 0x7fff] {
            assert_eq!(limits(extension, 0), (Some(4096), Some(4096)));
        }
    }
}
