//! What is different in a newer configuration, and what of it a running server can take.

use super::{Blvm, Config, Log, Noise, Quic, Regtest, StratumV2, Tls, Work};

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// At once, in a running server.
    Now,
    /// With the next start.
    Restart,
}

/// A key that has another value than before. Neither is in here: they may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As `stratum_v2.max_connections`; `source` for all of them.
    pub key: String,
    /// When it takes effect.
    pub takes: Takes,
}

/// Says of each key of a table when a change takes effect. One that is left out does not compile.
macro_rules! takes {
    ($table:ty, $name:literal, { $($key:ident: $takes:ident),* $(,)? }) => {
        impl $table {
            fn changes(&self, newer: &Self, changes: &mut Vec<Change>) {
                let Self { $($key),* } = self;
                $(if *$key != newer.$key {
                    let key = concat!($name, ".", stringify!($key)).to_owned();
                    changes.push(Change { key, takes: Takes::$takes });
                })*
            }

            fn keep(&mut self, running: &Self) {
                $(if Takes::$takes == Takes::Restart {
                    self.$key.clone_from(&running.$key);
                })*
            }
        }
    };
}

takes!(StratumV2, "stratum_v2", {
    enabled: Restart,
    listen_addr: Restart,
    network: Restart,
    certs_dir: Restart,
    data_dir: Restart,
    coinbase_reward_script: Now,
    solo: Now,
    solo_fee: Now,
    pool_url: Restart,
    pool_signature: Now,
    server_id: Restart,
    shares_per_minute: Now,
    share_batch_size: Now,
    max_connections: Now,
    max_connections_per_ip: Now,
    max_channels_per_connection: Now,
    handshake_timeout: Now,
    open_channel_timeout: Now,
});
takes!(Log, "log", { level: Now });
takes!(Tls, "tls", {
    cert_path: Now,
    key_path: Now,
    certificate: Now,
    names: Now,
    poll_interval: Now,
    client_ca_path: Now,
});
takes!(Quic, "quic", {
    idle_timeout: Now,
    keep_alive: Now,
    validate_above: Now,
    max_handshakes: Now,
    stream_window: Now,
    receive_window: Now,
    send_window: Now,
    socket_buffer: Restart,
});
takes!(Noise, "noise", { enabled: Restart, cert_validity: Now });
takes!(Work, "work", { min_interval: Now, fee_threshold: Now, empty_block_after_ms: Now });
takes!(Regtest, "regtest", { file: Restart, transactions: Restart });
takes!(Blvm, "blvm", {
    connect: Restart,
    socket_path: Restart,
    all_capabilities: Restart,
    datum: Restart,
    node_data_dir: Restart,
    rpc_url: Now,
    rpc_cookie_file: Now,
    rpc_user: Now,
    rpc_password: Now,
    rpc_password_file: Now,
});

impl Config {
    /// The keys that `newer` says something else about.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.stratum_v2.changes(&newer.stratum_v2, &mut changes);
        self.log.changes(&newer.log, &mut changes);
        self.tls.changes(&newer.tls, &mut changes);
        self.quic.changes(&newer.quic, &mut changes);
        self.noise.changes(&newer.noise, &mut changes);
        self.work.changes(&newer.work, &mut changes);
        self.blvm.changes(&newer.blvm, &mut changes);
        if self.source != newer.source {
            changes.push(Change { key: "source".into(), takes: Takes::Now });
        }
        match (&self.regtest, &newer.regtest) {
            (Some(regtest), Some(newer)) => regtest.changes(newer, &mut changes),
            (None, None) => {}
            _ => changes.push(Change { key: "regtest".into(), takes: Takes::Restart }),
        }
        // a first source, or a last one that goes, changes the network without a word about it
        let key = "stratum_v2.network";
        if self.network() != newer.network() && !changes.iter().any(|change| change.key == key) {
            changes.push(Change { key: key.into(), takes: Takes::Restart });
        }
        changes
    }

    /// This one, but with the values of `running` for all that takes a restart.
    #[must_use]
    pub fn with_restart_keys_of(&self, running: &Self) -> Self {
        let mut config = self.clone();
        config.stratum_v2.keep(&running.stratum_v2);
        config.log.keep(&running.log);
        config.tls.keep(&running.tls);
        config.quic.keep(&running.quic);
        config.noise.keep(&running.noise);
        config.work.keep(&running.work);
        config.blvm.keep(&running.blvm);
        match (&mut config.regtest, &running.regtest) {
            (Some(regtest), Some(running)) => regtest.keep(running),
            (regtest, running) => regtest.clone_from(running),
        }
        if config.network() != running.network() {
            config.stratum_v2.network = Some(running.network().into());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_changes_now_and_what_does_not() {
        let running = config("stratum_v2.listen_addr = '[::1]:1'\n[[source]]\npassword = 'hunter2'");
        let newer = config(
            "stratum_v2.listen_addr = '[::1]:2'\nstratum_v2.solo = true\nregtest.transactions = 1\n\
             blvm.socket_path = 'x'\nblvm.rpc_password = 'hunter3'\n[[source]]\npassword = 'hunter4'",
        );
        let changes = running.changes(&newer);
        let told = changes.iter().map(|change| (&*change.key, change.takes)).collect::<Vec<_>>();
        let expected = [
            ("stratum_v2.listen_addr", Takes::Restart),
            ("stratum_v2.solo", Takes::Now),
            ("blvm.socket_path", Takes::Restart),
            ("blvm.rpc_password", Takes::Now),
            ("source", Takes::Now),
            ("regtest", Takes::Restart),
        ];
        assert_eq!(told, expected);
        assert!(!format!("{changes:?} {running:?} {newer:?}").contains("hunter"));
        let taken = newer.with_restart_keys_of(&running);
        let left = running.changes(&taken).into_iter().map(|change| change.key).collect::<Vec<_>>();
        assert_eq!(left, ["stratum_v2.solo", "blvm.rpc_password", "source"]);
        assert!(running.changes(&running.clone()).is_empty());
    }

    #[test]
    fn a_first_source_does_not_change_the_network_by_the_way() {
        let (running, newer) = (Config::default(), config("[[source]]\ntype = 'bitcoin_rpc'"));
        let keys = running.changes(&newer).into_iter().map(|change| (change.key, change.takes));
        let keys = keys.collect::<Vec<_>>();
        assert_eq!(keys, [("source".into(), Takes::Now), ("stratum_v2.network".into(), Takes::Restart)]);
        assert_eq!(newer.with_restart_keys_of(&running).network(), running.network());
    }
}
