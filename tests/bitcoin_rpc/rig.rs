//! The source under test, with both of its ends in hand.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::mining::payout::Room;
use blvm_stratum_v2::template::bitcoin_rpc::{Auth, BitcoinRpc, Options};
use blvm_stratum_v2::template::source::{Delivery, Feed, Known, Outlet, State, States, Verdict};
use blvm_stratum_v2::template::{FoundBlock, Offer, Refresh};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::node::USER;

/// More than anything takes here.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Rig {
    pub(crate) states: States,
    pub(crate) outlet: Outlet,
    pub(crate) refresh: Refresh,
    folder: TempDir,
    _running: JoinSet<()>,
}

impl Rig {
    /// With the right cookie, and pauses that are a test's.
    pub(crate) fn start(url: &str) -> Self {
        Self::start_with(url, |_| {})
    }

    pub(crate) fn start_with(url: &str, change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options {
            url: url.to_owned(),
            auth: Auth::CookieFile(folder.path().join(".cookie")),
            network: bitcoin::Network::Regtest,
            room: Room { size: 51, sigops: 4 },
            poll_interval: Duration::from_secs(3_600),
            empty_after: Duration::from_millis(100),
        };
        change(&mut options);
        let source = BitcoinRpc::new(options).unwrap();
        let name = source.name();
        assert_eq!(*name, *format!("bitcoin_rpc {url}"));
        let (mut feeds, states) = Feed::new(std::slice::from_ref(&name));
        let (outlet, deliveries) = Outlet::new(name);
        let mut running = JoinSet::new();
        let refresh = feeds[0].refresh().clone();
        let rig = Self { states, outlet, refresh, folder, _running: JoinSet::new() };
        rig.write_cookie(USER);
        running.spawn(source.run(feeds.remove(0), deliveries));
        Self { _running: running, ..rig }
    }

    pub(crate) fn cookie(&self) -> PathBuf {
        self.folder.path().join(".cookie")
    }

    pub(crate) fn write_cookie(&self, content: &str) {
        std::fs::write(self.cookie(), content).unwrap();
    }

    /// The first offer that is so.
    pub(crate) async fn offer(&mut self, is_so: impl Fn(&Offer) -> bool) -> Offer {
        let wanted = |states: &Known| states[0].offer().is_some_and(&is_so);
        let mut states = self.states.clone();
        match timeout(PATIENCE, states.wait_for(wanted)).await {
            Ok(states) => states.unwrap()[0].offer().unwrap().clone(),
            Err(_) => panic!("still {:?}", self.states.borrow()[0]),
        }
    }

    pub(crate) async fn up(&mut self) -> Offer {
        self.offer(|_| true).await
    }

    /// The first reason to have no work that contains this.
    pub(crate) async fn down(&mut self, part: &str) -> Arc<str> {
        let wanted =
            |states: &Known| matches!(&states[0], State::Down { reason, .. } if reason.contains(part));
        let mut states = self.states.clone();
        match timeout(PATIENCE, states.wait_for(wanted)).await {
            Ok(states) => match &states.unwrap()[0] {
                State::Down { reason, .. } => reason.clone(),
                other => panic!("{other:?}"),
            },
            Err(_) => panic!("not {part:?} but {:?}", self.states.borrow()[0]),
        }
    }

    /// Every state until there is an offer that is so.
    pub(crate) async fn history(&mut self, until: impl Fn(&Offer) -> bool) -> Vec<State> {
        let mut history = Vec::new();
        loop {
            let state = self.states.borrow_and_update()[0].clone();
            let done = state.offer().is_some_and(&until);
            history.push(state);
            if done {
                return history;
            }
            timeout(PATIENCE, self.states.changed()).await.unwrap().unwrap();
        }
    }

    pub(crate) async fn submit(&self, block: FoundBlock) -> Verdict {
        let (delivery, verdict) = Delivery::new(Arc::new(block));
        self.outlet.deliveries.send(delivery).await.unwrap();
        timeout(PATIENCE, verdict).await.unwrap().unwrap()
    }
}
