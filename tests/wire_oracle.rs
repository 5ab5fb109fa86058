//! Every message of the table, against the bytes that SRI's crates make and take.
//!
//! SRI decodes our frame, its fields are compared one by one with ours, and what it encodes has to
//! be our frame again. The table at the end says types, channel bits and the order of the fields
//! once more, so that a slip in `src/wire` meets two witnesses. Channel bits are the same for every
//! message.

use std::fmt::Debug;
use std::sync::LazyLock;

use blvm_stratum_v2::wire::codec::{B016M, B032, B064K, B0255, Bytes, Seq, Seq64K, Seq255, Str255};
use blvm_stratum_v2::wire::{
    ChannelId, Header, JobId, Message, RequestId, SequenceNumber, TemplateId, Tlvs, U256, Wire, WireError,
};
use proptest::prelude::*;
use stratum_core::binary_sv2 as sri;
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::framing_sv2::framing::{EncodableFrame, MessageFrame};
use stratum_core::framing_sv2::header::Header as SriHeader;
use stratum_core::parsers_sv2::{self, AnyMessage, Extensions, Tlv, TlvList, parse_message_frame_with_tlvs};

/// A field of ours, and how to make one.
trait Field: Wire<'static> + Debug + 'static {
    /// Whether the field may be missing, as TLVs may.
    const OPTIONAL: bool = false;

    fn any() -> BoxedStrategy<Self>;

    /// As long as the field can be; of transactions, as many as there can be.
    fn largest() -> Self;

    /// Bytes that a field cannot have because of their length, if there are any.
    fn too_long() -> Option<Vec<u8>> {
        None
    }
}

/// Ours against SRI's.
trait Same<Sri> {
    fn same(&self, sri: &Sri) -> bool;
}

// What fields borrow from: static, so that a strategy only picks a range.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u32;
    let random = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    random.take(0x1_0000).collect()
});
static NUMBERS: LazyLock<Vec<u16>> = LazyLock::new(|| (0..0xffff).rev().collect());
static CHANNELS: LazyLock<Vec<ChannelId>> =
    LazyLock::new(|| (0..0xffff).map(|n: u32| ChannelId(n.wrapping_mul(0x9e37_79b9))).collect());
static HASHES: LazyLock<Vec<U256>> =
    LazyLock::new(|| (0..0xffff).map(|n| U256(std::array::from_fn(|i| BYTES[(n + i) % 0xffff]))).collect());
static TRANSACTIONS: LazyLock<Vec<B016M<'static>>> =
    LazyLock::new(|| (0..0xffff).map(|n| B016M::new(&BYTES[n & 0x7fff..][..n % 40]).unwrap()).collect());

