//! The `[blvm]` table: the blvm-node that this server is a module of, or stands beside.

use std::path::{Path, PathBuf};

use bitcoin::Network;
use serde::Deserialize;

use super::problem::Checks;
use super::source::Common;
use crate::module::client;
use crate::template::SourceOptions;
use crate::template::bitcoin_rpc::{Auth, Password};

/// The node's cookie, in its data directory.
const COOKIE: &str = ".cookie";
/// How far above a module's own places the node's data directory may be.
const LEVELS: usize = 4;

/// The `[blvm]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blvm {
    /// Whether to use the node's module IPC. If it does not say, the server decides.
    pub connect: Option<bool>,
    /// The node's module socket. A module is told by the node.
    pub socket_path: Option<PathBuf>,
    /// The node has granted all that `module.toml` lists. True in a module if it does not say.
    pub all_capabilities: Option<bool>,
    /// Whether blocks pay whom the node's module blvm-datum says before `coinbase_reward_script`, and are offered to
    /// it. It takes `all_capabilities`, and does not go with `solo`.
    pub datum: bool,
    /// The node's data directory, where its cookie is.
    pub node_data_dir: Option<PathBuf>,
    /// The node's JSON-RPC, `http://HOST:PORT`. The usual port of loopback if there is none.
    pub rpc_url: Option<String>,
    /// The node's cookie, if it is somewhere else.
    pub rpc_cookie_file: Option<PathBuf>,
    /// Instead of the cookie.
    pub rpc_user: Option<String>,
    /// Goes with `rpc_user`.
    pub rpc_password: Option<Password>,
    /// Where to read it from instead: the first line.
    pub rpc_password_file: Option<PathBuf>,
}

impl Blvm {
    /// Whether it names a node to have work from.
    pub(super) fn names_node(&self) -> bool {
        self.rpc_url.is_some() || self.says_how_to_log_in()
    }

    pub(super) fn says_how_to_log_in(&self) -> bool {
        self.node_data_dir.is_some()
            || self.rpc_cookie_file.is_some()
            || self.rpc_user.is_some()
            || self.rpc_password.is_some()
            || self.rpc_password_file.is_some()
    }

    /// How to be in touch with the node over its module IPC, if at all. `started_by_it` is whether the node has
    /// started this process: then it is asked first, of `sources`, whether it serves modules.
    #[must_use]
    pub fn node(&self, started_by_it: bool, sources: &[SourceOptions]) -> Option<client::Options> {
        let socket = self.socket_path.clone().filter(|_| self.connect != Some(false))?;
        let mut ask_first = None;
        if started_by_it && self.connect.is_none() {
            let rpc = sources.iter().find_map(|source| match source {
                SourceOptions::BitcoinRpc(options) => Some(options.clone()),
                _ => None,
            });
            if rpc.is_none() {
                tracing::warn!(
                    "no [[source]] by JSON-RPC can be asked for the node's version: going without its module IPC. \
                     blvm.connect = true has it tried all the same"
                );
            }
            ask_first = Some(rpc?);
        }
        let all_capabilities = self.all_capabilities.unwrap_or(false);
        Some(client::Options { socket, all_capabilities, datum: self.datum, ask_first })
    }

    pub(super) fn check(&self, solo: bool, checks: &mut Checks) {
        const KEY: &str = "blvm.datum";
        if !self.datum {
            return;
        }
        if solo {
            let text = "must be false with stratum_v2.solo = true: solo miners' blocks are theirs";
            checks.tell(KEY, &["stratum_v2.solo"], text);
        }
        if self.all_capabilities != Some(true) {
            checks.tell(
                KEY,
                &["blvm.all_capabilities"],
                "must be false without blvm.all_capabilities = true: the node has to allow calls of its modules",
            );
        }
        if self.socket_path.is_none() || self.connect == Some(false) {
            checks.tell(
                KEY,
                &["blvm.socket_path", "blvm.connect"],
                "must be false without blvm.socket_path, and with blvm.connect = false: it is called by way of the \
                 node",
            );
        }
    }

    /// The node as a source of work.
    pub(super) fn source(&self, common: &Common<'_>, checks: &mut Checks) -> Option<SourceOptions> {
        let default = || format!("http://127.0.0.1:{}", rpc_port(common.network));
        let url = self.rpc_url.clone().unwrap_or_else(default);
        let cookie_file = match (&self.rpc_cookie_file, &self.node_data_dir) {
            (Some(cookie), _) => Some(cookie.clone()),
            (None, Some(directory)) if self.rpc_user.is_none() => Some(directory.join(COOKIE)),
            (None, _) => None,
        };
        let auth = match (cookie_file, self.rpc_user.clone(), self.rpc_password.clone()) {
            (Some(path), None, None) => Auth::CookieFile(path),
            (None, Some(user), Some(password)) => Auth::UserPassword { user, password },
            _ => {
                let text = "needs either rpc_cookie_file or node_data_dir, or rpc_user and rpc_password (or \
                            rpc_password_file)";
                checks.tell("blvm", &[], text);
                return None;
            }
        };
        common.bitcoin_rpc(&url, auth, "blvm.rpc_url", checks)
    }
}

