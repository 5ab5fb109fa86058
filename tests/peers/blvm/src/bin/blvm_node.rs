//! A blvm-node, for tests: `blvm_node CONFIG DATA P2P RPC`. What is happening goes to standard error; on standard
//! input it takes, a line each,
//!
//! - `grant NAME CAPABILITY,...`: what the manifest of a module of that name would grant it;
//! - `watch KIND,...`: has events of these kinds printed on standard output, as a module that had subscribed to them
//!   would get them;
//! - `call MODULE METHOD JSON`: calls a module's API the way that another module would, and prints the answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blvm_node::config::NodeConfig;
use blvm_node::module::api::hub::ModuleApiHub;
use blvm_node::module::manager::ModuleManager;
use blvm_node::module::security::permissions::{PermissionSet, parse_permission_string};
use blvm_node::module::traits::EventType;
use blvm_node::node::Node;
use blvm_protocol::ProtocolVersion;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;

type Manager = Arc<Mutex<ModuleManager>>;

#[tokio::main]
async fn main() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [config, data, p2p, rpc] = &arguments[..] else { bail!("usage: blvm_node CONFIG DATA P2P RPC") };
    let config = NodeConfig::from_file(&PathBuf::from(config))?;
    let storage = config.storage.as_ref();
    let chain = Some(ProtocolVersion::Regtest);
    let mut node = Node::with_storage_config(data, p2p.parse()?, rpc.parse()?, chain, storage)?
        .with_config(config.clone())?
        .with_modules_from_config(&config)?;
    if let Some(manager) = node.module_manager() {
        tokio::spawn(async move {
            if let Err(error) = obey(manager).await {
                eprintln!("blvm_node: {error:#}");
            }
        });
    }
    node.start().await
}

/// Does what is asked for on standard input.
async fn obey(manager: Manager) -> Result<()> {
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let mut words = line.splitn(4, ' ');
        match (words.next().unwrap_or_default(), words.next(), words.next(), words.next()) {
            ("grant", Some(name), Some(capabilities), None) => grant(&manager, name, capabilities).await?,
            ("watch", Some(kinds), None, None) => watch(&manager, kinds).await?,
            ("call", Some(module), Some(method), Some(params)) => call(&manager, module, method, params).await,
            _ => bail!("what is `{line}`?"),
        }
    }
    Ok(())
}

/// The hub is there once the node has started its modules.
async fn hub(manager: &Manager) -> Arc<Mutex<ModuleApiHub>> {
    loop {
        if let Some(hub) = manager.lock().await.api_hub_arc() {
            return hub;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn grant(manager: &Manager, name: &str, capabilities: &str) -> Result<()> {
    let parse = |capability: &str| parse_permission_string(capability).context(capability.to_owned());
    let permissions = capabilities.split(',').map(parse).collect::<Result<Vec<_>>>()?;
    hub(manager).await.lock().await.register_module_permissions(name.to_owned(), PermissionSet::from_vec(permissions));
    println!("granted {name}");
    Ok(())
}

async fn watch(manager: &Manager, kinds: &str) -> Result<()> {
    let parse = |kind: &str| serde_json::from_value::<EventType>(kind.into()).with_context(|| kind.to_owned());
    let kinds = kinds.split(',').map(parse).collect::<Result<Vec<_>>>()?;
    let events = manager.lock().await.event_manager().clone();
    let (sender, mut seen) = mpsc::channel(1000);
    events.subscribe_module("watcher".to_owned(), kinds, sender).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    tokio::spawn(async move {
        while let Some(event) = seen.recv().await {
            println!("event {}", serde_json::to_string(&event).unwrap_or_default());
        }
    });
    println!("watching");
    Ok(())
}

async fn call(manager: &Manager, module: &str, method: &str, params: &str) {
    let node = hub(manager).await.lock().await.node_api();
    match node.call_module(Some(module), method, params.as_bytes().to_vec()).await {
        Ok(answer) => println!("answer {}", String::from_utf8_lossy(&answer).replace('\n', " ")),
        Err(error) => println!("error {}", format!("{error:?}").replace('\n', " ")),
    }
}
