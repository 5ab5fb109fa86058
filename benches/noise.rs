//! Noise, ours and SRI's, side by side.
//!
//! Handshake, the server's part of it:
//! - `ours`: `StaticIdentity::respond`, which makes an ephemeral key; the static key and its
//!   certificate are there already.
//! - `sri step_1 alone`: without the making of SRI's `Responder`, in which it makes both its
//!   ephemeral and its static key. What is measured includes signing the certificate.
//! - `sri as served`: a new `Responder` and `step_1`, which is what SRI's servers do for each
//!   connection, as a `Responder` serves once.
//!
//! Frames: both sides seal a frame that is plain bytes already into new memory or, ours, into
//! memory that is used again, and open one that was just received. What arrives is sealed anew
//! outside the measurement, since nonces do not repeat.

use std::hint::black_box;
use std::time::Duration;

use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::mining::SubmitSharesStandard;
use blvm_stratum_v2::wire::noise::{FrameDecoder, Initiator, Opener, Sealer, StaticIdentity};
use blvm_stratum_v2::wire::{ChannelId, JobId, Message, SequenceNumber, write_frame};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::StdRng;
use stratum_core::codec_sv2::{
    Decrypted, Handshake, NoiseDecoder, NoiseEncoder, TransportDecryptState, TransportEncryptState,
};
use stratum_core::framing_sv2::framing::{MessageFrame, SerializedFrame};
use stratum_core::mining_sv2;
use stratum_core::noise_sv2::Responder;

const VALIDITY: u32 = 3_600;
/// Frames that are opened in one go, as from one read.
const BATCH: u64 = 64;

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn authority() -> (AuthoritySecretKey, [u8; 32], [u8; 32]) {
    let authority = AuthoritySecretKey::generate(&mut rng());
    let secret = bs58::decode(&*authority.to_text()).with_check(None).into_vec().unwrap().try_into().unwrap();
    let public = authority.public_key().to_bytes();
    (authority, secret, public)
}

fn sri_responder(public: &[u8; 32], secret: &[u8; 32]) -> Box<Responder> {
    Responder::from_authority_kp(public, secret, Duration::from_secs(VALIDITY.into())).unwrap()
}

