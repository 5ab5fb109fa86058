//! Our Noise against SRI's: handshakes either way round, then frames either way through both
//! codecs; and what must fail, fails.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::secp256k1::PublicKey;
use bitcoin::secp256k1::ellswift::ElligatorSwift;
use blvm_stratum_v2::wire::Header;
use blvm_stratum_v2::wire::certificate::{Certificate, CertificateError};
use blvm_stratum_v2::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use blvm_stratum_v2::wire::noise::{
    ACT1_LEN, ACT2_LEN, FrameDecoder, IdentityError, Initiator, NoiseError, Opener, SEALED_HEADER_LEN,
    Sealer, StaticIdentity,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stratum_core::codec_sv2::{
    Decrypted, Handshake, NoiseDecoder, NoiseEncoder, SerializedFrame, Transport, TransportDecryptState,
    TransportEncryptState,
};
use stratum_core::{framing_sv2, noise_sv2};

const LENGTHS: [usize; 8] = [0, 1, 24, 65_518, 65_519, 65_520, 2 * 65_519, 200_000];
const NOW: u32 = 1_800_000_000;
const HOUR: u32 = 3_600;

/// An authority of ours, in both implementations' terms.
struct Authority {
    secret: AuthoritySecretKey,
    public: AuthorityPublicKey,
}

impl Authority {
    fn new(seed: u64) -> Self {
        let secret = AuthoritySecretKey::generate(&mut rng(seed));
        let public = secret.public_key();
        Self { secret, public }
    }

    fn identity(&self, valid_from: u32, not_valid_after: u32) -> StaticIdentity {
        StaticIdentity::new(&self.secret, valid_from, not_valid_after, &mut rng(7))
    }

    fn sri_responder(&self) -> Handshake<noise_sv2::Responder> {
        let secret: [u8; 32] =
            bs58::decode(&*self.secret.to_text()).with_check(None).into_vec().unwrap().try_into().unwrap();
        let validity = Duration::from_secs(HOUR.into());
        let responder =
            noise_sv2::Responder::from_authority_kp(&self.public.to_bytes(), &secret, validity).unwrap();
        Handshake::responder(responder)
    }

    fn sri_initiator(&self) -> Handshake<noise_sv2::Initiator> {
        Handshake::initiator(noise_sv2::Initiator::from_raw_k(self.public.to_bytes()).unwrap())
    }
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// SRI's responder reads the clock.
fn clock() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32
}

/// Our client with SRI's server.
fn we_initiate() -> ((Sealer, Opener), Transport) {
    let authority = Authority::new(1);
    let (initiator, act1) = Initiator::new(&mut rng(2));
    let (act2, theirs) = authority.sri_responder().step_1(act1).unwrap();
    let act2 = act2.payload().try_into().unwrap();
    (initiator.finish(&act2, &authority.public, clock()).unwrap().0, theirs)
}

/// SRI's client with our server.
fn we_respond() -> ((Sealer, Opener), Transport) {
    let authority = Authority::new(3);
    let identity = authority.identity(NOW - HOUR, NOW + HOUR);
    let (act1, sri) = authority.sri_initiator().step_0().unwrap();
    let (act2, sealer, opener) = identity.respond(act1.payload().try_into().unwrap(), &mut rng(4));
    ((sealer, opener), sri.step_2_with_now(act2, NOW).unwrap())
}

/// Our client with our server.
fn among_us() -> ((Sealer, Opener), (Sealer, Opener)) {
    let authority = Authority::new(5);
    let (initiator, act1) = Initiator::new(&mut rng(6));
    let (act2, sealer, opener) = authority.identity(NOW - HOUR, NOW + HOUR).respond(&act1, &mut rng(8));
    (initiator.finish(&act2, &authority.public, NOW).unwrap().0, (sealer, opener))
}

fn frame(msg_type: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, msg_type], &payload.len().to_le_bytes()[..3], payload].concat()
}

fn frames(lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut rng = rng(9);
    let mut payload = |len: &usize| (0..*len).map(|_| rng.random()).collect::<Vec<u8>>();
    lengths.iter().enumerate().map(|(i, len)| frame(i as u8, &payload(len))).collect()
}

fn any_length(_: &Header) -> Option<usize> {
    Some(Header::MAX_PAYLOAD)
}

