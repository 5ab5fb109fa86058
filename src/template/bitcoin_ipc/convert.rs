//! Messages in SRI's types, which the node's interface takes, and as bytes, which everything else
//! here takes.

use stratum_core::binary_sv2::to_bytes;
use stratum_core::parsers_sv2::{IsSv2Message, TemplateDistribution, TemplateDistributionOwned};

use super::error::IpcError;
use crate::wire::{Header, template};

/// The type and the payload.
pub(super) fn to_payload(message: TemplateDistributionOwned) -> Result<(u8, Vec<u8>), IpcError> {
    let msg_type = message.message_type();
    let payload = to_bytes(message).map_err(|error| IpcError::Conversion(msg_type, format!("{error:?}")))?;
    Ok((msg_type, payload))
}

/// The message in SRI's types.
pub(super) fn from_ours(
    message: template::TemplateDistribution<'_>,
) -> Result<TemplateDistributionOwned, IpcError> {
    let msg_type = message.msg_type();
    let mut frame = Vec::new();
    message.encode(&mut frame).map_err(|error| IpcError::Conversion(msg_type, error.to_string()))?;
    let payload = &mut frame[Header::LEN..];
    let theirs = TemplateDistribution::try_from((msg_type, payload))
        .map_err(|error| IpcError::Conversion(msg_type, format!("{error:?}")))?;
    Ok(theirs.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::TemplateId;
    use crate::wire::codec::B064K;
    use crate::wire::template::{CoinbaseOutputConstraints, RequestTransactionData, SubmitSolution};

    #[test]
    fn messages_are_the_same_there_and_back() {
        let constraints = CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: 51,
            coinbase_output_max_additional_sigops: 4,
        };
        let solution = SubmitSolution {
            template_id: TemplateId(u64::MAX),
            version: 1,
            header_timestamp: 2,
            header_nonce: 3,
            coinbase_tx: B064K::of(b"coinbase"),
        };
        use template::TemplateDistribution as Ours;
        for ours in [
            Ours::CoinbaseOutputConstraints(constraints),
            Ours::RequestTransactionData(RequestTransactionData { template_id: TemplateId(7) }),
            Ours::SubmitSolution(solution),
        ] {
            let (msg_type, payload) = to_payload(from_ours(ours).unwrap()).unwrap();
            assert_eq!(Ours::decode(msg_type, &payload), Ok(ours));
        }
    }
}
