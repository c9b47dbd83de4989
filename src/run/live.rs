//! Steps 6 and 7: the stream, from the slot to the target, and everything that goes on beside it.
//!
//! ```text
//! reader task ─► carrier ─► writer task               one lost: both end, and the run goes on from the progress row
//!       this loop: lag every second, requests (verify, cutover, refresh), foreign keys validated once the tables are whole
//! ```

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pg::{Class, Error, Lsn, Purpose, Result, Session};
use pipeline::{Durable, direct::direct};
use reader::slot::{self, SlotState};
use reader::stream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::apply::{Applied, Applier, ApplyOptions, Feed, Handle};
use writer::control::{Progress, Request, RequestKind, RequestState, Run, RunTable, Step, TableState};

use super::context::{Context, on_target};
use super::monitor::{self, Look, Monitor};
use super::owner::Owner;
use super::retry::Backoff;
use super::topics::Topics;
use super::{cutover, hold, load, refresh};
use crate::config::{OnLimit, ReplicaRole, SynchronousCommit, Via};

/// Why the stream ended without an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    CutOver,
    Cancelled,
    /// To look at the publications again.
    Refresh,
}

/// What a job beside the stream came to.
enum Done {
    Request(i64, Option<End>),
    /// A cutover that can't be undone any more did not come to its end.
    Broken(Error),
    Constraints(Result<()>),
}

type Job<'a> = Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

/// Streams until cut over, cancelled, or an error.
pub async fn stream(context: &Context, owner: &mut Owner, run: &Run, backoff: &mut Backoff) -> Result<End> {
    let progress = Progress::read(owner.session(), &run.name).await?.ok_or_else(|| {
        Error::refuse("RUN_UNREADABLE", format!("run \"{}\" has no progress row", run.name))
    })?;
    // Where the stream goes on: behind what the target has, or behind what the topics have.
    let topics = match context.settings.run.via {
        Via::Direct => None,
        Via::Kafka => Some(Topics::look(context, run, progress.end_lsn).await?),
    };
    let from = topics.as_ref().map_or(progress.end_lsn, |topics| topics.start);
    let source = context.source_session().await?;
    let state = slot::look(&source, &run.slot).await?;
    SlotState::check(state.as_ref(), &run.slot, context.source.dbname(), Some(from))?;
    let look = refresh::look(context, owner, run, &source).await?;
    drop(source);
    let tables = RunTable::all(owner.session(), &run.name).await?;
    if tables.iter().any(|table| matches!(table.state, TableState::Pending | TableState::Copying)) {
        Box::pin(load::joined(context, owner, run)).await?;
    }
    let tables = RunTable::all(owner.session(), &run.name).await?;
    let (applier, handle) =
        Applier::connect(&context.target, apply_options(context), Feed::of(&tables), owner.epoch).await?;
    look.tell(owner, run).await?;
    let start = applier.start();
    let from = topics.as_ref().map_or(start.end_lsn, |topics| topics.start);
    let mut options =
        stream::Options::new(context.source.clone(), &context.name, &run.slot, look.names, from);
    options.reporter = context.reporter.clone();
    // The reader is stopped first: the writer then drains what is whole, and what it acknowledges is confirmed to the source.
    let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let (reading, writing) = (stop.clone(), give_up.clone());
    match topics {
        None => {
            let began = Durable { applied: start.end_lsn, flushed: start.end_lsn };
            let (sink, carried) = direct(context.settings.apply.queue_bytes.as_usize(), began);
            tasks.spawn(async move {
                stream::run(options, sink, reading).await.map_err(|error| error.context("source"))
            });
            tasks.spawn(async move { applier.run(carried, writing).await });
        }
        Some(topics) => {
            let carrier = Progress::carrier(owner.session(), &run.name).await?;
            let halves = topics.open(context, &tables, start.end_lsn, carrier.as_deref()).await?;
            halves.spawn(&mut tasks, options, applier, reading, writing);
        }
    }
    if run.step < Step::Live {
        context.reporter.step(Step::Catchup.as_str());
    }
    let mut notifications = owner.notifications.take();
    let (watched, owned) = (handle.clone(), &*owner);
    let result = beside(context, owned, run, watched, &mut tasks, &mut notifications, backoff, &stop).await;
    owner.notifications = notifications;
    if handle.applied.borrow().held {
        give_up.cancel();
    }
    let end = settle(result, &mut tasks, &stop, &give_up).await;
    if let Ok(End::Cancelled | End::Refresh) = end {
        note_last(context, owner, &handle).await;
    }
    end
}

