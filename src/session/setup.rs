//! SetupConnection (§3.6.1) and the negotiation of extensions (extension 0x0001).

use std::sync::Arc;

use super::connection::Connection;
use super::{CloseReason, Event, Lane, Out, Session, State, Todo};
use crate::mining::Work;
use crate::mining::moment::Moment;
use crate::wire::codec::{Seq64K, Str255};
use crate::wire::common::flags::{REQUIRES_STANDARD_JOBS, REQUIRES_VERSION_ROLLING, REQUIRES_WORK_SELECTION};
use crate::wire::common::{SetupConnection, SetupConnectionError, SetupConnectionSuccess, protocol};
use crate::wire::extensions::{
    Negotiation, RequestExtensionsError, RequestExtensionsSuccess, WORKER_HASHRATE_TRACKING,
};
use crate::wire::{Header, Message};

/// The one protocol version there is.
pub const VERSION: u16 = 2;
/// What a client may ask for.
const SUPPORTED: u32 = REQUIRES_STANDARD_JOBS | REQUIRES_VERSION_ROLLING;

/// What was agreed on for the connection.
#[derive(Debug)]
pub(super) struct Setup {
    /// The client cannot take extended jobs.
    pub(super) standard_jobs_only: bool,
    /// Work is addressed to each channel, not to its group.
    pub(super) per_channel: bool,
    /// Shares may carry the name of a worker.
    pub(super) worker_names: bool,
}

impl Session {
    pub(super) fn set_up(
        &mut self,
        now: Moment,
        lane: Lane,
        header: Header,
        payload: &[u8],
        work: Option<Arc<Work>>,
    ) -> Result<(), CloseReason> {
        let msg_type = header.msg_type;
        if (header.extension, msg_type) != (0, SetupConnection::TYPE) {
            return Err(CloseReason::Unexpected(msg_type));
        }
        let message =
            SetupConnection::decode(payload).map_err(|error| CloseReason::Malformed { msg_type, error })?;
        if let Err((flags, error_code)) = acceptable(&message) {
            let error = SetupConnectionError { flags, error_code: Str255::truncated(error_code) };
            self.out.frames.push(lane, &error);
            return Err(CloseReason::SetupRefused(error_code));
        }
        self.out.frames.push(lane, &SetupConnectionSuccess { used_version: VERSION, flags: 0 });
        let device = format!("{} {} {}", message.vendor, message.hardware_version, message.firmware);
        let standard_jobs_only = message.flags & REQUIRES_STANDARD_JOBS != 0;
        let setup = Setup {
            standard_jobs_only,
            per_channel: standard_jobs_only || self.out.drops_group_messages(&message),
            worker_names: false,
        };
        self.state = State::Open(Box::new(Connection::new(setup, work, self.first_job, now)));
        self.out.todo.push_back(Todo::Event(Event::SetUp { device: device.trim().to_owned() }));
        Ok(())
    }
}

/// Flags and error code of the refusal, if it is one.
fn acceptable(message: &SetupConnection<'_>) -> Result<(), (u32, &'static str)> {
    if message.protocol != protocol::MINING {
        return Err((0, "unsupported-protocol"));
    }
    if !(message.min_version..=message.max_version).contains(&VERSION) {
        return Err((0, "protocol-version-mismatch"));
    }
    if message.flags & !SUPPORTED != 0 {
        // all that is not supported, asked for or not: clients probe servers with this
        return Err((message.flags & !SUPPORTED | REQUIRES_WORK_SELECTION, "unsupported-feature-flags"));
    }
    Ok(())
}

impl Out {
    fn drops_group_messages(&self, message: &SetupConnection<'_>) -> bool {
        let vendor = message.vendor.as_bytes().to_ascii_lowercase();
        let names = |name: &String| {
            let name = name.to_ascii_lowercase();
            !name.is_empty() && vendor.windows(name.len()).any(|part| part == name.as_bytes())
        };
        self.options.per_channel_vendors.iter().any(names)
    }
}

impl Connection {
    pub(super) fn negotiate(
        &mut self,
        out: &mut Out,
        lane: Lane,
        msg_type: u8,
        payload: &[u8],
    ) -> Result<(), CloseReason> {
        let message = Negotiation::decode(msg_type, payload)
            .map_err(|error| CloseReason::Malformed { msg_type, error })?;
        let Negotiation::RequestExtensions(request) = message else {
            return Err(CloseReason::Unexpected(msg_type));
        };
        let request_id = request.request_id;
        let requested = request.requested_extensions;
        let known = requested.iter().any(|extension| extension == WORKER_HASHRATE_TRACKING);
        self.setup.worker_names |= known;
        if known || requested.is_empty() {
            let supported_extensions =
                if known { Seq64K::of(&[WORKER_HASHRATE_TRACKING]) } else { Seq64K::default() };
            out.frames.push(lane, &RequestExtensionsSuccess { request_id, supported_extensions });
        } else {
            let required_extensions = Seq64K::default();
            out.frames.push(
                lane,
                &RequestExtensionsError {
                    request_id,
                    unsupported_extensions: requested,
                    required_extensions,
                },
            );
        }
        Ok(())
    }
}