fn handshake(c: &mut Criterion) {
    let (authority, secret, public) = authority();
    let mut rng = rng();
    let identity = StaticIdentity::new(&authority, 0, u32::MAX, &mut rng);
    let (_, act1) = Initiator::new(&mut rng);

    let mut group = c.benchmark_group("handshake");
    group.bench_function("ours", |b| b.iter(|| identity.respond(black_box(&act1), &mut rng)));
    group.bench_function("sri step_1 alone", |b| {
        b.iter_batched(
            || sri_responder(&public, &secret),
            |mut responder| responder.step_1(black_box(act1)).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("sri as served", |b| {
        b.iter(|| sri_responder(&public, &secret).step_1(black_box(act1)).unwrap());
    });
    group.finish();
}

fn our_pair() -> (Sealer, Opener) {
    let (authority, ..) = authority();
    let mut rng = rng();
    let identity = StaticIdentity::new(&authority, 0, u32::MAX, &mut rng);
    let (initiator, act1) = Initiator::new(&mut rng);
    let (act2, sealer, _) = identity.respond(&act1, &mut rng);
    (sealer, initiator.finish(&act2, &authority.public_key(), 1).unwrap().0.1)
}

fn sri_pair() -> (TransportEncryptState, TransportDecryptState) {
    let (_, secret, public) = authority();
    let initiator = stratum_core::noise_sv2::Initiator::from_raw_k(public).unwrap();
    let (act1, initiator) = Handshake::initiator(initiator).step_0().unwrap();
    let responder = Handshake::responder(sri_responder(&public, &secret));
    let (act2, server) = responder.step_1(act1.payload().try_into().unwrap()).unwrap();
    let client = initiator.step_2(act2.payload().try_into().unwrap()).unwrap();
    (server.split().0, client.split().1)
}

fn share() -> SubmitSharesStandard {
    SubmitSharesStandard {
        channel_id: ChannelId(1),
        sequence_number: SequenceNumber(2),
        job_id: JobId(3),
        nonce: 4,
        ntime: 5,
        version: 6,
    }
}

fn sri_share() -> MessageFrame<mining_sv2::SubmitSharesStandard> {
    let share = mining_sv2::SubmitSharesStandard {
        channel_id: 1,
        sequence_number: 2,
        job_id: 3,
        nonce: 4,
        ntime: 5,
        version: 6,
    };
    MessageFrame::from_message(share, 0x1a, 0, true).unwrap()
}

fn seal(c: &mut Criterion) {
    let (mut sealer, _) = our_pair();
    let (mut encrypt, _) = sri_pair();
    let mut encoder = NoiseEncoder::new();
    let (mut plain, mut out) = (Vec::new(), Vec::new());

    let mut group = c.benchmark_group("encode and seal a share");
    group.bench_function("ours", |b| {
        b.iter(|| {
            plain.clear();
            out.clear();
            black_box(share()).encode(&mut plain).unwrap();
            sealer.seal_frame(&plain, &mut out).unwrap();
            black_box(&out);
        });
    });
    group.bench_function("sri", |b| {
        b.iter(|| encoder.encode_transport(black_box(sri_share()), &mut encrypt).unwrap());
    });
    group.finish();

    let frame = frame_of(594);
    let mut group = c.benchmark_group("seal 600 bytes");
    group.bench_function("ours", |b| {
        b.iter(|| {
            out.clear();
            sealer.seal_frame(black_box(&frame), &mut out).unwrap();
            black_box(&out);
        });
    });
    group.bench_function("sri", |b| {
        b.iter_batched(
            || SerializedFrame::from_bytes(frame.clone()).unwrap(),
            |frame| encoder.encode_transport(frame, &mut encrypt).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn frame_of(payload_len: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(0, 0x1a, true, &mut frame, |out| out.resize(6 + payload_len, 7)).unwrap();
    frame
}

/// Opens frames and, of a share, decodes the message.
fn open(c: &mut Criterion, name: &str, frame: &[u8], share: bool) {
    let (mut sealer, opener) = our_pair();
    let mut decoder = FrameDecoder::new(opener);
    let (mut encrypt, decrypt) = sri_pair();
    let mut encoder = NoiseEncoder::new();
    let mut sri_decoder = NoiseDecoder::new();
    let mut state = Some(decrypt);

    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("ours", |b| {
        b.iter_batched(
            || {
                let mut sealed = Vec::new();
                (0..BATCH).for_each(|_| sealer.seal_frame(frame, &mut sealed).unwrap());
                sealed
            },
            |sealed| {
                decoder.buffer().extend_from_slice(&sealed);
                while let Some((_, payload)) = decoder.next(|_| Some(1000)).unwrap() {
                    if share {
                        black_box(SubmitSharesStandard::decode(payload).unwrap());
                    } else {
                        black_box(payload);
                    }
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("sri", |b| {
        b.iter_batched(
            || {
                let seal = |_| {
                    let frame = SerializedFrame::from_bytes(frame.to_vec()).unwrap();
                    let sealed = encoder.encode_transport(frame, &mut encrypt).unwrap();
                    AsRef::<[u8]>::as_ref(&sealed).to_vec()
                };
                (0..BATCH).flat_map(seal).collect::<Vec<u8>>()
            },
            |sealed| {
                let mut rest = &sealed[..];
                loop {
                    match sri_decoder.next_transport_frame(state.take().unwrap()).unwrap() {
                        Decrypted::Frame(mut frame, next) => {
                            state = Some(next);
                            if share {
                                let share = stratum_core::binary_sv2::from_bytes::<
                                    mining_sv2::SubmitSharesStandard,
                                >(frame.payload());
                                black_box(share.unwrap());
                            } else {
                                black_box(frame.payload());
                            }
                        }
                        Decrypted::Incomplete(_, next) => {
                            state = Some(next);
                            if rest.is_empty() {
                                break;
                            }
                            let room = sri_decoder.writable();
                            let len = room.len();
                            room.copy_from_slice(&rest[..len]);
                            rest = &rest[len..];
                        }
                    }
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn opens(c: &mut Criterion) {
    let mut frame = Vec::new();
    share().encode(&mut frame).unwrap();
    open(c, "open and decode a share", &frame, true);
    open(c, "open 600 bytes", &frame_of(594), false);
}

criterion_group!(benches, handshake, seal, opens);
criterion_main!(benches);
