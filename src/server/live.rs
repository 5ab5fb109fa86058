//! Other options for a server that runs.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Options, StratumV2Server};
use crate::template::{Change, Control, ReplaceError};
use crate::transport::{Admission, NoiseLimits, quic};

/// What can be changed while the server runs.
#[derive(Debug)]
pub(super) struct Live {
    admission: Arc<Admission>,
    /// If there is a listener for Noise.
    noise: Option<Arc<watch::Sender<NoiseLimits>>>,
    quic: quic::Control,
    work: Control,
}

impl Live {
    pub(super) fn new(
        admission: Arc<Admission>,
        noise: Option<Arc<watch::Sender<NoiseLimits>>>,
        quic: quic::Control,
        work: Control,
    ) -> Self {
        Self { admission, noise, quic, work }
    }

    pub(super) fn set_tls(&self, tls: Arc<rustls::ServerConfig>) -> io::Result<()> {
        self.quic.set_tls(tls)
    }
}

/// Why a running server stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// QUIC does not go with them.
    #[error("the [quic] options cannot be used: {0}")]
    Quic(io::Error),
    /// There is no work by them.
    #[error(transparent)]
    Work(#[from] ReplaceError),
}

impl StratumV2Server {
    /// Goes over to other options, all of them or none, and disconnects nobody.
    ///
    /// Limits hold for connections that are made from now on. What sessions keep to, and who is paid,
    /// reaches the channels that are open within moments, with new work; jobs that are out keep what
    /// they have. Sources that are as they were go on undisturbed;
    /// those that are taken out are used until miners can go over to one of the others.
    ///
    /// What takes a restart is passed over: `listen_addr`, `noise_enabled`, `pool.server_id`,
    /// `template.solutions` and `quic.socket_buffer`.
    pub async fn apply(&mut self, options: Options) -> Result<(), ApplyError> {
        let Options { pool, template, .. } = options;
        // what can fail comes first
        self.live.quic.check(&options.quic).map_err(ApplyError::Quic)?;
        let change =
            Change { sources: template.sources, pace: template.pace, payout: pool.payout, tag: pool.tag };
        self.live.work.replace(change).await?;

        self.live.admission.set_limits(options.max_connections, options.max_connections_per_ip);
        if let Some(noise) = &self.live.noise {
            noise.send_replace(NoiseLimits {
                handshake_timeout: options.handshake_timeout,
                max_connections: options.max_tcp_connections,
            });
        }
        self.live.quic.set_options(&options.quic).map_err(ApplyError::Quic)?;
        self.pool.set_session_options(pool.session);
        Ok(())
    }
}
