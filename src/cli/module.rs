//! The server as a module of blvm-node, which starts it without arguments.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{self, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;
use tracing_appender::rolling::{RollingFileAppender, Rotation};

use super::Failure;
use super::log::LogLevel;
use super::origin::Origin;
use super::run::{StartedBy, serve};
use crate::aside::be_alone;
use crate::config::Environment;
use crate::module::socket::{self, Kept};

/// Set, to the process's id, once it has been executed anew.
const EXECUTED: &str = "BLVM_STRATUM_V2_EXECUTED";
/// Where panics go, and an allocator's last words.
const LAST_WORDS: &str = "stderr.log";
/// How large that may become before it is begun anew.
const MAX_LAST_WORDS: u64 = 1 << 20;
/// The log, a file a day, and how many days.
const LOG: (&str, &str, usize) = ("blvm-stratum-v2", "log", 7);
/// How long after its start the node has surely limited this process.
const LIMITED_AFTER: Duration = Duration::from_millis(200);
/// How often the node is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A second name of the node's socket, in DATA_DIR.
const SOCKET: &str = "node.sock";
/// Threads that run tasks, and those at most that wait for a disk. The usual limit is ten of the user.
const WORKERS: usize = 2;
const BLOCKING: usize = 4;
/// Address space for each thread's stack.
const STACK: usize = 1 << 20;

/// The node that has started this process.
#[derive(Debug)]
pub(super) struct Node {
    parent: u32,
}

impl Node {
    /// Returns when it is gone. It leaves its modules behind if it is killed.
    pub(super) async fn gone(&self) {
        while parent_id() == self.parent {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Runs as the module that `environment` is about.
pub(super) fn main(environment: Environment) -> ExitCode {
    let parent = parent_id();
    if env::var(EXECUTED).ok().as_deref() != Some(&*process::id().to_string()) {
        // returns only if it fails: then all that is lost is told to a pipe that nobody reads
        let error = execute_anew(&environment.data_dir);
        eprintln!(
            "cannot start anew with {LAST_WORDS} in DATA_DIR {}: {error}",
            environment.data_dir.display()
        );
    }
    let log = match init_log(&environment.data_dir) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(
        "version {}, started by blvm-node as {}",
        env!("CARGO_PKG_VERSION"),
        environment.module_id
    );
    keep_socket(&environment);
    thread::sleep(LIMITED_AFTER);
    match run(environment, Node { parent }, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, error) = failure.told();
            tracing::error!("{error}");
            code
        }
    }
}

/// For the next time that the node loads this module.
fn keep_socket(environment: &Environment) {
    let socket = &environment.socket_path;
    match socket::keep(socket, &environment.data_dir.join(SOCKET)) {
        Ok(Kept::Kept) => {}
        Ok(Kept::PutBack) => {
            tracing::warn!("put back {}, which the node had removed", socket.display());
        }
        Ok(Kept::Nothing) => tracing::warn!("{} is not there", socket.display()),
        Err(error) => tracing::warn!(
            "the node's socket {} can have no second name in DATA_DIR ({error}): once the node unloads this module it \
             has to be restarted to load it again",
            socket.display()
        ),
    }
}

fn run(environment: Environment, node: Node, log: LogLevel) -> Result<(), Failure> {
    let runtime = runtime().map_err(|error| Failure::Run(error.into()))?;
    let done = runtime.block_on(serve(Origin::Module(environment), StartedBy::Node(node), log));
    runtime.shutdown_background();
    done
}

/// Executes this program again, as the same process: with one heap for all threads, each of which
/// would else reserve 64 MiB of the little address space there is, and with nothing open to the
/// pipes of the node, which reads them as little as it closes them.
fn execute_anew(data_dir: &Path) -> io::Error {
    let executed = || -> io::Result<io::Error> {
        fs::create_dir_all(data_dir)?;
        let last_words = data_dir.join(LAST_WORDS);
        if fs::metadata(&last_words).is_ok_and(|file| file.len() > MAX_LAST_WORDS) {
            fs::write(&last_words, "")?;
        }
        Ok(Command::new(env::current_exe()?)
            .env(EXECUTED, process::id().to_string())
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&last_words)?)
            .exec())
    };
    executed().unwrap_or_else(|error| error)
}

/// The log goes to files in DATA_DIR. What cannot be written is lost: it must not end the server.
fn init_log(data_dir: &Path) -> Result<LogLevel, Box<dyn std::error::Error>> {
    let (prefix, suffix, days) = LOG;
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(prefix)
        .filename_suffix(suffix)
        .max_log_files(days)
        .build(data_dir)?;
    Ok(LogLevel::to_file("info", file))
}

/// Few threads, with small stacks; or one, if there are no others to be had. They are tried first, because tokio
/// panics where it has none.
fn runtime() -> io::Result<Runtime> {
    if let Err(error) = try_threads(WORKERS + 1) {
        tracing::warn!(
            "no threads can be had ({error}): going on with a single one. The node's limit counts all processes and \
             threads of its user, the node's own as well: to have more, set default_max_child_processes in \
             [module_resource_limits] of its config to {} more than those (ps -L -u USER | wc -l)",
            WORKERS + BLOCKING + 1
        );
        be_alone();
        return Builder::new_current_thread().enable_all().build();
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        // one is there from now on, for when no other can be had any more
        .thread_keep_alive(Duration::MAX)
        .enable_all()
        .build()?;
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}

/// Whether there are so many at a time.
fn try_threads(count: usize) -> io::Result<()> {
    let try_one = |_| {
        let (end, ended) = mpsc::channel::<()>();
        let wait = move || ended.recv().is_ok();
        Ok((end, thread::Builder::new().stack_size(STACK).spawn(wait)?))
    };
    let tried: Vec<io::Result<_>> = (0..count).map(try_one).collect();
    tried.into_iter().try_for_each(|one| {
        let (end, thread) = one?;
        drop(end);
        let _ = thread.join();
        Ok(())
    })
}
