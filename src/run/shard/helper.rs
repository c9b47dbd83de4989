//! A process that helps: it feeds the tables that the leader has handed it, from where it was told.

use std::time::{Duration, Instant};

use pg::{Class, Error, Purpose, Result, Session};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::apply::{Applier, Connections, Feed};
use writer::control::{self, Assigned, CutoverState, Progress, Run, RunTable, Shard, StatusError, Step};

use super::super::live::apply_options;
use super::super::monitor;
use super::super::retry::Backoff;
use super::super::topics::Topics;
use super::super::{Context, Outcome};
use crate::run::context::on_target;

/// How often the record is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How long nobody may have the run's lock until this process takes the lead.
const VACANT: Duration = Duration::from_secs(2);
/// How long the writer may take to end.
const DRAIN: Duration = Duration::from_secs(4);

pub enum Ended {
    /// Nobody leads.
    NoLeader,
    With(Outcome),
}

/// Helps until interrupted, cut over, or alone.
pub async fn help(context: &Context) -> Result<Ended> {
    context.health.step("helping");
    let id = format!("{}_{}_{}", monitor::hostname(), std::process::id(), monitor::unix_ms());
    context.reporter.note(
        "another process leads: this one takes the tables that it is handed, which are none as long as the other was started without --shard",
    );
    let retry = &context.settings.retry;
    let mut backoff = Backoff::new(retry.connection_max, retry.blocked_max);
    loop {
        let error = match Box::pin(member(context, &id, &mut backoff)).await {
            _ if context.cancel.is_cancelled() => return Ok(Ended::With(Outcome::Interrupted)),
            Ok(ended) => return Ok(ended),
            Err(error) => error,
        };
        if !backoff.wait(error, true, &context.health, &context.reporter, &context.cancel).await? {
            return Ok(Ended::With(Outcome::Interrupted));
        }
    }
}

async fn member(context: &Context, id: &str, backoff: &mut Backoff) -> Result<Ended> {
    let run = &context.name;
    let session = Session::connect(&context.target, Purpose::TargetControl, &format!("{run} (shard)"))
        .await
        .map_err(on_target)?;
    let mut registered = false;
    let mut vacant: Option<Instant> = None;
    loop {
        tokio::select! {
            () = context.cancel.cancelled() => return Ok(Ended::With(Outcome::Interrupted)),
            () = tokio::time::sleep(POLL) => {}
        }
        if control::holder(&session, run).await?.is_some() {
            vacant = None;
        } else if vacant.get_or_insert_with(Instant::now).elapsed() > VACANT {
            return Ok(Ended::NoLeader);
        }
        if !control::exists(&session).await? {
            continue;
        }
        let Some(record) = Run::read(&session, run).await? else { continue };
        if record.step == Step::Done || record.cutover == Some(CutoverState::Open) {
            return Ok(Ended::With(Outcome::CutOver));
        }
        if record.step < Step::Catchup {
            continue;
        }
        Shard::ensure(&session).await?;
        let shard = match Shard::read(&session, run, id).await? {
            Some(shard) if registered => shard,
            _ => {
                Shard::register(&session, run, id, &context.pinned).await?;
                registered = true;
                continue;
            }
        };
        let mine: Vec<Assigned> =
            Assigned::all(&*session, run).await?.into_iter().filter(|table| table.shard == id).collect();
        if shard.generation == 0 || mine.is_empty() {
            continue;
        }
        let Err(error) = stream(context, &session, &record, &shard, mine, backoff).await else { continue };
        let now = Shard::read(&session, run, id).await?;
        if now.is_none_or(|now| now.generation != shard.generation) || fenced_off(&error) {
            // Handed over meanwhile.
            continue;
        }
        Shard::set_error(&session, run, id, Some(&StatusError::from(&error))).await?;
        return Err(error);
    }
}

/// The leader has taken the tables back; what it hands out next is on its way.
fn fenced_off(error: &Error) -> bool {
    error.code() == control::FENCED || error.code() == "OWNED_BY"
}

/// Feeds these tables until they are handed out anew.
async fn stream(
    context: &Context,
    session: &Session,
    run: &Run,
    shard: &Shard,
    mine: Vec<Assigned>,
    backoff: &mut Backoff,
) -> Result<()> {
    let key = Shard::key(&run.name, &shard.id);
    let mut tables = Vec::new();
    for mut table in RunTable::all(session, &run.name).await? {
        if let Some(assigned) = mine.iter().find(|assigned| assigned.name == table.name) {
            table.copied_at = Some(assigned.from);
            tables.push(table);
        }
    }
    let mut options = apply_options(context);
    options.progress = Some(key.clone());
    let connections = Connections::open(&context.target, &options).await?;
    let (applier, handle) =
        Applier::start(connections, &context.target, options, Feed::of(&tables), shard.generation).await?;
    let start = applier.position();
    let topics = Topics::look(context, run, start.end_lsn).await?.of_these_tables_alone();
    let carrier = Progress::carrier(session, &key).await?;
    let halves = topics.open(context, &tables, start.end_lsn, carrier.as_deref(), None, None).await?;
    let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    halves.spawn_writer(&mut tasks, applier, stop.clone(), give_up.clone());
    context.reporter.note(format!("feeds {} table(s), from {} on", tables.len(), start.end_lsn));
    Shard::set_error(session, &run.name, &shard.id, None).await?;
    let result = loop {
        tokio::select! {
            () = context.cancel.cancelled() => break Ok(()),
            joined = tasks.join_next() => break Err(match joined {
                Some(Ok(Err(error))) => error,
                _ => Error::new(Class::Connection, "STREAM_ENDED", "the stream has ended"),
            }),
            () = tokio::time::sleep(POLL) => {}
        }
        if handle.applied.borrow().progress.end_lsn > start.end_lsn {
            backoff.reset();
        }
        let now = Shard::read(session, &run.name, &shard.id).await?;
        if now.is_none_or(|now| now.generation != shard.generation)
            || control::holder(session, &run.name).await?.is_none()
        {
            // Handed over, or nobody leads, which the caller finds out about.
            break Ok(());
        }
    };
    stop.cancel();
    for _ in 0..2 {
        let _ = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
        give_up.cancel();
    }
    tasks.abort_all();
    result
}
