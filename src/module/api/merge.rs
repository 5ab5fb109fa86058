//! Merge mining is another module's business: once it has registered, it is handed what is for it.

use std::sync::PoisonError;

use serde::Serialize;

use super::params::Params;
use super::{Answer, Api, ApiError};

const MODULE: &str = "the name of the module that does merge mining, of 1 to 64 characters";
const MAX_NAME: usize = 64;

/// The module that does merge mining.
#[derive(Debug)]
pub(super) struct Plugin {
    /// Who may unregister it, at whatever start of its own.
    caller: String,
    /// Who is called.
    pub(super) module: String,
}

#[derive(Serialize)]
pub(super) struct Registered {
    registered: String,
}

#[derive(Serialize)]
pub(super) struct Unregistered {
    unregistered: String,
}

/// The name in a module's id, which is another one at each of its starts.
fn name(id: &str) -> &str {
    id.split('_').next().unwrap_or(id)
}

impl Api {
    /// The caller takes over; again, if it was restarted.
    pub(super) fn register(&self, params: &Params, caller: &str) -> Result<Registered, ApiError> {
        let module = match params.get("module") {
            None => name(caller),
            Some(_) => params.text("module", MODULE)?,
        };
        if module.is_empty() || module.len() > MAX_NAME || name(module) == env!("CARGO_PKG_NAME") {
            return Err(ApiError::Malformed { name: "module", wanted: MODULE });
        }
        let mut plugin = self.plugin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = plugin.as_ref().filter(|plugin| name(&plugin.caller) != name(caller)) {
            return Err(ApiError::Taken(other.module.clone()));
        }
        *plugin = Some(Plugin { caller: caller.to_owned(), module: module.to_owned() });
        tracing::info!(module, "merge mining is done by this module");
        Ok(Registered { registered: module.to_owned() })
    }

    pub(super) fn unregister(&self, caller: &str) -> Result<Unregistered, ApiError> {
        let mut plugin = self.plugin.lock().unwrap_or_else(PoisonError::into_inner);
        let its_own = plugin.take_if(|plugin| name(&plugin.caller) == name(caller));
        let its_own = its_own.ok_or_else(|| ApiError::NotRegistered(caller.to_owned()))?;
        tracing::info!(module = its_own.module, "merge mining is not done by this module any more");
        Ok(Unregistered { unregistered: its_own.module })
    }

    pub(super) fn forward(
        &self,
        method: &'static str,
        params: &[u8],
        caller: &str,
    ) -> Result<Answer, ApiError> {
        let plugin = self.plugin.lock().unwrap_or_else(PoisonError::into_inner);
        let plugin = plugin.as_ref().ok_or(ApiError::NoMergeMining(method))?;
        if [&plugin.caller, &plugin.module].into_iter().any(|its_own| name(its_own) == name(caller)) {
            return Err(ApiError::HandedBack(method));
        }
        Ok(Answer::Forward { module: plugin.module.clone(), method, params: params.to_vec() })
    }
}
