//! One SV2 mining connection as a state machine.
//!
//! Pure: [`Session::handle`] takes what happened and the time, [`Session::poll_output`] gives
//! what is to be done. No clock, no socket, no task. What all sessions share comes in as
//! [`Shared`].
//!
//! ```text
//!                SetupConnection            (any number of channels)
//! AwaitSetup ───────────────────────> Open ──────────────────────────> Closed
//!      └── too late, refused, not a SetupConnection ────────────────────^
//! ```
//!
//! A lane of a channel ends on its own, each direction by itself: [`Input::Ended`] is the
//! client's end of it, [`Output::Finish`] the server's.

mod acknowledge;
mod channel;
mod connection;
mod distribute;
mod end;
mod job_ids;
mod lane;
mod open;
mod options;
mod outbox;
mod setup;
mod submit;
mod timers;
mod vary;

use std::collections::VecDeque;
use std::sync::Arc;

use connection::Connection;
use outbox::Outbox;
use timers::Timers;

pub use job_ids::first_job;
pub use lane::Lane;
pub use options::Options;
pub use setup::VERSION;

use crate::mining::extranonce::ExtranoncePrefix;
use crate::mining::job::Job;
use crate::mining::moment::Moment;
use crate::mining::payout::{IdentityError, PayoutClass};
use crate::mining::share::{Account, Rejection, Share, Solution};
use crate::mining::{Target, Template, Work};
use crate::wire::{ChannelId, Header, JobId, WireError};

/// What all sessions share, as one of them sees it.
pub trait Shared {
    /// Who is paid for the blocks of this user.
    fn class_for(&self, user_identity: &str) -> Result<PayoutClass, IdentityError>;

    /// The easiest target that a channel is given: one that opens at once, any other when its
    /// hashrate is looked at next.
    fn easiest_target(&self) -> Target;

    /// A part of the search space that no one else has, nor has had for `work` or any that comes
    /// after it. None when all are taken.
    fn allocate_prefix(&self, work: Option<&Arc<Work>>) -> Option<ExtranoncePrefix>;

    /// Gives a part of the search space back.
    fn release_prefix(&self, prefix: ExtranoncePrefix);

    /// The job that everyone of a payout class mines on.
    fn job(&self, template: &Arc<Template>, class: &PayoutClass) -> Option<Arc<Job>>;

    /// A job on the same template with a search space of its own.
    fn variant(&self, template: &Arc<Template>, class: &PayoutClass, salt: u32) -> Option<Arc<Job>>;
}

/// Something that happened to a connection.
#[derive(Debug)]
pub enum Input<'a> {
    /// The peer sent a message.
    Frame(Lane, Header, &'a [u8]),
    /// The peer will send nothing more on this lane; said once of a lane. The channels opened on
    /// it are closed. That a lane which is no channel's has ended means nothing here.
    Ended(Lane),
    /// There is newer work.
    Work(Arc<Work>),
    /// Other limits and habits are to be kept to. A target that they want changed comes with the next tick.
    Options(Arc<Options>),
    /// The accepted shares up to and including this number (see [`Session::take_shares`]) are safe.
    Stored(u64),
    /// Nothing; time has passed.
    Tick,
    /// The server is about to end the connection: what is owed is not to wait for more.
    Stop,
}

/// Something to be done for a connection.
#[derive(Debug)]
pub enum Output<'a> {
    /// Send this frame.
    Frame(Lane, &'a [u8]),
    /// Nothing more will be sent on this lane of a channel, and what still comes on it is
    /// ignored. Said once of each lane that had an Open* or has [ended](Input::Ended): when its
    /// channel is closed and has all its answers, or was refused. The end of a connection is the
    /// end of all lanes, without this.
    Finish(Lane),
    /// Hand this in.
    Solution(Box<Solution>),
    /// For the log and the books.
    Event(Event),
    /// Send what came before, then close the connection. Nothing follows.
    Close(CloseReason),
}

/// Something that an operator may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The client introduced itself; the text is its own, escaped.
    SetUp {
        /// Vendor, hardware and firmware.
        device: String,
    },
    /// A channel was opened.
    Opened {
        /// Its id.
        channel: ChannelId,
        /// Whose it is.
        account: Arc<Account>,
    },
    /// A request to open a channel was refused.
    Refused {
        /// The answer's `error_code`.
        code: &'static str,
        /// The user it was for, escaped.
        user: String,
    },
    /// A channel was closed.
    Closed {
        /// Its id.
        channel: ChannelId,
        /// Whose it was.
        account: Arc<Account>,
    },
}

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client did not send SetupConnection in time.
    #[error("no SetupConnection in time")]
    SetupTimeout,
    /// SetupConnection was answered with an error.
    #[error("SetupConnection refused: {0}")]
    SetupRefused(&'static str),
    /// The client has had no channel for too long.
    #[error("no channel open for too long")]
    NoChannel,
    /// Too many shares in a row were refused for the miner's fault.
    #[error("too many bad shares in a row, the last: {0}")]
    BadShares(Rejection),
    /// A message that cannot be read.
    #[error("malformed message {msg_type:#04x}: {error}")]
    Malformed {
        /// The message's type.
        msg_type: u8,
        /// What is wrong with it.
        error: WireError,
    },
    /// A message that has no business here or now.
    #[error("unexpected message {0:#04x}")]
    Unexpected(u8),
}

/// What happened since the last [`Session::take_tally`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Shares accepted.
    pub accepted: u64,
    /// Their difficulty in all.
    pub difficulty: f64,
    /// Shares refused, by [`Rejection::index`].
    pub rejected: [u64; Rejection::COUNT],
}

