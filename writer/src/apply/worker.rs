//! The apply loop. Its invariants:
//!
//! 1. A target transaction ends with the progress row of what it covers, or is rolled back.
//! 2. Nothing is acknowledged that is not on the target's disk.
//! 3. While it holds, no transaction is open on the target, and everything below the limit is applied and nothing else.
//! 4. It ends only between target transactions; what was open is rolled back and comes again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pg::{Error, Lsn, Params, Result};
use pipeline::{ChangeSource, PgTimestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::acknowledge::{LONG_PATIENCE, PATIENCE, Unflushed};
use super::ahead::{Ahead, LookUp};
use super::commit::CarrierPosition;
use super::connections::Connections;
use super::execute::Pipeline;
use super::flusher::Flusher;
use super::gin::Merger;
use super::lookup::Catalog;
use super::piece::Cutter;
use super::tables::{Feed, Tables};
use super::touched::{Recorder, Touched};
use crate::control::{Counters, Progress, Skips};

/// How to apply.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    pub run: String,
    /// Whose progress rows they are, where several processes share the run; none: the run's own.
    pub progress: Option<String>,
    /// Bytes of changes that go into one target transaction while there are more.
    pub batch_bytes: usize,
    pub copy_threshold: usize,
    pub set_threshold: usize,
    pub coalesce: bool,
    pub sort: bool,
    /// Prepare the next piece while the server works at the present one.
    pub ahead: bool,
    /// Another session waits for the target's disk.
    pub flush_apart: bool,
    /// Another session merges the pending lists of GIN indexes.
    pub gin_apart: bool,
    /// The stream's values come in binary.
    pub binary: bool,
    /// `Some(true)`: insist on `session_replication_role = replica`; `Some(false)`: don't use it; `None`: use it where allowed.
    pub replica_role: Option<bool>,
    /// Wait for the target's disk at every commit.
    pub synchronous_commit: bool,
}

impl ApplyOptions {
    pub(super) fn progress_key(&self) -> &str {
        self.progress.as_deref().unwrap_or(&self.run)
    }
}

/// What was applied last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub progress: Progress,
    /// Commit time of the last transaction; None before the first and while idle.
    pub committed_at: Option<PgTimestamp>,
    /// The writer stands still between two transactions.
    pub held: bool,
}

/// What the rest of the process asks of the loop; each is answered when it is so.
pub enum Command {
    /// Finish the open transaction and stand still.
    Hold(oneshot::Sender<()>),
    /// Apply every commit with a commit LSN below this, nothing else, and stand still.
    RunTo(Lsn, oneshot::Sender<()>),
    /// Go on.
    Release,
    SetFeed(Feed),
    SetSkips(Skips),
    /// Note the keys that changes touch, from now on; None: stop noting.
    Record(bool),
    /// What was touched since; none: nothing is noted.
    Touched(oneshot::Sender<Option<Touched>>),
}

/// A handle to a running loop.
#[derive(Clone)]
pub struct Handle {
    pub commands: mpsc::Sender<Command>,
    pub applied: watch::Receiver<Applied>,
}

/// An idle position is stored at most this often: each store is a synchronous commit on the target.
const IDLE_SPACING: Duration = Duration::from_millis(200);
/// With nothing to apply for this long, what was committed is flushed.
const QUIET: Duration = Duration::from_millis(10);
/// Row by row a deferrable key may be violated where the source's one statement did not. (As replica it is not checked at all.)
const BEGIN: &[&str] = &["BEGIN"];
const BEGIN_ORIGIN: &[&str] = &["BEGIN", "SET CONSTRAINTS ALL DEFERRED"];

/// The writer's connection to the target and where it stands.
pub struct Applier {
    pub(super) options: ApplyOptions,
    /// The role that applies.
    pub(super) user: String,
    pub(super) pipeline: Pipeline,
    /// Opens a target transaction.
    pub(super) begin: &'static [&'static str],
    /// Shared with the look-up that is under way.
    pub(super) catalog: Arc<Catalog>,
    pub(super) tables: Tables,
    pub(super) skips: Skips,
    pub(super) recorder: Recorder,
    pub(super) cutter: Cutter,
    pub(super) progress: Progress,
    pub(super) carrier: CarrierPosition,
    pub(super) unflushed: Unflushed,
    pub(super) flusher: Option<Flusher>,
    pub(super) merger: Option<Merger>,
    pub(super) ahead: Option<Ahead>,
    pub(super) look_up: Option<LookUp>,
    /// Counts of the open target transaction.
    pub(super) open: Option<Counters>,
    pub(super) hold: Option<Hold>,
    pub(super) idle_stored: Option<Instant>,
    pub(super) pruned: i64,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) applied: watch::Sender<Applied>,
}

