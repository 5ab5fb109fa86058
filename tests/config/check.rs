//! `check-config`, as a person or a script uses it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::Place;

const ADDRESS: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

fn check(place: &Place, args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"))
        .arg("check-config")
        .args(args)
        .current_dir(place.path())
        .env_remove("RUST_LOG")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

/// A node that says where it is, on every connection.
fn node(chain: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |stream: TcpStream| -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                if line.trim().is_empty() {
                    break;
                }
                length = line
                    .to_lowercase()
                    .strip_prefix("content-length: ")
                    .map_or(length, |length| length.trim().parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let call: Value = serde_json::from_slice(&body).ok()?;
            let result = match call["method"].as_str()? {
                "getblockchaininfo" => json!({ "chain": chain, "blocks": 901, "headers": 901 }),
                "getnetworkinfo" => json!({ "subversion": "/Satoshi:31.0.0/" }),
                _ => Value::Null,
            };
            let body = json!({ "result": result, "error": null, "id": 1 }).to_string();
            write!(&stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn source(address: SocketAddr) -> String {
    format!(
        "[[source]]\ntype = \"bitcoin_rpc\"\nurl = \"http://{address}\"\nuser = \"u\"\npassword = \"hunter2\"\n"
    )
}

/// Where nobody listens, and nobody else can as long as this is there.
fn nobody() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn it_says_what_the_server_would_do_and_does_nothing() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    place.write(&format!(
        "listen_addr = \"{listen}\"\ncoinbase_reward_script = \"{ADDRESS}\"\n{}",
        source(listen)
    ));
    let variables =
        [("BLVM_STRATUM_V2__POOL_SIGNATURE", "hello"), ("BLVM_STRATUM_V2__MAX_CONNECTIONS", "10")];
    let output = check(&place, &[], &variables);
    assert!(output.status.success(), "{}", err(&output));
    let said = out(&output);
    for words in [
        "configuration  config.toml",
        "overridden by  BLVM_STRATUM_V2__MAX_CONNECTIONS, BLVM_STRATUM_V2__POOL_SIGNATURE",
        "network        main",
        &format!("listens on     udp {listen} for QUIC, tcp {listen} for Noise"),
        "identity       authority key: to be made",
        "               to be made: certs/tls.pem",
        &format!("payout         {ADDRESS} (script 0014751e76e8199196d454941c45d1b3a323f1433bd6)"),
        "signature      \"hello\"",
        &format!("source         bitcoin_rpc http://{listen}\n"),
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    let object = object(&check(&place, &["--json"], &variables));
    assert_eq!(object["payout"]["address"], ADDRESS);
    assert_eq!(object["listens_on"]["udp"], listen.to_string());
    assert_eq!(object["overrides"].as_array().unwrap().len(), 2);
    assert_eq!((&object["good"], &object["sources"][0]["usable"]), (&json!(true), &Value::Null));
    let mut left =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    left.sort();
    assert_eq!(left, ["config.toml", "password"], "it makes nothing");
}

#[test]
fn it_reads_the_identity_that_there_is() {
    let place = Place::new();
    let keygen = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"))
        .args(["keygen", "--json"])
        .current_dir(place.path())
        .output()
        .unwrap();
    let public = object(&keygen)["authority_key"].as_str().unwrap().to_owned();
    fs::write(place.path().join("certs/tls.pem"), "").unwrap();
    let secret = fs::read_to_string(place.path().join("certs/authority.key")).unwrap();
    let output = check(&place, &[], &[("BLVM_STRATUM_V2__NOISE__ENABLED", "false")]);
    let said = out(&output);
    assert!(said.contains(&format!("authority key {public}, its secret is here")), "{said}");
    assert!(said.contains("problem: certs/tls.key is missing, which belongs to certs/tls.pem"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("no file: defaults") && said.contains("(noise.enabled is false)"), "{said}");
    assert!(!said.contains(secret.trim()), "{said}");
    fs::write(place.path().join("certs/authority.key"), "hunter2").unwrap();
    let said = out(&check(&place, &[], &[]));
    assert!(
        said.contains("certs/authority.key is not an authority key") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn sources_are_asked_when_told_to() {
    let place = Place::new();
    let (_held, nobody) = nobody();
    let provider = format!("[[source]]\ntype = \"template_provider\"\naddress = \"{nobody}\"\n");
    let wrong_chain = source(node("test"));
    let right = source(node("main"));
    place.write(&format!("solo = true\n{}{provider}{wrong_chain}{right}", source(nobody)));
    let output = check(&place, &["--probe", "--json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let sources = object(&output)["sources"].clone();
    let usable = sources.as_array().unwrap().iter().map(|source| &source["usable"]).collect::<Vec<_>>();
    assert_eq!(usable, [false, false, false, true]);
    assert_eq!(sources[3]["detail"], "/Satoshi:31.0.0/ on main at height 901");
    assert!(sources[1]["detail"].as_str().unwrap().contains("cannot connect"), "{sources}");
    assert!(sources[2]["detail"].as_str().unwrap().contains("test"), "{sources}");

    place.write(&format!("solo = true\n{}{provider}{wrong_chain}", source(nobody)));
    let output = check(&place, &["--probe"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("no source can be used"), "{}", err(&output));
    assert!(out(&output).contains("cannot be used"), "{}", out(&output));
    assert!(check(&place, &[], &[]).status.success(), "they are not asked");
}

#[test]
fn one_that_does_not_answer_is_waited_for_a_while() {
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    place.write(&format!("solo = true\n{}", source(silent.local_addr().unwrap())));
    let output = check(&place, &["--probe"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("no answer within 5 s"), "{}", out(&output));
}

#[test]
fn the_embedded_chain_needs_nothing() {
    let place = Place::new();
    let output = check(&place, &["--probe"], &[]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("network        regtest"), "{}", out(&output));
}

#[test]
fn a_wrong_configuration_is_told_of_and_has_its_code() {
    let place = Place::new();
    place.write("[quic]\nkeepalive = 3\n");
    let variables = [("BLVM_STRATUM_V2__SERVER_ID", "64")];
    let output = check(&place, &["--json"], &variables);
    assert_eq!(output.status.code(), Some(3));
    let expected = json!([
        {
            "place": "config.toml:2",
            "key": "quic.keepalive",
            "text": "there is no such key: is keep_alive meant?"
        },
        { "place": "BLVM_STRATUM_V2__SERVER_ID", "key": "stratum_v2.server_id", "text": "must be 0 to 63" },
    ]);
    assert_eq!(object(&output), json!({ "good": false, "problems": expected }));
    assert!(err(&output).contains("config.toml:2: quic.keepalive"), "{}", err(&output));
    // values alone
    place.write("share_batch_size = 0\n");
    assert_eq!(check(&place, &[], &[]).status.code(), Some(3));
    let output = check(&place, &["--config", "none.toml"], &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(err(&output).contains("none.toml"), "{}", err(&output));
}

#[test]
fn every_command_hears_the_environment() {
    let place = Place::new();
    let run = |args: &[&str], variable: (&str, &str)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"));
        // so that one that does not hear it ends all the same
        command.env("BLVM_STRATUM_V2__ENABLED", "false").env(variable.0, variable.1);
        command.args(args).current_dir(place.path()).output().unwrap()
    };
    assert!(run(&["keygen"], ("BLVM_STRATUM_V2__CERTS_DIR", "elsewhere")).status.success());
    assert!(place.path().join("elsewhere/authority.key").is_file());
    for command in [&["run"][..], &["keygen", "--out", "x"], &["check-config"]] {
        let output = run(command, ("BLVM_STRATUM_V2__CERT_DIR", "x"));
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(err(&output).contains("is certs_dir meant?"), "{}", err(&output));
    }
    let output = run(&["run"], ("BLVM_STRATUM_V2__ENABLED", "false"));
    assert!(output.status.success() && out(&output).contains("stratum_v2.enabled is false"));
}

#[test]
fn a_password_that_all_may_read_is_warned_of() {
    let place = Place::new();
    let file = place.path().join("password");
    place.write(&format!(
        "[blvm]\nrpc_user = \"u\"\nrpc_password_file = \"{}\"\n[stratum_v2]\nsolo = true\n",
        file.display()
    ));
    for (mode, warns) in [(0o604, true), (0o640, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let output = check(&place, &[], &[]);
        assert!(output.status.success(), "{}", err(&output));
        assert_eq!(err(&output).contains("everybody may read"), warns, "{}", err(&output));
    }
}
