//! Miners that leave.

use blvm_stratum_v2::wire::url::Transport;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use crate::fleet::Miner;
use crate::house::House;
use crate::raw::soon;

/// A connection's end comes with its last shares, on many streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_in_flight_count_when_their_miner_leaves() {
    let house = House::listener(1, |_| ()).await;
    let stats = house.stats_of(Transport::Quic);
    let mut sent = 0;
    for _ in 0..5 {
        // more of one channel than is read at a time, and more miners than the server is quick for
        let mut leaving = JoinSet::new();
        for _ in 0..6 {
            let miner = Miner::at(&house.url(Transport::Quic), 300).await;
            leaving.spawn(miner.submit_and_leave(900));
        }
        sent += leaving.join_all().await.into_iter().map(|books| books.sent).sum::<u64>();
        soon("the connections end", async {
            while stats.connections.get() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(stats.shares_accepted.get() + stats.shares_rejected(), sent);
    }
}
