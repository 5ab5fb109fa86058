//! A folder of our own beside the node's socket, so to speak.
//!
//! `bitcoin_core_sv2` writes each solution to a folder `solutions` next to the socket that it
//! connects to, and submits none that it cannot write. The node's folder is not ours to write to:
//! so it is given a link to the socket, in a folder that is.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bitcoin::hex::DisplayHex;

use super::error::IpcError;
use crate::mining::hash::sha256d;

/// What `sockaddr_un` has room for, without the zero at the end. What the link points to may be
/// longer.
const MAX_PATH: usize = 107;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Scratch {
    folder: PathBuf,
    /// The link to the socket.
    link: PathBuf,
}

impl Scratch {
    /// Gets the folder ready for the node that listens on `socket`. Several nodes can share it.
    pub(super) fn open(folder: &Path, socket: &Path) -> Result<Self, IpcError> {
        let name = sha256d(socket.as_os_str().as_bytes())[..4].to_lower_hex_string();
        let link = folder.join(format!("{name}.sock"));
        let len = link.as_os_str().len();
        if len > MAX_PATH {
            return Err(IpcError::TooLong { path: link, len, max: MAX_PATH });
        }
        let made = (|| {
            fs::create_dir_all(folder)?;
            gone(fs::remove_file(&link))?;
            symlink(std::path::absolute(socket)?, &link)
        })();
        made.map_err(|error| IpcError::Scratch { path: link.clone(), error })?;
        let scratch = Self { folder: folder.to_owned(), link };
        scratch.tidy()?;
        Ok(scratch)
    }

    /// The way to the socket.
    pub(super) fn link(&self) -> &Path {
        &self.link
    }

    /// Removes the solutions that are there: the courier keeps its own.
    pub(super) fn tidy(&self) -> Result<(), IpcError> {
        let folder = self.folder.join("solutions");
        let tidied = (|| {
            fs::create_dir_all(&folder)?;
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "dat") {
                    gone(fs::remove_file(path))?;
                }
            }
            Ok(())
        })();
        tidied.map_err(|error| IpcError::Scratch { path: folder, error })
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_with_a_long_path_is_reached_by_a_short_one() {
        let home = tempfile::tempdir().unwrap();
        let far = home.path().join("x".repeat(100));
        fs::create_dir(&far).unwrap();
        // bound where there is room, then moved away
        let near = home.path().join("near");
        let listener = UnixListener::bind(&near).unwrap();
        let socket = far.join("node.sock");
        fs::rename(near, &socket).unwrap();
        assert!(UnixStream::connect(&socket).is_err());
        let folder = home.path().join("ipc");
        for _ in 0..2 {
            let scratch = Scratch::open(&folder, &socket).unwrap();
            UnixStream::connect(scratch.link()).unwrap();
        }
        let other = Scratch::open(&folder, Path::new("/other")).unwrap();
        let scratch = Scratch::open(&folder, &socket).unwrap();
        assert_ne!(other.link(), scratch.link());
        drop(listener);
    }

    #[test]
    fn a_folder_that_is_too_deep_is_named() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("x".repeat(100));
        let error = Scratch::open(&folder, Path::new("node.sock")).unwrap_err().to_string();
        assert!(error.contains("shorter data_dir") && error.contains("xxx"), "{error}");
        assert!(!folder.exists());
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Scratch::open(&file, Path::new("node.sock")).unwrap_err().to_string();
        assert!(error.contains("file/"), "{error}");
    }

    #[test]
    fn old_solutions_go_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(home.path(), Path::new("node.sock")).unwrap();
        let solutions = home.path().join("solutions");
        fs::write(solutions.join("00.dat"), "block").unwrap();
        fs::write(solutions.join("notes"), "keep").unwrap();
        scratch.tidy().unwrap();
        assert!(!solutions.join("00.dat").exists() && solutions.join("notes").exists());
        fs::remove_dir_all(&solutions).unwrap();
        scratch.tidy().unwrap();
        assert!(solutions.is_dir(), "or no solution is submitted");
    }
}
