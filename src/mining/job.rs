//! A template with its payout: all of a block but the extranonce.

use std::sync::Arc;

use bitcoin::TxOut;

use super::coinbase::{CoinbaseError, CoinbaseParts};
use super::extranonce::EXTRANONCE_LEN;
use super::hash::Prefix;
use super::{Template, merkle};
use crate::wire::codec::{B064K, Seq255};
use crate::wire::mining::NewExtendedMiningJob;
use crate::wire::{ChannelId, JobId, Message, Wire, WireError, write_frame};

/// What a group of channels mines on. Built once for a template and a payout class, however many
/// connections and channels it is announced to.
#[derive(Debug)]
pub struct Job {
    /// What it was made from.
    pub template: Arc<Template>,
    /// The coinbase around the extranonce.
    pub coinbase: CoinbaseParts,
    /// The coinbase's prefix, as every share has it hashed.
    prefix: Prefix,
    /// The fields of NewExtendedMiningJob after `min_ntime`, which are the same for everyone.
    tail: Vec<u8>,
}

impl Job {
    /// Assembles the coinbase that pays `outputs` and carries `tag`.
    ///
    /// Jobs that differ in `salt` alone share no search space, so a share of one is never a share
    /// of the other.
    pub fn new(template: Arc<Template>, salt: u32, tag: &[u8], outputs: &[TxOut]) -> Result<Self, JobError> {
        let coinbase = template.coinbase.assemble(template.serial, salt, tag, outputs, EXTRANONCE_LEN)?;
        let mut tail = Vec::with_capacity(128 + 32 * template.merkle_path.len());
        template.version.write(&mut tail);
        template.version_rolling.write(&mut tail);
        Seq255::new(&template.merkle_path)?.write(&mut tail);
        B064K::new(&coinbase.prefix)?.write(&mut tail);
        B064K::new(&coinbase.suffix)?.write(&mut tail);
        let prefix = Prefix::new(&coinbase.prefix);
        Ok(Self { template, coinbase, prefix, tail })
    }

    /// The merkle root that `extranonce` (all 20 bytes) leads to.
    #[must_use]
    pub fn merkle_root(&self, extranonce: &[u8]) -> [u8; 32] {
        let txid = self.prefix.sha256d([extranonce, &self.coinbase.suffix]);
        merkle::fold(txid, &self.template.merkle_path)
    }

    /// Appends the job as a NewExtendedMiningJob frame (§5.3.16).
    pub fn write_extended(
        &self,
        channel_id: ChannelId,
        job_id: JobId,
        min_ntime: Option<u32>,
        out: &mut Vec<u8>,
    ) {
        type Frame<'a> = NewExtendedMiningJob<'a>;
        let written = write_frame(Frame::EXTENSION, Frame::TYPE, Frame::CHANNEL, out, |out| {
            channel_id.write(out);
            job_id.write(out);
            min_ntime.write(out);
            out.extend_from_slice(&self.tail);
        });
        debug_assert!(written.is_ok(), "the fields' limits keep the sum far below the frame's");
    }
}

/// Why a template cannot become a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The coinbase cannot be assembled.
    #[error(transparent)]
    Coinbase(#[from] CoinbaseError),
    /// Nothing says who is to be paid.
    #[error("it is not known who is to be paid by it")]
    NoPayout,
    /// The merkle path or the coinbase does not fit into the message.
    #[error("the template does not fit into NewExtendedMiningJob: {0}")]
    Wire(#[from] WireError),
}
