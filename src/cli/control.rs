//! What an operator asks of a running server: a line each over a socket in its data directory.
//!
//! The answer is `ok` or `failed`, and lines for people up to the end.

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Failure, config_path};
use crate::config::{Config, ConfigError, Overrides};

/// The socket, in the data directory.
const FILE_NAME: &str = "control.sock";
/// The longest question.
const MAX_QUESTION: u64 = 64;
/// The longest answer.
const MAX_ANSWER: u64 = 1 << 20;
/// How long a question, or taking an answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the answer may take: longer than all the waits that a reload may be of.
const ANSWER_PATIENCE: Duration = Duration::from_secs(120);
/// Questions that may be under way.
const QUESTIONS: usize = 4;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// To read the configuration and the certificates again.
    Reload,
    /// To read the certificates again.
    ReloadCertificates,
    /// What is served.
    ShowCertificates,
}

impl Question {
    const ALL: [(Self, &str); 3] = [
        (Self::Reload, "reload"),
        (Self::ReloadCertificates, "reload certificates"),
        (Self::ShowCertificates, "show certificates"),
    ];

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(question, _)| *question == self).map_or("", |(_, text)| text)
    }

    fn read(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == text).map(|(question, _)| *question)
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether it was done.
    pub(super) good: bool,
    /// For people.
    pub(super) text: String,
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The server's side. The socket is taken away when this is dropped.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    asked: mpsc::Receiver<Asked>,
    _serving: JoinSet<()>,
}

impl Control {
    /// Listens in `data_dir`, of which this process is the only user.
    pub(super) fn listen(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE_NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let (ask, asked) = mpsc::channel(QUESTIONS);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, ask));
        Ok(Self { path, asked, _serving: serving })
    }

    /// The next question.
    pub(super) async fn asked(&mut self) -> Option<Asked> {
        self.asked.recv().await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, ask: mpsc::Sender<Asked>) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if conversations.len() < QUESTIONS => match accepted {
                Ok((stream, _)) => drop(conversations.spawn(converse(stream, ask.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "the control socket fails");
                    tokio::time::sleep(PATIENCE).await;
                }
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

async fn converse(mut stream: UnixStream, ask: mpsc::Sender<Asked>) {
    let mut text = String::new();
    let read = timeout(PATIENCE, (&mut stream).take(MAX_QUESTION).read_to_string(&mut text)).await;
    let answer = match (read, Question::read(text.trim())) {
        (Ok(Ok(_)), Some(question)) => {
            let (answer, answered) = oneshot::channel();
            if ask.send(Asked { question, answer }).await.is_err() {
                return;
            }
            let Ok(answer) = answered.await else { return };
            answer
        }
        (Ok(Ok(_)), None) => Answer { good: false, text: "this server knows no such question".to_owned() },
        _ => return,
    };
    let verdict = if answer.good { "ok" } else { "failed" };
    let _ = timeout(PATIENCE, stream.write_all(format!("{verdict}\n{}", answer.text).as_bytes())).await;
}

/// Asks the server that uses `data_dir`. `None` if there is none.
pub(super) async fn ask(data_dir: &Path, question: Question) -> io::Result<Option<Answer>> {
    let path = data_dir.join(FILE_NAME);
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let talk = async {
        stream.write_all(question.text().as_bytes()).await?;
        stream.shutdown().await?;
        let mut text = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut text).await?;
        io::Result::Ok(text)
    };
    let text =
        timeout(ANSWER_PATIENCE, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let (verdict, text) = text.split_once('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Some(Answer { good: verdict == "ok", text: text.to_owned() }))
}

/// Asks the server of a configuration, and shows its answer.
pub(super) async fn demand(named: Option<PathBuf>, question: Question) -> Result<(), Failure> {
    let (data_dir, wrong) = data_dir(named);
    let failed = |why: String| {
        let socket = path::absolute(data_dir.join(FILE_NAME)).unwrap_or_default();
        Failure::Run(format!("cannot ask a server at {}: {why}", socket.display()).into())
    };
    match ask(&data_dir, question).await.map_err(|error| failed(error.to_string()))? {
        Some(Answer { good, text }) => {
            print!("{text}");
            if good { Ok(()) } else { Err(Failure::Run("not all of it could be done".into())) }
        }
        None => Err(wrong
            .map_or_else(|| failed("none is running on this data directory".to_owned()), Failure::Config)),
    }
}

/// Where the server of a configuration has its socket, and what is wrong with the configuration: that does not keep
/// from asking a server, as far as it can be told where.
pub(super) fn data_dir(named: Option<PathBuf>) -> (PathBuf, Option<ConfigError>) {
    let path = config_path(named);
    let error = match Config::load(path.as_deref(), &Overrides::of_process()) {
        Ok(config) => return (config.stratum_v2.data_dir, None),
        Err(error) => error,
    };
    let variables = ["STRATUM_V2__DATA_DIR", "DATA_DIR"].map(|key| format!("{}{key}", Overrides::PREFIX));
    let said = variables.iter().find_map(env::var_os).map(PathBuf::from).or_else(|| {
        let table = fs::read_to_string(path?).ok()?.parse::<toml::Table>().ok()?;
        let server = table.get("stratum_v2").and_then(|server| server.get("data_dir"));
        Some(server.or(table.get("data_dir"))?.as_str()?.into())
    });
    (said.unwrap_or_else(|| Config::default().stratum_v2.data_dir), Some(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_has_its_answer() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(ask(directory.path(), Question::Reload).await.unwrap(), None);
        // what a server that was killed has left behind
        drop(std::os::unix::net::UnixListener::bind(directory.path().join(FILE_NAME)).unwrap());
        assert_eq!(ask(directory.path(), Question::Reload).await.unwrap(), None);

        let mut control = Control::listen(directory.path()).unwrap();
        let mode = fs::metadata(directory.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let server = async {
            for (question, _) in Question::ALL {
                let asked = control.asked().await.unwrap();
                assert_eq!(asked.question, question);
                let good = question == Question::Reload;
                asked.answer.send(Answer { good, text: "one\ntwo\n".to_owned() }).unwrap();
            }
        };
        let client = async {
            for (question, _) in Question::ALL {
                let answer = ask(directory.path(), question).await.unwrap().unwrap();
                assert_eq!(
                    answer,
                    Answer { good: question == Question::Reload, text: "one\ntwo\n".to_owned() }
                );
            }
        };
        tokio::join!(server, client);
        drop(control);
        assert!(!directory.path().join(FILE_NAME).exists());
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nonsense_or_nothing_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let mut control = Control::listen(directory.path()).unwrap();
        let mut silent = Vec::new();
        for _ in 0..QUESTIONS {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        let mut long = UnixStream::connect(&path).await.unwrap();
        long.write_all(&[b'x'; 200]).await.unwrap();
        let mut said = String::new();
        // more may follow than was read: then the other side's end is an error
        let _ = long.read_to_string(&mut said).await;
        assert!(said.is_empty() || said.starts_with("failed\n"), "{said}");
        let server = async {
            let asked = control.asked().await.unwrap();
            asked.answer.send(Answer { good: true, text: String::new() }).unwrap();
        };
        let (answer, ()) = tokio::join!(ask(directory.path(), Question::Reload), server);
        assert!(answer.unwrap().unwrap().good);
        drop(silent);
    }
}