/// At most `max` elements, most often a few.
fn some<T: Debug>(from: &'static [T], max: usize) -> impl Strategy<Value = &'static [T]> {
    let max = max.min(260);
    let len = prop_oneof![4 => 0..=max.min(4), 1 => 0..=max, 1 => Just(max)];
    (len, 0..0x8000_usize).prop_map(|(len, start)| &from[start..start + len])
}

macro_rules! numbers {
    ($($field:ty as $number:ty: $make:expr, $take:expr;)*) => {$(
        impl Field for $field {
            fn any() -> BoxedStrategy<Self> {
                any::<$number>().prop_map($make).boxed()
            }

            fn largest() -> Self {
                $make(<$number>::MAX)
            }
        }

        impl Same<$number> for $field {
            fn same(&self, sri: &$number) -> bool {
                $take(*self) == *sri
            }
        }
    )*};
}

numbers! {
    u16 as u16: |n| n, |n| n;
    u32 as u32: |n| n, |n| n;
    u64 as u64: |n| n, |n| n;
    ChannelId as u32: ChannelId, |ChannelId(n)| n;
    JobId as u32: JobId, |JobId(n)| n;
    RequestId as u32: RequestId, |RequestId(n)| n;
    SequenceNumber as u32: SequenceNumber, |SequenceNumber(n)| n;
    TemplateId as u64: TemplateId, |TemplateId(n)| n;
}

/// There is one U8: SetupConnection's protocol, of which SRI takes those that there are.
impl Field for u8 {
    fn any() -> BoxedStrategy<Self> {
        (0..3_u8).boxed()
    }

    fn largest() -> Self {
        2
    }
}

impl Same<Protocol> for u8 {
    fn same(&self, sri: &Protocol) -> bool {
        *self == *sri as u8
    }
}

impl Field for bool {
    fn any() -> BoxedStrategy<Self> {
        any::<bool>().boxed()
    }

    fn largest() -> Self {
        true
    }
}

impl Same<bool> for bool {
    fn same(&self, sri: &bool) -> bool {
        self == sri
    }
}

impl Field for f32 {
    fn any() -> BoxedStrategy<Self> {
        prop_oneof![any::<u32>().prop_map(f32::from_bits), Just(f32::NAN), Just(f32::INFINITY)].boxed()
    }

    fn largest() -> Self {
        f32::MAX
    }
}

impl Same<f32> for f32 {
    fn same(&self, sri: &f32) -> bool {
        self.to_bits() == sri.to_bits()
    }
}

impl Field for U256 {
    fn any() -> BoxedStrategy<Self> {
        any::<[u8; 32]>().prop_map(U256).boxed()
    }

    fn largest() -> Self {
        U256([0xff; 32])
    }
}

impl Same<sri::U256<'_>> for U256 {
    fn same(&self, sri: &sri::U256<'_>) -> bool {
        self.0 == sri.as_bytes()
    }
}

impl<const MAX: usize> Field for Bytes<'static, MAX> {
    fn any() -> BoxedStrategy<Self> {
        some(&BYTES, MAX).prop_map(|bytes| Self::new(bytes).unwrap()).boxed()
    }

    fn largest() -> Self {
        Self::new(&BYTES[..MAX]).unwrap()
    }

    fn too_long() -> Option<Vec<u8>> {
        (MAX < 0xff).then(|| [&[MAX as u8 + 1], &BYTES[..=MAX]].concat())
    }
}

impl Field for Str255<'static> {
    fn any() -> BoxedStrategy<Self> {
        some(&BYTES, 0xff).prop_map(|bytes| Self::from_bytes(bytes).unwrap()).boxed()
    }

    fn largest() -> Self {
        Self::from_bytes(&BYTES[..0xff]).unwrap()
    }
}

macro_rules! same_bytes {
    ($($ours:ident = $sri:ident),*) => {$(
        impl Same<sri::$sri<'_>> for $ours<'_> {
            fn same(&self, sri: &sri::$sri<'_>) -> bool {
                self.as_bytes() == sri.as_bytes()
            }
        }
    )*};
}

same_bytes!(B032 = B032, B0255 = B0255, B064K = B064K, B016M = B016M);

/// SRI's strings are its B0_255.
impl Same<sri::B0255<'_>> for Str255<'_> {
    fn same(&self, sri: &sri::B0255<'_>) -> bool {
        self.as_bytes() == sri.as_bytes()
    }
}

impl<T: Field> Field for Option<T> {
    fn any() -> BoxedStrategy<Self> {
        prop::option::of(T::any()).boxed()
    }

    fn largest() -> Self {
        Some(T::largest())
    }

    fn too_long() -> Option<Vec<u8>> {
        let element = encoded(&T::largest());
        Some([&[2][..], &element, &element].concat())
    }
}

impl<T: Same<S>, S> Same<sri::Sv2Option<'_, S>> for Option<T> {
    fn same(&self, sri: &sri::Sv2Option<'_, S>) -> bool {
        match (self, sri.as_ref()) {
            (Some(ours), Some(sri)) => ours.same(sri),
            (ours, sri) => ours.is_none() && sri.is_none(),
        }
    }
}