/// Where the node of a module keeps its cookie, and why that is believed: the nearest cookie above
/// the module's places, or where it will be if they are as usual.
pub(super) fn find_cookie(data_dir: &Path, socket_path: &Path) -> (PathBuf, &'static str) {
    let above = |path: &Path| {
        let directories = path.ancestors().skip(1).take(LEVELS);
        directories.map(|directory| directory.join(COOKIE)).collect::<Vec<_>>()
    };
    let (by_data, by_socket) = (above(data_dir), above(socket_path));
    let there = by_data.iter().chain(&by_socket).find(|cookie| cookie.is_file());
    match (there, by_data.get(1)) {
        (Some(cookie), _) => (cookie.clone(), "found above DATA_DIR or SOCKET_PATH"),
        // DATA_DIR is usually NODE/modules/NAME
        (None, Some(usual)) => (usual.clone(), "none is there yet: this is the usual place"),
        (None, None) => (data_dir.join(COOKIE), "none is there yet"),
    }
}

/// The usual port.
fn rpc_port(network: Network) -> u16 {
    match network {
        Network::Bitcoin => 8332,
        Network::Testnet => 18332,
        Network::Testnet4 => 48332,
        Network::Signet => 38332,
        Network::Regtest => 18443,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_node_is_where_it_usually_is() {
        let source = |text: &str| {
            let text = format!("stratum_v2.network = 'regtest'\nstratum_v2.solo = true\n[blvm]\n{text}");
            let config: Config = toml::from_str(&text).unwrap();
            let options = config.options().map_err(|error| error.to_string())?;
            let [SourceOptions::BitcoinRpc(options)] = &options.template.sources[..] else { panic!() };
            Ok::<_, String>((options.url.clone(), options.auth.clone()))
        };
        let (url, auth) = source("node_data_dir = '/n'").unwrap();
        assert_eq!(url, "http://127.0.0.1:18443");
        assert!(matches!(auth, Auth::CookieFile(path) if path == Path::new("/n/.cookie")));
        let given = "node_data_dir = '/n'\nrpc_url = 'http://h:1'\nrpc_user = 'u'\nrpc_password = 'p'";
        let (url, auth) = source(given).unwrap();
        assert_eq!(url, "http://h:1");
        assert!(matches!(auth, Auth::UserPassword { user, .. } if user == "u"));
        for unclear in ["rpc_url = 'http://h:1'", "rpc_user = 'u'", "rpc_user = 'u'\nrpc_cookie_file = 'c'"] {
            assert!(source(unclear).unwrap_err().contains("node_data_dir"), "{unclear}");
        }
    }

    #[test]
    fn a_cookie_is_looked_for_above() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("a/b/node");
        let (data, socket) = (node.join("modules/name"), node.join("run/s/node.sock"));
        assert_eq!(find_cookie(&data, &socket).0, node.join(COOKIE));
        fs::create_dir_all(node.join("run")).unwrap();
        fs::write(node.join("run/.cookie"), "").unwrap();
        assert_eq!(find_cookie(&data, &socket).0, node.join("run/.cookie"));
        fs::write(node.join(COOKIE), "").unwrap();
        assert_eq!(find_cookie(&data, &socket).0, node.join(COOKIE));
    }

    #[test]
    fn datum_takes_room_and_calls() {
        let options = |more: &str, datum: &str| {
            let text = format!(
                "stratum_v2.coinbase_reward_script = '{MINER}'\n{more}\n[[source]]\ntype = 'template_provider'\n\
                 address = 'h:1'\n[blvm]\n{datum}"
            );
            let config: Config = toml::from_str(&text).unwrap();
            let node = config.blvm.node(false, &[]);
            config.options().map(|options| (options, node)).map_err(|error| error.to_string())
        };
        const MINER: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
        const NODE: &str = "all_capabilities = true\nsocket_path = 'node.sock'";
        let room = |datum: &str| {
            let (options, node) = options("", datum).unwrap();
            let [SourceOptions::TemplateProvider(source)] = &options.template.sources[..] else { panic!() };
            ((source.room.size, source.room.sigops), node.unwrap().datum)
        };
        assert_eq!(room(NODE), ((31, 0), false));
        assert_eq!(room(&format!("{NODE}\ndatum = true")), ((31 + 4096, 400), true));

        let wrong = |more: &str, node: &str| options(more, &format!("{node}\ndatum = true")).unwrap_err();
        let solo = wrong("stratum_v2.solo = true\nstratum_v2.solo_fee = 1", NODE);
        assert!(solo.contains("blvm.datum") && solo.contains("stratum_v2.solo"), "{solo}");
        let denied = wrong("", "socket_path = 'node.sock'");
        assert!(denied.contains("blvm.datum") && denied.contains("blvm.all_capabilities"), "{denied}");
        for node in ["all_capabilities = true", &format!("{NODE}\nconnect = false")] {
            let unreachable = wrong("", node);
            assert!(unreachable.contains("blvm.socket_path"), "{unreachable}");
        }
    }
}
