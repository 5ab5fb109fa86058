//! Passwords that are in files of their own.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::Config;
use super::keys;
use super::problem::Problem;
use crate::template::bitcoin_rpc::Password;

/// A password is shorter.
const MAX_LEN: u64 = 4096;
/// The file's permission for everybody to read it.
const FOR_ALL: u32 = 0o004;

/// Reads every password that is in a file, and answers what is wrong about them.
pub(super) fn read(config: &mut Config) -> Vec<Problem> {
    let blvm = &mut config.blvm;
    let of_node = ("blvm.rpc_password".to_owned(), &mut blvm.rpc_password, &blvm.rpc_password_file);
    let of_sources = config.source.iter_mut().enumerate().map(|(number, source)| {
        let key = format!("{}.password", keys::place(keys::SOURCE, Some(number + 1)));
        (key, &mut source.password, &source.password_file)
    });
    let mut wrong = Vec::new();
    for (key, password, file) in [of_node].into_iter().chain(of_sources) {
        let Some(path) = file else { continue };
        let key_of_file = format!("{key}_file");
        if password.is_some() {
            wrong.push(Problem::new(None, key_of_file, format!("goes without {key}: remove one of them")));
            continue;
        }
        match read_one(path, &key_of_file) {
            Ok(read) => *password = Some(read),
            Err(error) => {
                let text = format!("cannot read the password from {}: {error}", path.display());
                wrong.push(Problem::new(None, key_of_file, text));
            }
        }
    }
    wrong
}

/// The first line.
fn read_one(path: &Path, key: &str) -> io::Result<Password> {
    let metadata = fs::metadata(path)?;
    // what is no file could be waited for without end
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.permissions().mode() & FOR_ALL != 0 {
        tracing::warn!("everybody may read {}, which {key} names: chmod o-r it", path.display());
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_LEN as usize));
    File::open(path)?.take(MAX_LEN).read_to_string(&mut text)?;
    match text.lines().next() {
        None | Some("") => Err(io::Error::other("its first line is empty")),
        Some(_) if text.len() as u64 == MAX_LEN => Err(io::Error::other("it is too long")),
        Some(line) => Ok(line.to_owned().into()),
    }
}
