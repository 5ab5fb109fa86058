//! The commands: certificates made on one machine, served on another.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::served::{Ca, Issued};

fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"));
    command.args(args).current_dir(directory).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(directory: &Path, args: &[&str]) -> Output {
    command(directory, args).output().unwrap()
}

#[track_caller]
fn says(directory: &Path, args: &[&str]) -> String {
    let output = run(directory, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(directory: &Path, args: &[&str], code: i32) -> String {
    let output = run(directory, args);
    assert_eq!(output.status.code(), Some(code));
    String::from_utf8(output.stderr).unwrap()
}

/// Killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server in this directory, and its URLs.
fn serve(directory: &Path) -> (Running, Vec<String>) {
    let mut running = Running(command(directory, &["run"]).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut urls = Vec::new();
    // its output ends if it does
    for line in lines {
        let line = line.unwrap();
        urls.extend(line.split(' ').find(|word| word.starts_with("stratum2+")).map(str::to_owned));
        if urls.len() == 2 {
            break;
        }
    }
    (running, urls)
}

#[test]
fn made_on_one_machine_and_served_on_another() {
    let (safe, server) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = "certs/authority.key";
    let refused = fails(safe.path(), &["cert", "new", "--out", "x", "--valid-for", "90d"], 1);
    assert!(refused.contains(secret) && refused.contains("keygen"), "{refused}");
    let key: Value = serde_json::from_str(&says(safe.path(), &["keygen", "--json"])).unwrap();
    let public = fs::read_to_string(safe.path().join("certs/authority.pub")).unwrap();
    assert_eq!(key["authority_key"], public.trim());

    let out = server.path().join("certs");
    let out = out.to_str().unwrap();
    let new = ["cert", "new", "--out", out, "--valid-for", "90d", "--name", "pool.example", "--json"];
    let made: Value = serde_json::from_str(&says(safe.path(), &new)).unwrap();
    assert_eq!((&made["authority_key"], &made["names"][0]), (&key["authority_key"], &"pool.example".into()));
    let span = made["valid_until"].as_u64().unwrap() - made["valid_from"].as_u64().unwrap();
    assert_eq!(span, 90 * 24 * 3600 + 3600);
    let refused = fails(safe.path(), &new, 1);
    assert!(refused.contains("tls.key exists and is left alone"), "{refused}");
    let pin = made["pin"].as_str().unwrap();
    assert_eq!(says(server.path(), &["cert", "pin"]).trim(), pin);

    let address = "[stratum_v2]\nlisten_addr = \"127.0.0.1:0\"\n";
    fs::write(server.path().join("config.toml"), address).unwrap();
    let (_server, urls) = serve(server.path());
    assert_eq!(urls.len(), 2);
    assert!(!server.path().join(secret).exists());
    for url in &urls {
        assert!(url.ends_with(public.trim()), "{url}");
        let said = says(safe.path(), &["ping", "--url", url]);
        assert!(said.contains("verified by the pool's authority key"), "{said}");
    }
    let (quic, _) = urls[0].rsplit_once('/').unwrap();
    says(safe.path(), &["ping", "--url", &format!("{quic}?pin={pin}")]);

    let again = [&new[..], &["--force", "--keep-key"]].concat();
    let kept: Value = serde_json::from_str(&says(safe.path(), &again)).unwrap();
    assert_eq!(kept["pin"], made["pin"]);
    let anew: Value = serde_json::from_str(&says(safe.path(), &[&new[..], &["--force"]].concat())).unwrap();
    assert_ne!(anew["pin"], made["pin"]);
    let one_day = ["cert", "new", "--out", out, "--valid-for", "1d"];
    fails(safe.path(), &[&one_day[..], &["--keep-key"]].concat(), 2);
    let refused = fails(safe.path(), &["cert", "new", "--out", out, "--valid-for", "3m"], 2);
    assert!(refused.contains("h, d, w or y"), "{refused}");
    let nothing = ["cert", "new", "--out", "x", "--valid-for", "1d", "--force", "--keep-key"];
    let refused = fails(safe.path(), &nothing, 1);
    assert!(refused.contains("x/tls.key is not there to be kept"), "{refused}");
    assert!(!safe.path().join("x").exists());
}

#[test]
fn a_certificate_for_noise_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    says(directory.path(), &["keygen"]);
    let made = says(directory.path(), &["cert", "new", "--out", "out", "--valid-for", "90d", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let said = says(directory.path(), &["cert", "show", "out/noise.pem"]);
    assert!(said.starts_with("Noise certificate out/noise.pem: from 20") && said.contains("until"), "{said}");
    let said: Value =
        serde_json::from_str(&says(directory.path(), &["cert", "show", "out/noise.pem", "--json"])).unwrap();
    for key in ["valid_from", "valid_until"] {
        assert_eq!(said["noise"][key], made[key], "{said}");
    }
    assert!(says(directory.path(), &["cert", "show", "out/tls.pem"]).contains("its pin is"));
    fs::write(directory.path().join("damaged.pem"), "damaged").unwrap();
    let refused = fails(directory.path(), &["cert", "show", "damaged.pem"], 1);
    assert!(refused.contains("damaged.pem: there is no certificate"), "{refused}");
    fails(directory.path(), &["cert", "show", "nowhere.pem"], 1);
}

#[test]
fn the_pin_of_anybodys_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let Issued { certificate, key } = Ca::named("web").issue(&["pool.example"]);
    let file = directory.path().join("a.pem");
    fs::write(&file, &certificate).unwrap();
    let pin = blvm_stratum_v2::transport::tls::TlsIdentity::from_pem(certificate.as_bytes(), key.as_bytes());
    assert_eq!(says(directory.path(), &["cert", "pin", "a.pem"]).trim(), pin.unwrap().pin());
    fs::write(&file, "damaged").unwrap();
    assert!(fails(directory.path(), &["cert", "pin", "a.pem"], 1).contains("a.pem"));
    assert!(fails(directory.path(), &["cert", "pin"], 1).contains("certs/tls.pem"));
}

#[test]
fn a_miner_shows_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::named("pool");
    let put = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
    let own = ca.issue(&["miner"]);
    put("own.pem", &own.certificate);
    put("own.key", &own.key);
    put("clients.pem", &ca.pem);
    put(
        "config.toml",
        "[stratum_v2]\nlisten_addr = \"127.0.0.1:0\"\nshares_per_minute = 600.0\n[tls]\nclient_ca_path = \"clients.pem\"\n",
    );
    let (_server, urls) = serve(directory.path());
    let ping = ["ping", "--url", &urls[0]];
    let refused = fails(directory.path(), &ping, 1);
    assert!(refused.contains("wants a client certificate"), "{refused}");
    let own = ["--client-cert", "own.pem", "--client-key", "own.key"];
    says(directory.path(), &[&ping[..], &own].concat());
    let mine = ["mine", "--url", &urls[0], "--user", "a", "--shares", "1", "--seconds", "60", "--json"];
    let said = says(directory.path(), &[&mine[..], &own].concat());
    let object: Value = serde_json::from_str(&said).unwrap();
    assert!(object["shares_accepted"].as_u64().unwrap() >= 1, "{object}");
    fails(directory.path(), &[&ping[..], &own[..2]].concat(), 2);
}