/// What a sequence can be of.
trait Element: Wire<'static> + Copy + Debug + PartialEq {
    fn pool() -> &'static [Self];
}

impl Element for u16 {
    fn pool() -> &'static [Self] {
        &NUMBERS
    }
}

impl Element for ChannelId {
    fn pool() -> &'static [Self] {
        &CHANNELS
    }
}

impl Element for U256 {
    fn pool() -> &'static [Self] {
        &HASHES
    }
}

impl Element for B016M<'static> {
    fn pool() -> &'static [Self] {
        &TRANSACTIONS
    }
}

impl<T: Element, const MAX: usize> Field for Seq<'static, T, MAX> {
    fn any() -> BoxedStrategy<Self> {
        some(T::pool(), MAX).prop_map(|elements| Self::new(elements).unwrap()).boxed()
    }

    fn largest() -> Self {
        Self::new(&T::pool()[..MAX]).unwrap()
    }
}

macro_rules! same_elements {
    ($($ours:ident = $sri:ident),*) => {$(
        impl<'a, T: Wire<'a> + Clone + Same<S>, S> Same<sri::$sri<'_, S>> for $ours<'a, T> {
            fn same(&self, sri: &sri::$sri<'_, S>) -> bool {
                self.len() == sri.len() && self.iter().zip(sri.iter()).all(|(ours, sri)| ours.same(sri))
            }
        }
    )*};
}

same_elements!(Seq255 = Seq0255, Seq64K = Seq064K);

impl Field for Tlvs<'static> {
    const OPTIONAL: bool = true;

    fn any() -> BoxedStrategy<Self> {
        prop::option::of("[a-z0-9äß_]{0,16}")
            .prop_map(|name| name.map_or_else(Self::default, with_name))
            .boxed()
    }

    fn largest() -> Self {
        with_name("w".repeat(Tlvs::MAX_USER_IDENTITY))
    }

    fn too_long() -> Option<Vec<u8>> {
        Some([&[2, 0, 1, 33, 0][..], &BYTES[..33]].concat())
    }
}

fn with_name(name: String) -> Tlvs<'static> {
    Tlvs::with_user_identity(&name, Box::leak(Box::new([0; Tlvs::MAX_USER_IDENTITY_FIELD]))).unwrap()
}

fn encoded<'a>(value: &impl Wire<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

/// A field within its message: its bytes, and bytes that are too long for it.
struct Part {
    bytes: Vec<u8>,
    too_long: Option<Vec<u8>>,
    optional: bool,
}

fn part<T: Field>(field: &T) -> Part {
    Part { bytes: encoded(field), too_long: T::too_long(), optional: T::OPTIONAL }
}

