//! What blvm-node tells a module that it starts, and the configuration that comes of it.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{self, Path, PathBuf};

use super::draft::Draft;
use super::keys::{self, Named};
use super::{Config, ConfigError, Overrides, blvm, read};

/// How the variables of settings begin.
const SETTING: &str = "MODULE_CONFIG_";
/// What the node adds of its own accord.
const OF_THE_NODE: [&str; 4] = ["VERSION", "DATABASE_BACKEND", "NODE_P2P_LISTEN_IP", "NODE_P2P_LISTEN_PORT"];

/// What the node tells a module in its environment.
#[derive(Clone)]
pub struct Environment {
    /// `MODULE_ID`, which the module says in its handshake.
    pub module_id: String,
    /// `SOCKET_PATH`, where the node listens for modules.
    pub socket_path: PathBuf,
    /// `DATA_DIR`, where the module keeps what it keeps.
    pub data_dir: PathBuf,
    /// The module's `config.toml`, if there is one.
    pub config_path: Option<PathBuf>,
    /// `MODULE_CONFIG_*`: names without that, and values, which may be secret.
    settings: Vec<(String, String)>,
    /// `BLVM_STRATUM_V2__*`, which come over those.
    overrides: Overrides,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("module_id", &self.module_id)
            .field("socket_path", &self.socket_path)
            .field("data_dir", &self.data_dir)
            .field("config_path", &self.config_path)
            .field("overrides", &self.overrides)
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the variables of this process. `None` if no node has set them.
    #[must_use]
    pub fn of_process() -> Option<Self> {
        let directory = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
        Self::new(env::vars_os(), directory.as_deref())
    }

    /// Reads these variables. The program is in the directory `beside`.
    pub fn new(vars: impl Iterator<Item = (OsString, OsString)>, beside: Option<&Path>) -> Option<Self> {
        let (mut id, mut socket_path, mut data_dir) = (None, None, None);
        let (mut settings, mut overrides) = (Vec::new(), Vec::new());
        for (variable, value) in vars {
            let Some(variable) = variable.to_str() else { continue };
            let text = || value.to_string_lossy().into_owned();
            match variable {
                "MODULE_ID" => id = Some(text()),
                "SOCKET_PATH" => socket_path = path::absolute(&value).ok(),
                "DATA_DIR" => data_dir = path::absolute(&value).ok(),
                _ if variable.starts_with(Overrides::PREFIX) => overrides.push((variable.to_owned(), text())),
                _ => settings.extend(variable.strip_prefix(SETTING).map(|key| (key.to_owned(), text()))),
            }
        }
        // a key with a table comes from the node's configuration, one without may be from the
        // module's: the former, which comes later here, counts
        settings.sort_by_key(|(key, _)| (key.contains('.'), key.clone()));
        let data_dir = data_dir?;
        Some(Self {
            module_id: id?,
            config_path: config_path(&data_dir, beside),
            socket_path: socket_path?,
            data_dir,
            settings,
            overrides: Overrides::new(overrides),
        })
    }
}

/// The first that there is: in DATA_DIR, or in the module's directory, where the node finds the binary at once or
/// in `target/release`.
fn config_path(data_dir: &Path, beside: Option<&Path>) -> Option<PathBuf> {
    let module = |directory: PathBuf| directory.join("module.toml").is_file().then_some(directory);
    let beside =
        beside.into_iter().flat_map(|beside| [Some(beside.to_owned()), module(beside.join("../.."))]);
    let directories = [Some(data_dir.to_owned())].into_iter().chain(beside).flatten();
    directories.map(|directory| directory.join("config.toml")).find(|path| path.is_file())
}

impl Config {
    /// What a module is to do: its file says, the node's settings override that, and the environment's all.
    pub fn for_module(environment: &Environment) -> Result<Self, ConfigError> {
        let Environment { config_path, settings, overrides, .. } = environment;
        let text = config_path.as_deref().map(read).transpose()?.unwrap_or_default();
        let mut draft = Draft::default();
        if let Some(path) = config_path {
            draft.file(path, &text)?;
        }
        let set = overlay(&mut draft, settings);
        draft.overrides(overrides);
        match config_path {
            Some(path) => tracing::info!("configuration: {}", path.display()),
            None => tracing::info!("configuration: there is no config.toml"),
        }
        if !set.is_empty() {
            tracing::info!(
                "overridden by the node's settings, or keys without a table beside module.toml: {set}"
            );
        }
        if !overrides.is_empty() {
            tracing::info!("overridden by {}", overrides.names().collect::<Vec<_>>().join(", "));
        }
        let says_data_dir = draft.says(keys::SERVER, "data_dir");
        draft.finish(|config| config.adjust(environment, says_data_dir))
    }

    /// What goes without saying in a module.
    fn adjust(&mut self, environment: &Environment, says_data_dir: bool) {
        let Environment { data_dir, socket_path, .. } = environment;
        if !says_data_dir {
            self.stratum_v2.data_dir.clone_from(data_dir);
        }
        self.place_in(data_dir);
        let node = &mut self.blvm;
        node.all_capabilities.get_or_insert(true);
        node.socket_path.get_or_insert_with(|| socket_path.clone());
        if self.source.is_empty() && !node.says_how_to_log_in() {
            let (cookie, why) = blvm::find_cookie(data_dir, socket_path);
            tracing::info!(
                "the node's cookie is {} ({why}; blvm.rpc_cookie_file overrides it)",
                cookie.display()
            );
            node.rpc_cookie_file = Some(cookie);
        }
    }

