//! The embedded chain as a source of work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::offers::MAX_TEMPLATES;
use super::{BlockSolution, RegtestChain};
use crate::clock::unix_now;
use crate::mining::{Template, TemplateSerial, Work};
use crate::template::source::{Deliveries, Feed, Verdict};
use crate::template::{Body, Draft, FoundBlock, Offer};

/// How often transactions that pay more come in.
const REFRESH: Duration = Duration::from_secs(30);

/// After a new tip, everyone starts on the template that was prepared for it, which is empty; the
/// full one follows when the tip has reached them.
const FULL_AFTER: Duration = Duration::from_millis(100);

/// Feeds the generator from `chain`, and has the chain judge the blocks.
pub(in crate::template) async fn run(mut chain: RegtestChain, feed: Feed, mut deliveries: Deliveries) {
    let mut offered = Offered::default();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    refresh.reset();
    feed.offer(offered.offer(chain.work(), false));
    loop {
        tokio::select! {
            Some(delivery) = deliveries.recv() => {
                let verdict = match offered.solution(&delivery.block) {
                    None => Verdict::NotMine,
                    Some(solution) => match chain.submit(solution, unix_now()) {
                        Ok(_) => Verdict::Accepted,
                        Err(reason) => Verdict::Refused(reason.to_string()),
                    }
                };
                let accepted = verdict == Verdict::Accepted;
                delivery.answer(verdict);
                if accepted {
                    feed.offer(offered.offer(chain.work(), true));
                    refresh.reset_after(FULL_AFTER);
                }
            }
            _ = refresh.tick() => {
                let work = chain.refresh(unix_now());
                feed.offer(offered.offer(work, false));
            }
        }
    }
}

/// The drafts that were made of the chain's templates, newest first.
#[derive(Debug, Default)]
struct Offered(VecDeque<(TemplateSerial, Arc<Draft>)>);

impl Offered {
    fn offer(&mut self, work: Work, makeshift: bool) -> Offer {
        let draft = self.draft(&work.template);
        let future = work.future.iter().map(|template| self.draft(template)).collect();
        Offer { tip: work.tip, draft, future, makeshift }
    }

    fn draft(&mut self, template: &Template) -> Arc<Draft> {
        if let Some((_, known)) = self.0.iter().find(|(serial, _)| *serial == template.serial) {
            return known.clone();
        }
        let draft = Arc::new(Draft {
            version: template.version,
            version_rolling: template.version_rolling,
            coinbase: template.coinbase.clone(),
            merkle_path: template.merkle_path.clone(),
            body: Arc::new(Body::default()),
        });
        self.0.truncate(2 * MAX_TEMPLATES);
        self.0.push_front((template.serial, draft.clone()));
        draft
    }

    fn solution(&self, block: &FoundBlock) -> Option<BlockSolution> {
        let mined = block.draft.as_ref()?;
        let (template, _) = self.0.iter().find(|(_, draft)| Arc::ptr_eq(draft, mined))?;
        Some(BlockSolution {
            template: *template,
            version: block.header.version.to_consensus() as u32,
            ntime: block.header.time,
            nonce: block.header.nonce,
            coinbase: block.coinbase.clone(),
        })
    }
}
