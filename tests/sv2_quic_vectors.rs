//! The test vectors at the end of the mapping's page are what the code does, byte for byte.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256 as bitcoin_sha256};
use blvm_stratum_v2::miner::assignment::Assignments;
use blvm_stratum_v2::mining::extranonce::BootEpoch;
use blvm_stratum_v2::mining::hash::sha256d;
use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::mining::{Target, Work};
use blvm_stratum_v2::pool::{CountOnly, StratumV2Pool};
use blvm_stratum_v2::session::{Input, Lane, Options, Output, Session};
use blvm_stratum_v2::transport::tls::extension_value;
use blvm_stratum_v2::wire::certificate::{Certificate, Subject};
use blvm_stratum_v2::wire::codec::{Seq64K, Str255};
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::common::{SetupConnection, protocol};
use blvm_stratum_v2::wire::extensions::{RequestExtensions, WORKER_HASHRATE_TRACKING};
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::mining::{
    CloseChannel, Mining, OpenStandardMiningChannel, OpenStandardMiningChannelSuccess, SubmitSharesStandard,
};
use blvm_stratum_v2::wire::url::pin_text;
use blvm_stratum_v2::wire::{ChannelId, Header, Message, RequestId, SequenceNumber, U256};
use common::{NO_BLOCKS, Source, pool_options};

const PAGE: &str = include_str!("../src/transport/quic/protocol.md");

fn sha256(bytes: &[u8]) -> [u8; 32] {
    bitcoin_sha256::Hash::hash(bytes).to_byte_array()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The block of the page that begins with this line, without what is behind `//`.
fn block(first: &str) -> Vec<&'static str> {
    let start = PAGE.find(&format!("```text\n{first}")).expect("the page has the block") + "```text\n".len();
    let lines = PAGE[start..].lines().take_while(|line| *line != "```");
    lines.map(|line| line.split("  //").next().unwrap().trim_end()).collect()
}

#[test]
fn the_extension_is_as_the_page_has_it() {
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    let mut last = "";
    for line in block("authority secret") {
        let (name, value) = line.split_at(19);
        if !name.trim().is_empty() {
            last = name.trim();
        }
        fields.entry(last).or_default().push_str(value);
    }
    let bytes = |name: &str| unhex(&fields[name]);
    let secret: [u8; 32] = bytes("authority secret").try_into().unwrap();
    let authority: AuthoritySecretKey = bs58_check(&secret).parse().unwrap();
    assert_eq!(hex(&authority.public_key().to_bytes()), fields["authority key"]);
    assert_eq!(authority.public_key().to_string(), fields["in the URL"]);
    let spki_hash = sha256(&bytes("SPKI"));
    assert_eq!(hex(&spki_hash), fields["SHA256(SPKI)"]);
    assert_eq!(pin_text(&spki_hash), fields["pin"]);

    let tag = sha256(b"sv2-quic/1 tls key");
    assert_eq!(hex(&tag), fields["T"]);
    let (from, until): (u32, u32) =
        (fields["valid_from"].parse().unwrap(), fields["not_valid_after"].parse().unwrap());
    let signed = [&tag[..], &tag, &[0, 0], &from.to_le_bytes(), &until.to_le_bytes(), &spki_hash].concat();
    assert_eq!(hex(&sha256(&signed)), fields["signed digest"]);
    let certificate = Certificate::issue(&authority, Subject::TlsKey(&spki_hash), from, until);
    assert_eq!(hex(&extension_value(&certificate)), fields["extnValue"]);
}

fn bs58_check(secret: &[u8]) -> String {
    bs58::encode(secret).with_check().into_string()
}

/// What was said on which stream, in the page's form.
#[derive(Default)]
struct Transcript(Vec<String>);

impl Transcript {
    fn add(&mut self, who: char, lane: Lane, frame: &[u8]) {
        let stream = match lane {
            Lane::Control => 0,
            Lane::Push => 3,
            Lane::Channel(number) => 4 * number,
        };
        let digits = hex(frame);
        let pieces = digits.as_bytes().chunks(80).map(|piece| std::str::from_utf8(piece).unwrap());
        for (i, piece) in pieces.enumerate() {
            let head = if i == 0 { format!("{who} {stream}") } else { String::new() };
            self.0.push(format!("{head:<5}{piece}"));
        }
    }
}

/// A session with a client that is told what to say.
struct Exchange {
    session: Session,
    pool: Arc<StratumV2Pool>,
    transcript: Transcript,
    /// What the server said, without headers.
    heard: Vec<(u8, Vec<u8>)>,
}

