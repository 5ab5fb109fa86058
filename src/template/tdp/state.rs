//! What a template provider has said on one connection, and what that makes to mine on (§7).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use tokio::time::Instant;

use super::draft::draft;
use super::error::{NoTransactions, ProtocolError};
use super::{body, network};
use crate::mining::{Target, Tip};
use crate::template::{Draft, FoundBlock, Offer, Transactions};
use crate::wire::TemplateId;
use crate::wire::template::{
    NewTemplate, RequestTransactionDataError, RequestTransactionDataSuccess, SetNewPrevHash,
    TemplateDistribution,
};

/// How many future templates are kept; the oldest go. A provider has one or two.
const FUTURES: usize = 8;
/// A template that was there so long before its block was made without knowing what is in it. One
/// that comes together with its block was made after it.
const AHEAD: Duration = Duration::from_secs(1);
/// How many templates that were mined on are kept for solutions: more than a channel has jobs,
/// and some of the tip before.
const MINED: usize = 100;

/// ```text
///  NewTemplate ──future──> futures ──SetNewPrevHash names one──> mined, the newest of them is
///       │                           the others are dropped       what is mined on now
///       └──not future: for the block that was named last───────────────^
/// ```
#[derive(Debug)]
pub(in crate::template) struct Templates {
    network: Network,
    /// The oldest first.
    futures: VecDeque<Template>,
    /// What is built on now.
    tip: Option<Arc<Tip>>,
    /// The newest first.
    mined: VecDeque<Template>,
    transactions: Transactions,
}

#[derive(Debug)]
struct Template {
    id: TemplateId,
    height: u32,
    draft: Arc<Draft>,
    /// When it came.
    since: Instant,
    /// It was made ahead, and so without transactions: a full one is to be expected.
    makeshift: bool,
}

/// What a message has changed.
#[derive(Debug)]
pub(in crate::template) enum Heard {
    /// Nothing that anybody can mine on yet.
    Nothing,
    /// This is there to mine on. The transactions of a template are to be asked for if it is given.
    Offer(Offer, Option<TemplateId>),
    /// The transactions of a template have come.
    Transactions(TemplateId, usize),
    /// They will not come.
    NoTransactions(TemplateId, NoTransactions),
}

impl Templates {
    /// Before the first message. Work for another network is refused.
    pub(in crate::template) fn new(network: Network) -> Self {
        Self {
            network,
            futures: VecDeque::new(),
            tip: None,
            mined: VecDeque::new(),
            transactions: Transactions::default(),
        }
    }

    /// Takes in a message that has come `now`. After an error the connection is to be ended.
    pub(in crate::template) fn hear(
        &mut self,
        message: &TemplateDistribution<'_>,
        now: Instant,
    ) -> Result<Heard, ProtocolError> {
        match message {
            TemplateDistribution::NewTemplate(m) => self.new_template(m, now),
            TemplateDistribution::SetNewPrevHash(m) => self.set_new_prev_hash(m, now),
            TemplateDistribution::RequestTransactionDataSuccess(m) => Ok(self.transaction_data(m)),
            TemplateDistribution::RequestTransactionDataError(m) => Ok(Self::no_transaction_data(m)),
            TemplateDistribution::CoinbaseOutputConstraints(_)
            | TemplateDistribution::RequestTransactionData(_)
            | TemplateDistribution::SubmitSolution(_) => Err(ProtocolError::Unexpected(message.msg_type())),
        }
    }

    /// The template that is mined on now.
    pub(in crate::template) fn current(&self) -> Option<TemplateId> {
        self.mined.front().map(|template| template.id)
    }

    /// The template that a block was made of, if it was one of these.
    pub(in crate::template) fn of(&self, block: &FoundBlock) -> Option<TemplateId> {
        let draft = block.draft.as_ref()?;
        self.mined.iter().find(|template| Arc::ptr_eq(&template.draft, draft)).map(|template| template.id)
    }

