//! The one loop that runs a session over whatever carries it.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{oneshot, watch};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Arrived, Ending, Link, LinkError};
use crate::clock::{Clock, since_1970, unix_now};
use crate::journal::{Happening, endpoint};
use crate::mining::Work;
use crate::mining::share::{Share, Solution};
use crate::pool::{Found, Stored, StratumV2Pool};
use crate::roster::Entry;
use crate::session::{CloseReason, Event, Input, Options, Output, Session, VERSION, first_job};
use crate::stats::TransportStats;
use crate::wire::url::Transport;

/// More than this unsent, and nothing more is taken in for a peer: its messages stay in the
/// socket, and of the work only the newest is sent once there is room again.
const BACKLOG: usize = 64 * 1024;

/// More batches of shares than this on their way to the sink, and no more are taken in either.
const STORING: usize = 64;

/// A peer that takes nothing of what is sent for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the last shares may take to be safe when the server stops.
const LAST_STORE: Duration = Duration::from_secs(1);

/// More lines than this about one connection are not logged: a peer must not fill the disk.
const LOG_LINES: u32 = 100;

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.address, self.transport)
    }
}

/// Serves a connection until it ends.
pub(super) async fn drive<L: Link>(
    mut link: L,
    peer: Peer,
    pool: Arc<StratumV2Pool>,
    clock: Clock,
    shutdown: watch::Receiver<bool>,
) {
    let mut seat = Seat::new(peer, pool, clock);
    let served = async {
        let ending = seat.serve(&mut link, shutdown).await?;
        if let Ending::Draining = ending {
            seat.settle(&mut link).await?;
        }
        Ok(ending)
    };
    let ending = served.await.unwrap_or_else(Ending::Link);
    let peer = seat.peer;
    match &ending {
        Ending::Finished | Ending::Draining => {}
        Ending::Session(reason) => {
            tracing::info!(%peer, %reason, "connection closed by the server")
        }
        Ending::Link(LinkError::Closed) => tracing::debug!(%peer, "connection closed"),
        Ending::Link(error) => tracing::info!(%peer, %error, "connection lost"),
    }
    seat.leave(&ending);
    link.close(&ending).await;
}

/// A session's place in the pool. What the session holds goes back when this is dropped.
struct Seat {
    peer: Peer,
    pool: Arc<StratumV2Pool>,
    clock: Clock,
    session: Session,
    /// What the session keeps to.
    options: Arc<Options>,
    shares: Vec<Share>,
    /// Solutions that have not been handed in yet.
    found: VecDeque<Found>,
    /// What the sink has not confirmed yet, oldest first.
    storing: VecDeque<(u64, oneshot::Receiver<()>)>,
    /// Lines logged.
    lines: u32,
    /// Its place in the roster, once it is set up.
    entry: Option<Arc<Entry>>,
}

impl Seat {
    fn new(peer: Peer, pool: Arc<StratumV2Pool>, clock: Clock) -> Self {
        let options = pool.session_options();
        let session = Session::new(options.clone(), clock.now()).with_jobs_from(first_job(since_1970()));
        let seat = Self {
            peer,
            pool,
            clock,
            session,
            options,
            shares: Vec::new(),
            found: VecDeque::new(),
            storing: VecDeque::new(),
            lines: 0,
            entry: None,
        };
        seat.stats().connections.rise();
        seat
    }

    fn stats(&self) -> &TransportStats {
        self.pool.stats().of(self.peer.transport)
    }

