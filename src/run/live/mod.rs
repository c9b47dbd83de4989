//! Steps 6 and 7: the stream, from the slot to the target, and everything that goes on beside it.
//!
//! ```text
//! reader task ─► carrier ─► writer task               one lost: both end, and the run goes on from the progress row
//!       beside: lag every second, requests (verify, cutover, refresh), foreign keys validated once the tables are whole
//! ```
//!
//! `opening` connects meanwhile, `format` chooses how values travel, `beside` is that loop, `requests` what it is asked for, `auto` the cutover that nobody has to ask for.

mod auto;
mod beside;
mod format;
mod opening;
mod requests;

use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka::Announcement;
use pg::{Error, Lsn, Result, Session};
use pipeline::{Durable, direct::direct};
use reader::catalog::PublicationState;
use reader::slot::{self, SlotState};
use reader::stream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::apply::{Applier, ApplyOptions, BINARY_UNFIT, Feed, Handle};
use writer::control::{Progress, Run, RunTable, Step};

use format::Formats;
use opening::Opening;

use super::announce;
use super::context::{Context, Half};
use super::lag::LagWatch;
use super::limit::Retained;
use super::owner::Owner;
use super::retry::Backoff;
use super::shard::{self, Own};
use super::topics::{self, Topics};
use super::watch::Watch;
use super::{load, refresh, resync};
use crate::config::{ReplicaRole, SynchronousCommit, Via};
use crate::outbox::shared::{self, Followed, Joined};

/// Why the stream ended without an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    CutOver,
    Cancelled,
    /// To look at the publications again, or to share the tables anew.
    Refresh,
}

