//! Other certificates and options for a listener that runs.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::Endpoint;

use super::endpoint::{EndpointKeys, Options, server_config};
use crate::transport::Admission;

/// No fewer addresses than this can take up all handshakes: such as begin one and never end it.
const ADDRESSES: usize = 8;

/// Changes what holds for the connections that a listener takes from now on.
#[derive(Clone)]
pub struct Control {
    endpoint: Endpoint,
    keys: EndpointKeys,
    handshakes: Arc<Admission>,
    settings: Arc<Mutex<Settings>>,
}

struct Settings {
    tls: Arc<rustls::ServerConfig>,
    options: Arc<Options>,
    /// No more connections are taken, whatever is set.
    closed: bool,
}

impl Control {
    pub(super) fn new(
        endpoint: Endpoint,
        tls: Arc<rustls::ServerConfig>,
        keys: EndpointKeys,
        options: Options,
        handshakes: Arc<Admission>,
    ) -> Self {
        let settings = Settings { tls, options: Arc::new(options), closed: false };
        Self { endpoint, keys, handshakes, settings: Arc::new(Mutex::new(settings)) }
    }

    /// Whether these options can be set.
    pub fn check(&self, options: &Options) -> io::Result<()> {
        server_config(self.settings().tls.clone(), &self.keys, options).map(drop)
    }

    /// Has other options hold. The size of the socket's buffers is left as it is.
    pub fn set_options(&self, options: &Options) -> io::Result<()> {
        let mut settings = self.settings();
        let options = Options { socket_buffer: settings.options.socket_buffer, ..options.clone() };
        if options == *settings.options {
            return Ok(());
        }
        self.serve(&settings, settings.tls.clone(), &options)?;
        self.handshakes.set_limits(options.max_handshakes, per_address(&options));
        settings.options = Arc::new(options);
        Ok(())
    }

    /// Has other certificates shown.
    pub fn set_tls(&self, tls: Arc<rustls::ServerConfig>) -> io::Result<()> {
        let mut settings = self.settings();
        self.serve(&settings, tls.clone(), &settings.options)?;
        settings.tls = tls;
        Ok(())
    }

    /// Refuses new connections, for good.
    pub(super) fn close(&self) {
        // one who sets something at the same time comes before this, or it has no effect
        self.settings().closed = true;
        self.endpoint.set_server_config(None);
    }

    pub(super) fn options(&self) -> Arc<Options> {
        self.settings().options.clone()
    }

    fn serve(
        &self,
        settings: &Settings,
        tls: Arc<rustls::ServerConfig>,
        options: &Options,
    ) -> io::Result<()> {
        let server = server_config(tls, &self.keys, options)?;
        if !settings.closed {
            self.endpoint.set_server_config(Some(server));
        }
        Ok(())
    }

    /// A panic elsewhere leaves nothing half-done in them.
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("options", &self.options()).finish_non_exhaustive()
    }
}

/// Handshakes that one address may have under way.
pub(super) fn per_address(options: &Options) -> usize {
    (options.max_handshakes / ADDRESSES).max(1)
}