    /// §7.2
    fn new_template(&mut self, m: &NewTemplate<'_>, now: Instant) -> Result<Heard, ProtocolError> {
        let id = m.template_id;
        if self.futures.iter().chain(&self.mined).any(|known| known.id == id) {
            return Err(ProtocolError::SameId(id));
        }
        let (draft, height) = draft(m).map_err(|error| ProtocolError::Draft(id, error))?;
        let template = Template { id, height, draft: Arc::new(draft), since: now, makeshift: false };
        if m.future_template {
            if self.futures.len() == FUTURES {
                self.futures.pop_front();
            }
            self.futures.push_back(template);
            return Ok(self.offer(None));
        }
        let expected = self.tip.as_ref().ok_or(ProtocolError::NoTip(id))?.height;
        if height != expected {
            return Err(ProtocolError::OtherHeight { id, height, expected });
        }
        self.mine(template);
        Ok(self.offer(Some(id)))
    }

    /// §7.3
    fn set_new_prev_hash(&mut self, m: &SetNewPrevHash, now: Instant) -> Result<Heard, ProtocolError> {
        let id = m.template_id;
        let network_target = Target::from_compact(m.n_bits).ok_or(ProtocolError::Nbits(m.n_bits))?;
        network::check(self.network, m.n_bits, network_target)?;
        let target = Target::from(m.target);
        if target == Target::ZERO {
            return Err(ProtocolError::ZeroTarget);
        }
        let named = self.futures.iter().position(|template| template.id == id);
        let named = named.and_then(|index| self.futures.remove(index));
        let mut template = named.ok_or(ProtocolError::UnknownTemplate(id))?;
        template.makeshift = template.draft.merkle_path.is_empty() && now - template.since >= AHEAD;
        self.futures.clear();
        self.tip = Some(Arc::new(Tip {
            prev_hash: BlockHash::from_byte_array(m.prev_hash.0),
            height: template.height,
            min_ntime: m.header_timestamp,
            nbits: m.n_bits,
            network_target,
            // what is above the network's target is no block, whatever the provider says
            report_target: target.min(network_target),
        }));
        self.mine(template);
        Ok(self.offer(Some(id)))
    }

    /// §7.5
    fn transaction_data(&mut self, m: &RequestTransactionDataSuccess<'_>) -> Heard {
        let id = m.template_id;
        let Some(template) = self.mined.iter().find(|template| template.id == id) else {
            return Heard::Nothing;
        };
        let draft = &template.draft;
        if draft.body.get().is_some() {
            return Heard::Nothing;
        }
        let list = || m.transaction_list.iter().map(|transaction| transaction.as_bytes());
        if let Err(error) = body::check(draft, list()) {
            return Heard::NoTransactions(id, error.into());
        }
        draft.body.set(list().map(|transaction| self.transactions.intern(transaction)).collect());
        self.transactions.tidy();
        Heard::Transactions(id, m.transaction_list.len())
    }

    /// §7.6
    fn no_transaction_data(m: &RequestTransactionDataError<'_>) -> Heard {
        Heard::NoTransactions(m.template_id, NoTransactions::Refused(m.error_code.to_string()))
    }

    fn mine(&mut self, template: Template) {
        // the oldest that nobody else holds on to goes first: the others may be mined on still
        while self.mined.len() >= MINED {
            let unused = self.mined.iter().rposition(|known| Arc::strong_count(&known.draft) == 1);
            self.mined.remove(unused.unwrap_or(self.mined.len() - 1));
        }
        self.mined.push_front(template);
    }