/// Streams until cut over, cancelled, or an error. `retained`: a warning of what the slot retains, for `status`.
pub async fn stream(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    backoff: &mut Backoff,
    retained: &Retained,
) -> Result<End> {
    let progress = progress_of(owner, run).await?;
    let mut opening = Opening::begin(context);
    let source = context.source_session().await?;
    // Before the topics: a reader elsewhere confirms what they have got already.
    let state = slot::look(&source, &run.slot).await?;
    // Where the stream goes on: behind what the target has, or behind what the topics have.
    let topics = match context.settings.run.via {
        Via::Direct => None,
        Via::Kafka => Some(Topics::look(context, run, progress.end_lsn).await?),
    };
    let from = topics.as_ref().map_or(progress.end_lsn, |topics| topics.start);
    let requests = refresh::left_behind(owner, run).await?;
    // One is the target's work, the other the source's.
    let (seen, tables) = tokio::join!(
        refresh::look(context, owner, run, &source, requests),
        RunTable::all(owner.session(), &run.name),
    );
    let mut tables = tables?;
    let lost_no_more = resync::everything(&tables)?;
    let from = (!lost_no_more).then_some(from);
    SlotState::check(state.as_ref(), &run.slot, context.source.dbname(), from)
        .map_err(|error| if topics.is_some() { topics::behind_the_slot(error) } else { error })?;
    let seen = seen?;
    let mut watch = Watch::of(&tables)?;
    if seen.differs() {
        // Before the refresh takes the tables as they are now for what was recorded.
        watch.look(context, owner.session(), run, &source).await?;
    }
    let look = refresh::record(context, owner, run, &source, seen).await?;
    let formats = Formats::read(&source).await?;
    let joined = match &topics {
        Some(topics) if context.half == Half::Both => {
            let confirmed = state.as_ref().and_then(SlotState::confirmed_flush);
            route(context, run, &source, topics.read.max(confirmed.unwrap_or_default()), &look.names).await?
        }
        _ => None,
    };
    drop(source);
    let mut read_again = watch.recorded || look.recorded;
    if read_again {
        tables = RunTable::all(owner.session(), &run.name).await?;
    }
    if tables.iter().any(|table| table.state.to_copy()) {
        // It may take hours, in which connections grow old.
        drop(opening);
        if context.half == Half::Writer {
            announce::followed(context, owner, run, &look.names).await?;
        }
        Box::pin(load::joined(context, owner, run)).await?;
        opening = Opening::begin(context);
        tables = RunTable::all(owner.session(), &run.name).await?;
        read_again = true;
    }
    if read_again {
        watch = Watch::of(&tables)?;
    }
    let (tables, topics, sharing) = match topics {
        None => (tables, None, None),
        Some(topics) => {
            resync::raise(owner, run, &tables).await?;
            let Own { tables, elsewhere, watcher } =
                shard::hand_over(context, owner, run, tables, false).await?;
            let topics = topics.from(progress_of(owner, run).await?.end_lsn).without(elsewhere);
            (tables, Some(topics), Some(watcher))
        }
    };
    let binary = formats.binary(context, &tables)?;
    let apply = ApplyOptions { binary, ..apply_options(context) };
    let connections = opening.writer().await?;
    let (applier, handle) =
        Applier::start(connections, &context.target, apply, Feed::of(&tables), owner.epoch).await?;
    look.tell(owner, run).await?;
    let start = applier.position();
    let mut from = topics.as_ref().map_or(start.end_lsn, |topics| topics.start);
    if let Some(joined) = &joined {
        from = from.min(joined.beside.from);
    }
    if context.half == Half::Writer {
        announce::now(context, owner, run, &look.names).await?;
    }
    let mut announcement = Announcement::new(&run.slot, look.names.clone());
    announcement.timeline = run.source.as_ref().and_then(|source| u32::try_from(source.timeline).ok());
    if let Some(topics) = &topics {
        announcement.snapshot = topics.snapshot;
        announcement.form = topics.form.clone().or_else(|| Some(topics::form(&context.settings)));
    }
    let mut options =
        stream::Options::new(context.source.clone(), &context.name, &run.slot, look.names, from);
    // A standby may have taken over since that was looked at.
    options.timeline = run.source.as_ref().and_then(|source| u32::try_from(source.timeline).ok());
    options.reporter = context.reporter.clone();
    options.gather = context.settings.stream.gather;
    options.binary = binary;
    if let Some(joined) = &joined {
        options.message_prefixes.clone_from(&joined.prefixes);
    }
    let (outbox, _watching) = joined.map(Joined::split).unzip();
    // The reader is stopped first: the writer then drains what is whole, and what it acknowledges is confirmed to the source.
    let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let (reading, writing) = (stop.clone(), give_up.clone());
    match topics {
        None => {
            let began = Durable { applied: start.end_lsn, flushed: start.end_lsn };
            let (sink, carried) = direct(context.settings.apply.queue_bytes.as_usize(), began);
            tasks.spawn(async move {
                let opened = opening.reader(&options);
                stream::run_on(opened, options, sink, reading).await.map_err(|error| error.context("source"))
            });
            tasks.spawn(async move { applier.run(carried, writing).await });
        }
        Some(topics) => {
            let carrier = Progress::carrier(owner.session(), &run.name).await?;
            let reads = (context.half == Half::Both).then_some(&announcement);
            let halves =
                topics.open(context, &tables, start.end_lsn, carrier.as_deref(), reads, outbox).await?;
            halves.spawn(&mut tasks, options, applier, reading, writing);
        }
    }
    if run.step < Step::Live {
        context.reporter.step(Step::Catchup.as_str());
    }
    let mut notifications = owner.notifications.take();
    let lag = match context.settings.run.via {
        Via::Direct => None,
        Via::Kafka => Some(LagWatch::start(context, &tables, run.live.topics.clone())?),
    };
    let (watched, owned) = (handle.clone(), &*owner);
    let result = beside::run(
        context,
        owned,
        run,
        watched,
        sharing,
        &mut tasks,
        &mut notifications,
        backoff,
        lag,
        watch,
        retained,
    )
    .await;
    owner.notifications = notifications;
    if handle.applied.borrow().held {
        give_up.cancel();
    }
    let end = settle(result, &mut tasks, &stop, &give_up).await;
    if handle.applied.borrow().progress.end_lsn > start.end_lsn {
        // What stands in the way now has not stood there before.
        backoff.reset();
    }
    if let Err(error) = &end
        && error.code() == BINARY_UNFIT
    {
        context.text_stream.store(true, Ordering::Relaxed);
        return Ok(End::Refresh);
    }
    if let Ok(End::Cancelled | End::Refresh) = end {
        note_last(context, owner, &handle).await;
    }
    end
}

