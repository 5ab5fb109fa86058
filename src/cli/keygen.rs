//! `keygen`: the authority key.

use std::path::PathBuf;

use super::Failure;
use crate::certs::authority;
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to put the key, instead of certs_dir/authority.key.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn keygen(args: &Args, config: &Option<Config>) -> Result<(), Failure> {
    let certs =
        config.as_ref().map(|config| config.stratum_v2.certs_dir.clone()).unwrap_or_else(|| "certs".into());
    let path = args.out.clone().unwrap_or_else(|| certs.join(authority::FILE_NAME));
    let key = authority::create(&path).map_err(|error| Failure::Run(error.into()))?;
    let public = key.public_key();
    if args.json {
        let object = serde_json::json!({ "authority_key": public.to_string(), "file": path });
        println!("{object}");
    } else {
        println!("secret key in {}", path.display());
        println!("miners know the server by {public}");
    }
    Ok(())
}
