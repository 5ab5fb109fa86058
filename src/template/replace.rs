//! Other sources, and other terms, for a generator that runs.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::source::{Feed, OpenError, Outlet, Source, SourceId};
use super::{Pace, SourceOptions};
use crate::mining::TemplateSerial;
use crate::mining::coinbase::Tag;
use crate::mining::payout::{PayoutPolicy, Room};

/// Changes that may wait.
const CHANGES: usize = 4;
/// How long a generator may take to answer: it does nothing that takes long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a source goes on after miners have had other work than its own: what they find on the old
/// still goes to it, as some nodes take blocks only by the connection that their template came by.
const GRACE: Duration = Duration::from_secs(60);
/// How long it goes on while miners have nothing else.
const LONGEST: Duration = Duration::from_secs(600);

/// What a generator is to do from now on.
#[derive(Debug, Clone)]
pub struct Change {
    /// Where to have work from, best first. What is there already goes on undisturbed.
    pub sources: Vec<SourceOptions>,
    /// How often there is new work on the same tip.
    pub pace: Pace,
    /// Who is paid by the jobs that are made from now on. Where a source has to be told of more room
    /// for that, this holds from the first work on that has it.
    pub payout: PayoutPolicy,
    /// Text in their coinbases.
    pub tag: Tag,
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It holds the blocks of which all work is made.
    #[error(
        "the embedded regtest chain cannot be changed, added or removed while the server runs: restart it"
    )]
    Embedded,
    /// A source cannot be used at all.
    #[error("source {number} of {count} cannot be used: {error}")]
    Open {
        /// Which one, counted from 1.
        number: usize,
        /// Of how many.
        count: usize,
        /// Why.
        error: OpenError,
    },
    /// There is no generator any more.
    #[error("nothing makes work any more: restart the server")]
    Stopped,
}

/// Has a generator that runs change.
#[derive(Debug, Clone)]
pub struct Control(mpsc::Sender<Command>);

/// A change, and where its result goes.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<(), ReplaceError>>,
}

impl Control {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(CHANGES);
        (Self(commands), receiver)
    }

    /// All of `change`, or nothing. Miners stay on what they have until there is other work.
    pub async fn replace(&self, change: Change) -> Result<(), ReplaceError> {
        let (answer, answered) = oneshot::channel();
        let replaced = async {
            self.0.send(Command { change, answer }).await.ok()?;
            answered.await.ok()
        };
        timeout(PATIENCE, replaced).await.ok().flatten().unwrap_or(Err(ReplaceError::Stopped))
    }
}

/// A source that runs.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) options: SourceOptions,
    pub(super) feed: Feed,
    pub(super) outlet: Outlet,
    pub(super) task: AbortHandle,
}

/// A source that is not wanted any more, but may be for a block.
#[derive(Debug)]
pub(super) struct Retired {
    seat: Seat,
    until: Instant,
    superseded: bool,
}

/// A source that there is to be: one that is there, in this place, or a new one.
#[derive(Debug)]
pub(super) enum Planned {
    Stays(usize),
    Comes(SourceOptions, Box<Source>),
}

/// What is `wanted`, if it can be had. All are told to leave `room`.
pub(super) fn plan(
    seats: &[Seat],
    wanted: Vec<SourceOptions>,
    room: Room,
) -> Result<Vec<Planned>, ReplaceError> {
    let embedded = |options: &&SourceOptions| matches!(options, SourceOptions::Regtest(_));
    let before = seats.iter().map(|seat| &seat.options).filter(embedded);
    if !before.eq(wanted.iter().filter(embedded)) {
        return Err(ReplaceError::Embedded);
    }
    let mut free: Vec<_> = (0..seats.len()).collect();
    let count = wanted.len();
    let planned = wanted.into_iter().enumerate().map(|(index, options)| {
        let options = options.with_room(room);
        if let Some(at) = free.iter().position(|place| seats[*place].options.serves(&options)) {
            return Ok(Planned::Stays(free.remove(at)));
        }
        // the embedded chain, which would want to know when and from where on, is not among them
        match options.open(TemplateSerial(0), 0) {
            Ok(source) => Ok(Planned::Comes(options, Box::new(source))),
            Err(error) => Err(ReplaceError::Open { number: index + 1, count, error }),
        }
    });
    planned.collect()
}

impl Retired {
    pub(super) fn new(seat: Seat, now: Instant) -> Self {
        Self { seat, until: now + LONGEST, superseded: false }
    }

    pub(super) fn outlet(&self) -> &Outlet {
        &self.seat.outlet
    }

    /// Until when it goes on, given whose work miners have had last.
    pub(super) fn until(&mut self, last: Option<SourceId>, now: Instant) -> Instant {
        if !self.superseded && last != Some(self.seat.feed.id()) {
            self.superseded = true;
            self.until = self.until.min(now + GRACE);
        }
        self.until
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.task.abort();
    }
}
