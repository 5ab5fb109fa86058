//! Work on its way to the channels (§5.3.15 to §5.3.17).
//!
//! What a client is sent depends only on the difference between the newest [`Work`] and what it
//! was sent before, so work that was superseded meanwhile is never sent.

use std::sync::Arc;

use bitcoin::BlockHash;

use super::channel::{Channel, Kind};
use super::connection::Connection;
use super::{Lane, Out, Shared};
use crate::mining::job::Job;
use crate::mining::payout::PayoutClass;
use crate::mining::{Template, TemplateSerial, Tip, Work};
use crate::wire::mining::{NewMiningJob, SetNewPrevHash};
use crate::wire::{ChannelId, JobId, U256};

/// Future jobs that a client is sent for one tip at a time.
const MAX_FUTURES: usize = 8;

/// Channels that are sent the same messages: a group, or one channel where the client takes no
/// messages to groups.
#[derive(Debug)]
pub(super) struct Audience {
    /// The channel or the group that its messages address.
    address: ChannelId,
    class: PayoutClass,
    members: Vec<ChannelId>,
    /// What the last SetNewPrevHash said: the block to build on, and `nbits`.
    tip: (BlockHash, u32),
    /// What is being mined on.
    template: TemplateSerial,
    /// The future jobs sent since the last SetNewPrevHash that may still be activated.
    futures: Vec<(TemplateSerial, JobId)>,
}

impl Audience {
    /// Has heard of the tip. If not, no job could be made of the work.
    fn is_on(&self, work: &Work) -> bool {
        self.tip == announced_as(&work.tip)
    }
}

impl Connection {
    /// Brings all channels up to `work`.
    pub(super) fn distribute(&mut self, out: &mut Out, work: Arc<Work>, shared: &impl Shared) {
        self.work = Some(work.clone());
        let mut audiences = std::mem::take(&mut self.audiences);
        // the new tip goes to everyone before anything else goes to anyone
        for audience in &mut audiences {
            if !audience.is_on(&work) {
                self.new_tip(out, audience, &work, shared);
            }
        }
        for audience in &mut audiences {
            if audience.is_on(&work) && audience.template != work.template.serial {
                let announced = self.announce(out, audience, &work.template, Some(&work.tip), shared);
                if announced.is_some() {
                    audience.template = work.template.serial;
                }
            }
        }
        self.audiences = audiences;
        for id in std::mem::take(&mut self.waiting) {
            if let Some(account) = self.channels.get(&id).map(|channel| channel.account.clone()) {
                let group = self.group_of(&account.class);
                self.prime(out, id, group, &account.class, shared);
            }
        }
        let mut audiences = std::mem::take(&mut self.audiences);
        for audience in &mut audiences {
            self.announce_futures(out, audience, &work, shared);
        }
        self.audiences = audiences;
    }

    fn new_tip(&mut self, out: &mut Out, audience: &mut Audience, work: &Work, shared: &impl Shared) {
        let serial = work.template.serial;
        let prepared = audience.futures.iter().find(|(future, _)| *future == serial).map(|(_, id)| *id);
        let Some(id) = prepared.or_else(|| self.announce(out, audience, &work.template, None, shared)) else {
            return;
        };
        out.frames.push(Lane::Push, &set_new_prev_hash(audience.address, id, &work.tip));
        audience.tip = announced_as(&work.tip);
        audience.template = serial;
        audience.futures.clear();
        for member in &audience.members {
            if let Some(channel) = self.channels.get_mut(member) {
                channel.activate(id, work.tip.clone());
            }
        }
    }

    fn announce_futures(
        &mut self,
        out: &mut Out,
        audience: &mut Audience,
        work: &Work,
        shared: &impl Shared,
    ) {
        if !audience.is_on(work) {
            return;
        }
        let offered = &work.future[..work.future.len().min(MAX_FUTURES)];
        let before = audience.futures.len();
        audience.futures.retain(|(serial, _)| offered.iter().any(|template| template.serial == *serial));
        if audience.futures.len() < before {
            for member in &audience.members {
                if let Some(channel) = self.channels.get_mut(member) {
                    channel.keep_futures(&audience.futures);
                }
            }
        }
        for template in offered {
            if audience.futures.iter().all(|(serial, _)| *serial != template.serial)
                && let Some(id) = self.announce(out, audience, template, None, shared)
            {
                audience.futures.push((template.serial, id));
            }
        }
    }

    /// Sends a job on `template`: one to mine at once, on `tip`, or a future one.
    fn announce(
        &mut self,
        out: &mut Out,
        audience: &Audience,
        template: &Arc<Template>,
        tip: Option<&Arc<Tip>>,
        shared: &impl Shared,
    ) -> Option<JobId> {
        let job = shared.job(template, &audience.class)?;
        let id = self.job_ids.next();
        let max_jobs = out.options.max_jobs;
        match self.channels.get(&audience.address) {
            Some(channel) => write_job(out, channel, id, &job, tip.map(|tip| tip.min_ntime)),
            None => out.frames.push_with(Lane::Push, |out| {
                job.write_extended(audience.address, id, tip.map(|tip| tip.min_ntime), out);
            }),
        }
        for member in &audience.members {
            if let Some(channel) = self.channels.get_mut(member) {
                match tip {
                    Some(tip) => channel.add_active(id, job.clone(), tip.clone(), max_jobs),
                    None => channel.add_future(id, job.clone()),
                }
            }
        }
        Some(id)
    }