pub(super) enum Hold {
    Now,
    At(Lsn, Option<oneshot::Sender<()>>),
}

impl Applier {
    /// Takes up where the target's progress stands. `epoch`: of this process; another one's progress is refused.
    pub async fn start(
        connections: Connections,
        params: &Params,
        options: ApplyOptions,
        feed: Feed,
        epoch: i64,
    ) -> Result<(Applier, Handle)> {
        let run = options.run.clone();
        let Connections { control, wire, replica } = connections;
        let key = options.progress_key().to_owned();
        let mut progress = Progress::read(&control, &key)
            .await?
            .ok_or_else(|| Error::refuse("RUN_UNREADABLE", format!("run \"{run}\" has no progress row")))?;
        if progress.epoch != epoch {
            return Err(Error::refuse("OWNED_BY", format!("another process has taken over run \"{run}\""))
                .hint(format!("see who it is with: walferry status --name {run}")));
        }
        // What is read here may be a commit that the target has not flushed yet, of this process too, whose connection was lost: this one
        // is on disk when it returns, and everything before it.
        progress.seq += 1;
        progress.append_flushed(&control, &key).await?;
        let skips = Skips::read(&control, &run).await?;
        let (commands, receiver) = mpsc::channel(16);
        let (applied, applied_receiver) =
            watch::channel(Applied { progress, committed_at: None, held: false });
        let applier = Applier {
            user: params.user().to_owned(),
            pipeline: Pipeline::new(wire),
            begin: if replica { BEGIN } else { BEGIN_ORIGIN },
            tables: Tables::new(feed, replica, options.binary),
            catalog: Arc::new(Catalog::new(control).await?),
            skips,
            recorder: Recorder::default(),
            cutter: Cutter::new(progress.end_lsn),
            progress,
            carrier: CarrierPosition::default(),
            unflushed: Unflushed::new(progress.end_lsn),
            flusher: (options.flush_apart && !options.synchronous_commit)
                .then(|| Flusher::spawn(params, format!("{run} (flush)"), progress.end_lsn)),
            merger: options.gin_apart.then(|| Merger::spawn(params, format!("{run} (merge)"))),
            ahead: None,
            look_up: None,
            open: None,
            hold: None,
            idle_stored: None,
            pruned: 0,
            commands: receiver,
            applied,
            options,
        };
        Ok((applier, Handle { commands, applied: applied_receiver }))
    }

    /// Where the stream has to start.
    #[must_use]
    pub fn position(&self) -> Progress {
        self.progress
    }

    /// Applies until the source of changes ends, the token is cancelled, or something can't be applied.
    pub async fn run(mut self, mut source: impl ChangeSource, cancel: CancellationToken) -> Result<()> {
        let result = Box::pin(self.work(&mut source, &cancel)).await;
        if result.is_ok() {
            self.settle(&mut source).await?;
            self.pipeline.wire.shutdown().await;
        }
        result
    }