impl Exchange {
    fn input(&mut self, input: Input<'_>) {
        self.session.handle(Moment(1), input, &*self.pool);
        self.drain();
        if let Some(number) = self.session.take_shares(&mut Vec::new()) {
            self.session.handle(Moment(1), Input::Stored(number), &*self.pool);
        }
        self.session.handle(Moment(1), Input::Tick, &*self.pool);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Frame(lane, frame) => {
                    self.transcript.add('S', lane, frame);
                    self.heard.push((frame[2], frame[Header::LEN..].to_vec()));
                }
                Output::Finish(Lane::Channel(number)) => {
                    self.transcript.0.push(format!("S {}  FIN", 4 * number));
                }
                Output::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn say<'m>(&mut self, lane: Lane, message: &impl Message<'m>) {
        let mut frame = Vec::new();
        message.encode(&mut frame).unwrap();
        self.transcript.add('C', lane, &frame);
        let (header, payload) = frame.split_first_chunk().unwrap();
        self.input(Input::Frame(lane, Header::read(header), payload));
    }

    fn publish(&mut self, work: Arc<Work>) {
        self.pool.publish(work.clone());
        self.input(Input::Work(work));
    }
}

#[test]
fn the_exchange_is_as_the_page_has_it() {
    let (pool, _found) =
        StratumV2Pool::new(pool_options(Options::default()), BootEpoch::of_start(0), Box::new(CountOnly));
    let session = Session::new(Arc::new(Options::default()), Moment(0));
    let mut exchange = Exchange { session, pool, transcript: Transcript::default(), heard: Vec::new() };
    let mut source = Source::new(NO_BLOCKS);
    exchange.publish(source.work());
    let channel = Lane::Channel(1);

    exchange.say(
        Lane::Control,
        &SetupConnection {
            protocol: protocol::MINING,
            min_version: 2,
            max_version: 2,
            flags: REQUIRES_STANDARD_JOBS,
            endpoint_host: Str255::truncated("pool.example"),
            endpoint_port: 3333,
            vendor: Str255::truncated("vendor"),
            hardware_version: Str255::truncated("1"),
            firmware: Str255::truncated("2"),
            device_id: Str255::truncated("3"),
        },
    );
    let requested_extensions = Seq64K::of(&[WORKER_HASHRATE_TRACKING]);
    exchange.say(Lane::Control, &RequestExtensions { request_id: 1, requested_extensions });
    exchange.say(
        channel,
        &OpenStandardMiningChannel {
            request_id: RequestId(7),
            user_identity: Str255::truncated("alice.rig1"),
            nominal_hash_rate: 0.001,
            max_target: U256([0xff; 32]),
        },
    );

    let (id, target) = exchange.opened();
    let mut assignments = Assignments::new(id, target);
    for (msg_type, payload) in &exchange.heard {
        if let Ok(message) = Mining::decode(*msg_type, payload) {
            assignments.handle(&message);
        }
    }
    let job = assignments.current().expect("the channel has work").clone();
    let mut header = job.header();
    let nonce = (0..).find(|nonce: &u32| {
        header[76..80].copy_from_slice(&nonce.to_le_bytes());
        target.is_met_by(&sha256d(&header))
    });
    exchange.say(
        channel,
        &SubmitSharesStandard {
            channel_id: id,
            sequence_number: SequenceNumber(1),
            job_id: job.job_id,
            nonce: nonce.unwrap(),
            ntime: job.ntime,
            version: job.version,
        },
    );
    exchange.publish(source.prepare(0, 1));
    exchange.publish(source.new_tip(NO_BLOCKS));
    exchange.say(channel, &CloseChannel { channel_id: id, reason_code: Str255::truncated("done") });
    exchange.transcript.0.push("C 4  FIN".to_owned());
    exchange.input(Input::Ended(channel));

    let said = exchange.transcript.0.join("\n");
    assert_eq!(block("C 0").join("\n"), said, "the exchange is now:\n{said}");
}

impl Exchange {
    fn opened(&self) -> (ChannelId, Target) {
        let opened = self.heard.iter().find_map(|(msg_type, payload)| {
            let is_it = *msg_type == OpenStandardMiningChannelSuccess::TYPE;
            is_it.then(|| OpenStandardMiningChannelSuccess::decode(payload).unwrap())
        });
        let opened = opened.expect("the channel is open");
        (opened.channel_id, opened.target.into())
    }
}
