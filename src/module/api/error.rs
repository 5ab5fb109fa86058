//! Why a call comes to nothing.

use super::{API_VERSION, METHODS, params};
use crate::wire::url::UrlError;

/// Why a call comes to nothing, and what to do about it. Never repeats what the caller gave, apart
/// from names of modules: there may be a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Not one of [`METHODS`].
    #[error("there is no such method; version {API_VERSION} of this API has {names}", names = METHODS.join(", "))]
    UnknownMethod,
    /// Longer than anything sensible.
    #[error("the parameters are {0} bytes long, and no more than {most} are read", most = params::MAX_LEN)]
    TooLong(usize),
    /// Not JSON.
    #[error("the parameters are not JSON: look at line {line}, column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Some other JSON.
    #[error("the parameters must be a JSON object, as in {{}}")]
    NotAnObject,
    /// A parameter that must be there.
    #[error("{name} is missing: it must be {wanted}")]
    Missing {
        /// Which.
        name: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
    /// A parameter that cannot be used.
    #[error("{name} must be {wanted}")]
    Malformed {
        /// Which.
        name: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
    /// No template has come yet.
    #[error(
        "there is no work yet: the server has had no template from its node so far, and its log says why"
    )]
    NoWork,
    /// The URL of a pool cannot be used.
    #[error("pool_url cannot be used: {0}")]
    PoolUrl(#[from] UrlError),
    /// Not built yet.
    #[error(
        "this server cannot mine for another pool yet: nothing was changed, and it goes on mining on its \
         own node's blocks"
    )]
    NoUpstream,
    /// Nobody does merge mining.
    #[error(
        "{0} is for merge mining, which a module of its own does, and none has registered: put one (such \
         as blvm-merge-mining) into the node's modules directory, enable it under [modules] in the node's \
         configuration, and restart the node"
    )]
    NoMergeMining(&'static str),
    /// The module that does merge mining calls what would be handed on to it.
    #[error("{0} would be handed on to the module that calls it")]
    HandedBack(&'static str),
    /// Another module does merge mining.
    #[error("the module {0} has registered for merge mining already; it must unregister first")]
    Taken(String),
    /// It does not do merge mining.
    #[error("{0} has not registered for merge mining")]
    NotRegistered(String),
}
