//! A source of work that speaks the protocol, over whatever link.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use bitcoin::Network;
use bitcoin::consensus::encode;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until, timeout};

use super::error::{NoTransactions, ProtocolError};
use super::link::{Link, Provider};
use super::state::{Heard, Templates};
use crate::mining::payout::Room;
use crate::template::Offer;
use crate::template::backoff::Backoff;
use crate::template::source::{Deliveries, Delivery, Feed, Verdict};
use crate::wire::TemplateId;
use crate::wire::codec::B064K;
use crate::wire::template::{
    CoinbaseOutputConstraints, RequestTransactionData, SubmitSolution, TemplateDistribution,
};

/// How long a provider may take to have work before it is said that there is none.
const FIRST_WORK: Duration = Duration::from_secs(10);
/// How long a provider may say nothing before it is asked for something.
const QUIET: Duration = Duration::from_secs(30);
/// How long it may take to answer then.
const ANSWER: Duration = Duration::from_secs(10);
/// How long it may take to accept a message.
const SEND: Duration = Duration::from_secs(10);

/// A connection that has lasted so long was a good one: after it the next may be made soon.
const STEADY: Duration = Duration::from_secs(60);

/// What is asked of a provider.
#[derive(Debug, Clone, Copy)]
pub(in crate::template) struct Terms {
    /// The network that its work must be for.
    pub(in crate::template) network: Network,
    /// The room to leave in the coinbase.
    pub(in crate::template) room: Room,
}

/// Why a conversation has ended.
#[derive(Debug, thiserror::Error)]
enum Ended<E: Error> {
    #[error("{0}")]
    Link(E),
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    #[error("it has not answered for {} s: does its process still run, and its machine?", (QUIET + ANSWER).as_secs())]
    Silent,
    #[error("{NO_WORK}")]
    NoWork,
    #[error("it has taken nothing of what it was sent for {} s: does its process still run?", SEND.as_secs())]
    NotReading,
}

const NO_WORK: &str = "it is connected, but has sent no template: is its node still syncing?";

/// Feeds the generator from `provider`, and hands blocks to it, until dropped. A connection that
/// ends is followed by another.
pub(in crate::template) async fn run(
    mut provider: impl Provider,
    terms: Terms,
    feed: Feed,
    mut deliveries: Deliveries,
) {
    let mut backoff = Backoff::default();
    loop {
        match decline_during(&mut deliveries, provider.connect()).await {
            Err(error) => feed.down(error),
            Ok(mut link) => {
                let connected = Instant::now();
                let mut conversation = Conversation::new(&mut link, terms.network, &feed);
                let Err(ended) = conversation.hold(terms.room, &mut deliveries).await;
                if connected.elapsed() >= STEADY {
                    backoff.succeeded();
                }
                feed.down(ended);
                decline_during(&mut deliveries, link.close()).await;
            }
        }
        decline_during(&mut deliveries, backoff.wait()).await;
    }
}

/// Without a connection no block is made of the connection's templates.
async fn decline_during<T>(deliveries: &mut Deliveries, other: impl Future<Output = T>) -> T {
    let mut other = std::pin::pin!(other);
    loop {
        tokio::select! {
            done = &mut other => return done,
            Some(delivery) = deliveries.recv() => delivery.answer(Verdict::NotMine),
        }
    }
}

/// Does what takes long without holding up the miners whose tasks share this thread.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

/// One connection.
struct Conversation<'c, L> {
    link: &'c mut L,
    templates: Templates,
    feed: &'c Feed,
    patience: Patience,
    /// It has been said that the provider wants blocks to be harder than they need be.
    warned: bool,
}

/// What the provider is waited for, and until when. Each message starts it over.
///
/// ```text
///  Work ──> Talk ──> Answer ──> the end
///             ^──message──┘
/// ```
#[derive(Debug, Clone, Copy)]
enum Patience {
    /// The first work is to come.
    Work(Instant),
    /// Anything is to come.
    Talk(Instant),
    /// The answer to a question is to come, or anything else.
    Answer(Instant),
}

impl<'c, L: Link> Conversation<'c, L> {
    fn new(link: &'c mut L, network: Network, feed: &'c Feed) -> Self {
        let patience = Patience::Work(Instant::now() + FIRST_WORK);
        Self { link, templates: Templates::new(network), feed, patience, warned: false }
    }