    /// All that there is, if that is anything.
    fn offer(&self, ask_for: Option<TemplateId>) -> Heard {
        let (Some(tip), Some(current)) = (&self.tip, self.mined.front()) else { return Heard::Nothing };
        let offer = Offer {
            tip: tip.clone(),
            draft: current.draft.clone(),
            future: self.futures.iter().map(|template| template.draft.clone()).collect(),
            makeshift: current.makeshift,
        };
        Heard::Offer(offer, ask_for)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bitcoin::consensus::encode;
    use bitcoin::{Transaction, block};
    use proptest::prelude::*;

    use super::*;
    use crate::template::Body;
    use crate::template::tdp::body::BodyError;
    use crate::template::tdp::draft::DraftError;
    use crate::template::tdp::samples::{REGTEST_NBITS, Sample, new_prev_hash};
    use crate::wire::codec::{B016M, Seq64K, Str255};
    use crate::wire::template::{CoinbaseOutputConstraints, RequestTransactionData, SubmitSolution};
    use crate::wire::{U256, WireError};

    const HEIGHT: u32 = 840_000;

    fn regtest() -> Templates {
        Templates::new(Network::Regtest)
    }

    impl Templates {
        /// What is said at once.
        fn heard(&mut self, message: &TemplateDistribution<'_>) -> Result<Heard, ProtocolError> {
            self.hear(message, Instant::now())
        }

        fn told(&mut self, id: u64, height: u32, future: bool) -> Result<Heard, ProtocolError> {
            self.heard(&TemplateDistribution::NewTemplate(Sample::at(height).message(id, future)))
        }

        fn moved(&mut self, id: u64, prev_hash: u8) -> Result<Heard, ProtocolError> {
            self.heard(&TemplateDistribution::SetNewPrevHash(new_prev_hash(id, prev_hash)))
        }

        fn sent(&mut self, id: u64, transactions: &[Transaction]) -> Heard {
            let bytes: Vec<_> = transactions.iter().map(encode::serialize).collect();
            let list: Vec<_> = bytes.iter().map(|bytes| B016M::new(bytes).unwrap()).collect();
            let m = RequestTransactionDataSuccess {
                template_id: TemplateId(id),
                excess_data: Default::default(),
                transaction_list: Seq64K::new(&list).unwrap(),
            };
            self.heard(&TemplateDistribution::RequestTransactionDataSuccess(m)).unwrap()
        }
    }

    fn offered(heard: Result<Heard, ProtocolError>) -> (Offer, Option<u64>) {
        match heard {
            Ok(Heard::Offer(offer, ask_for)) => (offer, ask_for.map(|id| id.0)),
            other => panic!("{other:?}"),
        }
    }

    fn block_of(draft: &Arc<Draft>) -> FoundBlock {
        let genesis = bitcoin::constants::genesis_block(Network::Regtest);
        let block::Block { header, txdata } = genesis;
        FoundBlock {
            hash: header.block_hash(),
            height: HEIGHT,
            header,
            coinbase: txdata[0].clone(),
            body: Arc::new(Body::default()),
            draft: Some(draft.clone()),
        }
    }

    #[test]
    fn there_is_no_work_without_both_a_template_and_a_block_to_build_on() {
        let mut templates = regtest();
        assert!(matches!(templates.told(5, HEIGHT, true), Ok(Heard::Nothing)));
        assert_eq!(templates.current(), None);
        let (offer, ask_for) = offered(templates.moved(5, 1));
        assert_eq!((ask_for, templates.current()), (Some(5), Some(TemplateId(5))));
        let m = new_prev_hash(5, 1);
        let target = Target::from_compact(REGTEST_NBITS).unwrap();
        let tip = Tip {
            prev_hash: BlockHash::from_byte_array([1; 32]),
            height: HEIGHT,
            min_ntime: m.header_timestamp,
            nbits: REGTEST_NBITS,
            network_target: target,
            report_target: target,
        };
        assert_eq!(*offer.tip, tip);
        assert_eq!(offer.draft.coinbase.script_prefix, Sample::at(HEIGHT).prefix);
        assert!(offer.future.is_empty() && !offer.makeshift);
    }

    #[test]
    fn a_template_for_now_replaces_the_one_before_on_the_same_tip() {
        let mut templates = regtest();
        templates.told(1, HEIGHT, true).unwrap();
        let (first, _) = offered(templates.moved(1, 1));
        let (second, ask_for) = offered(templates.told(2, HEIGHT, false));
        assert!(Arc::ptr_eq(&first.tip, &second.tip) && !Arc::ptr_eq(&first.draft, &second.draft));
        assert_eq!(ask_for, Some(2));
        assert_eq!(templates.of(&block_of(&first.draft)), Some(TemplateId(1)), "it may still be solved");
        assert_eq!(templates.of(&block_of(&second.draft)), Some(TemplateId(2)));
    }

    #[test]
    fn a_future_template_is_the_same_draft_before_and_after_its_block() {
        let mut templates = regtest();
        templates.told(1, HEIGHT, true).unwrap();
        let (now, _) = offered(templates.moved(1, 1));
        let (with_one, ask_for) = offered(templates.told(2, HEIGHT + 1, true));
        assert!(ask_for.is_none() && Arc::ptr_eq(&now.draft, &with_one.draft));
        let (with_two, _) = offered(templates.told(3, HEIGHT + 1, true));
        assert_eq!(with_two.future.len(), 2);
        let (next, _) = offered(templates.moved(3, 2));
        assert!(Arc::ptr_eq(&with_two.future[1], &next.draft));
        assert!(next.future.is_empty(), "the others are for a block that did not come");
        assert_eq!(next.tip.height, HEIGHT + 1);
        assert_eq!(templates.moved(2, 3).unwrap_err(), ProtocolError::UnknownTemplate(TemplateId(2)));
        assert_eq!(templates.of(&block_of(&with_two.future[0])), None);
    }

    #[test]
    fn a_reorganised_chain_may_be_lower() {
        let mut templates = regtest();
        templates.told(1, HEIGHT, true).unwrap();
        templates.moved(1, 1).unwrap();
        templates.told(2, HEIGHT - 2, true).unwrap();
        assert_eq!(offered(templates.moved(2, 2)).0.tip.height, HEIGHT - 2);
    }

    #[test]
    fn the_target_may_be_harder_than_the_networks_but_not_easier() {
        let network = Target::from_compact(REGTEST_NBITS).unwrap();
        for (target, reported) in [
            (U256([1; 32]), Target::from(U256([1; 32]))),
            (U256::from(network), network),
            (U256([0xff; 32]), network),
        ] {
            let mut templates = regtest();
            templates.told(1, HEIGHT, true).unwrap();
            let m = SetNewPrevHash { target, ..new_prev_hash(1, 1) };
            let (offer, _) = offered(templates.heard(&TemplateDistribution::SetNewPrevHash(m)));
            assert_eq!((offer.tip.report_target, offer.tip.network_target), (reported, network));
        }
    }

    #[test]
    fn what_a_provider_must_not_say_is_named() {
        let refused = |steps: fn(&mut Templates) -> Result<Heard, ProtocolError>| {
            let mut templates = regtest();
            templates.told(1, HEIGHT, true).unwrap();
            templates.moved(1, 1).unwrap();
            templates.told(2, HEIGHT + 1, true).unwrap();
            steps(&mut templates).unwrap_err()
        };
        let prev_hash = |m| TemplateDistribution::SetNewPrevHash(m);
        assert_eq!(regtest().told(7, HEIGHT, false).unwrap_err(), ProtocolError::NoTip(TemplateId(7)));
        assert_eq!(regtest().moved(7, 1).unwrap_err(), ProtocolError::UnknownTemplate(TemplateId(7)));
        assert_eq!(refused(|t| t.moved(1, 2)), ProtocolError::UnknownTemplate(TemplateId(1)));
        for known in [1, 2] {
            let mut templates = regtest();
            templates.told(1, HEIGHT, true).unwrap();
            templates.moved(1, 1).unwrap();
            templates.told(2, HEIGHT, true).unwrap();
            let same = templates.told(known, HEIGHT, true).unwrap_err();
            assert_eq!(same, ProtocolError::SameId(TemplateId(known)));
        }
        assert_eq!(
            refused(|t| t.told(3, HEIGHT + 1, false)),
            ProtocolError::OtherHeight { id: TemplateId(3), height: HEIGHT + 1, expected: HEIGHT }
        );
        let headless = |t: &mut Templates| {
            let sample = Sample { prefix: vec![0x6a], ..Sample::at(1) };
            t.heard(&TemplateDistribution::NewTemplate(sample.message(3, true)))
        };
        assert_eq!(refused(headless), ProtocolError::Draft(TemplateId(3), DraftError::NoHeight));
        for n_bits in [0, 0x2080_0001, 0xff00_ffff] {
            let m = prev_hash(SetNewPrevHash { n_bits, ..new_prev_hash(2, 2) });
            let mut templates = regtest();
            templates.told(2, HEIGHT, true).unwrap();
            assert_eq!(templates.heard(&m).unwrap_err(), ProtocolError::Nbits(n_bits));
        }
        let zero = |t: &mut Templates| {
            t.heard(&TemplateDistribution::SetNewPrevHash(SetNewPrevHash {
                target: U256([0; 32]),
                ..new_prev_hash(2, 2)
            }))
        };
        assert_eq!(refused(zero), ProtocolError::ZeroTarget);
        let mut main = Templates::new(Network::Bitcoin);
        main.told(1, HEIGHT, true).unwrap();
        assert!(matches!(main.moved(1, 1), Err(ProtocolError::WrongNetwork(_))));
    }

    #[test]
    fn what_a_client_says_is_not_for_a_client() {
        let submit = SubmitSolution {
            template_id: TemplateId(1),
            version: 0,
            header_timestamp: 0,
            header_nonce: 0,
            coinbase_tx: Default::default(),
        };
        let constraints = CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: 0,
            coinbase_output_max_additional_sigops: 0,
        };
        let request = RequestTransactionData { template_id: TemplateId(1) };
        for message in [
            TemplateDistribution::SubmitSolution(submit),
            TemplateDistribution::CoinbaseOutputConstraints(constraints),
            TemplateDistribution::RequestTransactionData(request),
        ] {
            let refused = regtest().heard(&message).unwrap_err();
            assert_eq!(refused, ProtocolError::Unexpected(message.msg_type()));
        }
        assert!(ProtocolError::Unreadable(0x71, WireError::Truncated).to_string().contains("0x71"));
    }

