//! Programs made of blvm-node that judge what they are given.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// What a program prints of this input, line by line.
pub(crate) fn ask(program: &Path, arguments: &[&str], input: String) -> Vec<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
