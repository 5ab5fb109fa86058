//! A path between clients and a server that delays, loses, rebinds and counts.

#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::runtime::Builder;
use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// Datagrams on their way or held for a flight; what comes on top is dropped, as a router would.
const MAX_QUEUED: usize = 16_384;
/// Datagrams read from upstream sockets and not yet looked at; on top of it the kernel's buffers
/// fill, then the kernel drops.
const MAX_UNREAD: usize = 1024;
/// A client on top of it gets no answer.
const MAX_CLIENTS: usize = 8192;
const MAX_DATAGRAM: usize = 65_536;
/// Asked of the kernel, which may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}
use Direction::{Down, Up};

/// What the path does to datagrams. The default does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Path {
    pub(crate) delay_up: Duration,
    pub(crate) delay_down: Duration,
    /// The probability that a datagram is dropped.
    pub(crate) loss_up: f64,
    pub(crate) loss_down: f64,
    /// Of the choice of the dropped ones.
    pub(crate) seed: u64,
}

/// What went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Delivered.
    pub(crate) datagrams: u64,
    /// Delivered, of UDP payload.
    pub(crate) bytes: u64,
    /// Lost at random, in the black hole, by a rotation or by a full queue.
    pub(crate) dropped: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) up: Traffic,
    pub(crate) down: Traffic,
    /// Different ports from which the server was sent something.
    pub(crate) source_ports_seen: usize,
}

/// What one side said before it heard anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) direction: Direction,
    pub(crate) datagrams: usize,
    pub(crate) bytes: usize,
}

/// Flights of clients without which the server's last one would not have come.
pub(crate) fn client_flights(flights: &[Flight]) -> usize {
    let last = flights.iter().rposition(|f| f.direction == Down).unwrap_or(0);
    flights[..last].iter().filter(|f| f.direction == Up).count()
}

/// The path, on a thread of its own. Dropping it ends it.
pub(crate) struct Forwarder {
    addr: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// A path with delay and loss.
    pub(crate) fn start(server: SocketAddr, path: Path) -> Self {
        Self::run(server, path, None)
    }

    /// A path that carries flights by turns: it collects what one side says until that side has been
    /// silent for `quiet`, delivers it at once, then does the same for the other side. A side with
    /// nothing to say passes. Delays do not apply, loss does.
    pub(crate) fn turns(server: SocketAddr, path: Path, quiet: Duration) -> Self {
        Self::run(server, path, Some(quiet))
    }

    fn run(server: SocketAddr, path: Path, quiet: Option<Duration>) -> Self {
        let front = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        front.set_nonblocking(true).unwrap();
        let _ = SockRef::from(&front).set_recv_buffer_size(SOCKET_BUFFER);
        let addr = front.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared { path, ..Shared::default() }));
        let (stop, stopped) = oneshot::channel();
        let of_thread = shared.clone();
        let thread = thread::Builder::new().name("forwarder".into()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let front = UdpSocket::from_std(front).unwrap();
                Engine::new(front, server, of_thread, quiet, path.seed).run(stopped).await;
            });
        });
        Self { addr, shared, stop: Some(stop), thread: Some(thread.unwrap()) }
    }

    /// Where clients connect to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn set_loss(&self, up: f64, down: f64) {
        let mut shared = lock(&self.shared);
        (shared.path.loss_up, shared.path.loss_down) = (up, down);
    }

    /// Applies to what arrives from now on, which may overtake what is under way.
    pub(crate) fn set_delay(&self, up: Duration, down: Duration) {
        let mut shared = lock(&self.shared);
        (shared.path.delay_up, shared.path.delay_down) = (up, down);
    }

    /// Whether nothing arrives, either way.
    pub(crate) fn blackhole(&self, on: bool) {
        lock(&self.shared).blackhole = on;
    }

    /// From now on every client's traffic reaches the server from a new port, and nothing that the
    /// server sends to the old one arrives. Like a NAT, this gives a client its new port when the
    /// client next sends something.
    pub(crate) fn rotate(&self) {
        self.rotate_lingering(Duration::ZERO);
    }

    /// The same, but what the server sends to the old port arrives for so long.
    pub(crate) fn rotate_lingering(&self, linger: Duration) {
        let mut shared = lock(&self.shared);
        shared.generation += 1;
        shared.linger_until = (!linger.is_zero()).then(|| Instant::now() + linger);
    }

    /// The address from which the server is sent what comes from clients, once they have a new port.
    pub(crate) fn set_source(&self, address: Ipv4Addr) {
        lock(&self.shared).source = Some(address);
    }

    pub(crate) fn counts(&self) -> Counts {
        let shared = lock(&self.shared);
        Counts { source_ports_seen: shared.ports.len(), ..shared.counts }
    }

    /// What [`turns`](Self::turns) has delivered. Flights of one side with nothing in between are
    /// one: no part of it can have been caused by the other side.
    pub(crate) fn flights(&self) -> Vec<Flight> {
        lock(&self.shared).flights.clone()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the forwarder panicked");
        }
    }
}