    #[test]
    fn transactions_are_taken_if_they_are_the_templates() {
        let genesis = bitcoin::constants::genesis_block(Network::Regtest).txdata;
        let mut templates = regtest();
        let full = |id, future| {
            let sample = Sample::of(HEIGHT, &genesis);
            regtest_message(&sample, id, future)
        };
        templates.heard(&full(1, true).message()).unwrap();
        let (first, _) = offered(templates.moved(1, 1));
        assert!(!first.makeshift, "it has transactions");
        assert!(matches!(templates.sent(9, &genesis), Heard::Nothing), "nobody asked");
        let others = templates.sent(1, &[]);
        let Heard::NoTransactions(TemplateId(1), NoTransactions::Wrong(BodyError::OtherTransactions)) =
            others
        else {
            panic!("{others:?}")
        };
        assert!(first.draft.body.get().is_none());
        assert!(matches!(templates.sent(1, &genesis), Heard::Transactions(TemplateId(1), 1)));
        let body = first.draft.body.get().unwrap();
        assert_eq!(*body[0], encode::serialize(&genesis[0]));
        assert!(matches!(templates.sent(1, &[]), Heard::Nothing), "they are there");

        let (second, _) = offered(templates.heard(&full(2, false).message()));
        templates.sent(2, &genesis);
        assert!(Arc::ptr_eq(&second.draft.body.get().unwrap()[0], &body[0]), "kept once");

        let error = RequestTransactionDataError {
            template_id: TemplateId(2),
            error_code: Str255::new("stale\n").unwrap(),
        };
        let heard = templates.heard(&TemplateDistribution::RequestTransactionDataError(error)).unwrap();
        let Heard::NoTransactions(TemplateId(2), NoTransactions::Refused(reason)) = heard else {
            panic!("{heard:?}")
        };
        assert_eq!(reason, "stale\\n");
    }

