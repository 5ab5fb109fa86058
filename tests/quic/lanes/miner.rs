//! A miner made of bare streams. Whatever comes where it does not belong ends the test.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use blvm_stratum_v2::miner::assignment::{Assignment, Assignments};
use blvm_stratum_v2::mining::hash::sha256d;
use blvm_stratum_v2::wire::codec::{Seq64K, Str255};
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::common::{SetupConnection, SetupConnectionSuccess};
use blvm_stratum_v2::wire::extensions::RequestExtensions;
use blvm_stratum_v2::wire::mining::{
    CloseChannel, Mining, OpenExtendedMiningChannel, OpenStandardMiningChannel, SubmitSharesStandard,
};
use blvm_stratum_v2::wire::{ChannelId, JobId, Message, RequestId, SequenceNumber, U256};

use crate::raw::{Dial, End, Frame, Raw, Receiver, Refused, Stream};

/// A client that takes no messages to groups.
pub(crate) const SINGLY: u32 = REQUIRES_STANDARD_JOBS;

pub(crate) fn setup(flags: u32) -> SetupConnection<'static> {
    let text = Str255::truncated("test");
    SetupConnection {
        protocol: 0,
        min_version: 2,
        max_version: 2,
        flags,
        endpoint_host: text,
        endpoint_port: 0,
        vendor: text,
        hardware_version: text,
        firmware: text,
        device_id: text,
    }
}

pub(crate) fn worker_names() -> RequestExtensions<'static> {
    RequestExtensions { request_id: 1, requested_extensions: Seq64K::of(&[2]) }
}

pub(crate) fn open(request: u32) -> OpenStandardMiningChannel<'static> {
    OpenStandardMiningChannel {
        request_id: RequestId(request),
        user_identity: Str255::truncated("raw"),
        nominal_hash_rate: 1.0,
        max_target: U256([0xff; 32]),
    }
}

pub(crate) fn open_extended(request: u32) -> OpenExtendedMiningChannel<'static> {
    let OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target } =
        open(request);
    OpenExtendedMiningChannel {
        request_id,
        user_identity,
        nominal_hash_rate,
        max_target,
        min_extranonce_size: 4,
    }
}

/// One that is refused.
pub(crate) fn open_in_vain(request: u32) -> OpenStandardMiningChannel<'static> {
    OpenStandardMiningChannel { max_target: U256([0; 32]), ..open(request) }
}

pub(crate) fn close(id: u32) -> CloseChannel<'static> {
    CloseChannel { channel_id: ChannelId(id), reason_code: Str255::truncated("enough") }
}

/// What came on the push stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Opened { request: u32, channel: u32, group: u32 },
    Future { to: u32, job: u32 },
    Job { to: u32, job: u32 },
    Tip { to: u32, job: u32 },
    Target { to: u32 },
}

impl Work {
    fn read((header, payload): &Frame) -> Self {
        assert_eq!(header.extension, 0, "on the push stream: {header:?}");
        let message = Mining::decode(header.msg_type, payload).unwrap();
        Self::of(&message).unwrap_or_else(|| panic!("on the push stream: {message:?}"))
    }

    pub(crate) fn of(message: &Mining<'_>) -> Option<Self> {
        let job = |to: ChannelId, job: JobId, min_ntime: Option<u32>| match min_ntime {
            None => Self::Future { to: to.0, job: job.0 },
            Some(_) => Self::Job { to: to.0, job: job.0 },
        };
        let opened = |request: RequestId, channel: ChannelId, group: ChannelId| Self::Opened {
            request: request.0,
            channel: channel.0,
            group: group.0,
        };
        Some(match message {
            Mining::OpenStandardMiningChannelSuccess(m) => {
                opened(m.request_id, m.channel_id, m.group_channel_id)
            }
            Mining::OpenExtendedMiningChannelSuccess(m) => {
                opened(m.request_id, m.channel_id, m.group_channel_id)
            }
            Mining::NewMiningJob(m) => job(m.channel_id, m.job_id, m.min_ntime),
            Mining::NewExtendedMiningJob(m) => job(m.channel_id, m.job_id, m.min_ntime),
            Mining::SetNewPrevHash(m) => Self::Tip { to: m.channel_id.0, job: m.job_id.0 },
            Mining::SetTarget(m) => Self::Target { to: m.channel_id.0 },
            _ => return None,
        })
    }

