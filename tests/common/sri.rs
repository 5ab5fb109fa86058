//! A mining client made of SRI's crates: its Noise, its codec, its parser, and its view of
//! channels and groups, which refuses what is no legal sequence of messages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use blvm_stratum_v2::wire::keys::AuthorityPublicKey;
use stratum_core::binary_sv2::to_bytes;
use stratum_core::bitcoin::Target;
use stratum_core::channels_sv2::client::extended::ExtendedChannel;
use stratum_core::channels_sv2::client::group::GroupChannel;
use stratum_core::channels_sv2::client::share_accounting::{ShareAccounting, ShareValidationResult};
use stratum_core::channels_sv2::client::standard::StandardChannel;
use stratum_core::channels_sv2::extranonce_manager::ExtranoncePrefix;
use stratum_core::codec_sv2::{
    Decoded, Decrypted, Handshake, InitiatorSent, NoiseDecoder, NoiseEncoder, TransportDecryptState,
    TransportEncryptState,
};
use stratum_core::common_messages_sv2::{Protocol, SetupConnectionOwned};
use stratum_core::framing_sv2::framing::{MessageFrame, SerializedFrame};
use stratum_core::mining_sv2::{
    CloseChannelOwned, NewExtendedMiningJobOwned, OpenExtendedMiningChannelOwned,
    OpenStandardMiningChannelOwned, SubmitSharesExtendedOwned, SubmitSharesStandardOwned,
    SubmitSharesSuccess, UpdateChannelOwned,
};
use stratum_core::noise_sv2::Initiator;
use stratum_core::parsers_sv2::{AnyMessage, AnyMessageOwned, CommonMessagesOwned, MiningOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{HeaderFields, merkle_root};

/// Nothing that is waited for takes this long.
const DEADLINE: Duration = Duration::from_secs(20);

/// A connection that speaks SV2 as SRI does.
pub struct Wire {
    stream: TcpStream,
    encoder: NoiseEncoder,
    decoder: NoiseDecoder,
    seal: TransportEncryptState,
    open: Option<TransportDecryptState>,
}

impl Wire {
    pub async fn connect(address: SocketAddr, authority: &AuthorityPublicKey) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut encoder, mut decoder) = (NoiseEncoder::new(), NoiseDecoder::new());
        let initiator = Handshake::initiator(Initiator::from_raw_k(authority.to_bytes()).unwrap());
        let (act1, sent) = initiator.step_0().unwrap();
        stream.write_all(encoder.encode_handshake(act1).as_ref()).await.unwrap();
        let act2 = loop {
            match decoder.next_handshake_frame::<InitiatorSent>().unwrap() {
                Decoded::Frame(act2) => break act2,
                Decoded::Incomplete(_) => {
                    stream.read_exact(decoder.writable()).await.unwrap();
                }
            }
        };
        let (seal, open) = sent.step_2(act2.payload().try_into().unwrap()).unwrap().split();
        Self { stream, encoder, decoder, seal, open: Some(open) }
    }

    pub async fn send(&mut self, message: AnyMessageOwned) {
        let frame: MessageFrame<AnyMessageOwned> = message.try_into().unwrap();
        let sealed = self.encoder.encode_transport(frame, &mut self.seal).unwrap();
        self.stream.write_all(sealed.as_ref()).await.unwrap();
    }

    /// A frame as it stands.
    pub async fn send_raw(&mut self, frame: Vec<u8>) {
        let frame = SerializedFrame::from_bytes(frame).unwrap();
        let sealed = self.encoder.encode_transport(frame, &mut self.seal).unwrap();
        self.stream.write_all(sealed.as_ref()).await.unwrap();
    }

    pub async fn receive(&mut self) -> AnyMessageOwned {
        timeout(DEADLINE, self.next()).await.expect("a message within the deadline")
    }

    async fn next(&mut self) -> AnyMessageOwned {
        loop {
            let state = self.open.take().unwrap();
            match self.decoder.next_transport_frame(state).unwrap() {
                Decrypted::Frame(mut frame, state) => {
                    self.open = Some(state);
                    let header = frame.header();
                    return AnyMessage::try_from((header, frame.payload())).unwrap().into_owned();
                }
                Decrypted::Incomplete(_, state) => {
                    self.open = Some(state);
                    self.stream.read_exact(self.decoder.writable()).await.expect("the server stays");
                }
            }
        }
    }
}

/// A connection with its channels.
pub struct Client {
    pub wire: Wire,
    pub channels: BTreeMap<u32, Channel>,
    pub groups: BTreeMap<u32, GroupChannel>,
    /// The types and addresses of the messages about work, as they came.
    pub work: Vec<(u8, u32)>,
    requests: u32,
}