    /// Takes paths that are not absolute to be in `directory`.
    fn place_in(&mut self, directory: &Path) {
        let Self { stratum_v2: server, tls, source, regtest, blvm, .. } = self;
        let mut paths = vec![&mut server.certs_dir, &mut server.data_dir];
        paths.extend(regtest.iter_mut().filter_map(|regtest| regtest.file.as_mut()));
        paths.extend(source.iter_mut().flat_map(super::Source::paths_mut));
        let of_node = [
            &mut blvm.socket_path,
            &mut blvm.node_data_dir,
            &mut blvm.rpc_cookie_file,
            &mut blvm.rpc_password_file,
        ];
        paths.extend(of_node.into_iter().flatten());
        paths.extend([&mut tls.cert_path, &mut tls.key_path, &mut tls.client_ca_path].into_iter().flatten());
        paths.extend(tls.certificate.iter_mut().flat_map(|pair| [&mut pair.cert_path, &mut pair.key_path]));
        for path in paths {
            *path = directory.join(&*path);
        }
    }
}

/// Lays the node's settings over what the file says. Which there are.
fn overlay<'i>(draft: &mut Draft<'i>, settings: &'i [(String, String)]) -> String {
    let mut set = Vec::new();
    for (name, value) in settings {
        let lower = name.to_lowercase();
        match keys::named(&lower.split('.').collect::<Vec<_>>()) {
            Named::Key(key) => {
                draft.set(key, &format!("{SETTING}{name}"), value);
                set.push(lower);
            }
            Named::Table(_) => {
                tracing::debug!("{SETTING}{name} is ignored: a table is read from config.toml only");
            }
            Named::Nothing(_) if OF_THE_NODE.contains(&&**name) => {
                tracing::debug!("{SETTING}{name} is ignored: it is the node's own");
            }
            Named::Nothing(hint) => tracing::warn!("{SETTING}{name} is ignored: {}", hint.text),
        }
    }
    set.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn environment(data_dir: &Path, settings: &[(&str, &str)]) -> Environment {
        let fixed = [("MODULE_ID", "n_1"), ("SOCKET_PATH", "/n/modules/sockets/node.sock")];
        let fixed = fixed.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let settings =
            settings.iter().map(|(key, value)| (format!("{SETTING}{key}").into(), (*value).into()));
        let data_dir = ("DATA_DIR".into(), data_dir.into());
        Environment::new(fixed.chain(settings).chain([data_dir]), None).unwrap()
    }

    #[test]
    fn the_nodes_settings_override_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = "server_id = 1\nsolo = true\n[stratum_v2]\nsolo_fee = 5\ncerts_dir = 'keys'\n";
        fs::write(directory.path().join("config.toml"), file).unwrap();
        let garbage = ("STRATUM_V2", "stratum_v2.enabled,true,stratum_v2.solo,false");
        let settings = [("SERVER_ID", "2"), garbage, ("STRATUM_V2.SERVER_ID", "3"), ("VERSION", "0.1.0")];
        let config = Config::for_module(&environment(directory.path(), &settings)).unwrap();
        let server = &config.stratum_v2;
        assert_eq!((server.server_id, server.solo, server.solo_fee), (3, true, 5));
        assert_eq!(server.certs_dir, directory.path().join("keys"));
        assert_eq!(server.data_dir, directory.path());
        assert!(config.blvm.all_capabilities == Some(true) && config.has_source());
        assert_eq!(config.blvm.socket_path, Some("/n/modules/sockets/node.sock".into()));
    }

    #[test]
    fn wrong_settings_are_named_all_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let settings = [("SERVER_ID", "secret"), ("QUIC.IDLE_TIMEOUT", "secret"), ("SOLO", "true")];
        let error = Config::for_module(&environment(directory.path(), &settings)).unwrap_err().to_string();
        for name in [
            "MODULE_CONFIG_SERVER_ID: stratum_v2.server_id: must be",
            "MODULE_CONFIG_QUIC.IDLE_TIMEOUT: quic.idle_timeout: must be",
        ] {
            assert!(error.contains(name), "{error}");
        }
        assert!(!error.contains("secret") && !error.contains("SOLO"), "{error}");
    }

    #[test]
    fn no_value_is_shown() {
        let environment = environment(Path::new("/d"), &[("BLVM.RPC_PASSWORD", "secret")]);
        assert!(!format!("{environment:?}").contains("secret"));
        assert!(Environment::new([].into_iter(), None).is_none());
    }

    #[test]
    fn the_file_is_with_the_data_or_with_the_module() {
        let directory = tempfile::tempdir().unwrap();
        let (data, release) = (directory.path().join("data"), directory.path().join("m/target/release"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&release).unwrap();
        let found = || config_path(&data, Some(&release));
        assert_eq!(found(), None);
        fs::write(directory.path().join("m/config.toml"), "").unwrap();
        assert_eq!(found(), None, "not a module's directory");
        fs::write(directory.path().join("m/module.toml"), "").unwrap();
        assert!(found().unwrap().starts_with(&release));
        fs::write(release.join("config.toml"), "").unwrap();
        assert_eq!(found(), Some(release.join("config.toml")));
        fs::write(data.join("config.toml"), "").unwrap();
        assert_eq!(found(), Some(data.join("config.toml")));
    }
}
