//! A channel on a connection, and what is mined there.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::timeout;

use super::assignment::Assignments;
use super::search::Nonce;
use super::{Account, MineError, Progress};
use crate::transport::client::{Client, ClientError};
use crate::wire::codec::Str255;
use crate::wire::mining::{CloseChannel, Mining, OpenStandardMiningChannel, SubmitSharesStandard};
use crate::wire::url::Transport;
use crate::wire::{ChannelId, RequestId, SequenceNumber, U256};

/// How long a server may take to open a channel and to have something to do.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Seat {
    /// Tells it from all others that the miner has had.
    pub(super) number: u32,
    pub(super) assignments: Assignments,
    client: Client,
    channel: ChannelId,
    sent: u32,
    answered: u32,
}

impl Seat {
    /// Opens a standard channel and waits for something to do.
    pub(super) async fn take(
        number: u32,
        client: Client,
        account: &Account,
        progress: &Progress,
    ) -> Result<Self, MineError> {
        let taken = timeout(OPEN_TIMEOUT, Self::open(number, client, account, progress)).await;
        taken.map_err(|_| ClientError::Timeout)?
    }

    async fn open(
        number: u32,
        mut client: Client,
        account: &Account,
        progress: &Progress,
    ) -> Result<Self, MineError> {
        client.queue(&OpenStandardMiningChannel {
            request_id: RequestId(1),
            user_identity: Str255::truncated(&account.user),
            nominal_hash_rate: account.hashrate as f32,
            max_target: U256([0xff; 32]),
        })?;
        let (channel, target) = match client.next().await? {
            Mining::OpenStandardMiningChannelSuccess(m) => (m.channel_id, m.target.into()),
            Mining::OpenMiningChannelError(m) => return Err(MineError::Refused(m.error_code.to_string())),
            other => return Err(ClientError::Unexpected(other.msg_type()).into()),
        };
        let assignments = Assignments::new(channel, target);
        let mut seat = Self { number, client, channel, assignments, sent: 0, answered: 0 };
        while seat.assignments.current().is_none() {
            seat.hear(progress).await?;
        }
        Ok(seat)
    }

    pub(super) fn transport(&self) -> Transport {
        self.client.transport()
    }

    /// Waits for a message. True if there is something else to mine now.
    pub(super) async fn hear(&mut self, progress: &Progress) -> Result<bool, MineError> {
        match self.client.next().await? {
            Mining::SubmitSharesSuccess(m) => {
                self.answered += m.new_submits_accepted_count;
                progress.accepted.fetch_add(m.new_submits_accepted_count.into(), Relaxed);
                Ok(false)
            }
            Mining::SubmitSharesError(m) => {
                self.answered += 1;
                progress.rejected.fetch_add(1, Relaxed);
                tracing::debug!(error = %m.error_code, "share refused");
                Ok(false)
            }
            Mining::CloseChannel(m) if m.channel_id == self.channel => {
                Err(MineError::Closed(m.reason_code.to_string()))
            }
            message => Ok(self.assignments.handle(&message)),
        }
    }

    /// Whether the server has answered every share.
    pub(super) fn is_answered(&self) -> bool {
        self.answered >= self.sent
    }

    /// Submits what was found here, unless it was found too late: it would be refused as stale.
    pub(super) fn submit(&mut self, nonce: &Nonce, progress: &Progress) -> Result<(), ClientError> {
        let prev_hash = self.assignments.current().map(|current| current.prev_hash);
        if nonce.seat != self.number || prev_hash != Some(nonce.assignment.prev_hash) {
            return Ok(());
        }
        self.sent += 1;
        if nonce.block {
            progress.blocks.fetch_add(1, Relaxed);
        }
        self.client.queue(&SubmitSharesStandard {
            channel_id: self.channel,
            sequence_number: SequenceNumber(self.sent),
            job_id: nonce.assignment.job_id,
            nonce: nonce.nonce,
            ntime: nonce.ntime,
            version: nonce.version,
        })
    }

    /// Closes the channel and waits for the answers that are still owed.
    pub(super) async fn leave(mut self, progress: &Progress) {
        let reason_code = Str255::truncated("done");
        let owed = async {
            self.client.queue(&CloseChannel { channel_id: self.channel, reason_code })?;
            self.client.flush().await?;
            while !self.is_answered() {
                self.hear(progress).await?;
            }
            Ok::<_, MineError>(())
        };
        // what does not come in time, or not at all, is not known to be accepted
        let _ = timeout(PATIENCE, owed).await;
        self.client.close().await;
    }
}
