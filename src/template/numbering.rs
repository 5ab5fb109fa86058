//! Serials for what sources offer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Draft, Offer};
use crate::mining::payees::Payees;
use crate::mining::{Template, TemplateSerial, Work};
use crate::pool::{StratumV2Pool, Terms};

/// How many drafts are kept for solutions: more than a channel has jobs, and some of the tip
/// before.
const KEPT: usize = 80;

/// Whom the jobs of some work pay, and by which terms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Paid {
    terms: Arc<Terms>,
    payees: Option<Arc<Payees>>,
}

impl Paid {
    /// As the pool pays now.
    pub(super) fn by(pool: &StratumV2Pool) -> Self {
        Self { terms: pool.terms(), payees: pool.payees().borrow().clone() }
    }
}

/// Makes templates of drafts, and remembers which is of which.
#[derive(Debug)]
pub(super) struct Numbering {
    next: TemplateSerial,
    /// Whom the last work was to pay.
    paid: Option<Paid>,
    /// What the last work had.
    current: Vec<(Arc<Draft>, Arc<Template>)>,
    /// What was mined on, newest first.
    kept: VecDeque<(TemplateSerial, Arc<Draft>)>,
}

impl Numbering {
    pub(super) fn new(first: TemplateSerial) -> Self {
        Self { next: first, paid: None, current: Vec::new(), kept: VecDeque::new() }
    }

    /// The work that an offer makes. What was in the last work too keeps its serial: everything
    /// else gets a new one, and so does the draft if it is to be `anew`. Where others are paid everything is new: miners
    /// look at the serial to see whether they have a job.
    pub(super) fn work(&mut self, offer: &Offer, paid: Paid, anew: bool) -> Work {
        if self.pays_others(&paid) {
            self.current.clear();
            self.paid = Some(paid);
        }
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

    /// Whether the last work was to pay anybody else.
    pub(super) fn pays_others(&self, paid: &Paid) -> bool {
        self.paid.as_ref() != Some(paid)
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
