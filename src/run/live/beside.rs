//! The loop that watches the stream: how far it is, who asks for what, and what else is due.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pg::{Class, Error, Purpose, Result, Session};
use tokio::task::JoinSet;
use writer::apply::{Applied, Handle};
use writer::control::{Progress, Run, Step};

use super::auto::Auto;
use super::{ENDED, End, requests};
use crate::http;
use crate::outbox::shared::Shared;
use crate::run::context::{Context, Half, on_target};
use crate::run::lag::{Found, LagWatch};
use crate::run::limit::Retained;
use crate::run::load;
use crate::run::monitor::{self, Look, Monitor};
use crate::run::owner::Owner;
use crate::run::retry::Backoff;
use crate::run::shard::{self, Watcher, one_writer};
use crate::run::watch::Watch;

/// What a job beside the stream came to.
pub(super) enum Done {
    Request(i64, Option<End>),
    /// A cutover that can't be undone any more did not come to its end.
    Broken(Error),
    Constraints(Result<()>),
}

type Job<'a> = Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

#[allow(clippy::too_many_arguments)]
pub(super) async fn run(
    context: &Context,
    owner: &Owner,
    run: &Run,
    handle: Handle,
    mut sharing: Option<Watcher>,
    tasks: &mut JoinSet<Result<()>>,
    notifications: &mut Option<tokio::sync::mpsc::UnboundedReceiver<tokio_postgres::Notification>>,
    backoff: &mut Backoff,
    lag: Option<LagWatch>,
    mut watch: Watch,
    retained: &Retained,
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
    let (mut warnings, mut last_watched, mut watched_once) = (Vec::new(), Instant::now(), false);
    let mut pause = WATCH;
    let mut jobs: FuturesUnordered<Job<'_>> = FuturesUnordered::new();
    let mut active: HashSet<i64> = HashSet::new();
    let mut step = run.step;
    let mut shown_error = run.error.is_some();
    let mut caught_up = false;
    let mut constraints = Constraints::Due;
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_stored = Instant::now() - Duration::from_secs(10);
    let mut auto = Auto::new(context);
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
                    auto.ended(context, id);
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
                requests::expire(client, name, &active).await?;
                if let Some(sharing) = &mut sharing
                    && active.is_empty()
                    && sharing.changed(context, client, name).await?
                {
                    return Ok(End::Refresh);
                }
                let applied = *handle.applied.borrow();
                if step == Step::Live && last_stored.elapsed() < Duration::from_millis(900) {
                    continue;
                }
                let look = match timely(&mut monitor, context, &run.slot, &applied).await {
                    Ok(look) => look,
                    Err(error) => {
                        tracing::debug!("could not look at the source: {error}");
                        context.health.stopped(&error);
                        continue;
                    }
                };
                last_stored = Instant::now();
                caught_up |= look.caught_up;
                // At a start the stream comes first: it may have a backlog, and the looks are the same servers' work.
                if last_watched.elapsed() > pause || caught_up && !watched_once {
                    watched_once = true;
                    let began = Instant::now();
                    let watched = async { watch.look(context, client, run, monitor.session(context).await?).await };
                    match tokio::time::timeout(LOOK, watched).await {
                        Ok(Ok(found)) => warnings = found,
                        Ok(Err(error)) => tracing::debug!("could not look for DDL on the source: {error}"),
                        Err(_) => monitor.forget(),
                    }
                    last_watched = Instant::now();
                    pause = WATCH.max(began.elapsed() * 50);
                }
                if applied.progress.end_lsn > start || look.caught_up {
                    backoff.reset();
                    // The reader is another process: without it nothing comes.
                    if context.half == Half::Both || look.slot_active {
                        context.health.flowing();
                    } else {
                        context.health.stopped(&Error::connection(NO_READER));
                    }
                    if shown_error {
                        Run::set_error(client, name, None).await?;
                        shown_error = false;
                    }
                }
                if look.caught_up && step < Step::Live {
                    step = Step::Live;
                    Run::set_step(client, name, step).await?;
                    context.reporter.step(step.as_str());
                    context.health.step(step.as_str());
                }
                if step >= Step::Live && caught_up && constraints.due() {
                    constraints = Constraints::Running;
                    jobs.push(Box::pin(async { Done::Constraints(load::constraints(context, owner).await) }));
                }
                auto.ask_when_due(context, client, name, step).await?;
                let mut waiting = auto.waiting();
                if context.half == Half::Writer && !look.slot_active {
                    waiting.push(NO_READER.to_owned());
                }
                if context.share {
                    waiting.extend(shard::stopped(client, name).await?);
                }
                let kafka = match &lag {
                    Some(lag) => lag.look(Progress::carrier(client, name).await?),
                    None => Found::default(),
                };
                let standing = warnings.iter().cloned().chain(retained.warning()).collect();
                let mut live = monitor::live(Some(&look), waiting, standing, kafka);
                live.outbox = context.outbox.as_ref().map(Shared::counted);
                Run::set_live(client, name, &live).await?;
                let changes = applied.progress.counters.changes();
                let rate = (changes - last_rate.1) as f64 / last_rate.0.elapsed().as_secs_f64().max(0.001);
                last_rate = (Instant::now(), changes);
                http::stream(&look, &applied.progress.counters);
                context.reporter.live(applied.progress.end_lsn, look.lag_bytes, look.lag_ms, rate);
            }
        }
        if sharing.as_ref().is_some_and(|sharing| !sharing.solo && !sharing.members.is_empty())
            && one_writer(client, name).await?
        {
            // They are served by one writer.
            return Ok(End::Refresh);
        }
        // Requests found above are started here, where the list of jobs can be written to.
        for request in requests::take_new(client, name, &active).await? {
            active.insert(request.id);
            let handle = handle.clone();
            jobs.push(Box::pin(requests::serve(context, owner, run, handle, request, step)));
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

/// What `status` says of two services of which one is missing.
const NO_READER: &str = "nobody reads the slot: is walferry read running?";

const LOOK: Duration = Duration::from_secs(3);
/// How often the source is looked at for DDL that the stream says nothing of; rarer where there are many tables.
const WATCH: Duration = Duration::from_secs(2);

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
