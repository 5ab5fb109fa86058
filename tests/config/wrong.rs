//! What is wrong in a file is said with its place, all of it, and without the value.

use blvm_stratum_v2::config::Config;
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::support::{Key, Place, example, keys, misspelt};

/// No key takes a table.
const TABLE: &str = "{ hunter2 = 1 }";

#[test]
fn each_misspelt_key_is_named_with_the_one_that_is_meant() {
    let place = Place::new();
    for key in keys() {
        for name in misspelt(&key.name) {
            let said = place.load(&key.alone(&name, &key.value)).unwrap_err().to_string();
            let wrong = key.shown().replace(&key.name, &name);
            let expected = format!(
                "{}:2: {wrong}: there is no such key: is {} meant?",
                place.file().display(),
                key.name
            );
            assert!(said.contains(&expected), "{expected}: {said}");
        }
        let name = misspelt(&key.name).remove(0);
        let said = place.wrong(&key.in_example(&name, &key.value));
        assert!(said.contains(&format!("/config.toml:{}: ", key.line)), "{}: {said}", key.line);
    }
}

#[test]
fn each_wrong_type_is_named() {
    let place = Place::new();
    for key in keys() {
        let mut refused = 0;
        for value in ["true", "\"hunter2\"", "-7", "1.5", "[\"hunter2\"]", "[[]]", "1979-05-27", TABLE] {
            let Err(error) = place.load(&key.in_example(&key.name, value)) else { continue };
            refused += 1;
            let error = error.to_string();
            let expected = format!("{}:{}: {}: ", place.file().display(), key.line, key.shown());
            assert!(error.contains(&expected), "{expected}: {error}");
            // but a file that cannot be read is named
            assert!(key.name.ends_with("password_file") || !error.contains("hunter2"), "{error}");
            // nothing else, but that a source wants somebody who is paid
            let told = error.lines().filter(|line| !line.contains("must say who is paid"));
            assert_eq!(told.count(), 2, "{error}");
        }
        assert!(refused >= 4, "{} takes nearly anything", key.path());
    }
}

#[test]
fn each_number_is_taken_or_refused_by_name() {
    let place = Place::new();
    let mut refused = 0;
    for key in keys() {
        let numbers = [
            "-9223372036854775808",
            "-1",
            "0",
            "1",
            "255",
            "256",
            "65536",
            "4294967295",
            "4294967296",
            "9223372036854775807",
            "18446744073709551615",
            "99999999999999999999999999",
            "1e300",
            "-0.0",
            "nan",
            "inf",
            "-inf",
        ];
        for number in numbers {
            let config = place.load(&key.alone(&key.name, number));
            let Err(error) = config.and_then(|config| config.options()) else { continue };
            let error = error.to_string();
            // a source without a type is told of as a whole
            let named =
                error.contains(&key.path()) || error.contains(&key.shown()) || error.contains("[1].type");
            assert!(named, "{} = {number}: {error}", key.path());
            refused += 1;
        }
    }
    assert!(refused > 400, "{refused}");
}

#[test]
fn limits_are_where_they_are_said_to_be() {
    let place = Place::new();
    let ranges = [
        ("stratum_v2", "server_id", 0, 63),
        ("stratum_v2", "max_connections", 1, 1_000_000),
        ("stratum_v2", "max_connections_per_ip", 1, 1_000_000),
        ("stratum_v2", "max_channels_per_connection", 1, 65_536),
        ("stratum_v2", "handshake_timeout", 1, 600),
        ("stratum_v2", "open_channel_timeout", 1, 86_400),
        ("tls", "poll_interval", 1, 86_400),
        ("quic", "idle_timeout", 21, 3600),
        ("quic", "keep_alive", 1, 59),
        ("quic", "stream_window", 4096, 16_777_216),
        ("quic", "socket_buffer", 0, 1 << 30),
        ("noise", "cert_validity", 60, 315_360_000),
        ("work", "min_interval", 1, 50),
        ("work", "empty_block_after_ms", 0, 60_000),
        ("regtest", "transactions", 0, 4000),
    ];
    for (table, key, least, most) in ranges {
        let works = |value: i64| {
            let config = place.load(&format!("[{table}]\n{key} = {value}\n"));
            config.and_then(|config| config.options()).is_ok()
        };
        assert!(works(least) && works(most), "{table}.{key}");
        assert!(!works(least - 1) && !works(most + 1), "{table}.{key}");
    }
}

/// A way for a key to be wrong, which is told of in one line.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Misspelt,
    Type,
}