    fn addressee(self) -> Option<u32> {
        match self {
            Self::Opened { .. } => None,
            Self::Future { to, .. } | Self::Job { to, .. } | Self::Tip { to, .. } | Self::Target { to } => {
                Some(to)
            }
        }
    }
}

/// What came on a channel's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    NotOpened { request: u32, code: String },
    Accepted { channel: u32, last: u32, count: u32 },
    Rejected { channel: u32, number: u32, code: String },
    NotUpdated { channel: u32, code: String },
    NoCustomJob { channel: u32, code: String },
}

impl Answer {
    fn read((header, payload): &Frame) -> Self {
        assert_eq!(header.extension, 0, "on a channel's stream: {header:?}");
        let message = Mining::decode(header.msg_type, payload).unwrap();
        Self::of(&message).unwrap_or_else(|| panic!("on a channel's stream: {message:?}"))
    }

    pub(crate) fn of(message: &Mining<'_>) -> Option<Self> {
        Some(match message {
            Mining::OpenMiningChannelError(m) => {
                Self::NotOpened { request: m.request_id.0, code: m.error_code.to_string() }
            }
            Mining::SubmitSharesSuccess(m) => Self::Accepted {
                channel: m.channel_id.0,
                last: m.last_sequence_number.0,
                count: m.new_submits_accepted_count,
            },
            Mining::SubmitSharesError(m) => Self::Rejected {
                channel: m.channel_id.0,
                number: m.sequence_number.0,
                code: m.error_code.to_string(),
            },
            Mining::UpdateChannelError(m) => {
                Self::NotUpdated { channel: m.channel_id.0, code: m.error_code.to_string() }
            }
            Mining::SetCustomMiningJobError(m) => {
                Self::NoCustomJob { channel: m.channel_id.0, code: m.error_code.to_string() }
            }
            _ => return None,
        })
    }
}

pub(crate) struct Miner {
    pub(crate) raw: Raw,
    pub(crate) control: Stream,
    /// None until the server has said something on it.
    push: Option<Receiver>,
    /// Channels and groups that the server has told of.
    known: HashSet<u32>,
    assignments: HashMap<u32, Assignments>,
}

impl Miner {
    /// Connects and is set up.
    pub(crate) async fn at(server: SocketAddr, flags: u32) -> Self {
        let mut miner = Self::by(&Dial::new(), server, flags).await;
        miner.is_set_up().await;
        miner
    }

    /// Connects and asks to be set up.
    pub(crate) async fn by(dial: &Dial, server: SocketAddr, flags: u32) -> Self {
        let raw = dial.connect(server).await.unwrap();
        let mut control = raw.open_bi().await.unwrap();
        control.send(&setup(flags)).await.unwrap();
        Self { raw, control, push: None, known: HashSet::new(), assignments: HashMap::new() }
    }

    /// Waits for the answer to SetupConnection.
    pub(crate) async fn is_set_up(&mut self) {
        let (header, _) = self.control.next().await.unwrap();
        assert_eq!(header.msg_type, SetupConnectionSuccess::TYPE);
    }

    /// The next that comes on the push stream. It is about nothing that the client does not know.
    pub(crate) async fn hear(&mut self) -> Result<Work, End> {
        let push = match &mut self.push {
            Some(push) => push,
            none => none.insert(self.raw.accept_uni().await.map_err(End::Connection)?),
        };
        let frame = push.next().await?;
        let work = Work::read(&frame);
        if let Some(to) = work.addressee() {
            assert!(self.known.contains(&to), "of something unknown: {work:?}");
        }
        let message = Mining::decode(frame.0.msg_type, &frame.1).unwrap();
        if let Work::Opened { channel, group, .. } = work {
            self.known.extend([channel, group]);
        }
        if let Mining::OpenStandardMiningChannelSuccess(m) = message {
            self.assignments.insert(m.channel_id.0, Assignments::new(m.channel_id, m.target.into()));
        }
        self.assignments.values_mut().for_each(|known| {
            known.handle(&message);
        });
        Ok(work)
    }