/// Every frame in what has arrived, plain again.
fn drain(decoder: &mut FrameDecoder, into: &mut Vec<Vec<u8>>) -> Result<(), NoiseError> {
    while let Some((header, payload)) = decoder.next(any_length)? {
        into.push(frame(header.msg_type, payload));
    }
    Ok(())
}

fn sri_seal(frame: &[u8], state: &mut TransportEncryptState) -> Vec<u8> {
    let frame = framing_sv2::framing::SerializedFrame::from_bytes(frame.to_vec()).unwrap();
    let sealed = NoiseEncoder::new().encode_transport(frame, state).unwrap();
    AsRef::<[u8]>::as_ref(&sealed).to_vec()
}

fn sri_open(mut sealed: &[u8], mut state: TransportDecryptState) -> Vec<Vec<u8>> {
    let mut decoder = NoiseDecoder::new();
    let mut opened = Vec::new();
    loop {
        match decoder.next_transport_frame(state).unwrap() {
            Decrypted::Frame(frame, next) => {
                let frame: SerializedFrame = frame;
                opened.push(frame.as_bytes().to_vec());
                state = next;
            }
            Decrypted::Incomplete(..) if sealed.is_empty() => return opened,
            Decrypted::Incomplete(_, next) => {
                let room = decoder.writable();
                let len = room.len().min(sealed.len());
                room[..len].copy_from_slice(&sealed[..len]);
                sealed = &sealed[len..];
                state = next;
            }
        }
    }
}

fn exchange(((mut sealer, opener), theirs): ((Sealer, Opener), Transport)) {
    let frames = frames(&LENGTHS);
    let (mut encrypt, decrypt) = theirs.split();

    let mut sealed = Vec::new();
    for frame in &frames {
        sealer.seal_frame(frame, &mut sealed).unwrap();
    }
    assert!(sri_open(&sealed, decrypt) == frames, "SRI reads what we send");

    let mut decoder = FrameDecoder::new(opener);
    let mut received = Vec::new();
    for frame in &frames {
        decoder.buffer().extend(sri_seal(frame, &mut encrypt));
        drain(&mut decoder, &mut received).unwrap();
    }
    assert!(received == frames, "we read what SRI sends");
}

#[test]
fn our_client_with_their_server() {
    exchange(we_initiate());
}

#[test]
fn their_client_with_our_server() {
    exchange(we_respond());
}

#[test]
fn one_identity_answers_many_handshakes_each_with_its_own_keys() {
    let authority = Authority::new(10);
    let identity = authority.identity(NOW, NOW + HOUR);
    let mut responder_rng = rng(11);
    let mut ephemeral_keys = HashSet::new();
    for _ in 0..10 {
        // The same act 1 each time, as of one who replays it.
        let (initiator, act1) = Initiator::new(&mut rng(12));
        let (act2, mut sealer, _) = identity.respond(&act1, &mut responder_rng);
        let e = ElligatorSwift::from_array(act2[..ACT1_LEN].try_into().unwrap());
        ephemeral_keys.insert(PublicKey::from_ellswift(e).x_only_public_key().0);

        let ((_, opener), _) = initiator.finish(&act2, &authority.public, NOW).unwrap();
        let mut decoder = FrameDecoder::new(opener);
        let plain = frame(0x1a, &[1; 24]);
        sealer.seal_frame(&plain, decoder.buffer()).unwrap();
        assert_eq!(decoder.next(any_length).unwrap().unwrap().1, &plain[6..]);
    }
    assert_eq!(ephemeral_keys.len(), 10);
}

#[test]
fn another_authority_is_not_accepted() {
    let (ours, other) = (Authority::new(12), Authority::new(13));
    let wrong = Err(NoiseError::Certificate(CertificateError::BadSignature));

    let (initiator, act1) = Initiator::new(&mut rng(14));
    let (act2, _) = ours.sri_responder().step_1(act1).unwrap();
    let act2 = act2.payload().try_into().unwrap();
    assert_eq!(initiator.finish(&act2, &other.public, clock()).map(drop), wrong);

    let (act1, sri) = other.sri_initiator().step_0().unwrap();
    let identity = ours.identity(NOW, NOW + HOUR);
    let (act2, ..) = identity.respond(act1.payload().try_into().unwrap(), &mut rng(15));
    assert!(sri.step_2_with_now(act2, NOW).is_err());
}

