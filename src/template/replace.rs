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
/// How long a generator may take to come to a change: it does nothing that takes long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a source goes on after miners have had other work than its own: what they find on the old
/// still goes to it, as some nodes take blocks only by the connection that their template came by.
const GRACE: Duration = Duration::from_secs(60);
/// How long it goes on while miners have nothing else, although another has had work; and how long one that was
/// taken out is used while another has work and miners are not on it.
pub(super) const LONGEST: Duration = Duration::from_secs(600);

/// What a generator is to do from now on.
#[derive(Debug, Clone)]
pub struct Change {
    /// Where to have work from, best first. What is there already goes on undisturbed. What is not among
    /// them any more is used until miners can go over to one of them.
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
    /// The generator has other things to do. It will not come back to this.
    #[error("the server is too busy to change anything now, so nothing has changed: try again")]
    Late,
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
    change: Change,
    begun: oneshot::Sender<()>,
    answer: oneshot::Sender<Result<(), ReplaceError>>,
}

impl Control {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(CHANGES);
        (Self(commands), receiver)
    }

    /// All of `change`, or nothing. Miners stay on what they have until there is other work.
    pub async fn replace(&self, change: Change) -> Result<(), ReplaceError> {
        let (begin, mut begun) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let command = Command { change, begun: begin, answer };
        let begins = async {
            self.0.send(command).await.ok()?;
            (&mut begun).await.ok()
        };
        let begins = timeout(PATIENCE, begins).await;
        if let Err(_late) = begins {
            // from here on it cannot begin; it may just have done so
            begun.close();
            begun.try_recv().map_err(|_| ReplaceError::Late)?;
        } else if let Ok(None) = begins {
            return Err(ReplaceError::Stopped);
        }
        // what has begun waits for nothing
        answered.await.unwrap_or(Err(ReplaceError::Stopped))
    }
}

impl Command {
    /// The change, and where to say what has come of it; none if nobody waits for it any more, and takes
    /// it for not done.
    pub(super) fn begin(self) -> Option<(Change, oneshot::Sender<Result<(), ReplaceError>>)> {
        self.begun.send(()).ok()?;
        Some((self.change, self.answer))
    }
}

/// A source that runs.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) options: SourceOptions,
    pub(super) feed: Feed,
    pub(super) outlet: Outlet,
    pub(super) task: AbortHandle,
    /// If it is not used any more, but may be for a block.
    pub(super) retired: Option<Retired>,
}

/// How long a source that is not used any more goes on.
#[derive(Debug)]
pub(super) struct Retired {
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
    pub(super) fn new(now: Instant) -> Self {
        Self { until: now + LONGEST, superseded: false }
    }
}

impl Seat {
    /// Not retired any more.
    pub(super) fn wanted(mut self) -> Self {
        self.retired = None;
        self
    }

    /// Until when it goes on if it is retired, given whose work miners have had last.
    pub(super) fn until(&mut self, last: Option<SourceId>, now: Instant) -> Option<Instant> {
        let retired = self.retired.as_mut()?;
        if !retired.superseded && last != Some(self.feed.id()) {
            retired.superseded = true;
            retired.until = retired.until.min(now + GRACE);
        }
        Some(retired.until)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitcoin::Script;
    use tokio::time::sleep;

    use super::*;

    fn change() -> Change {
        let payout = PayoutPolicy::Pool { script: Arc::from(Script::from_bytes(&[0x51])) };
        Change { sources: Vec::new(), pace: Pace::default(), payout, tag: Tag::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_to_be_too_late_is_not_done() {
        let (control, mut commands) = Control::new();
        let said = control.replace(change()).await;
        assert!(matches!(said, Err(ReplaceError::Late)), "{said:?}");
        assert!(commands.recv().await.unwrap().begin().is_none());

        // nor where there is no room to wait in
        let waiting: Vec<_> = (0..=CHANGES)
            .map(|_| {
                let control = control.clone();
                tokio::spawn(async move { control.replace(change()).await })
            })
            .collect();
        for waiting in waiting {
            assert!(matches!(waiting.await.unwrap(), Err(ReplaceError::Late)));
        }
        for _ in 0..CHANGES {
            assert!(commands.recv().await.unwrap().begin().is_none());
        }
        assert!(commands.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_is_waited_for() {
        let (control, mut commands) = Control::new();
        let generator = async {
            sleep(PATIENCE - Duration::from_millis(1)).await;
            let (_, answer) = commands.recv().await.unwrap().begin().unwrap();
            sleep(PATIENCE).await;
            answer.send(Err(ReplaceError::Embedded)).unwrap();
        };
        let (said, ()) = tokio::join!(control.replace(change()), generator);
        assert!(matches!(said, Err(ReplaceError::Embedded)), "{said:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_generator_nothing_is_waited_for() {
        let (control, mut commands) = Control::new();
        let before = Instant::now();
        let generator = async { drop(commands.recv().await) };
        let (said, ()) = tokio::join!(control.replace(change()), generator);
        assert!(matches!(said, Err(ReplaceError::Stopped)), "{said:?}");
        drop(commands);
        let said = control.replace(change()).await;
        assert!(matches!(said, Err(ReplaceError::Stopped)), "{said:?}");
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
