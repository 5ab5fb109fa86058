//! The node's socket, as a file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A socket is looked at for so long. On a new one, and when it has just started a module, the node expects itself to
/// be first: blvm-node 0.1.83 serves one connection at a time, and waits without end if that is not its own.
const SETTLED: Duration = Duration::from_secs(10);

/// Knows when a socket may be connected to.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Which file it was when it was last looked at, and since when it has been that one.
    seen: Option<(File, Instant)>,
}

/// Tells a file from others. The number of one that was removed is often given to the next.
type File = (u64, i64, i64);

fn file(path: &Path) -> io::Result<File> {
    fs::metadata(path).map(|file| (file.ino(), file.mtime(), file.mtime_nsec()))
}

impl Socket {
    /// The socket at this path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long it is to be waited before the socket is connected to.
    pub fn wait(&mut self, now: Instant) -> io::Result<Option<Duration>> {
        let file = file(&self.path).inspect_err(|_| self.seen = None)?;
        let since = self.seen.filter(|(seen, _)| *seen == file).map_or(now, |(_, since)| since);
        self.seen = Some((file, since));
        Ok(SETTLED.checked_sub(now.duration_since(since)).filter(|wait| !wait.is_zero()))
    }

    /// Waits until another file is there, or none.
    pub async fn replaced(&self) {
        let before = self.seen.map(|(file, _)| file);
        while file(&self.path).ok() == before {
            sleep(SETTLED).await;
        }
    }
}

/// Keeps a second name of the node's socket, and gives it back the first one if that is gone: blvm-node 0.1.83 removes
/// the file when it unloads a module, and then cannot load one any more, although it still listens.
///
/// # Errors
///
/// In words for the log, which are of no consequence for mining.
pub fn keep(socket: &Path, second_name: &Path) -> io::Result<Kept> {
    if socket == second_name {
        return Ok(Kept::Kept);
    }
    if socket.exists() {
        // what has the second name is another node's, or that of another start
        let beside = second_name.with_extension("new");
        let _ = fs::remove_file(&beside);
        fs::hard_link(socket, &beside)?;
        fs::rename(&beside, second_name)?;
        // two names of one file both stay
        let _ = fs::remove_file(&beside);
        return Ok(Kept::Kept);
    }
    match fs::hard_link(second_name, socket) {
        Ok(()) => Ok(Kept::PutBack),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::Nothing),
        Err(error) => Err(error),
    }
}

/// What has become of the names of the node's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It has two now.
    Kept,
    /// It has its first one back.
    PutBack,
    /// There is no socket.
    Nothing,
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_new_socket_is_the_nodes_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sock");
        let (mut socket, now) = (Socket::new(path.clone()), Instant::now());
        assert!(socket.wait(now).is_err(), "it is not there");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(socket.wait(now).unwrap(), Some(SETTLED));
        assert_eq!(socket.wait(now + SETTLED).unwrap(), None);
        drop(listener);
        // another start of the node, which may well get the same number for its file
        fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(socket.wait(now + SETTLED).unwrap(), Some(SETTLED));
        assert_eq!(socket.wait(now + 2 * SETTLED).unwrap(), None);
    }

    #[test]
    fn a_socket_whose_name_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, second) = (folder.path().join("node.sock"), folder.path().join("kept.sock"));
        assert_eq!(keep(&path, &second).unwrap(), Kept::Nothing);
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(keep(&path, &second).unwrap(), Kept::Kept);
        fs::remove_file(&path).unwrap();
        assert!(UnixStream::connect(&path).is_err());
        assert_eq!(keep(&path, &second).unwrap(), Kept::PutBack);
        UnixStream::connect(&path).unwrap();
        // the node's next start
        fs::remove_file(&path).unwrap();
        let _another = UnixListener::bind(&path).unwrap();
        assert_eq!(keep(&path, &second).unwrap(), Kept::Kept);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&path), inode(&second));
        for _ in 0..2 {
            assert_eq!(keep(&path, &second).unwrap(), Kept::Kept, "once more");
            assert_eq!(keep(&path, &path).unwrap(), Kept::Kept, "it is kept already");
            assert_eq!(inode(&path), inode(&second));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