    /// Until the session or the server has enough.
    async fn serve<L: Link>(
        &mut self,
        link: &mut L,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<Ending, LinkError> {
        let mut work = self.pool.work();
        self.take_work(&mut work);
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        let mut last_written = Instant::now();
        loop {
            while link.backlog() < BACKLOG && self.storing.len() < STORING {
                let Some(input) = next_input(link)? else { break };
                self.session.handle(self.clock.now(), input, &*self.pool);
                if let Some(reason) = self.drain(link).await? {
                    return Ok(Ending::Session(reason));
                }
                // a peer that always has something to say would not let go of the thread
                consume_budget().await;
            }
            if let Some(address) = link.moved() {
                tracing::debug!(peer = %self.peer, to = %address, "peer has moved");
                self.peer.address = address;
                if let Some(entry) = &self.entry {
                    entry.moved_to(address);
                }
            }
            self.session.handle(self.clock.now(), Input::Tick, &*self.pool);
            self.store();
            if let Some(reason) = self.drain(link).await? {
                return Ok(Ending::Session(reason));
            }
            let unsent = link.backlog();
            link.flush();
            if link.backlog() < unsent || unsent == 0 {
                last_written = Instant::now();
            }
            if unsent >= BACKLOG && link.backlog() < BACKLOG {
                // frames may be left that have been read already: no socket will tell of them
                continue;
            }

            let room = link.backlog() < BACKLOG && self.storing.len() < STORING;
            let stuck = (link.backlog() > 0).then_some(last_written + WRITE_TIMEOUT);
            let wake = self.session.wake_at().map(|at| self.clock.instant(at));
            let wake = wake.into_iter().chain(stuck).min();
            if let Some(wake) = wake {
                timer.as_mut().reset(wake);
            }
            let before = link.backlog();
            tokio::select! {
                done = link.progress(room), if room || before > 0 => {
                    done?;
                    if link.backlog() < before {
                        last_written = Instant::now();
                    }
                }
                Ok(()) = work.changed(), if room => self.take_work(&mut work),
                stored = confirmed(&mut self.storing) => {
                    let number = stored.ok_or(LinkError::SharesLost)?;
                    self.session.handle(self.clock.now(), Input::Stored(number), &*self.pool);
                }
                _ = shutdown.wait_for(|stop| *stop) => return Ok(Ending::Draining),
                () = &mut timer, if wake.is_some() => {
                    if stuck.is_some_and(|stuck| stuck <= Instant::now()) {
                        return Err(LinkError::NotReading);
                    }
                }
            }
        }
    }

    /// What has arrived is handled, and what is owed is answered, if its shares are soon safe.
    async fn settle<L: Link>(&mut self, link: &mut L) -> Result<(), LinkError> {
        // one look: there may be a block among it
        link.progress(true).now_or_never().transpose()?;
        while let Some(input) = next_input(link)? {
            self.session.handle(self.clock.now(), input, &*self.pool);
            if self.drain(link).await?.is_some() {
                return Ok(());
            }
        }
        self.store();
        self.session.handle(self.clock.now(), Input::Stop, &*self.pool);
        let stored = async {
            while !self.storing.is_empty() {
                let number = confirmed(&mut self.storing).await.ok_or(LinkError::SharesLost)?;
                self.session.handle(self.clock.now(), Input::Stored(number), &*self.pool);
            }
            Ok::<_, LinkError>(())
        };
        timeout(LAST_STORE, stored).await.unwrap_or(Ok(()))?;
        self.drain(link).await?;
        Ok(())
    }

    fn take_work(&mut self, work: &mut watch::Receiver<Option<Arc<Work>>>) {
        let newest = work.borrow_and_update().clone();
        let options = self.pool.session_options();
        if !Arc::ptr_eq(&options, &self.options) {
            self.options = options.clone();
            self.session.handle(self.clock.now(), Input::Options(options), &*self.pool);
        }
        if let Some(newest) = newest {
            self.session.handle(self.clock.now(), Input::Work(newest), &*self.pool);
        }
    }

    /// Does what the session wants done.
    async fn drain<L: Link>(&mut self, link: &mut L) -> Result<Option<CloseReason>, LinkError> {
        let mut close = None;
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Frame(lane, frame) => link.send(lane, frame)?,
                Output::Finish(lane) => link.finish(lane),
                Output::Event(event) => {
                    if let Event::SetUp { .. } = event {
                        link.set_up();
                    }
                    self.note(&event);
                }
                Output::Solution(solution) => self.found.push_back(found(self.peer, solution)),
                Output::Close(reason) => {
                    close = Some(reason);
                    break;
                }
            }
        }
        self.pool.hand_in(&mut self.found).await;
        Ok(close)
    }

    /// Books what was accepted, and hands the shares to the sink.
    fn store(&mut self) {
        let tally = self.session.take_tally();
        self.stats().add(&tally);
        if let Some(entry) = &self.entry {
            entry.add(&tally, unix_now);
        }
        let Some(number) = self.session.take_shares(&mut self.shares) else { return };
        self.pool.journal().shares(&self.shares);
        match self.pool.store(&mut self.shares) {
            Stored::Now if self.storing.is_empty() => {
                self.session.handle(self.clock.now(), Input::Stored(number), &*self.pool);
            }
            Stored::Now => {
                // in order behind what is still on its way
                let (done, receiver) = oneshot::channel();
                let _ = done.send(());
                self.storing.push_back((number, receiver));
            }
            Stored::Later(receiver) => self.storing.push_back((number, receiver)),
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::SetUp { device } => self.enter(device),
            Event::Opened { channel, account } => {
                self.stats().channels.rise();
                if let Some(entry) = &self.entry {
                    entry.opened(*channel, account);
                }
            }
            Event::Closed { channel, .. } => {
                self.stats().channels.fall();
                if let Some(entry) = &self.entry {
                    entry.closed(*channel);
                }
            }
            Event::Refused { .. } => {}
        }
        self.lines += 1;
        match self.lines.cmp(&LOG_LINES) {
            Ordering::Less => log(self.peer, event),
            Ordering::Equal => {
                tracing::info!(peer = %self.peer, "no more of this connection's channels is logged");
            }
            Ordering::Greater => {}
        }
    }
}

