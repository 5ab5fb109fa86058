//! What `examples/deploy` holds, as far as it can be tried without being root or installing anything.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NAME: &str = "blvm-stratum-v2";
const BINARY: &str = env!("CARGO_BIN_EXE_blvm-stratum-v2");

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy").join(file)
}

fn output(command: &mut Command) -> Output {
    command.env("LC_ALL", "C.UTF-8").output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs it; all must go well, without a complaint.
fn run(command: &mut Command) -> String {
    let output = output(command);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{command:?}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether there is such a tool. Where `needed` is said, CI has to have it.
fn has(tool: &str, needed: bool) -> bool {
    let found = Command::new("which").arg(tool).output().is_ok_and(|which| which.status.success());
    if !found {
        assert!(!needed || env::var_os("CI").is_none(), "CI must have {tool}");
        println!("skipped: {tool} not found");
    }
    found
}

fn printed(directory: &Path, name: &str, args: &[&str]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, run(Command::new(BINARY).args(args))).unwrap();
    path
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    if !has("systemd-analyze", true) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let unit = fs::read_to_string(deploy(&format!("{NAME}.service"))).unwrap();
    let installed = format!("=/usr/bin/{NAME} ");
    assert_eq!(unit.matches(&installed).count(), 2, "to start, and to reload");
    let path = directory.path().join(format!("{NAME}.service"));
    fs::write(&path, unit.replace(&installed, &format!("={BINARY} "))).unwrap();
    run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
    // of 100, the less the better
    let mut security = Command::new("systemd-analyze");
    run(security.args(["security", "--offline=true", "--no-pager", "--threshold=15"]).arg(&path));
}

#[test]
fn the_manual_page_is_clean() {
    let directory = tempfile::tempdir().unwrap();
    let page = printed(directory.path(), "page.1", &["man"]);
    if has("man", true) {
        let read =
            run(Command::new("man").args(["--warnings", "--local-file"]).arg(&page).env("MANWIDTH", "80"));
        for word in [NAME, "--config", "SIGTERM", "keygen", "--shares"] {
            assert!(read.contains(word), "{word}:\n{read}");
        }
    }
    if has("mandoc", false) {
        run(Command::new("mandoc").args(["-Tlint", "-Werror"]).arg(&page));
    }
}

#[test]
fn shells_take_the_completions() {
    let directory = tempfile::tempdir().unwrap();
    for (shell, needed) in [("bash", true), ("zsh", false), ("fish", false)] {
        let script = printed(directory.path(), shell, &["completions", shell]);
        if has(shell, needed) {
            run(Command::new(shell).arg("-n").arg(&script));
        }
    }
    // as when TAB is pressed
    let complete = format!(
        "source ./bash; COMP_WORDS=({NAME} pi); COMP_CWORD=1; _blvm__stratum__v2 {NAME} pi {NAME}; echo \"${{COMPREPLY[@]}}\""
    );
    let completed = run(Command::new("bash").args(["-c", &complete]).current_dir(directory.path()));
    assert_eq!(completed.trim(), "ping");
    assert_eq!(output(Command::new(BINARY).args(["completions", "command.com"])).status.code(), Some(2));
}

/// The same way whatever the time: so `--binary` here is what the tests run, not what is released.
#[test]
fn a_debian_package_is_made_by_one_command() {
    if !has("dpkg-deb", true) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = |name: &str| directory.path().join(name);
    let make = |out: &Path| {
        let mut command = Command::new(deploy("deb.sh"));
        command.args(["--binary", BINARY, "--out"]).arg(out);
        // most of the time goes into making it small
        command.env("DPKG_DEB_COMPRESSOR_TYPE", "none").env("SOURCE_DATE_EPOCH", "1800000000");
        let made = output(&mut command);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
    };
    let package = make(&out("one"));
    let again = make(&out("two"));
    assert!(fs::read(&package).unwrap() == fs::read(again).unwrap(), "not the same package twice");

    let field = |name: &str| run(Command::new("dpkg-deb").arg("--field").arg(&package).arg(name));
    assert_eq!(field("Version").trim(), env!("CARGO_PKG_VERSION"));
    assert_eq!(field("Package").trim(), NAME);
    let contents = run(Command::new("dpkg-deb").arg("--contents").arg(&package));
    for line in contents.lines() {
        assert!(line.contains(" root/root "), "{line}");
    }
    for file in [
        "usr/bin/blvm-stratum-v2",
        "etc/blvm-stratum-v2/config.toml",
        "lib/systemd/system/blvm-stratum-v2.service",
        "usr/lib/sysusers.d/blvm-stratum-v2.conf",
        "usr/share/man/man1/blvm-stratum-v2.1.gz",
        "usr/share/bash-completion/completions/blvm-stratum-v2",
        "usr/share/zsh/vendor-completions/_blvm-stratum-v2",
        "usr/share/fish/vendor_completions.d/blvm-stratum-v2.fish",
        "usr/share/doc/blvm-stratum-v2/copyright",
    ] {
        assert!(contents.lines().any(|line| line.ends_with(&format!(" ./{file}"))), "{file}:\n{contents}");
    }
    assert!(!contents.lines().any(|line| line.contains("config.toml") && line.starts_with("-rw-r--r--")));

    let root = out("root");
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root));
    let version = run(Command::new(root.join("usr/bin").join(NAME)).arg("--version"));
    assert_eq!(version.trim(), format!("{NAME} {}", env!("CARGO_PKG_VERSION")));
    let control = out("control");
    run(Command::new("dpkg-deb").arg("-e").arg(&package).arg(&control));
    assert_eq!(fs::read_to_string(control.join("conffiles")).unwrap(), format!("/etc/{NAME}/config.toml\n"));
    for script in ["postinst", "prerm", "postrm"] {
        run(Command::new("sh").arg("-n").arg(control.join(script)));
    }
    if has("systemd-sysusers", true) {
        let sysusers = root.join("usr/lib/sysusers.d").join(format!("{NAME}.conf"));
        let made = output(Command::new("systemd-sysusers").arg("--root").arg(&root).arg(sysusers));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
        assert!(users.starts_with(&format!("{NAME}:")) && users.contains("/nologin"), "{users}");
    }
    let wrong = output(Command::new(deploy("deb.sh")).arg("--what"));
    assert_eq!(wrong.status.code(), Some(2));
}