/// One channel.
pub struct Channel {
    pub id: u32,
    pub sri: Sri,
    pub group: u32,
    /// The error codes of refused shares.
    pub refused: Vec<String>,
    /// The newest share submitted.
    pub sequence: u32,
    /// The newest share acknowledged.
    pub acknowledged: u32,
    nonce: u32,
}

pub enum Sri {
    Standard(StandardChannel),
    Extended(ExtendedChannel),
}

pub const STANDARD_JOBS: u32 = 1;

impl Client {
    pub async fn connect(
        address: SocketAddr,
        authority: &AuthorityPublicKey,
        vendor: &str,
        flags: u32,
    ) -> Self {
        let mut wire = Wire::connect(address, authority).await;
        let text = |text: &str| text.as_bytes().to_vec().try_into().unwrap();
        let setup = SetupConnectionOwned {
            protocol: Protocol::MiningProtocol,
            min_version: 2,
            max_version: 2,
            flags,
            endpoint_host: text("localhost"),
            endpoint_port: address.port(),
            vendor: text(vendor),
            hardware_version: text("1"),
            firmware: text("1"),
            device_id: text(""),
        };
        wire.send(AnyMessageOwned::Common(CommonMessagesOwned::SetupConnection(setup))).await;
        match wire.receive().await {
            AnyMessageOwned::Common(CommonMessagesOwned::SetupConnectionSuccess(m)) => {
                assert_eq!(m.used_version, 2);
            }
            other => panic!("{other:?}"),
        }
        Self { wire, channels: BTreeMap::new(), groups: BTreeMap::new(), work: Vec::new(), requests: 0 }
    }

    async fn send(&mut self, message: MiningOwned) {
        self.wire.send(AnyMessageOwned::Mining(message)).await;
    }

    /// Opens a channel and waits until it has something to mine on.
    pub async fn open(&mut self, standard: bool, hashrate: f32) -> u32 {
        self.requests += 1;
        let request_id = self.requests;
        let user_identity = format!("alice.w{request_id}").into_bytes().try_into().unwrap();
        let max_target = [0xff; 32].into();
        let nominal_hash_rate = hashrate;
        let before = self.channels.len();
        self.send(if standard {
            let open =
                OpenStandardMiningChannelOwned { request_id, user_identity, nominal_hash_rate, max_target };
            MiningOwned::OpenStandardMiningChannel(open)
        } else {
            let min_extranonce_size = 8;
            MiningOwned::OpenExtendedMiningChannel(OpenExtendedMiningChannelOwned {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size,
            })
        })
        .await;
        self.until(|client| client.channels.len() > before).await;
        let id = *self.channels.keys().max().unwrap();
        self.until(|client| client.channels[&id].active().is_some()).await;
        id
    }

    /// Says that a channel's hashrate is another; waits for the job that comes with the target.
    pub async fn update(&mut self, id: u32, nominal_hash_rate: f32) {
        let maximum_target = [0xff; 32].into();
        let job = self.channels[&id].active();
        let target = self.channels[&id].target();
        self.send(MiningOwned::UpdateChannel(UpdateChannelOwned {
            channel_id: id,
            nominal_hash_rate,
            maximum_target,
        }))
        .await;
        self.until(|client| client.channels[&id].target() != target && client.channels[&id].active() != job)
            .await;
    }