#[test]
fn a_certificate_has_its_time() {
    let authority = Authority::new(16);
    let identity = authority.identity(NOW, NOW + HOUR);
    let finish = |now| {
        let (initiator, act1) = Initiator::new(&mut rng(17));
        let (act2, ..) = identity.respond(&act1, &mut rng(18));
        initiator.finish(&act2, &authority.public, now).map(drop)
    };
    let sri_finish = |now| {
        let (act1, sri) = authority.sri_initiator().step_0().unwrap();
        let (act2, ..) = identity.respond(act1.payload().try_into().unwrap(), &mut rng(19));
        sri.step_2_with_now(act2, now).is_ok()
    };
    let early = Err(NoiseError::Certificate(CertificateError::NotYetValid(NOW)));
    let late = Err(NoiseError::Certificate(CertificateError::Expired(NOW + HOUR)));
    for (now, expected) in [
        (NOW - 11, early),
        (NOW - 10, Ok(())),
        (NOW + HOUR + 10, Ok(())),
        (NOW + HOUR + 11, late),
        (0, early),
        (u32::MAX, late),
    ] {
        assert_eq!(finish(now), expected, "{now}");
        assert_eq!(sri_finish(now), expected.is_ok(), "{now}");
    }
}

#[test]
fn an_identity_made_elsewhere_serves() {
    let (authority, other) = (Authority::new(20), Authority::new(21));
    let made = authority.identity(NOW, NOW + HOUR);
    let certificate = Certificate::from_bytes(&made.certificate().to_bytes());
    let secret = made.static_secret();
    let load = |secret: &[u8; 32], key| StaticIdentity::from_parts(secret, certificate, key, &mut rng(22));

    let bad_signature = IdentityError::Certificate(CertificateError::BadSignature);
    assert_eq!(load(&secret, &other.public).unwrap_err(), bad_signature);
    assert_eq!(load(&[1; 32], &authority.public).unwrap_err(), bad_signature);
    assert!(matches!(load(&[0; 32], &authority.public), Err(IdentityError::Key(_))));

    let identity = load(&secret, &authority.public).unwrap();
    assert!(!format!("{identity:?}").contains(&format!("{:?}", &secret[..4])[1..11]));
    let (act1, sri) = authority.sri_initiator().step_0().unwrap();
    let (act2, sealer, opener) = identity.respond(act1.payload().try_into().unwrap(), &mut rng(23));
    exchange(((sealer, opener), sri.step_2_with_now(act2, NOW).unwrap()));
}

#[test]
fn every_changed_bit_of_act_2_is_noticed() {
    let authority = Authority::new(24);
    let identity = authority.identity(NOW - HOUR, NOW + HOUR);
    let initiate = || Initiator::new(&mut rng(25));
    let (act2, ..) = identity.respond(&initiate().1, &mut rng(26));
    assert!(initiate().0.finish(&act2, &authority.public, NOW).is_ok());
    for bit in 0..8 * ACT2_LEN {
        let mut changed = act2;
        changed[bit / 8] ^= 1 << (bit % 8);
        let result = initiate().0.finish(&changed, &authority.public, NOW).map(drop);
        assert_eq!(result, Err(NoiseError::Decrypt), "bit {bit}");
    }
}

#[test]
fn whatever_comes_as_act_1_or_2_does_not_panic() {
    let authority = Authority::new(27);
    let identity = authority.identity(NOW, NOW + HOUR);
    let mut rng = rng(28);
    let mut act1s = vec![[0; ACT1_LEN], [0xff; ACT1_LEN]];
    act1s.extend((0..100).map(|_| rng.random::<[u8; ACT1_LEN]>()));
    for act1 in act1s {
        let _ = identity.respond(&act1, &mut rng);
        let mut act2 = [act1[0]; ACT2_LEN];
        act2[..ACT1_LEN].copy_from_slice(&act1);
        let (initiator, _) = Initiator::new(&mut rng);
        assert_eq!(initiator.finish(&act2, &authority.public, NOW).map(drop), Err(NoiseError::Decrypt));
    }
}

#[test]
fn a_changed_act_1_gives_keys_that_do_not_match() {
    let authority = Authority::new(29);
    let (initiator, mut act1) = Initiator::new(&mut rng(30));
    act1[40] ^= 1;
    let (act2, ..) = authority.identity(NOW, NOW + HOUR).respond(&act1, &mut rng(31));
    assert_eq!(initiator.finish(&act2, &authority.public, NOW).map(drop), Err(NoiseError::Decrypt));
}

