//! A source of work under test, and the provider that it connects to.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use blvm_stratum_v2::mining::payout::Room;
use blvm_stratum_v2::template::source::{Deliveries, Delivery, Feed, Known, Outlet, State, States, Verdict};
use blvm_stratum_v2::template::tdp::{Options, TemplateProvider};
use blvm_stratum_v2::template::{FoundBlock, Offer};
use blvm_stratum_v2::wire::keys::AuthorityPublicKey;
use stratum_core::common_messages_sv2::{Protocol, SetupConnectionOwned};
use stratum_core::parsers_sv2::{AnyMessageOwned, TemplateDistributionOwned};
use stratum_core::template_distribution_sv2::CoinbaseOutputConstraintsOwned;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::sri_server::{Server, Wire};

/// What takes longer will not happen any more.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    timeout(PATIENCE, happens).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// The client's side.
pub(crate) struct Source {
    pub(crate) states: States,
    outlet: Outlet,
    running: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Source {
    pub(crate) fn run(server: &Server) -> Self {
        Self::run_with(server.address().to_string(), Some(server.authority), Network::Regtest)
    }

    pub(crate) fn run_with(
        address: String,
        authority_key: Option<AuthorityPublicKey>,
        network: Network,
    ) -> Self {
        let room = Room { size: 51, sigops: 4 };
        let source = TemplateProvider::new(Options { address, authority_key, network, room });
        Self::spawn(source.name(), |feed, deliveries| source.run(feed, deliveries))
    }

    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        name: Arc<str>,
        run: impl FnOnce(Feed, Deliveries) -> F,
    ) -> Self {
        let (mut feeds, states) = Feed::new(std::slice::from_ref(&name));
        let (outlet, deliveries) = Outlet::new(name);
        let running = tokio::spawn(run(feeds.remove(0), deliveries));
        Self { states, outlet, running }
    }

    /// The first work that is as wanted.
    pub(crate) async fn offers(&mut self, what: &str, wanted: impl Fn(&Offer) -> bool) -> Offer {
        let waiting = self.states.wait_for(|states| states[0].offer().is_some_and(&wanted));
        soon(what, waiting).await.unwrap()[0].offer().unwrap().clone()
    }

    /// Why there is no work.
    pub(crate) async fn is_down(&mut self) -> String {
        let down = |states: &Known| matches!(states[0], State::Down { .. });
        let states = soon("the source goes down", self.states.wait_for(down)).await.unwrap();
        match &states[0] {
            State::Down { reason, .. } => reason.to_string(),
            _ => unreachable!(),
        }
    }

    pub(crate) async fn deliver(&self, block: FoundBlock) -> Verdict {
        let (delivery, verdict) = Delivery::new(Arc::new(block));
        soon("the source takes a block", self.outlet.deliveries.send(delivery)).await.unwrap();
        soon("the source says something of a block", verdict).await.unwrap()
    }
}

/// The provider's side of a connection.
pub(crate) struct Provider {
    pub(crate) wire: Wire,
    pub(crate) setup: SetupConnectionOwned,
    pub(crate) constraints: CoinbaseOutputConstraintsOwned,
}

impl Provider {
    /// Lets the next client in, up to where it waits for templates.
    pub(crate) async fn welcome(server: &Server) -> Self {
        soon("a client is welcomed", async {
            let mut wire = server.accept().await.expect("a handshake");
            let setup = wire.set_up(Protocol::TemplateDistributionProtocol).await;
            let constraints = match wire.reader.next().await {
                Some(AnyMessageOwned::TemplateDistribution(
                    TemplateDistributionOwned::CoinbaseOutputConstraints(constraints),
                )) => constraints,
                other => panic!("{other:?}"),
            };
            Self { wire, setup, constraints }
        })
        .await
    }

    pub(crate) async fn says(&mut self, message: TemplateDistributionOwned) {
        self.wire.writer.send(AnyMessageOwned::TemplateDistribution(message)).await.unwrap();
    }

    pub(crate) async fn hears(&mut self) -> TemplateDistributionOwned {
        match soon("the client says something", self.wire.reader.next()).await {
            Some(AnyMessageOwned::TemplateDistribution(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    /// The client wants the transactions of this template.
    pub(crate) async fn is_asked_for(&mut self, id: u64) {
        match self.hears().await {
            TemplateDistributionOwned::RequestTransactionData(m) => assert_eq!(m.template_id, id),
            other => panic!("{other:?}"),
        }
    }

    /// The client hangs up, whatever it had to say before.
    pub(crate) async fn is_left(&mut self) {
        soon("the client hangs up", async { while self.wire.reader.next().await.is_some() {} }).await;
    }
}