    /// Takes in messages until something holds.
    pub async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            self.take().await;
        }
    }

    /// Takes in one message. Panics if SRI's channels do not accept it.
    pub async fn take(&mut self) {
        let AnyMessageOwned::Mining(message) = self.wire.receive().await else {
            panic!("a message on mining")
        };
        match message {
            MiningOwned::OpenStandardMiningChannelSuccess(m) => {
                let prefix = m.extranonce_prefix.to_owned_bytes();
                let target = Target::from_le_bytes(m.target.to_array());
                let size = prefix.len();
                let prefix = ExtranoncePrefix::from_wire(prefix).unwrap();
                let sri =
                    StandardChannel::new(m.channel_id, "alice".into(), prefix, target, 1.0, None).unwrap();
                self.opened(m.channel_id, m.group_channel_id, size, Sri::Standard(sri));
            }
            MiningOwned::OpenExtendedMiningChannelSuccess(m) => {
                let prefix = m.extranonce_prefix.to_owned_bytes();
                let target = Target::from_le_bytes(m.target.to_array());
                let size = prefix.len() + usize::from(m.extranonce_size);
                let prefix = ExtranoncePrefix::from_wire(prefix).unwrap();
                let rollable = m.extranonce_size;
                let sri = ExtendedChannel::new(
                    m.channel_id,
                    "alice".into(),
                    prefix,
                    target,
                    1.0,
                    true,
                    rollable,
                    None,
                )
                .unwrap();
                self.opened(m.channel_id, m.group_channel_id, size, Sri::Extended(sri));
            }
            MiningOwned::NewMiningJob(m) => {
                self.work.push((0x15, m.channel_id));
                match &mut self.channels.get_mut(&m.channel_id).unwrap().sri {
                    Sri::Standard(sri) => sri.on_new_mining_job(m).unwrap(),
                    Sri::Extended(_) => panic!("a standard job on an extended channel"),
                }
            }
            MiningOwned::NewExtendedMiningJob(m) => {
                self.work.push((0x1f, m.channel_id));
                let Some(group) = self.groups.get_mut(&m.channel_id) else {
                    let channel = self.channels.get_mut(&m.channel_id).unwrap();
                    assert!(matches!(channel.sri, Sri::Extended(_)), "no extended job on a standard channel");
                    return channel.new_job(m);
                };
                group.on_new_extended_mining_job(m.clone());
                for id in group.get_channel_ids() {
                    self.channels.get_mut(id).unwrap().new_job(m.clone());
                }
            }
            MiningOwned::SetNewPrevHash(m) => {
                self.work.push((0x20, m.channel_id));
                let members = match self.groups.get_mut(&m.channel_id) {
                    Some(group) => {
                        group.on_set_new_prev_hash(m.clone()).expect("a job it was sent");
                        group.get_channel_ids().copied().collect()
                    }
                    None => vec![m.channel_id],
                };
                for id in members {
                    match &mut self.channels.get_mut(&id).unwrap().sri {
                        Sri::Standard(sri) => sri.on_set_new_prev_hash(m.clone()).expect("a job it was sent"),
                        Sri::Extended(sri) => sri.on_set_new_prev_hash(m.clone()).expect("a job it was sent"),
                    }
                }
            }
            MiningOwned::SetTarget(m) => {
                self.work.push((0x21, m.channel_id));
                let target = Target::from_le_bytes(m.maximum_target.to_array());
                match &mut self.channels.get_mut(&m.channel_id).unwrap().sri {
                    Sri::Standard(sri) => sri.set_target(target).unwrap(),
                    Sri::Extended(sri) => sri.set_target(target).unwrap(),
                }
            }
            MiningOwned::SubmitSharesSuccess(m) => {
                self.channels.get_mut(&m.channel_id).unwrap().acknowledge(&m);
            }
            MiningOwned::SubmitSharesError(m) => {
                let code = String::from_utf8(m.error_code.to_owned_bytes()).unwrap();
                self.channels.get_mut(&m.channel_id).unwrap().refused.push(code);
            }
            other => panic!("{other:?}"),
        }
    }

    fn opened(&mut self, id: u32, group: u32, extranonce: usize, sri: Sri) {
        assert!(id != group && !self.channels.contains_key(&id) && !self.groups.contains_key(&id));
        self.groups
            .entry(group)
            .or_insert_with(|| GroupChannel::new(group))
            .add_channel_id(id, extranonce)
            .unwrap();
        let channel = Channel { id, sri, group, refused: Vec::new(), sequence: 0, acknowledged: 0, nonce: 0 };
        self.channels.insert(id, channel);
    }

    /// Mines a share on each channel's present job, submits it, and waits until all are
    /// acknowledged. SRI has to find each valid. Returns how many of them are blocks.
    pub async fn mine(&mut self) -> usize {
        let ids: Vec<_> = self.channels.keys().copied().collect();
        let mut blocks = 0;
        for id in ids {
            blocks += usize::from(self.submit(id).await);
        }
        self.settle().await;
        blocks
    }

    /// Mines one share on a channel's present job and submits it. Whether it is a block.
    pub async fn submit(&mut self, id: u32) -> bool {
        let (message, block) = self.channels.get_mut(&id).unwrap().mine();
        self.send(message).await;
        block
    }

    /// The same on an extended channel, with bytes of an extension at the end.
    pub async fn submit_with(&mut self, id: u32, extension: &[u8]) {
        let frame = self.channels.get_mut(&id).unwrap().mine_with(extension);
        self.wire.send_raw(frame).await;
    }

    pub async fn close(&mut self, id: u32) {
        let reason_code = b"bye".to_vec().try_into().unwrap();
        self.send(MiningOwned::CloseChannel(CloseChannelOwned { channel_id: id, reason_code })).await;
        let channel = self.channels.remove(&id).unwrap();
        self.groups.get_mut(&channel.group).unwrap().remove_channel_id(id);
    }

    /// Waits until all that was submitted is acknowledged.
    pub async fn settle(&mut self) {
        self.until(|client| client.channels.values().all(|channel| channel.acknowledged == channel.sequence))
            .await;
        for channel in self.channels.values() {
            assert_eq!(channel.refused, [""; 0]);
            let books = channel.books();
            assert_eq!(books.get_acknowledged_shares(), books.get_validated_shares());
        }
    }
}

