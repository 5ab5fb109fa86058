//! Peers that send more than they read, or more than is good for anyone.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use blvm_stratum_v2::server::Options;
use blvm_stratum_v2::wire::codec::B032;
use blvm_stratum_v2::wire::mining::{NewExtendedMiningJob, SubmitSharesExtended, UpdateChannel};
use blvm_stratum_v2::wire::{ChannelId, JobId, Message, SequenceNumber, Tlvs, U256};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::house::honest::Honest;
use crate::house::{House, PATIENCE, frame_of, soon};
use crate::raw::Raw;

/// More than sockets and the server's own buffers ever hold between two peers.
const TOO_MUCH: usize = 64 * 1024 * 1024;
/// A peer that takes nothing is given up after this long, says the server.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection with a channel, and next to no room for what it receives.
async fn narrow(house: &House) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = soon("a connection", socket.connect(house.address)).await.unwrap();
    let mut raw = Raw::over(stream, house).await.introduced().await;
    raw.open(|_| ()).await;
    raw
}

/// Requests whose answers are not read, until the server takes no more of them.
async fn flood(raw: &mut Raw) {
    let request = frame_of(&UpdateChannel {
        channel_id: ChannelId(0),
        nominal_hash_rate: 1.0,
        maximum_target: U256([0xff; 32]),
    });
    let mut sent = 0;
    loop {
        let mut batch = Vec::new();
        for _ in 0..100 {
            batch.extend(raw.seal(&request));
        }
        if timeout(Duration::from_secs(2), raw.stream.write_all(&batch)).await.is_err() {
            return;
        }
        sent += batch.len();
        assert!(sent < TOO_MUCH, "the server takes everything");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_taken_no_more_from_and_gets_the_newest_job_only() {
    let mut house = House::listener(2, |_| ()).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = narrow(&house).await;
    honest.mines_during(flood(&mut raw)).await;

    let before = honest.ntime();
    for later in 1..=50 {
        let published = Instant::now();
        house.refresh(1);
        honest.job_at(before + later).await;
        assert!(published.elapsed() < Duration::from_secs(2), "a job is late");
    }

    let mut jobs = Vec::new();
    let newest = Some(before + 50);
    honest
        .mines_during(async {
            while jobs.last() != Some(&newest) {
                let payload = raw.until(NewExtendedMiningJob::TYPE).await;
                jobs.push(NewExtendedMiningJob::decode(&payload).unwrap().min_ntime);
            }
        })
        .await;
    // the first was the channel's own
    assert_eq!(jobs, [None, newest]);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let house = House::listener(2, |_| ()).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = narrow(&house).await;
    let opened = Instant::now();
    honest.mines_during(flood(&mut raw)).await;
    let given_up = async {
        let rest = vec![0; TOO_MUCH];
        let error = timeout(WRITE_TIMEOUT + PATIENCE, raw.stream.write_all(&rest)).await;
        error.expect("the server lets it wait for ever").expect_err("the server takes everything")
    };
    let error = honest.mines_during(given_up).await;
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert!(opened.elapsed() >= WRITE_TIMEOUT);
    house.has_connections(1).await;
    assert_eq!(house.stats().channels.get(), 1);
}

/// Shares of one channel of which none is like the other.
struct Shares {
    channel: ChannelId,
    job: JobId,
    version: u32,
    ntime: u32,
    next: u32,
}

impl Shares {
    async fn on(raw: &mut Raw, house: &House) -> Self {
        let channel = raw.open(|m| m.channel_id).await;
        let payload = raw.until(NewExtendedMiningJob::TYPE).await;
        let job = NewExtendedMiningJob::decode(&payload).unwrap();
        let ntime = house.pool.work().borrow().as_ref().unwrap().tip.min_ntime;
        Self { channel, job: job.job_id, version: job.version, ntime, next: 0 }
    }

    fn next(&mut self) -> Vec<u8> {
        self.next += 1;
        let mut extranonce = [0; 16];
        extranonce[..4].copy_from_slice(&self.next.to_le_bytes());
        frame_of(&SubmitSharesExtended {
            channel_id: self.channel,
            sequence_number: SequenceNumber(self.next),
            job_id: self.job,
            nonce: self.next,
            ntime: self.ntime,
            version: self.version,
            extranonce: B032::of(&extranonce),
            tlvs: Tlvs::default(),
        })
    }
}

#[tokio::test]
async fn shares_in_flight_count_when_their_miner_leaves() {
    const SHARES: u32 = 200;
    let house = House::listener(2, |_| ()).await;
    let mut honest = Honest::at(&house).await;
    for cut in [0, 1, 21, 22, 40] {
        let before = house.stats().shares_accepted.get() + house.stats().shares_rejected();
        let mut raw = Raw::set_up(&house).await;
        let mut shares = Shares::on(&mut raw, &house).await;
        let mut sent = Vec::new();
        for _ in 0..SHARES {
            sent.extend(raw.seal(&shares.next()));
        }
        sent.extend(&raw.seal(&shares.next())[..cut]);
        raw.write(&sent).await.unwrap();
        raw.stream.shutdown().await.unwrap();
        // it reads to the end: a reset would be an end of another kind
        raw.rest().await;
        house.has_connections(1).await;
        let counted = house.stats().shares_accepted.get() + house.stats().shares_rejected() - before;
        assert_eq!(counted, u64::from(SHARES), "cut at {cut}");
        honest.share().await;
    }
    assert_eq!(house.stats().channels.get(), 1);
}

/// Who closes a socket without having read everything resets the connection. So it is when a miner
/// is switched off: answers cannot be written any more, but shares are still there to be read.
#[tokio::test]
async fn shares_that_arrived_count_when_their_miner_resets() {
    // no more than a socket takes in
    const SHARES: u32 = 500;
    let house = House::listener(2, |_| ()).await;
    let mut honest = Honest::at(&house).await;
    for _ in 0..10 {
        let before = house.stats().shares_accepted.get() + house.stats().shares_rejected();
        let mut raw = Raw::set_up(&house).await;
        let mut shares = Shares::on(&mut raw, &house).await;
        let mut sent = Vec::new();
        for _ in 0..SHARES {
            sent.extend(raw.seal(&shares.next()));
        }
        raw.write(&sent).await.unwrap();
        SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(raw);
        house.has_connections(1).await;
        let counted = house.stats().shares_accepted.get() + house.stats().shares_rejected() - before;
        assert_eq!(counted, u64::from(SHARES));
        honest.share().await;
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_frame_leaves_nothing() {
    let house = House::listener(2, |_| ()).await;
    let mut honest = Honest::at(&house).await;
    for cut in [1, 22, 40] {
        let mut raw = Raw::set_up(&house).await;
        let mut shares = Shares::on(&mut raw, &house).await;
        let mut sent = raw.seal(&shares.next());
        sent.extend(&raw.seal(&shares.next())[..cut]);
        raw.write(&sent).await.unwrap();
        SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(raw);
        house.has_connections(1).await;
        honest.share().await;
    }
    assert_eq!(house.stats().channels.get(), 1);
}

/// Sends shares from a thread of its own until told to stop, and throws the answers away.
fn send_on(mut raw: Raw, mut shares: Shares, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let stream = raw.take_stream();
    let reading = stream.try_clone().unwrap();
    let reader = thread::spawn(move || std::io::copy(&mut &reading, &mut std::io::sink()));
    thread::spawn(move || {
        while !stop.load(Relaxed) {
            let batch: Vec<u8> = (0..100).flat_map(|_| raw.seal(&shares.next())).collect();
            (&stream).write_all(&batch).unwrap();
        }
        stream.shutdown(Shutdown::Both).unwrap();
        let _ = reader.join();
    })
}

#[tokio::test]
async fn peers_in_a_hurry_leave_time_for_others() {
    // one thread: whoever does not let go of it has it for itself
    let patient = |options: &mut Options| options.pool.session.max_bad_shares = u32::MAX;
    let house = House::listener(1, patient).await;
    let mut honest = Honest::at(&house).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::set_up(&house).await;
        let shares = Shares::on(&mut raw, &house).await;
        senders.push(send_on(raw, shares, stop.clone()));
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let sent = Instant::now();
        honest.share().await;
        slowest = slowest.max(sent.elapsed());
    }
    stop.store(true, Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
    assert!(slowest < Duration::from_secs(2), "a share was answered after {slowest:?}");
    house.has_connections(1).await;
}