fn apply_options(context: &Context) -> ApplyOptions {
    let apply = &context.settings.apply;
    ApplyOptions {
        run: context.name.clone(),
        batch_bytes: apply.batch_bytes.as_usize(),
        copy_threshold: apply.copy_threshold,
        set_threshold: apply.set_threshold,
        coalesce: apply.coalesce,
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

#[allow(clippy::too_many_arguments)]
async fn beside(
    context: &Context,
    owner: &Owner,
    run: &Run,
    handle: Handle,
    tasks: &mut JoinSet<Result<()>>,
    notifications: &mut Option<tokio::sync::mpsc::UnboundedReceiver<tokio_postgres::Notification>>,
    backoff: &mut Backoff,
    stop: &CancellationToken,
) -> Result<End> {
    // A session of the loop's own. The jobs work on the owner's and are not polled while the loop waits for an answer; an answer that one
    // of them has not taken yet would hold up all that come after it on the same connection.
    let session =
        Session::connect(&context.target, Purpose::TargetControl, &format!("{} (control)", context.name))
            .await
            .map_err(on_target)?;
    let client: &tokio_postgres::Client = &session;
    let name = run.name.as_str();
    let mut monitor = Monitor::default();
    let mut jobs: FuturesUnordered<Job<'_>> = FuturesUnordered::new();
    let mut active: HashSet<i64> = HashSet::new();
    let mut step = run.step;
    let mut shown_error = run.error.is_some();
    let mut constraints = Constraints::Due;
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_stored = Instant::now() - Duration::from_secs(10);
    let mut last_rate = (Instant::now(), handle.applied.borrow().progress.counters.changes());
    let start = handle.applied.borrow().progress.end_lsn;
    loop {
        tokio::select! {
            () = context.cancel.cancelled() => return Ok(End::Cancelled),
            joined = tasks.join_next() => return Err(match joined {
                Some(Ok(Err(error))) => error,
                _ => Error::new(Class::Connection, ENDED, "the stream has ended"),
            }),
            Some(done) = jobs.next(), if !jobs.is_empty() => match done {
                Done::Request(id, end) => {
                    active.remove(&id);
                    if let Some(end) = end {
                        return Ok(end);
                    }
                }
                Done::Broken(error) => return Err(error),
                Done::Constraints(Ok(())) => constraints = Constraints::Done,
                Done::Constraints(Err(error)) => {
                    context.reporter.blocked(&error);
                    constraints = Constraints::Failed(Instant::now());
                }
            },
            notified = next(notifications) => {
                if notified.is_none() {
                    return Err(Error::connection("target: the control connection was lost"));
                }
            }
            _ = tick.tick() => {
                if owner.is_closed() {
                    return Err(Error::connection("target: the control connection was lost"));
                }
                expire(client, name, &active).await?;
                let applied = *handle.applied.borrow();
                if step == Step::Live && last_stored.elapsed() < Duration::from_millis(900) {
                    continue;
                }
                let look = match timely(&mut monitor, context, &run.slot, &applied).await {
                    Ok(look) => look,
                    Err(error) => {
                        tracing::debug!("could not look at the source: {error}");
                        continue;
                    }
                };
                last_stored = Instant::now();
                if applied.progress.end_lsn > start || look.caught_up {
                    backoff.reset();
                    if shown_error {
                        Run::set_error(client, name, None).await?;
                        shown_error = false;
                    }
                }
                if look.caught_up && step < Step::Live {
                    step = Step::Live;
                    Run::set_step(client, name, step).await?;
                    context.reporter.step(step.as_str());
                    ask_for_cutover(context, client, name).await?;
                }
                if step >= Step::Live && constraints.due() {
                    constraints = Constraints::Running;
                    jobs.push(Box::pin(async { Done::Constraints(load::constraints(context, owner).await) }));
                }
                Run::set_live(client, name, &monitor::live(Some(&look), Vec::new())).await?;
                let changes = applied.progress.counters.changes();
                let rate = (changes - last_rate.1) as f64 / last_rate.0.elapsed().as_secs_f64().max(0.001);
                last_rate = (Instant::now(), changes);
                context.reporter.live(applied.progress.end_lsn, look.lag_bytes, look.lag_ms, rate);
                limit(context, run, &look, stop).await?;
            }
        }
        // Requests found above are started here, where the list of jobs can be written to.
        for request in take_new(client, name, &active).await? {
            active.insert(request.id);
            let handle = handle.clone();
            jobs.push(Box::pin(serve(context, owner, run, handle, request, step)));
        }
    }
}

/// A look must not hold up everything else: a connection that has gone silent is given up.
async fn timely(monitor: &mut Monitor, context: &Context, slot: &str, applied: &Applied) -> Result<Look> {
    match tokio::time::timeout(LOOK, monitor.look(context, slot, applied)).await {
        Ok(look) => look,
        Err(_) => {
            monitor.forget();
            Err(Error::connection("the source does not answer"))
        }
    }
}

const LOOK: Duration = Duration::from_secs(3);

enum Constraints {
    Due,
    Running,
    Done,
    Failed(Instant),
}

impl Constraints {
    fn due(&self) -> bool {
        match self {
            Constraints::Due => true,
            Constraints::Running | Constraints::Done => false,
            Constraints::Failed(at) => at.elapsed() > Duration::from_secs(30),
        }
    }
}

async fn next(
    notifications: &mut Option<tokio::sync::mpsc::UnboundedReceiver<tokio_postgres::Notification>>,
) -> Option<tokio_postgres::Notification> {
    match notifications {
        Some(queue) => queue.recv().await,
        None => std::future::pending().await,
    }
}

async fn serve(
    context: &Context,
    owner: &Owner,
    run: &Run,
    handle: Handle,
    request: Request,
    step: Step,
) -> Done {
    let client = owner.session();
    let name = run.name.as_str();
    let id = request.id;
    let outcome = match request.kind {
        RequestKind::Verify => hold::serve(client, name, &handle, &request).await.map(|()| None),
        RequestKind::Refresh => Request::advance(client, name, id, RequestState::Running, None, None)
            .await
            .map(|()| Some(End::Refresh)),
        RequestKind::Cutover if step < Step::Live => {
            let refused = serde_json::json!({
                "ok": false, "code": "NOT_LIVE", "message": "the run is not live yet",
                "hint": format!("wait for it: walferry status --name {name} --wait live"),
            });
            Request::advance(client, name, id, RequestState::Failed, None, Some(&refused))
                .await
                .map(|()| None)
        }
        RequestKind::Cutover => match cutover::serve(context, owner, run, &handle, &request).await {
            Ok(open) => Ok(open.then_some(End::CutOver)),
            Err(error) => return Done::Broken(error),
        },
    };
    match outcome {
        Ok(end) => Done::Request(id, end),
        Err(error) => {
            tracing::debug!("request {id} failed: {error}");
            let result = serde_json::json!({"ok": false, "code": error.code(), "message": error.to_string()});
            let _ = Request::advance(client, name, id, RequestState::Failed, None, Some(&result)).await;
            Done::Request(id, None)
        }
    }
}

/// Drops requests that nobody waits for any more.
async fn expire(client: &tokio_postgres::Client, run: &str, active: &HashSet<i64>) -> Result<()> {
    for request in Request::open(client, run).await? {
        if request.expired && !active.contains(&request.id) {
            let result = serde_json::json!({"ok": false, "code": "EXPIRED", "message": "nobody waited for it any more"});
            Request::advance(client, run, request.id, RequestState::Failed, None, Some(&result)).await?;
        }
    }
    Ok(())
}

/// Requests that are not being served, the oldest first; a comparison waits for the one before it, which holds the writer.
async fn take_new(client: &tokio_postgres::Client, run: &str, active: &HashSet<i64>) -> Result<Vec<Request>> {
    let open = Request::open(client, run).await?;
    let mut holding = open.iter().any(|r| r.kind == RequestKind::Verify && active.contains(&r.id));
    let mut fresh = Vec::new();
    for request in open {
        if active.contains(&request.id) || request.expired || request.state != RequestState::Requested {
            continue;
        }
        if request.kind == RequestKind::Verify {
            if holding {
                continue;
            }
            holding = true;
        }
        fresh.push(request);
    }
    Ok(fresh)
}

async fn ask_for_cutover(context: &Context, client: &tokio_postgres::Client, run: &str) -> Result<()> {
    if context.mode == writer::control::Mode::Migrate
        && context.settings.cutover.mode == crate::config::CutoverMode::Auto
    {
        let args = serde_json::json!({"auto": true});
        Request::ask(client, run, RequestKind::Cutover, &args).await?;
    }
    Ok(())
}

/// More WAL is retained than the user allows.
async fn limit(context: &Context, run: &Run, look: &Look, stop: &CancellationToken) -> Result<()> {
    let Some(limit) = context.settings.limits.max_retained_wal else { return Ok(()) };
    if look.retained <= limit.bytes() {
        return Ok(());
    }
    if context.settings.limits.on_limit == OnLimit::Warn {
        context.reporter.warning(
            format!(
                "the slot retains {} bytes of WAL on the source, more than limits.max_retained_wal",
                look.retained
            ),
            None,
        );
        return Ok(());
    }
    stop.cancel();
    let source = context.source_session().await?;
    slot::drop(&source, &run.slot, Duration::from_secs(30)).await?;
    Err(Error::refuse(
        "SLOT_DROPPED",
        "the slot was dropped to save the source: it retained more WAL than allowed",
    )
    .detail(format!("{} bytes retained, limits.max_retained_wal = {} bytes", look.retained, limit.bytes()))
    .hint(format!("start over: walferry clean --name {}, then the same command", run.name)))
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