/// All that holds for a message whichever it is. `recode` decodes a payload and encodes it again.
fn check<M: Message<'static>>(
    message: &M,
    channel: bool,
    parts: &[Part],
    recode: impl Fn(&[u8]) -> Result<Vec<u8>, WireError>,
    same_as_sri: impl Fn(AnyMessage<'_>) -> bool,
) {
    let mut frame = Vec::new();
    message.encode(&mut frame).unwrap();
    let (head, payload) = frame.split_first_chunk().unwrap();

    let header = Header::read(head);
    assert_eq!(header, Header { extension: M::EXTENSION, msg_type: M::TYPE, payload_len: payload.len() });
    assert_eq!(head[..2], (M::EXTENSION | if channel { 0x8000 } else { 0 }).to_le_bytes());
    assert!(payload.len() <= M::MAX_LEN);

    let parts_bytes: Vec<_> = parts.iter().map(|part| &part.bytes[..]).collect();
    assert_eq!(payload, parts_bytes.concat(), "the fields are not in the table's order");
    assert_eq!(recode(payload).as_deref(), Ok(payload));

    let mut copy = payload.to_vec();
    let (sri, tlvs) = sri_decode(head, &mut copy);
    assert_eq!(sri_encode(sri.clone(), tlvs), frame);
    assert!(same_as_sri(sri));

    for (i, part) in parts.iter().enumerate() {
        if let Some(too_long) = &part.too_long {
            let mut parts_bytes = parts_bytes.clone();
            parts_bytes[i] = too_long;
            assert_eq!(recode(&parts_bytes.concat()), Err(WireError::TooLong), "field {i}");
        }
    }

    // from here on at every byte: too much for the largest messages
    if payload.len() > 2048 {
        return;
    }
    let optional = parts.last().filter(|part| part.optional);
    let required = payload.len() - optional.map_or(0, |part| part.bytes.len());
    for len in (0..payload.len()).filter(|len| optional.is_none() || *len != required) {
        assert_eq!(recode(&payload[..len]), Err(WireError::Truncated), "cut to {len} bytes");
    }
    for extra in [0, 1, 0xff] {
        let error = if optional.is_some() { WireError::Truncated } else { WireError::Trailing };
        assert_eq!(recode(&[payload, &[extra]].concat()), Err(error));
    }
    for at in 0..payload.len() {
        let mut changed = payload.to_vec();
        changed[at] ^= BYTES[at] | 1;
        assert_symmetric(&changed, recode(&changed));
    }
}

/// What can be decoded is what would have been encoded, but for the seven bits of a BOOL that
/// nobody looks at.
fn assert_symmetric(payload: &[u8], recoded: Result<Vec<u8>, WireError>) {
    if let Ok(recoded) = recoded {
        let same = |(was, is): (&u8, &u8)| was == is || was & 1 == *is;
        assert!(payload.len() == recoded.len() && payload.iter().zip(&recoded).all(same));
    }
}

const NEGOTIATED: &[u16] = &[0x0002];

fn sri_decode<'a>(head: &[u8], payload: &'a mut [u8]) -> (AnyMessage<'a>, Option<Vec<Tlv>>) {
    parse_message_frame_with_tlvs(SriHeader::from_bytes(head).unwrap(), payload, NEGOTIATED).unwrap()
}

fn sri_encode(message: AnyMessage<'_>, tlvs: Option<Vec<Tlv>>) -> Vec<u8> {
    if let Some(tlvs) = tlvs {
        return TlvList::from_slice(&tlvs).unwrap().build_frame_bytes_with_tlvs(message).unwrap();
    }
    let frame = MessageFrame::try_from(message).unwrap();
    let mut out = vec![0; frame.encoded_length()];
    frame.encode_into(&mut out).unwrap();
    out
}

/// Some values, and the largest.
fn each<V: Debug>(some: impl Strategy<Value = V>, largest: V, check: impl Fn(&V)) {
    check(&largest);
    let config = ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(message in some)| check(&message));
}

// Fields in nested pairs: tuples without an end to their number.
macro_rules! nested {
    ($end:expr, $method:ident;) => { $end };
    ($end:expr, $method:ident; $field:ident $($rest:ident)*) => {
        (Field::$method(), nested!($end, $method; $($rest)*))
    };
}
macro_rules! names {
    () => { () };
    ($field:ident $($rest:ident)*) => { ($field, names!($($rest)*)) };
}
macro_rules! sri_field {
    ($sri:ident $field:ident) => {
        $sri.$field
    };
    ($sri:ident $field:ident $sri_field:ident) => {
        $sri.$sri_field
    };
}