    /// The group that a channel of this class belongs to.
    pub(super) fn group_of(&mut self, class: &PayoutClass) -> ChannelId {
        if let Some((_, group)) = self.groups.iter().find(|(known, _)| known == class) {
            return *group;
        }
        let group = self.next_channel();
        self.groups.push((class.clone(), group));
        group
    }

    /// A channel has been opened: sends it, and its group if that is new, all that there is.
    pub(super) fn start(
        &mut self,
        out: &mut Out,
        id: ChannelId,
        group: ChannelId,
        class: &PayoutClass,
        shared: &impl Shared,
    ) {
        let audience = self.prime(out, id, group, class, shared);
        if let (Some(audience), Some(work)) = (audience, self.work.clone()) {
            let mut audiences = std::mem::take(&mut self.audiences);
            self.announce_futures(out, &mut audiences[audience], &work, shared);
            self.audiences = audiences;
        }
    }

    /// Sends a new channel all that it needs to start, and has it hear of work from now on. Without
    /// work it waits. Returns the index of its audience.
    ///
    /// The present work comes as a future job with its SetNewPrevHash (§5.3.15 wants the first
    /// job to be a future one), then the future jobs of its group, under the ids by which the
    /// group will be told to mine them. A group that is new is to hear of them itself, after its
    /// channels: clients keep account of what a group was sent, and refuse to activate anything
    /// else (§5.3.17).
    fn prime(
        &mut self,
        out: &mut Out,
        id: ChannelId,
        group: ChannelId,
        class: &PayoutClass,
        shared: &impl Shared,
    ) -> Option<usize> {
        let present = self.work.clone().and_then(|work| Some((shared.job(&work.template, class)?, work)));
        let Some((job, work)) = present else {
            self.waiting.push(id);
            return None;
        };
        let audience = self.join(id, group, class, &work);
        let futures = self.audiences[audience].futures.clone();
        let job_id = self.job_ids.next();
        let channel = self.channels.get_mut(&id)?;
        write_job(out, channel, job_id, &job, None);
        channel.add_future(job_id, job);
        out.frames.push(Lane::Push, &set_new_prev_hash(id, job_id, &work.tip));
        channel.activate(job_id, work.tip.clone());
        for (serial, job_id) in futures {
            let template = work.future.iter().find(|template| template.serial == serial);
            if let Some(job) = template.and_then(|template| shared.job(template, class)) {
                write_job(out, channel, job_id, &job, None);
                channel.add_future(job_id, job);
            }
        }
        Some(audience)
    }

    /// Has the channel hear of work from now on, as one that is up to date with `work` but for
    /// future jobs. Returns the index of its audience.
    fn join(&mut self, id: ChannelId, group: ChannelId, class: &PayoutClass, work: &Work) -> usize {
        let address = if self.setup.per_channel { id } else { group };
        if let Some(known) = self.audiences.iter().position(|audience| audience.address == address) {
            self.audiences[known].members.push(id);
            return known;
        }
        self.audiences.push(Audience {
            address,
            class: class.clone(),
            members: vec![id],
            tip: announced_as(&work.tip),
            template: work.template.serial,
            futures: Vec::new(),
        });
        self.audiences.len() - 1
    }

    pub(super) fn leave_audience(&mut self, id: ChannelId) {
        for audience in &mut self.audiences {
            audience.members.retain(|member| *member != id);
        }
        self.audiences.retain(|audience| !audience.members.is_empty());
    }
}

/// Sends a job to one channel, in the form that its kind takes.
pub(super) fn write_job(out: &mut Out, channel: &Channel, job_id: JobId, job: &Job, min_ntime: Option<u32>) {
    let channel_id = channel.id;
    match channel.kind {
        Kind::Extended => {
            out.frames.push_with(Lane::Push, |out| job.write_extended(channel_id, job_id, min_ntime, out))
        }
        Kind::Standard => {
            let merkle_root = U256(job.merkle_root(&channel.prefix.standard()));
            let version = job.template.version;
            out.frames
                .push(Lane::Push, &NewMiningJob { channel_id, job_id, min_ntime, version, merkle_root });
        }
    }
}

/// What of a tip a client learns by SetNewPrevHash alone. On test networks `nbits` can change
/// without a new block.
fn announced_as(tip: &Tip) -> (BlockHash, u32) {
    (tip.prev_hash, tip.nbits)
}

fn set_new_prev_hash(channel_id: ChannelId, job_id: JobId, tip: &Tip) -> SetNewPrevHash {
    let prev_hash = U256(*tip.prev_hash.as_ref());
    SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime: tip.min_ntime, nbits: tip.nbits }
}
