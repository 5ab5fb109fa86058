//! Sources that are not wanted any more.

use std::io;
use std::sync::Mutex;

use tracing::subscriber::DefaultGuard;

use super::*;

/// What is logged on this thread, which is all that a generator does in these tests.
struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    _until_dropped: DefaultGuard,
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn here() -> Self {
        let lines = Arc::<Mutex<Vec<u8>>>::default();
        let writer = Arc::clone(&lines);
        let subscriber = tracing_subscriber::fmt().with_ansi(false);
        let subscriber = subscriber.with_writer(move || Lines(writer.clone())).finish();
        Self { lines, _until_dropped: tracing::subscriber::set_default(subscriber) }
    }

    /// How many lines have these words.
    fn count(&self, words: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        String::from_utf8_lossy(&lines).lines().filter(|line| line.contains(words)).count()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const USED_ON: &str = "used on until one of the new ones has work";

async fn height(rig: &mut Rig) -> u32 {
    rig.published().await.unwrap().tip.height
}

#[tokio::test(start_paused = true)]
async fn they_are_used_until_one_that_is_wanted_has_work() {
    let log = Log::here();
    let mut rig = Rig::start(2);
    rig.feeds[0].offer(offer(7, 5_000));
    rig.published().await;
    rig.change(&[1], |_| ()).await.unwrap();
    rig.feeds[1].down("a wrong password");
    rig.feeds[0].offer(offer(8, 5_000));
    assert_eq!(height(&mut rig).await, 8);
    assert_eq!((log.count(USED_ON), log.count("source 0")), (1, 4), "with its name");
    // however long it takes
    rig.feeds[0].down("gone");
    sleep(Duration::from_secs(3_600)).await;
    rig.feeds[0].offer(offer(9, 5_000));
    assert_eq!(height(&mut rig).await, 9);
    let hash = rig.find().await;
    for deliveries in &mut rig.deliveries {
        assert_eq!(deliveries.recv().await.unwrap().block.hash, hash);
    }
    assert_eq!((log.count(USED_ON), log.count("not used any more")), (1, 0));

    rig.feeds[1].offer(offer(9, 4_000));
    assert_eq!(value(&rig.published().await), 4_000);
    assert_eq!((log.count(USED_ON), log.count("not used any more")), (1, 1));
    // from now on it is as if it was not there, but for blocks
    rig.feeds[1].down("gone");
    rig.feeds[0].offer(offer(10, 5_000));
    assert_eq!(height(&mut rig).await, 9);
    rig.feeds[0].down("switched off");
    assert_eq!(log.count("switched off"), 0, "nobody wants to know");
    sleep(Duration::from_secs(61)).await;
    rig.find().await;
    assert!(rig.deliveries[1].recv().await.is_some());
    let rest = std::iter::from_fn(|| rig.deliveries[0].try_recv().ok()).count();
    assert_eq!(rest, 0, "and after a minute not even for these");
    rig.feeds[1].offer(offer(10, 4_000));
    assert_eq!(value(&rig.published().await), 4_000);
}

#[tokio::test(start_paused = true)]
async fn where_one_has_work_they_are_not() {
    let log = Log::here();
    let mut rig = Rig::start(2);
    rig.feeds[0].offer(offer(7, 5_000));
    rig.feeds[1].offer(offer(7, 4_000));
    rig.published().await;
    rig.change(&[1], |_| ()).await.unwrap();
    assert_eq!(value(&rig.published().await), 4_000);
    rig.feeds[1].down("gone");
    rig.feeds[0].offer(offer(8, 5_000));
    assert_eq!(height(&mut rig).await, 7);
    assert_eq!((log.count(USED_ON), log.count("not used any more")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_behind_takes_nobody_along() {
    let mut rig = Rig::start(2);
    rig.feeds[0].offer(offer(7, 5_000));
    rig.published().await;
    rig.change(&[1], |_| ()).await.unwrap();
    rig.feeds[1].offer(offer(6, 4_000));
    rig.feeds[0].offer(offer(8, 5_000));
    assert_eq!(height(&mut rig).await, 8);
    // it has work for a moment, and goes
    rig.feeds[1].down("gone");
    rig.feeds[0].offer(offer(9, 5_000));
    assert_eq!(height(&mut rig).await, 9);
    rig.feeds[1].offer(offer(9, 4_000));
    assert_eq!(value(&rig.published().await), 4_000, "it has caught up");
    rig.feeds[0].offer(offer(10, 5_000));
    rig.feeds[1].offer(offer(10, 3_000));
    assert_eq!(value(&rig.published().await), 3_000);
}

#[tokio::test(start_paused = true)]
async fn again_and_again() {
    let mut rig = Rig::start(3);
    rig.feeds[0].offer(offer(7, 5_000));
    for (turn, wanted) in (8..).zip([1, 2, 1]) {
        rig.change(&[wanted], |_| ()).await.unwrap();
        rig.feeds[0].offer(offer(turn, 5_000));
        assert_eq!(height(&mut rig).await, turn);
    }
    // it is there once, and is wanted: with its work the others are not used any more
    rig.feeds[1].offer(offer(10, 4_000));
    assert_eq!(value(&rig.published().await), 4_000);
    rig.feeds[0].offer(offer(11, 5_000));
    rig.feeds[2].offer(offer(11, 3_000));
    rig.feeds[1].down("gone");
    assert_eq!(height(&mut rig).await, 10);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_wanted_again_is_there_still() {
    // while it is used
    let mut rig = Rig::start(2);
    rig.feeds[0].offer(offer(7, 5_000));
    let before = rig.published().await.unwrap();
    rig.change(&[1], |_| ()).await.unwrap();
    rig.change(&[0], |_| ()).await.unwrap();
    let after = rig.published().await.unwrap();
    assert_eq!(after.template.serial, before.template.serial, "miners do not notice");
    rig.feeds[1].offer(offer(8, 4_000));
    assert_eq!(height(&mut rig).await, 7);

    // and when it is retired
    rig.change(&[1], |_| ()).await.unwrap();
    assert_eq!(value(&rig.published().await), 4_000);
    rig.feeds[0].down("for a moment");
    rig.feeds[0].offer(offer(9, 5_000));
    assert_eq!(height(&mut rig).await, 8);
    rig.change(&[0], |_| ()).await.unwrap();
    assert_eq!(height(&mut rig).await, 9, "what it has is known");
    sleep(Duration::from_secs(3_600)).await;
    rig.feeds[0].offer(offer(10, 5_000));
    assert_eq!(height(&mut rig).await, 10);
    rig.find().await;
    assert!(rig.deliveries[0].recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_wanted_again_may_have_forgotten_its_work() {
    let mut rig = Rig::start(2);
    rig.feeds[0].offer(offer(7, 5_000));
    let before = rig.published().await.unwrap();
    rig.feeds[1].offer(offer(6, 4_000));
    rig.change(&[1], |_| ()).await.unwrap();
    rig.feeds[0].down("for a moment");
    rig.published().await;
    rig.feeds[0].offer(offer(7, 5_000));
    rig.change(&[0], |_| ()).await.unwrap();
    let after = rig.published().await.unwrap();
    assert_eq!(after.tip.height, 7);
    assert!(after.template.serial > before.template.serial);
}

#[tokio::test(start_paused = true)]
async fn they_are_not_asked_for_what_they_have_no_room_for() {
    let mut rig = Rig::start(1);
    let solo = PayoutPolicy::Solo { fee: None, network: bitcoin::Network::Regtest };
    // nobody has had work: so it holds at once
    rig.change(&[0], |change| change.payout = solo).await.unwrap();
    rig.feeds[0].offer(offer(7, 5_000));
    assert!(rig.published().await.is_none());
    rig.change(&[0], |change| change.payout = to(0x53, 1)).await.unwrap();
    assert!(rig.published().await.is_none(), "solo channels would still need the room");
}

fn change_to(index: usize, payout: PayoutPolicy) -> Change {
    Change { sources: vec![options(index)], pace: PACE, payout, tag: Tag::default() }
}

#[tokio::test(start_paused = true)]
async fn the_log_has_when_a_payout_waits_and_when_it_holds() {
    let log = Log::here();
    let (pool, found) = pool();
    let (mut generator, feeds, _deliveries) = generator(1, pool.clone(), found);
    feeds[0].offer(offer(7, 5_000));
    generator.publish_due(Instant::now());
    let said = || (log.count("takes more room"), log.count("holds from now on"));
    generator.change(change_to(0, to(0x53, 1))).unwrap();
    assert_eq!(said(), (0, 0), "there is nothing to wait for");

    generator.change(change_to(0, to(0x54, 100))).unwrap();
    feeds[0].offer(offer(8, 5_000));
    generator.publish_due(Instant::now());
    let script = || pool.terms().payout.operator().unwrap().as_bytes()[0];
    assert_eq!((said(), script()), ((1, 0), 0x53));
    generator.seats[0].feed.offer(offer(8, 4_000));
    generator.publish_due(Instant::now());
    assert_eq!((said(), script()), ((1, 1), 0x54));
}

#[tokio::test(start_paused = true)]
async fn there_are_not_too_many_of_them() {
    let (pool, found) = pool();
    let (mut generator, feeds, _deliveries) = generator(1, pool, found);
    feeds[0].offer(offer(7, 5_000));
    generator.publish_due(Instant::now());
    let is_first = |seat: &Seat| seat.feed.id() == feeds[0].id();
    for index in 1..50 {
        generator.change(change_to(index, to(0x51, 1))).unwrap();
        let used = &generator.seats[1..generator.used];
        assert!(used.len() <= MAX_TAKEN_OUT);
        assert!(used.iter().any(is_first), "the one that has work is among them");
        assert!(generator.seats.len() - generator.used <= MAX_TAKEN_OUT);
    }
    assert_eq!(generator.seats.len(), 1 + 2 * MAX_TAKEN_OUT);
    // one that is behind has ten minutes to catch up; then miners stay on what they have, and it is kept for their
    // blocks
    generator.seats[0].feed.offer(offer(6, 4_000));
    generator.publish_due(Instant::now());
    assert_eq!(generator.used, 1 + MAX_TAKEN_OUT);
    sleep(Duration::from_secs(601)).await;
    // its task has found nobody there meanwhile
    generator.seats[0].feed.offer(offer(6, 4_000));
    generator.publish_due(Instant::now());
    assert_eq!((generator.used, generator.seats.len()), (1, 1 + MAX_TAKEN_OUT));
    assert!(generator.seats[1..].iter().any(is_first));
    sleep(Duration::from_secs(61)).await;
    generator.publish_due(Instant::now());
    assert!(generator.seats.len() == 2 && is_first(&generator.seats[1]), "as long as miners are on its work");
    generator.seats[0].feed.offer(offer(7, 4_000));
    generator.publish_due(Instant::now());
    sleep(Duration::from_secs(61)).await;
    generator.publish_due(Instant::now());
    assert_eq!(generator.seats.len(), 1, "after a minute they are gone");
}
