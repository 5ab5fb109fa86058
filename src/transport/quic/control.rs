//! Other options for a listener that runs.

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
}

/// Options that can be set: nothing is wrong with them.
#[derive(Debug)]
pub struct Prepared {
    options: Arc<Options>,
    server: quinn::ServerConfig,
}

impl Control {
    pub(super) fn new(
        endpoint: Endpoint,
        tls: Arc<rustls::ServerConfig>,
        keys: EndpointKeys,
        options: Options,
        handshakes: Arc<Admission>,
    ) -> Self {
        let settings = Settings { tls, options: Arc::new(options) };
        Self { endpoint, keys, handshakes, settings: Arc::new(Mutex::new(settings)) }
    }

    /// Gets other options ready. None if they are those that hold. The size of the socket's buffers
    /// is left as it is.
    pub fn prepare(&self, options: &Options) -> io::Result<Option<Prepared>> {
        let settings = self.settings();
        let options = Options { socket_buffer: settings.options.socket_buffer, ..options.clone() };
        if options == *settings.options {
            return Ok(None);
        }
        let server = server_config(settings.tls.clone(), &self.keys, &options)?;
        Ok(Some(Prepared { options: Arc::new(options), server }))
    }

    /// Has the options hold for the connections that begin from now on.
    pub fn set(&self, Prepared { options, server }: Prepared) {
        self.handshakes.set_limits(options.max_handshakes, per_address(&options));
        self.settings().options = options;
        self.endpoint.set_server_config(Some(server));
    }

    pub(super) fn options(&self) -> Arc<Options> {
        self.settings().options.clone()
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
