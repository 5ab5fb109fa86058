//! The ways in which a server can have its work from a node.

use std::path::PathBuf;

use crate::core::Core;

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// JSON-RPC.
    Rpc,
    /// Bitcoin Core's mining interface.
    #[cfg(feature = "bitcoin-ipc")]
    Ipc,
    /// A Template Provider on top of that.
    #[cfg(feature = "bitcoin-ipc")]
    Tdp,
}

/// A node as a source.
pub(crate) enum Upstream {
    Rpc {
        url: String,
        cookie: PathBuf,
    },
    #[cfg(feature = "bitcoin-ipc")]
    Ipc(PathBuf),
    #[cfg(feature = "bitcoin-ipc")]
    Tdp(crate::provider::Provider),
}

impl Upstream {
    /// Has work from a node in this way.
    pub(crate) async fn of(kind: Kind, core: &Core) -> Self {
        match kind {
            Kind::Rpc => Self::Rpc { url: core.url(), cookie: core.cookie() },
            #[cfg(feature = "bitcoin-ipc")]
            Kind::Ipc => Self::Ipc(core.socket()),
            #[cfg(feature = "bitcoin-ipc")]
            Kind::Tdp => Self::Tdp(crate::provider::start(&core.socket()).await),
        }
    }

    /// [`of`](Self::of), and by RPC as well. A block whose template has gone, with the connection
    /// that it was for, can be handed in only there.
    pub(crate) async fn beside_rpc(kind: Kind, core: &Core) -> Vec<Self> {
        let mut ways = vec![Self::of(kind, core).await];
        if kind != Kind::Rpc {
            ways.push(Self::of(Kind::Rpc, core).await);
        }
        ways
    }

    /// Its table in the configuration.
    pub(crate) fn toml(&self) -> String {
        match self {
            Self::Rpc { url, cookie } => format!(
                "[[source]]\ntype = \"bitcoin_rpc\"\nurl = \"{url}\"\ncookie_file = \"{}\"\n",
                cookie.display()
            ),
            #[cfg(feature = "bitcoin-ipc")]
            Self::Ipc(socket) => {
                format!("[[source]]\ntype = \"bitcoin_ipc\"\nsocket = \"{}\"\n", socket.display())
            }
            #[cfg(feature = "bitcoin-ipc")]
            Self::Tdp(provider) => format!(
                "[[source]]\ntype = \"template_provider\"\naddress = \"{}\"\nauthority_key = \"{}\"\n",
                provider.address, provider.authority
            ),
        }
    }
}

/// Makes a test of each scenario for each kind of source. A scenario is given a source's kind and
/// a node; all are skipped where there is no Bitcoin Core.
macro_rules! on_every_source {
    ($($scenario:ident),+ $(,)?) => {
        crate::upstream::on_source!(bitcoin_rpc, Rpc, $($scenario),+);
        #[cfg(feature = "bitcoin-ipc")]
        crate::upstream::on_source!(bitcoin_ipc, Ipc, $($scenario),+);
        #[cfg(feature = "bitcoin-ipc")]
        crate::upstream::on_source!(template_provider, Tdp, $($scenario),+);
    };
}

/// Makes a test of each scenario for one kind of source.
macro_rules! on_source {
    ($module:ident, $kind:ident, $($scenario:ident),+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $scenario() {
                    let Some(core) = crate::core::Core::start().await else { return };
                    super::$scenario(crate::upstream::Kind::$kind, core).await;
                }
            )+
        }
    };
}

pub(crate) use {on_every_source, on_source};
