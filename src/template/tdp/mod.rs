//! A Template Provider as a source of work (§7): `sv2-tp` beside a node, or any other.
//!
//! ```text
//!  provider ──NewTemplate, SetNewPrevHash──> state ──Offer──> generator
//!     ^                                        │ which templates are of this connection
//!     └──SubmitSolution────────── converse <───┴──Delivery── courier
//! ```
//!
//! `state` is pure. `converse` runs it over a `link`, of which `noise` is one.

mod body;
pub(super) mod converse;
mod draft;
mod error;
pub(super) mod link;
mod network;
mod noise;
#[cfg(test)]
mod samples;
mod state;

use std::error::Error;
use std::sync::Arc;

use bitcoin::Network;

use self::converse::Terms;
use self::link::{Link, Provider};
use self::noise::Socket;
use super::source::{Deliveries, Feed};
use crate::mining::payout::Room;
use crate::wire::keys::AuthorityPublicKey;

/// What an operator can set about a Template Provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where it listens, as `HOST:PORT`.
    pub address: String,
    /// The key that vouches for it. Without one, whoever answers is believed.
    pub authority_key: Option<AuthorityPublicKey>,
    /// The network that its work must be for.
    pub network: Network,
    /// The room that payouts need in the coinbase.
    pub room: Room,
}

/// A client of a Template Provider.
#[derive(Debug)]
pub struct TemplateProvider {
    options: Options,
}

impl TemplateProvider {
    /// Does nothing until it [runs](Self::run).
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// What the operator calls it.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        format!("template_provider {}", self.options.address).into()
    }

    /// Whether it is there, is who it should be, and distributes templates.
    ///
    /// # Errors
    ///
    /// What of that is not so, in words for the log.
    pub async fn reach(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Options { address, authority_key, .. } = self.options.clone();
        Socket { address, authority_key }.connect().await?.close().await;
        Ok(())
    }

    /// Feeds the generator and takes blocks, until dropped.
    pub async fn run(self, feed: Feed, deliveries: Deliveries) {
        let Options { address, authority_key, network, room } = self.options;
        if authority_key.is_none() {
            tracing::warn!(
                source = feed.name(),
                "there is no authority_key: whoever answers at the address is taken for the template provider"
            );
        }
        converse::run(Socket { address, authority_key }, Terms { network, room }, feed, deliveries).await;
    }
}
