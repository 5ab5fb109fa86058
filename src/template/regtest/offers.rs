//! The templates that solutions may name.

use std::collections::VecDeque;
use std::sync::Arc;

use bitcoin::BlockHash;

use super::assemble::{Draft, VERSION};
use crate::mining::{Template, TemplateSerial};

/// How many templates stay good for solutions; a new one pushes the oldest out.
pub const MAX_TEMPLATES: usize = 128;

/// A template and what it takes to make a block of it.
#[derive(Debug)]
pub(super) struct Offer {
    serial: TemplateSerial,
    pub(super) draft: Draft,
    /// The block to build on.
    pub(super) prev_hash: BlockHash,
}

/// Numbers templates and remembers the latest.
#[derive(Debug)]
pub(super) struct Offers {
    next: TemplateSerial,
    /// Oldest first.
    kept: VecDeque<Offer>,
    /// What waits for the next tip. It cannot be a block yet, and outlives any number of refreshes.
    prepared: Option<(TemplateSerial, Draft)>,
}

impl Offers {
    pub(super) fn new(first: TemplateSerial) -> Self {
        Self { next: first, kept: VecDeque::new(), prepared: None }
    }

    /// Offers a template on a block that is there.
    pub(super) fn add(&mut self, draft: Draft, prev_hash: BlockHash) -> Arc<Template> {
        let template = self.number(&draft);
        self.push(Offer { serial: template.serial, draft, prev_hash });
        template
    }

    /// Offers a template on the next tip, instead of what was prepared before.
    pub(super) fn prepare(&mut self, draft: Draft) -> Arc<Template> {
        let template = self.number(&draft);
        self.prepared = Some((template.serial, draft));
        template
    }

    /// Tells the prepared template what it builds on.
    pub(super) fn activate(&mut self, prev_hash: BlockHash) {
        if let Some((serial, draft)) = self.prepared.take() {
            self.push(Offer { serial, draft, prev_hash });
        }
    }

    pub(super) fn get(&self, serial: TemplateSerial) -> Option<&Offer> {
        self.kept.iter().find(|offer| offer.serial == serial)
    }

    fn number(&mut self, draft: &Draft) -> Arc<Template> {
        let serial = self.next;
        self.next.0 += 1;
        Arc::new(Template {
            serial,
            version: VERSION,
            version_rolling: true,
            coinbase: draft.coinbase.clone(),
            merkle_path: draft.merkle_path.clone(),
        })
    }

    fn push(&mut self, offer: Offer) {
        if self.kept.len() == MAX_TEMPLATES {
            self.kept.pop_front();
        }
        self.kept.push_back(offer);
    }
}