/// A test for each message. A field that SRI calls by another name has that after it; one that
/// SRI's message does not have stands after a semicolon.
macro_rules! table {
    ($(
        mod $module:ident, $ours:ident = $sri:ident, $from:pat => $message:ident;
        $($type:literal $channel:literal $name:ident {
            $($field:ident $(($sri_field:ident))?),* $(; $ours_only:ident)?
        })*
    )*) => {$(
        mod $module {
            use super::*;
            use blvm_stratum_v2::wire::$module::{self, $ours};

            $(
                #[test]
                #[allow(non_snake_case)]
                fn $name() {
                    let make = |names!($($field)* $($ours_only)?)| {
                        $module::$name { $($field,)* $($ours_only)? }
                    };
                    let some = nested!(Just(()), any; $($field)* $($ours_only)?).prop_map(make);
                    let largest = make(nested!((), largest; $($field)* $($ours_only)?));
                    let recode = |payload: &[u8]| {
                        let message = $ours::decode($type, payload)?;
                        assert!(matches!(message, $ours::$name(_)));
                        let mut frame = Vec::new();
                        message.encode(&mut frame).map(|()| frame.split_off(Header::LEN))
                    };
                    each(some, largest, |message| {
                        let parts = [$(part(&message.$field),)* $(part(&message.$ours_only))?];
                        check(message, $channel == 1, &parts, recode, |sri| {
                            let $from = sri else { return false };
                            let parsers_sv2::$sri::$name(sri) = $message else { return false };
                            $(message.$field.same(&sri_field!(sri $field $($sri_field)?)))&&*
                        });
                    });
                }
            )*
        }
    )*

        /// Garbage is refused or understood, for every type there is or is not.
        #[test]
        fn garbage() {
            let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
            proptest!(config, |(msg_type: u8, payload in prop::collection::vec(any::<u8>(), 0..200))| {
                $({
                    use blvm_stratum_v2::wire::$module::$ours;
                    for msg_type in [msg_type, $($type),*] {
                        let known = [$($type),*].contains(&msg_type);
                        let decoded = $ours::decode(msg_type, &payload);
                        assert_eq!(decoded == Err(WireError::UnknownType(msg_type)), !known);
                        assert_symmetric(&payload, decoded.and_then(|message| {
                            let mut frame = Vec::new();
                            message.encode(&mut frame).map(|()| frame.split_off(Header::LEN))
                        }));
                    }
                })*
            });
        }
    };
}