#[test]
fn every_changed_bit_of_a_frame_is_noticed() {
    let plain = frame(0x1a, &[5; 24]);
    let sealed = {
        let ((mut sealer, _), _) = among_us();
        let mut sealed = Vec::new();
        sealer.seal_frame(&plain, &mut sealed).unwrap();
        sealed
    };
    for bit in 0..8 * sealed.len() {
        let (_, (_, opener)) = among_us();
        let mut decoder = FrameDecoder::new(opener);
        decoder.buffer().extend(&sealed);
        let buffer = decoder.buffer();
        buffer[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decoder.next(any_length), Err(NoiseError::Decrypt), "bit {bit}");
        assert_eq!(decoder.next(any_length), Err(NoiseError::Spent), "bit {bit}");
    }
}

#[test]
fn a_part_of_a_frame_is_not_a_frame() {
    let plain = frame(0x1a, &[5; 24]);
    let mut sealed = Vec::new();
    let ((mut sealer, _), (_, opener)) = among_us();
    sealer.seal_frame(&plain, &mut sealed).unwrap();
    let mut decoder = FrameDecoder::new(opener);
    for byte in &sealed[..sealed.len() - 1] {
        decoder.buffer().push(*byte);
        assert_eq!(decoder.next(any_length), Ok(None));
    }
    decoder.buffer().push(sealed[sealed.len() - 1]);
    assert_eq!(decoder.next(any_length).unwrap().unwrap().1, &plain[6..]);
}

#[test]
fn frames_neither_repeat_nor_swap_nor_turn_round() {
    let (one, two) = (frame(1, &[1; 24]), frame(2, &[2; 24]));
    let seal = |order: &[usize]| {
        let ((mut sealer, own), (_, opener)) = among_us();
        let mut sealed = [Vec::new(), Vec::new()];
        sealer.seal_frame(&one, &mut sealed[0]).unwrap();
        sealer.seal_frame(&two, &mut sealed[1]).unwrap();
        (order.iter().flat_map(|i| sealed[*i].clone()).collect::<Vec<u8>>(), own, opener)
    };
    for (order, whole) in [(&[0, 0][..], 1), (&[1, 0], 0), (&[0, 1, 1], 2)] {
        let (sealed, _, opener) = seal(order);
        let mut decoder = FrameDecoder::new(opener);
        decoder.buffer().extend(sealed);
        let mut received = Vec::new();
        assert_eq!(drain(&mut decoder, &mut received), Err(NoiseError::Decrypt));
        assert_eq!(received, [one.clone(), two.clone()][..whole]);
    }
    let (sealed, own, _) = seal(&[0, 1]);
    let mut reflected = FrameDecoder::new(own);
    reflected.buffer().extend(sealed);
    assert_eq!(reflected.next(any_length), Err(NoiseError::Decrypt));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// However the bytes arrive, the same frames come out.
    #[test]
    fn fragments_do_not_matter(
        lengths in proptest::collection::vec(
            prop_oneof![4 => 0..200_usize, 1 => 65_500..65_540_usize, 1 => 100_000..140_000_usize], 1..12),
        cuts in proptest::collection::vec(prop_oneof![1..40_usize, 1..3_000_usize, 1..200_000_usize], 1..40),
    ) {
        let frames = frames(&lengths);
        let ((mut sealer, _), (_, opener)) = among_us();
        let mut sealed = Vec::new();
        for frame in &frames {
            sealer.seal_frame(frame, &mut sealed).unwrap();
        }
        let mut decoder = FrameDecoder::new(opener);
        let mut received = Vec::new();
        let mut rest = &sealed[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            decoder.buffer().extend_from_slice(now);
            drain(&mut decoder, &mut received).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(received == frames);
    }

    /// Bytes that nobody sealed end the connection, and nothing worse.
    #[test]
    fn noise_is_not_noise(bytes in proptest::collection::vec(any::<u8>(), SEALED_HEADER_LEN..400)) {
        let (_, (_, opener)) = among_us();
        let mut decoder = FrameDecoder::new(opener);
        decoder.buffer().extend(bytes);
        prop_assert_eq!(decoder.next(any_length), Err(NoiseError::Decrypt));
    }
}