    /// Hears on until such a thing comes.
    pub(crate) async fn until(&mut self, such: impl Fn(&Work) -> bool) -> Work {
        loop {
            let work = self.hear().await.unwrap();
            if such(&work) {
                return work;
            }
        }
    }

    /// Opens a standard channel and waits for its first job.
    pub(crate) async fn open(&mut self, request: u32) -> Channel {
        let mut stream = self.raw.open_bi().await.unwrap();
        stream.send(&open(request)).await.unwrap();
        self.opened(request, stream).await
    }

    /// Waits for the channel that was asked for on this stream, and for its first job.
    pub(crate) async fn opened(&mut self, request: u32, stream: Stream) -> Channel {
        let is_it = |work: &Work| matches!(work, Work::Opened { request: of, .. } if *of == request);
        let Work::Opened { channel: id, group, .. } = self.until(is_it).await else { unreachable!() };
        self.until(|work| matches!(work, Work::Tip { to, .. } if *to == id)).await;
        Channel { id, group, stream, sent: 0 }
    }

    /// What a channel mines now.
    pub(crate) fn assignment(&self, channel: u32) -> &Assignment {
        self.assignments[&channel].current().expect("a job has come")
    }

    /// Refuses to hear of work.
    pub(crate) fn stop(&mut self) {
        self.push.as_mut().unwrap().stop(0);
    }

    pub(crate) fn streams_with_work(&self) -> usize {
        self.push.iter().count()
    }
}

/// A standard channel.
pub(crate) struct Channel {
    pub(crate) id: u32,
    pub(crate) group: u32,
    pub(crate) stream: Stream,
    pub(crate) sent: u32,
}

impl Channel {
    /// A share that has not been sent yet, of the job at hand.
    pub(crate) fn find(&mut self, miner: &Miner) -> SubmitSharesStandard {
        let job = miner.assignment(self.id);
        let mut header = job.header();
        loop {
            self.sent += 1;
            header[76..80].copy_from_slice(&self.sent.to_le_bytes());
            if job.target.is_met_by(&sha256d(&header)) {
                break;
            }
        }
        SubmitSharesStandard {
            channel_id: ChannelId(self.id),
            sequence_number: SequenceNumber(self.sent),
            job_id: job.job_id,
            nonce: self.sent,
            ntime: job.ntime,
            version: job.version,
        }
    }

    /// Sends a share that will be accepted.
    pub(crate) async fn share(&mut self, miner: &Miner) -> Result<(), Refused> {
        let share = self.find(miner);
        self.stream.send(&share).await
    }

    /// One that will not.
    pub(crate) async fn bad_share(&mut self, miner: &Miner) -> Result<(), Refused> {
        let share = self.find(miner);
        self.stream.send(&SubmitSharesStandard { ntime: 0, ..share }).await
    }

    pub(crate) async fn answer(&mut self) -> Result<Answer, End> {
        Ok(Answer::read(&self.stream.next().await?))
    }

    /// Waits until so many more shares are acknowledged, and no other answer.
    pub(crate) async fn is_acknowledged(&mut self, shares: u32) {
        let mut acknowledged = 0;
        while acknowledged < shares {
            match self.answer().await.unwrap() {
                Answer::Accepted { channel, count, .. } if channel == self.id => acknowledged += count,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acknowledged, shares);
    }

    /// Works: a share is acknowledged.
    pub(crate) async fn works(&mut self, miner: &Miner) {
        self.share(miner).await.unwrap();
        self.is_acknowledged(1).await;
    }
}