impl Channel {
    pub fn books(&self) -> &ShareAccounting {
        match &self.sri {
            Sri::Standard(sri) => sri.get_share_accounting(),
            Sri::Extended(sri) => sri.get_share_accounting(),
        }
    }

    pub fn target(&self) -> Target {
        match &self.sri {
            Sri::Standard(sri) => *sri.get_target(),
            Sri::Extended(sri) => *sri.get_target(),
        }
    }

    /// The job that is to be mined.
    pub fn active(&self) -> Option<u32> {
        match &self.sri {
            Sri::Standard(sri) => sri.get_active_job().map(|job| job.job_message.job_id),
            Sri::Extended(sri) => sri.get_active_job().map(|job| job.job_message.job_id),
        }
    }

    fn new_job(&mut self, m: NewExtendedMiningJobOwned) {
        match &mut self.sri {
            Sri::Standard(sri) => sri.on_new_group_channel_job(m).unwrap(),
            Sri::Extended(sri) => sri.on_new_extended_mining_job(m).unwrap(),
        }
    }

    fn acknowledge(&mut self, m: &SubmitSharesSuccess) {
        assert!(m.last_sequence_number > self.acknowledged, "shares are acknowledged in order");
        assert_eq!(m.new_submits_accepted_count, m.last_sequence_number - self.acknowledged);
        self.acknowledged = m.last_sequence_number;
        let (count, sum) = (m.new_submits_accepted_count, m.new_shares_sum);
        match &mut self.sri {
            Sri::Standard(sri) => sri.on_share_acknowledgement(count, sum),
            Sri::Extended(sri) => sri.on_share_acknowledgement(count, sum),
        }
    }

    /// A share that SRI finds valid, and whether it is a block.
    fn mine(&mut self) -> (MiningOwned, bool) {
        self.sequence += 1;
        let channel_id = self.id;
        let sequence_number = self.sequence;
        match &mut self.sri {
            Sri::Standard(sri) => {
                let job = sri.get_active_job().unwrap().clone();
                let tip = sri.get_chain_tip().unwrap();
                let fields = HeaderFields {
                    version: job.job_message.version ^ 1 << 13,
                    prev_hash: tip.prev_hash().to_array(),
                    merkle_root: job.job_message.merkle_root.to_array(),
                    ntime: job.job_message.min_ntime.as_ref().copied().unwrap(),
                    nbits: tip.nbits(),
                };
                let nonce = fields.search(self.nonce, |hash| Target::from_le_bytes(hash) < job.target);
                self.nonce = nonce + 1;
                let HeaderFields { version, ntime, .. } = fields;
                let job_id = job.job_message.job_id;
                let share =
                    SubmitSharesStandardOwned { channel_id, sequence_number, job_id, nonce, ntime, version };
                let valid = sri.validate_share(share.clone()).unwrap();
                let block = matches!(valid, ShareValidationResult::BlockFound(_));
                (MiningOwned::SubmitSharesStandard(share), block)
            }
            Sri::Extended(sri) => {
                let job = sri.get_active_job().unwrap().clone();
                let tip = sri.get_chain_tip().unwrap();
                let extranonce = vec![sequence_number as u8; sri.get_rollable_extranonce_size().into()];
                let whole = [&job.extranonce_prefix[..], &extranonce].concat();
                let fields = HeaderFields {
                    version: job.job_message.version ^ 1 << 13,
                    prev_hash: tip.prev_hash().to_array(),
                    merkle_root: merkle_root(&job.job_message, &whole),
                    ntime: job.job_message.min_ntime.as_ref().copied().unwrap(),
                    nbits: tip.nbits(),
                };
                let nonce = fields.search(self.nonce, |hash| Target::from_le_bytes(hash) < job.target);
                self.nonce = nonce + 1;
                let HeaderFields { version, ntime, .. } = fields;
                let job_id = job.job_message.job_id;
                let extranonce = extranonce.try_into().unwrap();
                let share = SubmitSharesExtendedOwned {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                    extranonce,
                };
                let valid = sri.validate_share(share.clone()).unwrap();
                let block = matches!(valid, ShareValidationResult::BlockFound(_));
                (MiningOwned::SubmitSharesExtended(share), block)
            }
        }
    }

    /// A share on an extended channel, as its frame, with bytes of an extension at the end.
    fn mine_with(&mut self, extension: &[u8]) -> Vec<u8> {
        let (MiningOwned::SubmitSharesExtended(share), _) = self.mine() else {
            panic!("an extended channel")
        };
        let payload = [&to_bytes(share).unwrap()[..], extension].concat();
        [&[0x00, 0x80, 0x1b][..], &payload.len().to_le_bytes()[..3], &payload].concat()
    }
}
