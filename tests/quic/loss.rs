//! Paths that lose datagrams.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blvm_stratum_v2::wire::url::Transport;
use tokio::time::sleep;

use crate::fleet::{Books, Miner};
use crate::forwarder::{Forwarder, Path};
use crate::house::House;
use crate::house::honest::Honest;
use crate::raw::soon;

const CHANNELS: u32 = 3;
const BLOCKS: usize = 6;
const MINED: Duration = Duration::from_secs(3);

/// A miner behind a path that loses this much either way.
async fn mine(house: Arc<House>, (up, down): (f64, f64), seed: u64) -> Lossy {
    let path =
        Forwarder::start(house.address, Path { loss_up: up, loss_down: down, seed, ..Path::default() });
    let mut miner = Miner::insist(&house.url_by(Transport::Quic, path.addr()), CHANNELS).await;
    miner.mine(Duration::from_millis(10), MINED).await;
    let books = miner.settle().await;
    Lossy { loss: (up, down), miner, books, path }
}

struct Lossy {
    loss: (f64, f64),
    miner: Miner,
    books: Books,
    path: Forwarder,
}

#[tokio::test]
async fn everything_adds_up_whatever_is_lost() {
    let began = Instant::now();
    let house = Arc::new(House::server(|_| ()).await);
    let mut mining = Vec::new();
    for loss in [0.01, 0.05, 0.2] {
        for (seed, loss) in [(loss, 0.0), (0.0, loss), (loss, loss)].into_iter().cycle().take(9).enumerate() {
            mining.push(tokio::spawn(mine(house.clone(), loss, seed as u64)));
        }
    }
    // somebody else finds the blocks
    let mut honest = Honest::to(&house.url(Transport::Tcp)).await;
    for _ in 0..BLOCKS {
        sleep(MINED / BLOCKS as u32).await;
        honest.block().await;
    }
    let mut miners = Vec::new();
    for mining in mining {
        miners.push(mining.await.unwrap());
    }

    // one more, now that all are there
    honest.block().await;
    let tip = house.pool.work().borrow().as_ref().unwrap().tip.prev_hash;
    let tip = BTreeSet::from([*AsRef::<[u8; 32]>::as_ref(&tip)]);
    for Lossy { miner, .. } in &mut miners {
        soon("the block reaches every channel", async {
            while miner.tips() != tip {
                miner.hear().await.expect("the connection lasts");
            }
        })
        .await;
    }

    let stats = house.stats_of(Transport::Quic);
    let Books { sent, accepted, refused } = miners.iter().map(|lossy| lossy.books).sum();
    assert_eq!(accepted + refused, sent);
    assert_eq!((stats.shares_accepted.get(), stats.shares_rejected()), (accepted, refused));
    assert_eq!(stats.channels.get(), miners.len() as u64 * u64::from(CHANNELS));
    for Lossy { loss, books, path, .. } in &miners {
        let counts = path.counts();
        println!("{loss:?}: {books:?}, lost {} up, {} down", counts.up.dropped, counts.down.dropped);
        assert!(books.sent > 30, "{loss:?}: there was a load");
        for (loss, traffic) in [(loss.0, counts.up), (loss.1, counts.down)] {
            assert!(loss < 0.05 || traffic.dropped > 0, "{loss}: {traffic:?}");
            assert!(loss > 0.0 || traffic.dropped == 0, "{loss}: {traffic:?}");
        }
    }
    println!("all took {:.1} s", began.elapsed().as_secs_f64());
}