    /// A sample that is kept for its message.
    struct Kept(Sample, u64, bool);

    fn regtest_message(sample: &Sample, id: u64, future: bool) -> Kept {
        Kept(sample.clone(), id, future)
    }

    impl Kept {
        fn message(&self) -> TemplateDistribution<'_> {
            TemplateDistribution::NewTemplate(self.0.message(self.1, self.2))
        }
    }

    #[test]
    fn an_empty_template_that_was_made_ahead_is_a_makeshift() {
        let empty = Sample::of(HEIGHT, &[]);
        let made = Instant::now();
        for (sample, ahead, makeshift) in
            [(&empty, AHEAD, true), (&empty, AHEAD / 2, false), (&Sample::at(HEIGHT), AHEAD, false)]
        {
            let mut templates = regtest();
            templates.hear(&regtest_message(sample, 1, true).message(), made).unwrap();
            let moved = TemplateDistribution::SetNewPrevHash(new_prev_hash(1, 1));
            let (offer, _) = offered(templates.hear(&moved, made + ahead));
            assert_eq!(offer.makeshift, makeshift);
            let (offer, _) = offered(templates.told(2, HEIGHT + 1, true));
            assert_eq!(offer.makeshift, makeshift, "still the same one");
            let (offer, _) = offered(templates.heard(&regtest_message(&empty, 3, false).message()));
            assert!(!offer.makeshift, "nothing better was to be had");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut templates = regtest();
        for id in 0..20 {
            templates.told(id, HEIGHT, true).unwrap();
        }
        assert_eq!(templates.futures.len(), FUTURES);
        assert_eq!(templates.moved(11, 1).unwrap_err(), ProtocolError::UnknownTemplate(TemplateId(11)));
        let (first, _) = offered(templates.moved(12, 1));
        let blocks = (0..MINED as u64 - 1).map(|id| offered(templates.told(100 + id, HEIGHT, false)).0.draft);
        let blocks: Vec<_> = blocks.collect();
        assert_eq!(templates.of(&block_of(&first.draft)), Some(TemplateId(12)));
        templates.told(1000, HEIGHT, false).unwrap();
        assert_eq!(templates.of(&block_of(&first.draft)), None);
        assert_eq!(templates.of(&block_of(&blocks[0])), Some(TemplateId(100)));
        assert_eq!(templates.mined.len(), MINED);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Template { id: u64, future: bool, higher: u32 },
        PrevHash { id: u64, hash: u8 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let template = (0..12_u64, any::<bool>(), 0..2_u32).prop_map(|(id, future, higher)| Step::Template {
            id,
            future,
            higher,
        });
        let prev_hash = (0..12_u64, any::<u8>()).prop_map(|(id, hash)| Step::PrevHash { id, hash });
        prop::collection::vec(prop_oneof![3 => template, 1 => prev_hash], 0..40)
    }

    proptest! {
        /// Whatever a provider says: what is offered is what it said last, and a connection knows
        /// the templates that it has offered.
        #[test]
        fn offers_follow_what_was_said(steps in steps()) {
            let mut templates = regtest();
            let mut futures: Vec<(u64, u32)> = Vec::new();
            let mut now: Option<(u64, u32, u8)> = None;
            let mut used = BTreeSet::new();
            for step in steps {
                let (heard, legal) = match step {
                    Step::Template { id, future, higher } => {
                        let height = HEIGHT + higher;
                        let fits = future || now.is_some_and(|(_, at, _)| at == height);
                        let legal = fits && !used.contains(&id);
                        if legal {
                            used.insert(id);
                            match (future, &mut now) {
                                (false, Some((current, ..))) => *current = id,
                                _ => futures.push((id, height)),
                            }
                        }
                        (templates.told(id, height, future), legal)
                    }
                    Step::PrevHash { id, hash } => {
                        futures.drain(..futures.len().saturating_sub(FUTURES)).for_each(drop);
                        let named = futures.iter().find(|(future, _)| *future == id);
                        let legal = named.is_some();
                        if let Some((_, height)) = named {
                            now = Some((id, *height, hash));
                            // those that were dropped may come again
                            futures.iter().filter(|(dropped, _)| *dropped != id).for_each(|(dropped, _)| {
                                used.remove(dropped);
                            });
                            futures.clear();
                        }
                        (templates.moved(id, hash), legal)
                    }
                };
                prop_assert_eq!(heard.is_ok(), legal, "{:?}", heard);
                let Ok(heard) = heard else { continue };
                futures.drain(..futures.len().saturating_sub(FUTURES)).for_each(|(id, _)| {
                    used.remove(&id);
                });
                match (heard, now) {
                    (Heard::Offer(offer, _), Some((id, height, hash))) => {
                        prop_assert_eq!(offer.tip.height, height);
                        prop_assert_eq!(offer.tip.prev_hash, BlockHash::from_byte_array([hash; 32]));
                        prop_assert_eq!(templates.of(&block_of(&offer.draft)), Some(TemplateId(id)));
                        prop_assert_eq!(templates.current(), Some(TemplateId(id)));
                        prop_assert_eq!(offer.future.len(), futures.len());
                    }
                    (Heard::Nothing, None) => {}
                    (heard, now) => prop_assert!(false, "{heard:?} {now:?}"),
                }
            }
        }
    }
}
