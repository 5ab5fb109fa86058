//! Passwords in files of their own.

use std::fs;

use crate::support::Place;

const SOURCE: &str =
    "solo = true\n[[source]]\ntype = \"bitcoin_rpc\"\nurl = \"http://127.0.0.1:1\"\nuser = \"u\"\n";

fn source(place: &Place, more: &str) -> String {
    format!("{SOURCE}password_file = \"{}\"\n{more}", place.path().join("password").display())
}

#[test]
fn the_first_line_is_the_password() {
    let place = Place::new();
    let text = source(&place, "");
    let written = place.load(&format!("{SOURCE}password = \"correct horse\"\n")).unwrap();
    for content in ["correct horse", "correct horse\n", "correct horse\r\n", "correct horse\nand more\n"] {
        fs::write(place.path().join("password"), content).unwrap();
        let read = place.load(&text).unwrap();
        assert_eq!(read.source[0].password, written.source[0].password, "{content:?}");
        read.options().unwrap();
        assert!(!format!("{read:?}").contains("horse"));
    }
    // a new password is a change, and another one
    let before = place.load(&text).unwrap();
    fs::write(place.path().join("password"), "battery staple\n").unwrap();
    let after = place.load(&text).unwrap();
    let changes = before.changes(&after);
    assert_eq!(changes.iter().map(|change| &*change.key).collect::<Vec<_>>(), ["source"]);

    let blvm = format!(
        "solo = true\n[blvm]\nrpc_user = \"u\"\nrpc_password_file = \"{}\"\n",
        place.path().join("password").display()
    );
    let config = place.load(&blvm).unwrap();
    assert_eq!(config.blvm.rpc_password, after.source[0].password);
    config.options().unwrap();
}

#[test]
fn what_is_wrong_names_the_file_and_the_key() {
    let place = Place::new();
    let text = source(&place, "");
    let both = place.wrong(&source(&place, "password = \"hunter2\"\n"));
    assert!(both.contains(":6: source[1].password_file: goes without source[1].password"), "{both}");
    assert!(!both.contains("hunter2") && both.lines().count() == 2, "{both}");
    for content in ["", "\n", "\nsecond line\n", &"x".repeat(5000)] {
        fs::write(place.path().join("password"), content).unwrap();
        let said = place.wrong(&text);
        assert!(
            said.contains(":6: source[1].password_file: cannot read the password from /password: "),
            "{said}"
        );
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    fs::write(place.path().join("password"), b"\xff\xfe").unwrap();
    assert!(place.wrong(&text).contains("/password"));
    fs::remove_file(place.path().join("password")).unwrap();
    assert!(place.wrong(&text).contains("No such file"));
    fs::create_dir(place.path().join("password")).unwrap();
    assert!(place.wrong(&text).contains("not a file"));
}