    async fn work(&mut self, source: &mut impl ChangeSource, cancel: &CancellationToken) -> Result<()> {
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.command(command)?;
            }
            if cancel.is_cancelled() {
                return Ok(());
            }
            let limit = match &self.hold {
                Some(Hold::Now) if self.open.is_none() => {
                    self.stand_still(source, cancel).await?;
                    continue;
                }
                Some(Hold::At(lsn, _)) => Some(*lsn),
                _ => None,
            };
            let next = match self.take_ahead(limit) {
                Some(ahead) => Some(ahead),
                None => {
                    self.gather(source);
                    let after = self.cutter.position();
                    let cut = self.cutter.cut(self.options.batch_bytes, limit)?;
                    cut.map(|piece| Ahead { piece, plan: None, generation: 0, after })
                }
            };
            if let Some(Ahead { piece, plan, generation, .. }) = next {
                if piece.unfinished.is_none() {
                    self.carrier.expect(piece.end_lsn, source.position(piece.end_lsn));
                }
                let plan = plan.filter(|_| generation == self.tables.generation());
                self.apply(piece, plan, source).await?;
                self.note_flushed();
                self.acknowledge(source);
                self.reached(limit);
                continue;
            }
            if self.reached(limit) {
                continue;
            }
            let quiet = self.has_to_flush();
            let until_flush = self.until_flush();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command)?,
                    None => return Ok(()),
                },
                chunk = source.recv() => match chunk {
                    Some(chunk) => chunk.events.into_iter().for_each(|event| self.cutter.push(event)),
                    None => return Ok(()),
                },
                end_lsn = flushed(&mut self.flusher) => {
                    self.unflushed.flushed_to(end_lsn);
                    self.acknowledge(source);
                }
                () = tokio::time::sleep(until_flush), if quiet && self.open.is_none() => {
                    self.flush_apart().await?;
                    self.acknowledge(source);
                }
            }
        }
    }

    /// Is something committed, or an idle position to be stored, that is not on disk and that nobody was asked to put there?
    fn has_to_flush(&self) -> bool {
        let durable = self.unflushed.durable();
        if self.unflushed.is_empty() && self.progress.end_lsn <= durable.flushed {
            return false;
        }
        match &self.flusher {
            Some(flusher) if !self.unflushed.overdue(LONG_PATIENCE) => {
                self.progress.end_lsn > durable.applied || !flusher.has_been_asked(durable.applied)
            }
            _ => true,
        }
    }

    /// How long to wait for more before what was committed, or an idle position, is put on the target's disk.
    fn until_flush(&self) -> Duration {
        match self.idle_stored {
            Some(at) if self.unflushed.is_empty() => IDLE_SPACING.saturating_sub(at.elapsed()),
            _ => QUIET,
        }
    }

    fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Hold(reply) => {
                self.hold = Some(Hold::Now);
                if self.open.is_none() {
                    let _ = reply.send(());
                } else {
                    // A part of a large transaction is in: it goes on to its commit first.
                    self.hold = Some(Hold::At(self.progress.end_lsn, Some(reply)));
                }
            }
            Command::RunTo(lsn, reply) => self.hold = Some(Hold::At(lsn, Some(reply))),
            Command::Release => self.hold = None,
            Command::SetFeed(feed) => {
                self.tables.set_feed(feed);
                self.pipeline.forget_statements()?;
            }
            Command::SetSkips(skips) => {
                self.skips = skips;
                if let Some(ahead) = &mut self.ahead {
                    ahead.plan = None;
                }
            }
            Command::Record(on) => self.recorder.set(on),
            Command::Touched(reply) => {
                let _ = reply.send(self.recorder.take());
            }
        }
        let held = matches!(self.hold, Some(Hold::Now));
        self.applied.send_if_modified(|applied| std::mem::replace(&mut applied.held, held) != held);
        Ok(())
    }

    async fn stand_still(
        &mut self,
        source: &mut impl ChangeSource,
        cancel: &CancellationToken,
    ) -> Result<()> {
        if self.progress.end_lsn > self.unflushed.durable().flushed || !self.unflushed.is_empty() {
            self.flush().await?;
            self.acknowledge(source);
        }
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            command = self.commands.recv() => match command {
                Some(command) => self.command(command),
                None => {
                    cancel.cancel();
                    Ok(())
                }
            },
        }
    }

    /// Has everything below the limit been applied? Then stands still and says so.
    fn reached(&mut self, limit: Option<Lsn>) -> bool {
        let Some(limit) = limit else { return false };
        if self.open.is_some() || self.cutter.inside() {
            return false;
        }
        let next = match &self.ahead {
            Some(ahead) => ahead.piece.first_commit(),
            None => self.cutter.next_position(),
        };
        if self.progress.end_lsn < limit && next.is_none_or(|next| next < limit) {
            return false;
        }
        if let Some(Hold::At(_, reply)) = self.hold.take()
            && let Some(reply) = reply
        {
            let _ = reply.send(());
        }
        self.hold = Some(Hold::Now);
        self.applied.send_modify(|applied| applied.held = true);
        true
    }
}

/// Waits for the other session's word that something is on disk; for ever where there is none.
async fn flushed(flusher: &mut Option<Flusher>) -> Lsn {
    match flusher {
        Some(flusher) => flusher.flushed().await,
        None => std::future::pending().await,
    }
}

const _: () = assert!(QUIET.as_millis() < PATIENCE.as_millis());
