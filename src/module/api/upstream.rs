//! `update_pool_config`: what another module would have this server mine for.

use super::ApiError;
use super::params::Params;
use crate::wire::url::StratumUrl;

/// What the miningos module says that it wants done.
const ACTION: &str = "update_pool_config";
const URL: &str = "the pool's URL, as in stratum2+quic://pool.example:3333";
const USER: &str = "the name of the account at the pool";
const PASSWORD: &str = "a text";

/// What is wrong with the parameters, or with asking at all.
pub(super) fn update(params: &Params) -> ApiError {
    match check(params) {
        Ok(()) => ApiError::NoUpstream,
        Err(error) => error,
    }
}

fn check(params: &Params) -> Result<(), ApiError> {
    if params.text("action", ACTION)? != ACTION {
        return Err(ApiError::Malformed { name: "action", wanted: ACTION });
    }
    params.text("pool_url", URL)?.parse::<StratumUrl>()?;
    params.text("pool_user", USER)?;
    // Stratum V2 has none, so none need be given
    if params.get("pool_password").is_some_and(|password| !password.is_string()) {
        return Err(ApiError::Malformed { name: "pool_password", wanted: PASSWORD });
    }
    Ok(())
}