fn with(key: &Key, fault: Fault, text: &str) -> String {
    let broken = match fault {
        Fault::Misspelt => format!("{} = {}", misspelt(&key.name)[0], key.value),
        Fault::Type => format!("{} = {TABLE}", key.name),
    };
    let lines = text.lines().enumerate();
    let lines = lines.map(|(number, line)| if number + 1 == key.line { &broken } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn all_that_is_wrong_is_told_and_nothing_else(
        wrong in subsequence(keys().into_iter().filter(|key| !key.off).collect::<Vec<_>>(), 1..20),
        faults in proptest::collection::vec(prop_oneof![Just(Fault::Misspelt), Just(Fault::Type)], 20),
    ) {
        let place = Place::new();
        let mut text = example();
        for (key, fault) in wrong.iter().zip(faults) {
            text = with(key, fault, &text);
        }
        let error = place.load(&text).unwrap_err().to_string();
        for key in &wrong {
            let at = format!("{}:{}: {}.", place.file().display(), key.line, key.table);
            prop_assert!(error.contains(&at), "{}: {}", at, error);
        }
        prop_assert_eq!(error.lines().count(), wrong.len() + 1, "{}", error);
    }
}

#[test]
fn values_are_told_with_what_is_of_the_wrong_type() {
    let place = Place::new();
    let said = place.wrong(
        "[work]\nmin_interval = 0\n[quic]\nkeepalive = 3\nidle_timeout = \"x\"\n[tls]\nnames = [\"not a name\"]\n\
         [[tls.certificate]]\ncert_path = \"c\"\n[log]\nlevel = \"inof\"\n",
    );
    let expected = [
        "the configuration does not work:",
        "  /config.toml:2: work.min_interval: must be 1 to 50 seconds",
        "  /config.toml:4: quic.keepalive: there is no such key: is keep_alive meant?",
        "  /config.toml:5: quic.idle_timeout: must be a whole number, 0 or more",
        "  /config.toml:7: tls.names: must be a list of DNS names and IP addresses",
        "  /config.toml:8: tls.certificate[1].key_path: is missing",
        "  /config.toml:11: log.level: must be error, warn, info, debug or trace, or directives as in RUST_LOG",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn sources_are_told_of_by_number_and_key() {
    let place = Place::new();
    let said = place.wrong(
        "solo = true\n[[source]]\ntype = \"bitcoin_rpc\"\nurl = \"x\"\ncookie_file = \"c\"\n[[source]]\n\
         type = \"template_provider\"\naddress = \"h:1\"\ncookie_file = \"c\"\n[[source]]\ntype = \"tp\"\n\
         [[source]]\nurl = \"http://h:1\"\n[[source]]\ntype = \"bitcoin_rpc\"\nurl = \"http://h:1\"\n\
         cookie = \"x\"\n[regtest]\n",
    );
    for line in [
        ":4: source[1].url: ",
        ":9: source[2].cookie_file: does not go with type = \"template_provider\"",
        ":11: source[3].type: must be one of `bitcoin_rpc`, `template_provider`",
        ":12: source[4].type: is missing",
        ":17: source[5].cookie: there is no such key: is cookie_file meant?",
        ":18: regtest: is the embedded chain",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(said.lines().count(), 7, "{said}");
}

#[test]
fn a_key_in_the_wrong_table_and_words_of_others() {
    let place = Place::new();
    for (text, words) in [
        ("keep_alive = 3\n", "keep_alive belongs into [quic]"),
        ("[quic]\nmax_connections = 3\n", "max_connections belongs into [stratum_v2]"),
        ("[qiuc]\nkeep_alive = 3\n", "[qiuc]: there is no such table: is [quic] meant?"),
        ("[sources]\n", "[sources]: there is no such table: is [[source]] meant?"),
        ("[source]\nurl = \"x\"\n", "source: must be a table, and is written [[source]]"),
        ("quic = 3\n", "quic: must be a table, and is written [quic]"),
        ("listen_address = \"0.0.0.0:34254\"\n", "listen_addr in [stratum_v2]"),
        ("authority_public_key = \"x\"\n", "authority.key"),
        ("authority_secret_key = \"x\"\n", "authority.key"),
        ("cert_validity_sec = 3600\n", "cert_validity in [noise]"),
        ("tp_address = \"x\"\n", "[[source]]"),
        ("coinbase_outputs = []\n", "coinbase_reward_script"),
        ("min_individual_miner_hashrate = 1.0\n", "shares_per_minute"),
        ("monitoring_address = \"x\"\n", "not there yet"),
        ("[template_provider_type.Sv2Tp]\naddress = \"x\"\n", "type of a [[source]]"),
    ] {
        let said = place.wrong(text);
        assert!(said.contains(words), "{text}: {said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_line_and_without_a_password() {
    let place = Place::new();
    let said = place.wrong("solo = true\n[quic\n");
    assert!(said.starts_with("/config.toml:2: "), "{said}");
    let said = place.wrong("[[source]]\npassword = \"correct horse\nuser = \"x\"\n");
    assert!(said.starts_with("/config.toml:2: password: ") && !said.contains("horse"), "{said}");
    for password in
        ["\"\"\"\ncorrect horse\u{1}\n\"\"\"", "\"\"\"\ncorrect horse = \\q\n\"\"\"", "[\ncorrect horse]"]
    {
        let said = place.wrong(&format!("[[source]]\npassword = {password}\n"));
        assert!(said.starts_with("/config.toml:3: ") && !said.contains("horse"), "{said}");
    }
    let missing = Config::load(Some(&place.path().join("none.toml")), &Default::default()).unwrap_err();
    assert!(missing.to_string().contains("none.toml"), "{missing}");
}