    /// Returns when it has ended, and why.
    async fn hold(&mut self, room: Room, deliveries: &mut Deliveries) -> Result<Infallible, Ended<L::Error>> {
        let constraints = CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: room.size,
            coinbase_output_max_additional_sigops: room.sigops,
        };
        self.send(TemplateDistribution::CoinbaseOutputConstraints(constraints)).await?;
        loop {
            self.step(deliveries).await?;
        }
    }

    async fn step(&mut self, deliveries: &mut Deliveries) -> Result<(), Ended<L::Error>> {
        let (Patience::Work(until) | Patience::Talk(until) | Patience::Answer(until)) = self.patience;
        tokio::select! {
            biased; // nothing is as urgent as a block
            Some(delivery) = deliveries.recv() => self.deliver(delivery).await,
            message = self.link.next() => {
                let (msg_type, payload) = message.map_err(Ended::Link)?;
                let message = TemplateDistribution::decode(msg_type, payload)
                    .map_err(|error| ProtocolError::Unreadable(msg_type, error))?;
                let now = Instant::now();
                let heard = match &message {
                    // megabytes to hash
                    TemplateDistribution::RequestTransactionDataSuccess(_) => {
                        aside(|| self.templates.hear(&message, now))?
                    }
                    _ => self.templates.hear(&message, now)?,
                };
                self.patience = Patience::Talk(now + QUIET);
                self.act(heard).await
            }
            () = sleep_until(until) => self.lose_patience().await,
        }
    }

    async fn act(&mut self, heard: Heard) -> Result<(), Ended<L::Error>> {
        let source = self.feed.name();
        match heard {
            Heard::Nothing => {}
            Heard::Offer(offer, ask_for) => {
                self.mind_target(&offer);
                self.feed.offer(offer);
                if let Some(id) = ask_for {
                    self.ask(id).await?;
                }
            }
            Heard::Transactions(template, transactions) => {
                tracing::debug!(source, %template, transactions, "a template's transactions have come");
            }
            Heard::NoTransactions(template, NoTransactions::Refused(reason)) => {
                tracing::debug!(source, %template, reason, "no transactions for a template");
            }
            Heard::NoTransactions(template, NoTransactions::Wrong(error)) => {
                tracing::warn!(source, %template, %error, "no transactions for a template: those that came are not its own");
            }
        }
        Ok(())
    }

    /// A misread target would lose blocks without a word.
    fn mind_target(&mut self, offer: &Offer) {
        let (target, network) = (offer.tip.report_target, offer.tip.network_target);
        if target < network && !self.warned {
            self.warned = true;
            let (difficulty, network_difficulty) = (target.difficulty().0, network.difficulty().0);
            tracing::warn!(
                source = self.feed.name(),
                difficulty,
                network_difficulty,
                "the source wants only blocks that are harder than the network wants them"
            );
        }
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Ended<L::Error>> {
        let block = &delivery.block;
        let Some(template_id) = self.templates.of(block) else {
            delivery.answer(Verdict::NotMine);
            return Ok(());
        };
        let coinbase = encode::serialize(&block.coinbase);
        let Ok(coinbase_tx) = B064K::new(&coinbase) else {
            delivery.answer(Verdict::Refused("its coinbase is too long to be sent".to_owned()));
            return Ok(());
        };
        let solution = SubmitSolution {
            template_id,
            version: block.header.version.to_consensus() as u32,
            header_timestamp: block.header.time,
            header_nonce: block.header.nonce,
            coinbase_tx,
        };
        let sent = self.send(TemplateDistribution::SubmitSolution(solution)).await;
        let verdict = match &sent {
            Ok(()) => Verdict::Sent,
            // its template goes with the connection: there is no second time
            Err(ended) => {
                tracing::error!(source = self.feed.name(), hash = %block.hash, %ended, "a found block was not sent");
                Verdict::NotMine
            }
        };
        delivery.answer(verdict);
        sent
    }

    async fn lose_patience(&mut self) -> Result<(), Ended<L::Error>> {
        let now = Instant::now();
        match (self.patience, self.templates.current()) {
            (Patience::Work(_), _) => {
                self.feed.down(NO_WORK);
                self.patience = Patience::Talk(now + (QUIET - FIRST_WORK));
            }
            (Patience::Talk(_), template) => {
                self.patience = Patience::Answer(now + ANSWER);
                if let Some(id) = template {
                    self.ask(id).await?;
                }
            }
            (Patience::Answer(_), None) => return Err(Ended::NoWork),
            (Patience::Answer(_), Some(_)) => return Err(Ended::Silent),
        }
        Ok(())
    }

    async fn ask(&mut self, template_id: TemplateId) -> Result<(), Ended<L::Error>> {
        self.send(TemplateDistribution::RequestTransactionData(RequestTransactionData { template_id })).await
    }

    async fn send(&mut self, message: TemplateDistribution<'_>) -> Result<(), Ended<L::Error>> {
        let sent = timeout(SEND, self.link.send(message)).await;
        sent.map_err(|_| Ended::NotReading)?.map_err(Ended::Link)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use bitcoin::block::Block;
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;
    use crate::template::source::{Outlet, State, States};
    use crate::template::tdp::samples::{Sample, new_prev_hash};
    use crate::template::{Body, Draft, FoundBlock};
    use crate::wire::{Header, Reader, Wire};

    /// The provider's end of a connection: payloads in, frames out.
    struct Script {
        say: mpsc::UnboundedSender<(u8, Vec<u8>)>,
        hear: mpsc::UnboundedReceiver<(u8, Vec<u8>)>,
    }

    struct FakeLink {
        receive: mpsc::UnboundedReceiver<(u8, Vec<u8>)>,
        send: mpsc::UnboundedSender<(u8, Vec<u8>)>,
        payload: Vec<u8>,
        deaf: bool,
    }

    /// Hands out these connections, then none.
    struct Fake(Vec<FakeLink>);

    impl Provider for Fake {
        type Link = FakeLink;
        type Error = io::Error;

        async fn connect(&mut self) -> io::Result<FakeLink> {
            if self.0.is_empty() { Err(io::Error::other("nobody there")) } else { Ok(self.0.remove(0)) }
        }
    }

    impl Link for FakeLink {
        type Error = io::Error;

        async fn next(&mut self) -> io::Result<(u8, &[u8])> {
            let (msg_type, payload) =
                self.receive.recv().await.ok_or_else(|| io::Error::other("it hung up"))?;
            self.payload = payload;
            Ok((msg_type, &self.payload))
        }

        async fn send(&mut self, message: TemplateDistribution<'_>) -> io::Result<()> {
            if self.deaf {
                std::future::pending().await
            }
            let mut frame = Vec::new();
            message.encode(&mut frame).unwrap();
            self.send
                .send((message.msg_type(), frame.split_off(Header::LEN)))
                .map_err(|_| io::Error::other("it hung up"))
        }

        async fn close(self) {}
    }

    fn connection() -> (Script, FakeLink) {
        let (say, receive) = mpsc::unbounded_channel();
        let (send, hear) = mpsc::unbounded_channel();
        (Script { say, hear }, FakeLink { receive, send, payload: Vec::new(), deaf: false })
    }

    impl Script {
        fn say(&self, message: TemplateDistribution<'_>) {
            let mut frame = Vec::new();
            message.encode(&mut frame).unwrap();
            self.say.send((message.msg_type(), frame.split_off(Header::LEN))).unwrap();
        }

        fn work(&self, id: u64) {
            self.say(TemplateDistribution::NewTemplate(Sample::at(7).message(id, true)));
            self.say(TemplateDistribution::SetNewPrevHash(new_prev_hash(id, 1)));
        }

        /// What the client has said so far.
        fn heard(&mut self) -> Vec<(u8, Vec<u8>)> {
            std::iter::from_fn(|| self.hear.try_recv().ok()).collect()
        }
    }

    /// A source, its state, and the way to it. It runs as the generator runs it: on any thread.
    fn source(links: Vec<FakeLink>) -> (States, Outlet, tokio::task::JoinHandle<()>) {
        let (mut feeds, states) = Feed::new(&["fake".into()]);
        let (outlet, deliveries) = Outlet::new("fake".into());
        let terms = Terms { network: Network::Regtest, room: Room { size: 51, sigops: 4 } };
        let running = tokio::spawn(run(Fake(links), terms, feeds.remove(0), deliveries));
        (states, outlet, running)
    }

    fn reason(states: &States) -> String {
        match &states.borrow()[0] {
            State::Down { reason, .. } => reason.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn draft(states: &States) -> Arc<Draft> {
        states.borrow()[0].offer().expect("there is work").draft.clone()
    }

    async fn deliver(outlet: &Outlet, draft: &Arc<Draft>) -> Verdict {
        let Block { header, txdata } = bitcoin::constants::genesis_block(Network::Regtest);
        let block = FoundBlock {
            hash: header.block_hash(),
            height: 7,
            header,
            coinbase: txdata[0].clone(),
            body: Arc::new(Body::default()),
            draft: Some(draft.clone()),
        };
        let (delivery, verdict) = Delivery::new(Arc::new(block));
        outlet.deliveries.send(delivery).await.unwrap();
        verdict.await.unwrap()
    }

    /// Time for what is due now, and none for what is due later.
    async fn settle() {
        sleep(Duration::from_millis(5)).await;
    }

    const REQUEST: u8 = 0x73;

    #[tokio::test(start_paused = true)]
    async fn transactions_are_asked_for_when_the_offer_is_out() {
        let (mut script, link) = connection();
        let (states, ..) = source(vec![link]);
        settle().await;
        assert_eq!(script.heard(), [(0x70, vec![51, 0, 0, 0, 4, 0])]);
        script.say(TemplateDistribution::NewTemplate(Sample::at(7).message(3, true)));
        settle().await;
        assert!(matches!(states.borrow()[0], State::Starting) && script.heard().is_empty());
        script.say(TemplateDistribution::SetNewPrevHash(new_prev_hash(3, 1)));
        settle().await;
        assert_eq!(script.heard(), [(REQUEST, vec![3, 0, 0, 0, 0, 0, 0, 0])]);
        let first = draft(&states);
        script.say(TemplateDistribution::NewTemplate(Sample::at(8).message(4, true)));
        settle().await;
        assert!(script.heard().is_empty(), "not for what may never be mined on");
        assert_eq!(states.borrow()[0].offer().unwrap().future.len(), 1);
        script.say(TemplateDistribution::NewTemplate(Sample::at(7).message(5, false)));
        settle().await;
        assert_eq!(script.heard(), [(REQUEST, vec![5, 0, 0, 0, 0, 0, 0, 0])]);
        assert!(!Arc::ptr_eq(&first, &draft(&states)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_falls_silent_is_asked_and_then_left() {
        let (mut script, link) = connection();
        let (states, ..) = source(vec![link]);
        script.work(1);
        settle().await;
        script.heard();
        sleep(QUIET - Duration::from_secs(1)).await;
        assert!(script.heard().is_empty());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(script.heard(), [(REQUEST, vec![1, 0, 0, 0, 0, 0, 0, 0])]);
        sleep(ANSWER - Duration::from_secs(1)).await;
        // any word will do
        script.say(TemplateDistribution::NewTemplate(Sample::at(8).message(2, true)));
        sleep(QUIET + ANSWER - Duration::from_secs(1)).await;
        assert_eq!(script.heard().len(), 1);
        assert!(states.borrow()[0].offer().is_some());
        sleep(Duration::from_secs(1)).await;
        settle().await;
        assert!(reason(&states).contains("not answered for 40 s"), "{}", reason(&states));
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_without_work_is_told_of_and_then_left() {
        let (mut script, link) = connection();
        let (states, ..) = source(vec![link]);
        sleep(FIRST_WORK - Duration::from_millis(2)).await;
        assert!(matches!(states.borrow()[0], State::Starting));
        settle().await;
        assert_eq!(reason(&states), NO_WORK);
        sleep(QUIET + ANSWER - FIRST_WORK - Duration::from_secs(1)).await;
        assert!(!script.say.is_closed());
        sleep(Duration::from_secs(1)).await;
        settle().await;
        assert!(script.say.is_closed());
        assert_eq!(script.heard().len(), 1, "there is nothing to ask for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_takes_nothing_is_left() {
        let (_script, mut link) = connection();
        link.deaf = true;
        let (states, ..) = source(vec![link]);
        sleep(SEND + Duration::from_millis(1)).await;
        assert!(reason(&states).contains("taken nothing"), "{}", reason(&states));
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_go_to_the_connection_whose_work_they_are() {
        let ((mut first, one), (mut second, two)) = (connection(), connection());
        let (mut states, outlet, _running) = source(vec![one, two]);
        first.work(1);
        settle().await;
        let old = draft(&states);
        first.say(TemplateDistribution::NewTemplate(Sample::at(7).message(2, false)));
        settle().await;
        first.heard();
        assert_eq!(deliver(&outlet, &old).await, Verdict::Sent, "the one before counts too");
        let (msg_type, payload) = first.heard().remove(0);
        let TemplateDistribution::SubmitSolution(m) =
            TemplateDistribution::decode(msg_type, &payload).unwrap()
        else {
            panic!("{msg_type:#x}")
        };
        let Block { header, txdata } = bitcoin::constants::genesis_block(Network::Regtest);
        assert_eq!(m.template_id, TemplateId(1));
        assert_eq!(m.version, header.version.to_consensus() as u32);
        assert_eq!((m.header_timestamp, m.header_nonce), (header.time, header.nonce));
        assert_eq!(m.coinbase_tx.as_bytes(), encode::serialize(&txdata[0]));
        let others = Arc::new(Draft { merkle_path: Vec::new(), body: Arc::default(), ..copy(&old) });
        assert_eq!(deliver(&outlet, &others).await, Verdict::NotMine);

        drop(first);
        states.wait_for(|states| matches!(states[0], State::Down { .. })).await.unwrap();
        assert_eq!(reason(&states), "it hung up");
        assert_eq!(deliver(&outlet, &old).await, Verdict::NotMine, "while it is away");
        second.work(1);
        states.wait_for(|states| states[0].offer().is_some()).await.unwrap();
        assert_eq!(deliver(&outlet, &old).await, Verdict::NotMine, "the number means another template now");
        assert_eq!(deliver(&outlet, &draft(&states)).await, Verdict::Sent);
        second.heard();
        drop(second);
        let nobody =
            |state: &State| matches!(state, State::Down { reason, .. } if **reason == *"nobody there");
        states.wait_for(|states| nobody(&states[0])).await.unwrap();
        assert_eq!(deliver(&outlet, &old).await, Verdict::NotMine);
    }

    fn copy(draft: &Draft) -> Draft {
        Draft {
            version: draft.version,
            version_rolling: draft.version_rolling,
            coinbase: draft.coinbase.clone(),
            merkle_path: draft.merkle_path.clone(),
            body: draft.body.clone(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_ends_the_connection() {
        let (script, link) = connection();
        let (states, ..) = source(vec![link]);
        script.work(1);
        script.say.send((0x71, vec![1, 2, 3])).unwrap();
        settle().await;
        assert!(reason(&states).contains("0x71 that cannot be read"), "{}", reason(&states));
        for msg_type in [0x02, 0x15, 0x77] {
            let (script, link) = connection();
            let (states, ..) = source(vec![link]);
            script.say.send((msg_type, Vec::new())).unwrap();
            settle().await;
            assert!(script.say.is_closed());
            assert!(reason(&states).contains(&format!("{msg_type:#04x}")), "{}", reason(&states));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_until_a_connection_lasts() {
        let (links, scripts): (Vec<_>, Vec<_>) =
            (0..6).map(|_| connection()).map(|(script, link)| (link, script)).unzip();
        let began = Instant::now();
        let (mut states, ..) = source(links);
        let mut scripts = scripts.into_iter();
        // 0 s, then after 1, 2, 4 and 8 s
        for _ in 0..3 {
            drop(scripts.next());
        }
        let fourth = scripts.next().unwrap();
        fourth.work(1);
        states.wait_for(|states| states[0].offer().is_some()).await.unwrap();
        drop(fourth);
        states.wait_for(|states| matches!(states[0], State::Down { .. })).await.unwrap();
        let fifth = scripts.next().unwrap();
        fifth.work(1);
        states.wait_for(|states| states[0].offer().is_some()).await.unwrap();
        let waited = began.elapsed().as_secs_f64();
        assert!((0.75 * 15.0..=1.25 * 15.0).contains(&waited), "{waited}");
        for id in 2..5 {
            sleep(STEADY / 3).await;
            fifth.work(id);
        }
        settle().await;
        drop(fifth);
        let sixth = scripts.next().unwrap();
        sixth.work(2);
        states.wait_for(|states| matches!(states[0], State::Down { .. })).await.unwrap();
        let began = Instant::now();
        states.wait_for(|states| states[0].offer().is_some()).await.unwrap();
        assert!(began.elapsed() <= Duration::from_millis(1250), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_when_it_is_dropped() {
        let (script, link) = connection();
        let (_states, outlet, running) = source(vec![link]);
        settle().await;
        running.abort();
        settle().await;
        assert!(script.say.is_closed() && outlet.deliveries.is_closed());
    }

    #[test]
    fn the_constraints_are_in_the_order_of_the_specification() {
        let mut reader = Reader::new(&[51, 0, 0, 0, 4, 0]);
        assert_eq!((u32::read(&mut reader), u16::read(&mut reader)), (Ok(51), Ok(4)));
    }
}