/// Outbox events in the same stream, if they are asked for. `from`: Kafka has them up to here.
async fn route(
    context: &Context,
    run: &Run,
    source: &Session,
    from: Lsn,
    publications: &[String],
) -> Result<Option<Joined>> {
    let slot_lsn = run.slot_lsn.unwrap_or_default();
    let Some(outbox) = &context.outbox else {
        return shared::left(source, &context.name, &run.slot, slot_lsn).await.map(|()| None);
    };
    let published = PublicationState::read(source, publications).await?;
    let followed =
        Followed { slot: &run.slot, slot_lsn, publications, published: &published, from, rows: true };
    Box::pin(outbox.join(source, &context.health, &followed)).await.map(Some)
}

async fn progress_of(owner: &Owner, run: &Run) -> Result<Progress> {
    Progress::read(owner.session(), &run.name)
        .await?
        .ok_or_else(|| Error::refuse("RUN_UNREADABLE", format!("run \"{}\" has no progress row", run.name)))
}

pub fn apply_options(context: &Context) -> ApplyOptions {
    let apply = &context.settings.apply;
    ApplyOptions {
        run: context.name.clone(),
        progress: None,
        batch_bytes: apply.batch_bytes.as_usize(),
        copy_threshold: apply.copy_threshold,
        set_threshold: apply.set_threshold,
        coalesce: apply.coalesce,
        sort: apply.sort,
        ahead: apply.ahead,
        flush_apart: apply.flush_apart,
        gin_apart: apply.gin_apart,
        binary: false,
        replica_role: match apply.replica_role {
            ReplicaRole::Auto => None,
            ReplicaRole::On => Some(true),
            ReplicaRole::Off => Some(false),
        },
        synchronous_commit: apply.synchronous_commit == SynchronousCommit::On,
    }
}

/// How long the writer may take to drain, and then both to end.
const DRAIN: Duration = Duration::from_secs(4);

/// Ends both tasks. The error of the one that failed first counts; the other's is its echo.
async fn settle(
    result: Result<End>,
    tasks: &mut JoinSet<Result<()>>,
    stop: &CancellationToken,
    give_up: &CancellationToken,
) -> Result<End> {
    stop.cancel();
    let mut failed = None;
    for _ in 0..2 {
        let _ = tokio::time::timeout(DRAIN, async {
            while let Some(joined) = tasks.join_next().await {
                if let Ok(Err(error)) = joined
                    && error.code() != "WRITER_GONE"
                {
                    failed.get_or_insert(error);
                }
            }
        })
        .await;
        give_up.cancel();
    }
    tasks.abort_all();
    match (result, failed) {
        // Something ended without saying why: the other one knows.
        (Err(error), Some(other)) if matches!(error.code(), "WRITER_GONE" | ENDED) => Err(other),
        (result, _) => result,
    }
}

const ENDED: &str = "STREAM_ENDED";

async fn note_last(context: &Context, owner: &Owner, handle: &Handle) {
    let applied = handle.applied.borrow().progress.end_lsn;
    tracing::debug!("run {} stopped at {applied}", context.name);
    owner.note_error(None).await;
}

/// Waits until everything before `lsn` is applied.
pub async fn applied_past(handle: &Handle, lsn: Lsn) -> Result<()> {
    let mut applied = handle.applied.clone();
    applied
        .wait_for(|applied| applied.progress.end_lsn >= lsn)
        .await
        .map(|_| ())
        .map_err(|_| Error::connection("the writer has ended"))
}
