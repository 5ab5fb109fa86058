//! What the server wants hashed: the client's side of §5.3.15 to §5.3.21, for one standard channel.

use std::collections::HashMap;

use crate::mining::Target;
use crate::wire::mining::{Mining, NewMiningJob, SetNewPrevHash};
use crate::wire::{ChannelId, JobId};

/// A header to find nonces for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The job it belongs to.
    pub job_id: JobId,
    /// The header's version; BIP323 bits may be rolled.
    pub version: u32,
    /// The block to build on.
    pub prev_hash: [u8; 32],
    /// The merkle root.
    pub merkle_root: [u8; 32],
    /// The first time to use.
    pub ntime: u32,
    /// The compact network target.
    pub nbits: u32,
    /// What a share's hash must not exceed.
    pub target: Target,
}

impl Assignment {
    /// The header to start from: time and nonce are to be varied, and the version within BIP323.
    #[must_use]
    pub fn header(&self) -> [u8; 80] {
        let mut header = [0; 80];
        header[0..4].copy_from_slice(&self.version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prev_hash);
        header[36..68].copy_from_slice(&self.merkle_root);
        header[68..72].copy_from_slice(&self.ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        header
    }
}

/// What one standard channel has been sent.
#[derive(Debug)]
pub struct Assignments {
    channel: ChannelId,
    target: Target,
    futures: HashMap<JobId, NewMiningJob>,
    prev_hash: Option<SetNewPrevHash>,
    current: Option<Assignment>,
}

impl Assignments {
    /// A channel that was opened just now with this target.
    #[must_use]
    pub fn new(channel: ChannelId, target: Target) -> Self {
        Self { channel, target, futures: HashMap::new(), prev_hash: None, current: None }
    }

    /// What to mine now.
    #[must_use]
    pub fn current(&self) -> Option<&Assignment> {
        self.current.as_ref()
    }

    /// Takes in a message. True if there is something else to mine now.
    pub fn handle(&mut self, message: &Mining<'_>) -> bool {
        match message {
            Mining::NewMiningJob(m) if m.channel_id == self.channel => self.new_job(*m),
            Mining::SetNewPrevHash(m) if m.channel_id == self.channel => self.new_prev_hash(*m),
            Mining::SetTarget(m) if m.channel_id == self.channel => {
                // in force for the jobs that become active from now on (§5.3.21)
                self.target = m.maximum_target.into();
                false
            }
            _ => false,
        }
    }

    fn new_job(&mut self, job: NewMiningJob) -> bool {
        match (job.min_ntime, self.prev_hash) {
            (Some(ntime), Some(prev_hash)) => {
                self.current = Some(self.assignment(&job, &prev_hash, ntime));
                true
            }
            _ => {
                self.futures.insert(job.job_id, job);
                false
            }
        }
    }

    fn new_prev_hash(&mut self, prev_hash: SetNewPrevHash) -> bool {
        let job = self.futures.remove(&prev_hash.job_id);
        // all other jobs end here (§5.3.17)
        self.futures.clear();
        self.prev_hash = Some(prev_hash);
        self.current = job.map(|job| self.assignment(&job, &prev_hash, prev_hash.min_ntime));
        true
    }

    fn assignment(&self, job: &NewMiningJob, prev_hash: &SetNewPrevHash, ntime: u32) -> Assignment {
        Assignment {
            job_id: job.job_id,
            version: job.version,
            prev_hash: prev_hash.prev_hash.0,
            merkle_root: job.merkle_root.0,
            ntime,
            nbits: prev_hash.nbits,
            target: self.target,
        }
    }
}
