//! Serials for what sources offer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Draft, Offer};
use crate::mining::{Template, TemplateSerial, Work};

/// How many drafts are kept for solutions: more than a channel has jobs, and some of the tip
/// before.
const KEPT: usize = 80;

/// Makes templates of drafts, and remembers which is of which.
#[derive(Debug)]
pub(super) struct Numbering {
    next: TemplateSerial,
    /// What the last work had.
    current: Vec<(Arc<Draft>, Arc<Template>)>,
    /// What was mined on, newest first.
    kept: VecDeque<(TemplateSerial, Arc<Draft>)>,
}

impl Numbering {
    pub(super) fn new(first: TemplateSerial) -> Self {
        Self { next: first, current: Vec::new(), kept: VecDeque::new() }
    }

    /// The work that an offer makes. What was in the last work too keeps its serial: everything
    /// else gets a new one, and so does the draft if it is to be `anew`.
    pub(super) fn work(&mut self, offer: &Offer, anew: bool) -> Work {
        let template = self.template(&offer.draft, anew);
        let future: Vec<_> = offer.future.iter().map(|draft| self.template(draft, false)).collect();
        if self.draft(template.serial).is_none() {
            self.kept.truncate(KEPT - 1);
            self.kept.push_front((template.serial, offer.draft.clone()));
        }
        let drafts = std::iter::once(&offer.draft).chain(&offer.future).cloned();
        let templates = std::iter::once(&template).chain(&future).cloned();
        self.current = drafts.zip(templates).collect();
        Work { tip: offer.tip.clone(), template, future }
    }

    /// What a template was made of.
    pub(super) fn draft(&self, serial: TemplateSerial) -> Option<&Arc<Draft>> {
        self.kept.iter().find(|(known, _)| *known == serial).map(|(_, draft)| draft)
    }

    fn template(&mut self, draft: &Arc<Draft>, anew: bool) -> Arc<Template> {
        let known = self.current.iter().find(|(known, _)| Arc::ptr_eq(known, draft));
        if let Some((_, template)) = known.filter(|_| !anew) {
            return template.clone();
        }
        let serial = self.next;
        self.next.0 += 1;
        Arc::new(Template {
            serial,
            version: draft.version,
            version_rolling: draft.version_rolling,
            coinbase: draft.coinbase.clone(),
            merkle_path: draft.merkle_path.clone(),
        })
    }
}