/// What the owner sets and what it reads.
#[derive(Default)]
struct Shared {
    path: Path,
    blackhole: bool,
    generation: u64,
    linger_until: Option<Instant>,
    /// Localhost if there is none.
    source: Option<Ipv4Addr>,
    counts: Counts,
    ports: HashSet<u16>,
    flights: Vec<Flight>,
}

impl Shared {
    fn traffic(&mut self, direction: Direction) -> &mut Traffic {
        match direction {
            Up => &mut self.counts.up,
            Down => &mut self.counts.down,
        }
    }

    fn record(&mut self, direction: Direction, leaving: &VecDeque<Datagram>) {
        if self.flights.last().is_none_or(|last| last.direction != direction) {
            self.flights.push(Flight { direction, datagrams: 0, bytes: 0 });
        }
        if let Some(flight) = self.flights.last_mut() {
            flight.datagrams += leaving.len();
            flight.bytes += leaving.iter().map(|datagram| datagram.bytes.len()).sum::<usize>();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Datagram {
    direction: Direction,
    client: SocketAddr,
    bytes: Vec<u8>,
}

/// A client's socket towards the server, and the task that reads it.
struct Upstream {
    socket: Arc<UdpSocket>,
    generation: u64,
    reader: AbortHandle,
}

impl Upstream {
    async fn connect(
        client: SocketAddr,
        (source, server): (Ipv4Addr, SocketAddr),
        generation: u64,
        unread: mpsc::Sender<(u64, Datagram)>,
    ) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((source, 0)).await?);
        let _ = SockRef::from(&*socket).set_recv_buffer_size(SOCKET_BUFFER);
        socket.connect(server).await?;
        let from = socket.clone();
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; MAX_DATAGRAM];
            loop {
                // an error is an ICMP message: the server is not there at present
                let Ok(len) = from.recv(&mut buffer).await else { continue };
                let datagram = Datagram { direction: Down, client, bytes: buffer[..len].to_vec() };
                if unread.send((generation, datagram)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { socket, generation, reader: reader.abort_handle() })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Client {
    now: Upstream,
    /// The one before a rotation that lingers.
    before: Option<Upstream>,
}

struct Engine {
    front: UdpSocket,
    server: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    clients: HashMap<SocketAddr, Client>,
    dice: [StdRng; 2],
    line: Line,
    unread: mpsc::Receiver<(u64, Datagram)>,
    read: mpsc::Sender<(u64, Datagram)>,
}

impl Engine {
    fn new(
        front: UdpSocket,
        server: SocketAddr,
        shared: Arc<Mutex<Shared>>,
        quiet: Option<Duration>,
        seed: u64,
    ) -> Self {
        let (read, unread) = mpsc::channel(MAX_UNREAD);
        let line = match quiet {
            None => Line::Delayed(Delayed::default()),
            Some(quiet) => Line::Turns(Turns::new(quiet)),
        };
        let dice = [seed, !seed].map(StdRng::seed_from_u64);
        Self { front, server, shared, clients: HashMap::new(), dice, line, unread, read }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let due = self.line.due();
            select! {
                _ = &mut stopped => return,
                Ok((len, client)) = self.front.recv_from(&mut buffer) => {
                    self.arrived(Datagram { direction: Up, client, bytes: buffer[..len].to_vec() });
                }
                Some((generation, datagram)) = self.unread.recv() => {
                    if self.is_mapped(generation) {
                        self.arrived(datagram);
                    } else {
                        lock(&self.shared).counts.down.dropped += 1;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            while let Some(datagram) = self.line.next(Instant::now(), &self.shared) {
                self.deliver(datagram).await;
            }
        }
    }

    /// Whether what the server sends to a port of this generation still arrives.
    fn is_mapped(&self, generation: u64) -> bool {
        let shared = lock(&self.shared);
        let lingers = shared.linger_until.is_some_and(|until| Instant::now() < until);
        generation == shared.generation || (lingers && generation + 1 == shared.generation)
    }

    fn arrived(&mut self, datagram: Datagram) {
        let direction = datagram.direction;
        let mut shared = lock(&self.shared);
        let (loss, delay) = match direction {
            Up => (shared.path.loss_up, shared.path.delay_up),
            Down => (shared.path.loss_down, shared.path.delay_down),
        };
        let lost = self.dice[direction as usize].random_bool(loss);
        if lost || shared.blackhole || !self.line.push(datagram, Instant::now(), delay) {
            shared.traffic(direction).dropped += 1;
        }
    }

    async fn deliver(&mut self, Datagram { direction, client, bytes }: Datagram) {
        let sent = match direction {
            Up => self.up(client, &bytes).await,
            Down => self.front.send_to(&bytes, client).await,
        };
        let mut shared = lock(&self.shared);
        let traffic = shared.traffic(direction);
        match sent {
            Ok(len) => {
                traffic.datagrams += 1;
                traffic.bytes += len as u64;
            }
            Err(_) => traffic.dropped += 1,
        }
    }

    async fn up(&mut self, client: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        let (generation, lingers, source) = {
            let shared = lock(&self.shared);
            let source = shared.source.unwrap_or(Ipv4Addr::LOCALHOST);
            (shared.generation, shared.linger_until.is_some(), source)
        };
        if self.clients.get(&client).is_none_or(|known| known.now.generation != generation) {
            if self.clients.len() == MAX_CLIENTS && !self.clients.contains_key(&client) {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            // the old one is closed after the new one is bound, so the ports differ
            let path = (source, self.server);
            let now = Upstream::connect(client, path, generation, self.read.clone()).await?;
            lock(&self.shared).ports.insert(now.socket.local_addr()?.port());
            let before = self.clients.remove(&client).map(|old| old.now).filter(|_| lingers);
            self.clients.insert(client, Client { now, before });
        }
        self.clients[&client].now.socket.send(bytes).await
    }
}

/// What is under way, by the rule of its delivery.
enum Line {
    Delayed(Delayed),
    Turns(Turns),
}

impl Line {
    /// False if it is full.
    fn push(&mut self, datagram: Datagram, now: Instant, delay: Duration) -> bool {
        match self {
            Self::Delayed(line) => line.push(datagram, now + delay),
            Self::Turns(line) => line.push(datagram, now),
        }
    }

    /// When there may be something to deliver.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Delayed(line) => line.under_way.keys().next().map(|(due, _)| *due),
            Self::Turns(line) => line.due(),
        }
    }

    fn next(&mut self, now: Instant, shared: &Mutex<Shared>) -> Option<Datagram> {
        match self {
            Self::Delayed(line) => line.next(now),
            Self::Turns(line) => line.next(now, shared),
        }
    }
}

#[derive(Default)]
struct Delayed {
    /// By the time when it is due, then by order of arrival.
    under_way: BTreeMap<(Instant, u64), Datagram>,
    arrivals: u64,
}

impl Delayed {
    fn push(&mut self, datagram: Datagram, due: Instant) -> bool {
        let has_room = self.under_way.len() < MAX_QUEUED;
        if has_room {
            self.arrivals += 1;
            self.under_way.insert((due, self.arrivals), datagram);
        }
        has_room
    }

    fn next(&mut self, now: Instant) -> Option<Datagram> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

struct Turns {
    quiet: Duration,
    turn: Direction,
    /// When the side whose turn it is was last told or said something.
    began: Instant,
    last_said: [Instant; 2],
    held: [Vec<Datagram>; 2],
    leaving: VecDeque<Datagram>,
}

impl Turns {
    fn new(quiet: Duration) -> Self {
        let now = Instant::now();
        Self {
            quiet,
            turn: Up,
            began: now,
            last_said: [now; 2],
            held: [Vec::new(), Vec::new()],
            leaving: VecDeque::new(),
        }
    }

    fn push(&mut self, datagram: Datagram, now: Instant) -> bool {
        let direction = datagram.direction as usize;
        let has_room = self.held[direction].len() < MAX_QUEUED;
        if has_room {
            self.last_said[direction] = now;
            self.held[direction].push(datagram);
        }
        has_room
    }

    /// None while nobody has said anything.
    fn due(&self) -> Option<Instant> {
        if self.held.iter().all(Vec::is_empty) {
            return None;
        }
        Some(self.began.max(self.last_said[self.turn as usize]) + self.quiet)
    }

    fn next(&mut self, now: Instant, shared: &Mutex<Shared>) -> Option<Datagram> {
        if self.leaving.is_empty() && self.due().is_some_and(|due| due <= now) {
            if self.held[self.turn as usize].is_empty() {
                self.pass();
                return self.next(now, shared);
            }
            self.leaving = std::mem::take(&mut self.held[self.turn as usize]).into();
            lock(shared).record(self.turn, &self.leaving);
            self.pass();
            self.began = now;
        }
        self.leaving.pop_front()
    }

    fn pass(&mut self) {
        self.turn = match self.turn {
            Up => Down,
            Down => Up,
        };
    }
}