/// One connection. See the [module](self).
#[derive(Debug)]
pub struct Session {
    state: State,
    first_job: JobId,
    out: Out,
}

#[derive(Debug)]
enum State {
    AwaitSetup { until: Moment, work: Option<Arc<Work>> },
    Open(Box<Connection>),
    Closed,
}

/// What is to come out of a session.
#[derive(Debug)]
struct Out {
    options: Arc<Options>,
    frames: Outbox,
    todo: VecDeque<Todo>,
    solutions: VecDeque<Box<Solution>>,
    timers: Timers,
    tally: Tally,
    shares: Vec<Share>,
    shares_made: u64,
}

/// An output that comes after all frames.
#[derive(Debug)]
enum Todo {
    Event(Event),
    Finish(Lane),
    Close(CloseReason),
}

impl Session {
    /// A connection that was made just now. Its jobs are counted from 1.
    #[must_use]
    pub fn new(options: Arc<Options>, now: Moment) -> Self {
        Self {
            state: State::AwaitSetup { until: now + options.setup_timeout, work: None },
            first_job: JobId(1),
            out: Out {
                options,
                frames: Outbox::default(),
                todo: VecDeque::new(),
                solutions: VecDeque::new(),
                timers: Timers::default(),
                tally: Tally::default(),
                shares: Vec::new(),
                shares_made: 0,
            },
        }
    }

    /// Counts its jobs from this one, to be said before anything is handled: see [`first_job`]. A share for an
    /// earlier one is stale.
    #[must_use]
    pub fn with_jobs_from(self, first_job: JobId) -> Self {
        Self { first_job, ..self }
    }

    /// Takes in what happened at `now`. Drain the outputs afterwards.
    pub fn handle(&mut self, now: Moment, input: Input<'_>, shared: &impl Shared) {
        let handled = match (&mut self.state, input) {
            (State::AwaitSetup { work, .. }, Input::Frame(lane, header, payload)) => {
                let work = work.take();
                self.set_up(now, lane, header, payload, work)
            }
            (State::AwaitSetup { work, .. }, Input::Work(newest)) => {
                *work = Some(newest);
                Ok(())
            }
            (State::AwaitSetup { .. }, Input::Ended(lane @ Lane::Channel(_))) => {
                self.out.todo.push_back(Todo::Finish(lane));
                Ok(())
            }
            (State::AwaitSetup { until, .. }, Input::Tick) if *until <= now => Err(CloseReason::SetupTimeout),
            (State::Open(connection), Input::Frame(lane, header, payload)) => {
                connection.frame(&mut self.out, now, lane, header, payload, shared)
            }
            (State::Open(connection), Input::Ended(lane @ Lane::Channel(_))) => {
                connection.ended(&mut self.out, now, lane, shared);
                Ok(())
            }
            (State::Open(connection), Input::Work(work)) => {
                connection.distribute(&mut self.out, work, shared);
                Ok(())
            }
            (State::Open(connection), Input::Options(options)) => {
                connection.keep_to(&mut self.out, options);
                Ok(())
            }
            (State::AwaitSetup { .. }, Input::Options(options)) => {
                self.out.options = options;
                Ok(())
            }
            (State::Open(connection), Input::Stored(number)) => {
                connection.stored(&mut self.out, number);
                Ok(())
            }
            (State::Open(connection), Input::Stop) => {
                connection.seal_all(&mut self.out, now);
                Ok(())
            }
            (State::Open(connection), Input::Tick) => connection.tick(&mut self.out, now, shared),
            (State::AwaitSetup { .. } | State::Closed, _) | (_, Input::Ended(_)) => Ok(()),
        };
        if let Err(reason) = handled {
            self.end(shared);
            self.out.todo.push_back(Todo::Close(reason));
        }
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        // solutions first: nothing that happens to the connection may cost one
        if let Some(solution) = self.out.solutions.pop_front() {
            return Some(Output::Solution(solution));
        }
        // then frames: the end of a lane, or a close, must not overtake what was said before it
        if let Some((lane, frame)) = self.out.frames.pop() {
            return Some(Output::Frame(lane, frame));
        }
        Some(match self.out.todo.pop_front()? {
            Todo::Event(event) => Output::Event(event),
            Todo::Finish(lane) => Output::Finish(lane),
            Todo::Close(reason) => Output::Close(reason),
        })
    }

    /// Moves the shares accepted since the last call to `into`. Returns the number of the last of
    /// them, counted over the connection's life: once all up to it are safe,
    /// [`Input::Stored`] with that number lets them be acknowledged.
    pub fn take_shares(&mut self, into: &mut Vec<Share>) -> Option<u64> {
        if self.out.shares.is_empty() {
            return None;
        }
        into.append(&mut self.out.shares);
        Some(self.out.shares_made)
    }

    /// The counts since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.out.tally)
    }

    /// When to call with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        let deadline = match &self.state {
            State::AwaitSetup { until, .. } => Some(*until),
            State::Open(connection) => connection.idle_until(&self.out.options),
            State::Closed => return None,
        };
        [deadline, self.out.timers.next()].into_iter().flatten().min()
    }

    /// Ends the session from outside: gives back what it holds. Nothing is sent.
    pub fn end(&mut self, shared: &impl Shared) {
        if let State::Open(connection) = std::mem::replace(&mut self.state, State::Closed) {
            connection.end(&mut self.out, shared);
        }
    }
}
