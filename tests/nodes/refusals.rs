//! What is wrong with a node at the start is said, and it is enough to mend it.

use std::fs;
use std::path::Path;

use bitcoin::BlockHash;
use blvm_stratum_v2::wire::url::Transport;

use crate::core::Core;
use crate::miners::Miner;
use crate::stage::{Stage, Wanted};
#[cfg(feature = "bitcoin-ipc")]
use crate::upstream::Kind;
use crate::upstream::Upstream;

#[cfg(feature = "bitcoin-ipc")]
crate::upstream::on_source!(
    bitcoin_ipc,
    Ipc,
    a_node_in_initial_download_gives_no_work_until_it_has_caught_up
);
#[cfg(feature = "bitcoin-ipc")]
crate::upstream::on_source!(
    template_provider,
    Tdp,
    a_node_in_initial_download_gives_no_work_until_it_has_caught_up
);

/// Over RPC a node of a regtest chain gives work whether or not it has caught up.
#[cfg(feature = "bitcoin-ipc")]
async fn a_node_in_initial_download_gives_no_work_until_it_has_caught_up(kind: Kind, mut core: Core) {
    // it forgets its one block, as that was never saved
    core.restart().await;
    assert_eq!(core.height().await, 0);
    let upstream = Upstream::of(kind, &core).await;
    let stage = Stage::open([upstream]).await;
    no_work_yet(&stage).await;
    let tip = core.generate(1).await[0];
    works_now(&stage, tip).await;
}

#[tokio::test]
async fn a_wrong_cookie_is_enough_to_be_refused() {
    let Some(core) = Core::start().await else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let cookie = elsewhere.path().join("cookie");
    fs::write(&cookie, "__cookie__:0123456789abcdef").unwrap();
    let stage = Stage::open([rpc(&core, &cookie)]).await;
    no_work_yet(&stage).await;
    fs::copy(core.cookie(), &cookie).unwrap();
    works_now(&stage, core.tip().await).await;
}

#[tokio::test]
async fn a_node_may_be_started_after_the_server() {
    let Some(mut core) = Core::start().await else { return };
    core.save().await;
    let tip = core.tip().await;
    core.kill();
    let stage = Stage::open([rpc(&core, &core.cookie())]).await;
    no_work_yet(&stage).await;
    core.restart().await;
    works_now(&stage, tip).await;
}

#[tokio::test]
async fn a_node_on_another_chain_gives_no_work() {
    let Some(mut core) = Core::empty("testnet4").await else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let cookie = elsewhere.path().join("cookie");
    fs::copy(core.cookie(), &cookie).unwrap();
    let stage = Stage::open([rpc(&core, &cookie)]).await;
    let line = no_work_yet(&stage).await;
    assert!(line.contains("testnet4") && line.contains("regtest"), "{line}");
    core.restart_on("regtest").await;
    let tip = core.generate(1).await[0];
    fs::copy(core.cookie(), &cookie).unwrap();
    works_now(&stage, tip).await;
}

#[tokio::test]
async fn a_node_that_is_still_syncing_gives_no_work() {
    let Some(core) = Core::empty("testnet4").await else { return };
    let upstream = rpc(&core, &core.cookie());
    let stage = Stage::open_with([upstream], Wanted { network: "testnet4", ..Wanted::default() }).await;
    let line = no_work_yet(&stage).await;
    assert!(line.contains("syncing"), "{line}");
}

fn rpc(core: &Core, cookie: &Path) -> Upstream {
    Upstream::Rpc { url: core.url(), cookie: cookie.to_owned() }
}

/// Miners wait, and the log says why.
async fn no_work_yet(stage: &Stage) -> String {
    let line = stage.log.says(&["the source has no work", "reason="]).await;
    assert!(stage.server.pool().work().borrow().is_none());
    line
}

/// The server has work without being started anew.
async fn works_now(stage: &Stage, tip: BlockHash) {
    for transport in [Transport::Quic, Transport::Tcp] {
        let mut miner = Miner::at(&stage.url(transport), "alice").await;
        miner.is_on(tip).await;
    }
}