impl Seat {
    fn enter(&mut self, device: &str) {
        let Peer { transport, address } = self.peer;
        self.entry = Some(self.pool.roster().enter(transport, address, device, unix_now()));
        let endpoint = || endpoint(transport, address);
        self.pool.journal().tell(|| Happening::Connected { endpoint: endpoint(), version: VERSION.into() });
    }

    fn leave(&mut self, reason: &dyn fmt::Display) {
        let Some(entry) = self.entry.take() else { return };
        self.pool.roster().leave(&entry);
        let endpoint = || endpoint(entry.transport(), entry.came_from());
        let reason = || reason.to_string();
        self.pool.journal().tell(|| Happening::Disconnected { endpoint: endpoint(), reason: reason() });
    }
}

fn log(peer: Peer, event: &Event) {
    match event {
        Event::SetUp { device } => tracing::debug!(%peer, device, "connection set up"),
        Event::Opened { channel, account } => {
            tracing::info!(%peer, %channel, user = &*account.user, "channel opened");
        }
        Event::Refused { code, user } => tracing::warn!(%peer, user, code, "channel refused"),
        Event::Closed { channel, account } => {
            tracing::info!(%peer, %channel, user = &*account.user, "channel closed");
        }
    }
}

fn found(Peer { transport, address }: Peer, solution: Box<Solution>) -> Found {
    Found { solution, transport, peer: address }
}

/// What has arrived, for the session.
fn next_input<L: Link>(link: &mut L) -> Result<Option<Input<'_>>, LinkError> {
    Ok(link.next_arrived()?.map(|arrived| match arrived {
        Arrived::Frame(lane, header, payload) => Input::Frame(lane, header, payload),
        Arrived::End(lane) => Input::Ended(lane),
    }))
}

