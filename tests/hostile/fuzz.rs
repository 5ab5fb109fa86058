//! Random bytes where messages should be: whatever comes of it, nothing panics.

use std::sync::Arc;

use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::config::Config;
use blvm_stratum_v2::mining::TemplateSerial;
use blvm_stratum_v2::mining::extranonce::BootEpoch;
use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::pool::{CountOnly, StratumV2Pool};
use blvm_stratum_v2::session::{Input, Lane, Options, Output, Session};
use blvm_stratum_v2::template::regtest::RegtestChain;
use blvm_stratum_v2::wire::Header;
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::mining::{
    CloseChannel, OpenStandardMiningChannel, SubmitSharesStandard, UpdateChannel,
};
use blvm_stratum_v2::wire::{ChannelId, JobId, RequestId, SequenceNumber, U256};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::house::honest::Honest;
use crate::house::{House, frame, frame_of};
use crate::raw::{Raw, noise, open, setup};

/// A session that is driven as a connection drives it.
struct Driven {
    pool: Arc<StratumV2Pool>,
    options: Arc<Options>,
    session: Session,
    now: Moment,
}

impl Driven {
    fn new(chain: &RegtestChain) -> Self {
        let options = Config::default().options().unwrap().pool;
        let session_options = Arc::new(options.session.clone());
        let (pool, _) = StratumV2Pool::new(options, BootEpoch::of_start(1), Box::new(CountOnly));
        pool.publish(Arc::new(chain.work()));
        let session = Session::new(session_options.clone(), Moment(0));
        Self { pool, options: session_options, session, now: Moment(0) }
    }

    /// A new connection with a channel.
    fn restart(&mut self) {
        self.session = Session::new(self.options.clone(), self.now);
        let work = self.pool.work().borrow().clone().unwrap();
        self.session.handle(self.now, Input::Work(work), &*self.pool);
        assert!(self.take(&frame_of(&setup())));
        assert!(self.take(&frame_of(&open(1))));
    }

    /// Takes in a frame. False if that closes the connection.
    fn take(&mut self, frame: &[u8]) -> bool {
        let (header, payload) = frame.split_first_chunk().unwrap();
        self.now = Moment(self.now.0 + 10_000);
        self.session.handle(
            self.now,
            Input::Frame(Lane::Control, Header::read(header), payload),
            &*self.pool,
        );
        self.session.handle(self.now, Input::Tick, &*self.pool);
        if let Some(number) = self.session.take_shares(&mut Vec::new()) {
            self.session.handle(self.now, Input::Stored(number), &*self.pool);
        }
        while let Some(output) = self.session.poll_output() {
            if let Output::Close(_) = output {
                return false;
            }
        }
        true
    }
}

/// Messages that mean something to a connection that was opened by [`Driven::restart`].
fn sensible(rng: &mut StdRng) -> Vec<u8> {
    let channel_id = ChannelId(rng.random_range(1..6));
    match rng.random_range(0..6) {
        0 => frame_of(&OpenStandardMiningChannel {
            request_id: RequestId(rng.random()),
            user_identity: Str255::truncated("m\u{fc}ller.\u{26cf}"),
            nominal_hash_rate: f32::from_bits(rng.random()),
            max_target: U256([rng.random(); 32]),
        }),
        1 => frame_of(&open(rng.random())),
        2 => frame_of(&SubmitSharesStandard {
            channel_id,
            sequence_number: SequenceNumber(rng.random()),
            job_id: JobId(rng.random_range(0..8)),
            nonce: rng.random(),
            ntime: unix_now(),
            version: 0x2000_0000,
        }),
        3 => frame_of(&UpdateChannel {
            channel_id,
            nominal_hash_rate: f32::from_bits(rng.random()),
            maximum_target: U256([rng.random(); 32]),
        }),
        4 => frame_of(&CloseChannel { channel_id, reason_code: Str255::truncated("why not") }),
        _ => frame(0, 0x1b, &noise(25, rng.random())),
    }
}

/// Bytes of which a part is random.
fn fuzzed(rng: &mut StdRng) -> Vec<u8> {
    if rng.random_bool(0.5) {
        let mut payload = vec![0; rng.random_range(0..200)];
        rng.fill_bytes(&mut payload);
        let extension = if rng.random_bool(0.9) { 0 } else { rng.random_range(0..3) };
        return frame(extension, rng.random_range(0..0x30), &payload);
    }
    let mut bytes = sensible(rng);
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(Header::LEN..bytes.len());
        bytes[at] ^= 1 << rng.random_range(0..8);
    }
    bytes
}

#[test]
fn random_messages_do_not_panic() {
    let chain = RegtestChain::open(Default::default(), TemplateSerial(1), unix_now()).unwrap();
    let mut driven = Driven::new(&chain);
    let mut rng = StdRng::seed_from_u64(7);
    driven.restart();
    let mut closed = 0;
    for _ in 0..20_000 {
        if !driven.take(&fuzzed(&mut rng)) {
            closed += 1;
            driven.restart();
        }
    }
    // else it tries one thing over and over
    assert!((2_000..18_000).contains(&closed), "{closed} closed");
}

#[tokio::test]
async fn random_messages_over_sockets_do_not_panic() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    let mut rng = StdRng::seed_from_u64(8);
    honest
        .mines_during(async {
            for _ in 0..200 {
                let mut raw = Raw::set_up(&house).await;
                for _ in 0..10 {
                    // it may be closed by now
                    let _ = raw.send_frame(&fuzzed(&mut rng)).await;
                }
            }
        })
        .await;
    house.has_connections(1).await;
    honest.block().await;
}