table! {
    mod common, Common = CommonMessages, AnyMessage::Common(message) => message;
    0x00 0 SetupConnection {
        protocol, min_version, max_version, flags, endpoint_host, endpoint_port, vendor, hardware_version,
        firmware, device_id
    }
    0x01 0 SetupConnectionSuccess { used_version, flags }
    0x02 0 SetupConnectionError { flags, error_code }
    0x03 1 ChannelEndpointChanged { channel_id }
    0x04 0 Reconnect { new_host, new_port }

    mod mining, Mining = Mining, AnyMessage::Mining(message) => message;
    0x10 0 OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target }
    0x11 0 OpenStandardMiningChannelSuccess {
        request_id, channel_id, target, extranonce_prefix, group_channel_id
    }
    0x12 0 OpenMiningChannelError { request_id, error_code }
    0x13 0 OpenExtendedMiningChannel {
        request_id, user_identity, nominal_hash_rate, max_target, min_extranonce_size
    }
    0x14 0 OpenExtendedMiningChannelSuccess {
        request_id, channel_id, target, extranonce_size, extranonce_prefix, group_channel_id
    }
    0x15 1 NewMiningJob { channel_id, job_id, min_ntime, version, merkle_root }
    0x16 1 UpdateChannel { channel_id, nominal_hash_rate, maximum_target }
    0x17 1 UpdateChannelError { channel_id, error_code }
    0x18 1 CloseChannel { channel_id, reason_code }
    0x19 1 SetExtranoncePrefix { channel_id, extranonce_prefix }
    0x1a 1 SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version }
    0x1b 1 SubmitSharesExtended {
        channel_id, sequence_number, job_id, nonce, ntime, version, extranonce; tlvs
    }
    0x1c 1 SubmitSharesSuccess {
        channel_id, last_sequence_number, new_submits_accepted_count, new_shares_sum
    }
    0x1d 1 SubmitSharesError { channel_id, sequence_number, error_code }
    0x1f 1 NewExtendedMiningJob {
        channel_id, job_id, min_ntime, version, version_rolling_allowed, merkle_path, coinbase_tx_prefix,
        coinbase_tx_suffix
    }
    0x20 1 SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime, nbits }
    0x21 1 SetTarget { channel_id, maximum_target }
    0x22 1 SetCustomMiningJob {
        channel_id, request_id, mining_job_token (token), version, prev_hash, min_ntime, nbits,
        coinbase_tx_version, coinbase_prefix, coinbase_tx_input_n_sequence, coinbase_tx_outputs,
        coinbase_tx_locktime, merkle_path
    }
    0x23 1 SetCustomMiningJobSuccess { channel_id, request_id, job_id }
    0x24 1 SetCustomMiningJobError { channel_id, request_id, error_code }
    0x25 0 SetGroupChannel { group_channel_id, channel_ids }

    mod declare, JobDeclaration = JobDeclaration, AnyMessage::JobDeclaration(message) => message;
    0x50 0 AllocateMiningJobToken { user_identifier, request_id }
    0x51 0 AllocateMiningJobTokenSuccess {
        request_id, mining_job_token, coinbase_tx_outputs (coinbase_outputs)
    }
    0x55 0 ProvideMissingTransactions { request_id, unknown_tx_position_list }
    0x56 0 ProvideMissingTransactionsSuccess { request_id, transaction_list }
    0x57 0 DeclareMiningJob {
        request_id, mining_job_token, version, coinbase_tx_prefix, coinbase_tx_suffix, wtxid_list, excess_data
    }
    0x58 0 DeclareMiningJobSuccess { request_id, new_mining_job_token }
    0x59 0 DeclareMiningJobError { request_id, error_code, error_details }
    0x60 0 PushSolution { extranonce, prev_hash, nonce, ntime, nbits, version }

    mod template, TemplateDistribution = TemplateDistribution,
        AnyMessage::TemplateDistribution(message) => message;
    0x70 0 CoinbaseOutputConstraints {
        coinbase_output_max_additional_size, coinbase_output_max_additional_sigops
    }
    0x71 0 NewTemplate {
        template_id, future_template, version, coinbase_tx_version, coinbase_prefix,
        coinbase_tx_input_sequence, coinbase_tx_value_remaining, coinbase_tx_outputs_count,
        coinbase_tx_outputs, coinbase_tx_locktime, merkle_path
    }
    0x72 0 SetNewPrevHash { template_id, prev_hash, header_timestamp, n_bits, target }
    0x73 0 RequestTransactionData { template_id }
    0x74 0 RequestTransactionDataSuccess { template_id, excess_data, transaction_list }
    0x75 0 RequestTransactionDataError { template_id, error_code }
    0x76 0 SubmitSolution { template_id, version, header_timestamp, header_nonce, coinbase_tx }

    mod extensions, Negotiation = ExtensionsNegotiation,
        AnyMessage::Extensions(Extensions::ExtensionsNegotiation(message)) => message;
    0x00 0 RequestExtensions { request_id, requested_extensions }
    0x01 0 RequestExtensionsSuccess { request_id, supported_extensions }
    0x02 0 RequestExtensionsError { request_id, unsupported_extensions, required_extensions }
}

/// The names in the shares, to SRI's eyes.
#[test]
fn user_identity() {
    let share = [&[0; 24][..], b"\x02ab\x02\x00\x01\x0a\x00Worker_001"].concat();
    let mut frame = Vec::new();
    let ours = blvm_stratum_v2::wire::mining::SubmitSharesExtended::decode(&share).unwrap();
    ours.encode(&mut frame).unwrap();
    let (head, payload) = frame.split_at_mut(Header::LEN);
    let (_, tlvs) = sri_decode(head, payload);
    assert_eq!(tlvs, Some(vec![Tlv::new(2, 1, ours.tlvs.user_identity().unwrap().as_bytes().to_vec())]));
}