/// The number up to which all shares are safe, once that is news. None if they are lost.
async fn confirmed(storing: &mut VecDeque<(u64, oneshot::Receiver<()>)>) -> Option<u64> {
    let Some((number, receiver)) = storing.front_mut() else {
        return std::future::pending().await;
    };
    let number = *number;
    let stored = receiver.await.is_ok();
    storing.pop_front();
    stored.then_some(number)
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.session.end(&*self.pool);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Event(event) => self.note(&event),
                Output::Solution(solution) => self.found.push_back(found(self.peer, solution)),
                Output::Frame(..) | Output::Finish(_) | Output::Close(_) => {}
            }
        }
        self.pool.hand_in_at_last(&mut self.found);
        self.store();
        self.leave(&"the server has let go of it");
        self.stats().connections.fall();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bitcoin::Network;
    use tokio::sync::mpsc;

    use super::*;
    use crate::mining::coinbase::Tag;
    use crate::mining::extranonce::{BootEpoch, ServerId};
    use crate::mining::payout::PayoutPolicy;
    use crate::mining::{Hashrate, TemplateSerial};
    use crate::pool::{Options, ShareSink};
    use crate::session::Lane;
    use crate::template::regtest::{self, RegtestChain};
    use crate::transport::Arrived;
    use crate::wire::codec::Str255;
    use crate::wire::common::{SetupConnection, flags};
    use crate::wire::mining::{
        CloseChannel, Mining, NewMiningJob, OpenStandardMiningChannel, SubmitSharesStandard,
    };
    use crate::wire::{ChannelId, Header, JobId, Message, RequestId, SequenceNumber, U256};

    const NOW: u32 = 1_800_000_000;
    const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

    /// A sink that is told when shares are safe.
    #[derive(Debug, Default, Clone)]
    struct Sink(Arc<Mutex<Vec<oneshot::Sender<()>>>>);

    impl ShareSink for Sink {
        fn store(&self, shares: &mut Vec<Share>) -> Stored {
            shares.clear();
            let (sender, receiver) = oneshot::channel();
            self.0.lock().unwrap().push(sender);
            Stored::Later(receiver)
        }
    }

    /// A peer that says one thing at each wake-up.
    #[derive(Default)]
    struct Script {
        to_say: VecDeque<Vec<u8>>,
        said: Option<Vec<u8>>,
        reading: Vec<u8>,
        heard: Arc<Mutex<Vec<Vec<u8>>>>,
        /// It hangs up instead of taking a message of this type.
        fails_at: Option<u8>,
        /// It goes here.
        moves: Option<SocketAddr>,
    }

    impl Script {
        fn say<'m>(&mut self, message: &impl Message<'m>) {
            let mut frame = Vec::new();
            message.encode(&mut frame).unwrap();
            self.to_say.push_back(frame);
        }

        fn miner() -> Self {
            let mut script = Self::default();
            let text = Str255::truncated("test");
            script.say(&SetupConnection {
                protocol: 0,
                min_version: 2,
                max_version: 2,
                flags: flags::REQUIRES_STANDARD_JOBS,
                endpoint_host: text,
                endpoint_port: 0,
                vendor: text,
                hardware_version: text,
                firmware: text,
                device_id: text,
            });
            script.say(&OpenStandardMiningChannel {
                request_id: RequestId(1),
                user_identity: Str255::truncated(ADDRESS),
                nominal_hash_rate: 0.0,
                max_target: U256([0xff; 32]),
            });
            script
        }

        fn share(&mut self, nonce: u32) {
            self.say(&SubmitSharesStandard {
                channel_id: ChannelId(2),
                sequence_number: SequenceNumber(nonce),
                job_id: JobId(0), // that of the job which it is found on
                nonce,
                ntime: NOW,
                version: 0x2000_0000,
            });
        }
    }

    impl Script {
        /// A share is for the first job that was heard of.
        fn set_job(&mut self) {
            let Some(share) = self.said.as_mut().filter(|said| said[2] == SubmitSharesStandard::TYPE) else {
                return;
            };
            let heard = self.heard.lock().unwrap();
            let job = heard.iter().find(|frame| frame[2] == NewMiningJob::TYPE).expect("a job comes before");
            share[14..18].copy_from_slice(&job[10..14]);
        }
    }

    impl Link for Script {
        fn next_arrived(&mut self) -> Result<Option<Arrived<'_>>, LinkError> {
            let Some(frame) = self.said.take() else { return Ok(None) };
            self.reading = frame;
            let (header, payload) = self.reading.split_first_chunk().unwrap();
            Ok(Some(Arrived::Frame(Lane::Control, Header::read(header), payload)))
        }

        fn send(&mut self, _: Lane, frame: &[u8]) -> Result<(), LinkError> {
            if self.fails_at == Some(frame[2]) {
                return Err(LinkError::Closed);
            }
            self.heard.lock().unwrap().push(frame.to_vec());
            Ok(())
        }

        fn flush(&mut self) {}

        fn backlog(&self) -> usize {
            0
        }

        async fn progress(&mut self, read: bool) -> Result<(), LinkError> {
            if !read || self.to_say.is_empty() {
                return std::future::pending().await;
            }
            self.said = self.to_say.pop_front();
            self.set_job();
            Ok(())
        }

        fn moved(&mut self) -> Option<SocketAddr> {
            self.moves.take_if(|_| self.to_say.is_empty())
        }

        async fn close(self, _: &Ending) {}
    }

    /// A pool with work on which every hash is a share, and every other a block.
    fn pool(sink: Sink) -> (Arc<StratumV2Pool>, mpsc::Receiver<Found>) {
        let mut session = crate::session::Options::default();
        session.vardiff.slowest = Hashrate::new(0.0).unwrap();
        let options = Options {
            session,
            payout: PayoutPolicy::Solo { fee: None, network: Network::Regtest },
            tag: Tag::default(),
            server_id: ServerId::default(),
        };
        let (pool, found) = StratumV2Pool::new(options, BootEpoch::default(), Box::new(sink));
        let chain = RegtestChain::open(regtest::Options::default(), TemplateSerial(1), NOW).unwrap();
        pool.publish(Arc::new(chain.work()));
        (pool, found)
    }

    fn start(
        script: Script,
        pool: &Arc<StratumV2Pool>,
    ) -> (tokio::task::JoinHandle<()>, watch::Sender<bool>) {
        let (stop, stopped) = watch::channel(false);
        let peer = Peer { transport: Transport::Tcp, address: ([127, 0, 0, 1], 1).into() };
        (tokio::spawn(drive(script, peer, pool.clone(), Clock::start(), stopped)), stop)
    }

    /// Lets the connection do all that it can without waiting.
    async fn settle() {
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }

    fn acknowledged(heard: &Mutex<Vec<Vec<u8>>>) -> u32 {
        let heard = heard.lock().unwrap();
        let messages = heard.iter().map(|frame| Mining::decode(frame[2], &frame[6..]));
        messages
            .map(|message| match message {
                Ok(Mining::SubmitSharesSuccess(m)) => m.new_submits_accepted_count,
                _ => 0,
            })
            .sum()
    }

    #[tokio::test(start_paused = true)]
    async fn shares_are_acknowledged_when_the_sink_has_them_and_not_before() {
        let sink = Sink::default();
        let (pool, _found) = pool(sink.clone());
        let mut script = Script::miner();
        for nonce in 0..3 {
            script.share(nonce);
        }
        let heard = script.heard.clone();
        let (_connection, _stop) = start(script, &pool);
        settle().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(pool.stats().of(Transport::Tcp).shares_accepted.get(), 3);
        assert_eq!(acknowledged(&heard), 0);
        let safe: Vec<_> = sink.0.lock().unwrap().drain(..).collect();
        safe.into_iter().for_each(|safe| safe.send(()).unwrap());
        settle().await;
        assert_eq!(acknowledged(&heard), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_known_from_its_introduction_to_its_end() {
        let (pool, _found) = pool(Sink::default());
        let mut journal = pool.journal().listen();
        let (silent, _stop) = start(Script::default(), &pool);
        silent.await.unwrap();
        assert_eq!((pool.roster().total(), journal.try_recv().is_err()), (0, true));

        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 2));
        let mut script = Script { moves: Some(elsewhere), ..Script::miner() };
        for nonce in [1, 2, 2, 3] {
            script.share(nonce);
        }
        let (connection, stop) = start(script, &pool);
        settle().await;
        let endpoint = "tcp://127.0.0.1:1".to_owned();
        let connected = Happening::Connected { endpoint: endpoint.clone(), version: 2 };
        assert_eq!(journal.try_recv().unwrap(), connected);
        let [entry] = &pool.roster().miners(9)[..] else { panic!("one is connected") };
        assert_eq!((entry.device(), entry.peer()), ("test test test", elsewhere));
        assert_eq!((entry.accepted(), entry.rejected()), (3, 1));
        assert!(entry.last_share().is_some());
        let (channels, users) = entry.channels(9);
        assert_eq!((channels, &*users[0].user), (1, ADDRESS));

        stop.send_replace(true);
        connection.await.unwrap();
        let reason = "the server stops".to_owned();
        assert_eq!(journal.try_recv().unwrap(), Happening::Disconnected { endpoint, reason });
        assert_eq!(pool.roster().total(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_dropped_leaves_the_roster() {
        let (pool, _found) = pool(Sink::default());
        let mut journal = pool.journal().listen();
        let mut script = Script::miner();
        script.say(&CloseChannel { channel_id: ChannelId(2), reason_code: Str255::default() });
        let (connection, _stop) = start(script, &pool);
        settle().await;
        assert_eq!(pool.roster().total(), 1);
        assert_eq!(pool.roster().miners(1)[0].channels(9).0, 0, "it was closed");
        connection.abort();
        settle().await;
        assert_eq!(pool.roster().total(), 0);
        assert!(matches!(journal.try_recv(), Ok(Happening::Connected { .. })));
        assert!(matches!(journal.try_recv(), Ok(Happening::Disconnected { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_loses_shares_ends_the_connection() {
        let sink = Sink::default();
        let (pool, _found) = pool(sink.clone());
        let mut script = Script::miner();
        script.share(1);
        let (connection, _stop) = start(script, &pool);
        settle().await;
        sink.0.lock().unwrap().clear();
        connection.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_sink_stops_the_intake() {
        let sink = Sink::default();
        let (pool, mut found) = pool(sink.clone());
        let mut script = Script::miner();
        let shares = 2 * STORING as u32;
        for nonce in 0..shares {
            script.share(nonce);
        }
        let (_connection, _stop) = start(script, &pool);
        settle().await;
        let accepted = || pool.stats().of(Transport::Tcp).shares_accepted.get();
        assert_eq!(accepted(), STORING as u64);
        for _ in 0..shares {
            let safe = sink.0.lock().unwrap().pop();
            safe.into_iter().for_each(|safe| safe.send(()).unwrap());
            settle().await;
        }
        assert_eq!(accepted(), u64::from(shares));
        while found.try_recv().is_ok() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_solution_outlives_its_connection() {
        let (pool, mut found) = pool(Sink::default());
        let mut script = Script::miner();
        for nonce in 0..20 {
            script.share(nonce);
        }
        // the first refusal, of a share that comes twice, is where the peer hangs up
        script.share(0);
        script.fails_at = Some(0x1d);
        let (connection, _stop) = start(script, &pool);
        connection.await.unwrap();
        assert_eq!(pool.stats().of(Transport::Tcp).shares_accepted.get(), 20);
        let mut solutions = 0;
        while found.try_recv().is_ok() {
            solutions += 1;
        }
        assert!(solutions > 0, "of 20 hashes some are blocks");
        assert_eq!(pool.stats().of(Transport::Tcp).connections.get(), 0);
    }
}
