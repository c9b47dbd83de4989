//! `walferry write --from debezium`: a target fed from the topics of somebody's Debezium.
//!
//! ```text
//!  brokers: topics of the prefix ─┐
//!  target: its tables ────────────┴─► tables.rs ─► Foreign ─► KafkaSource ─► Applier ─► target
//!                                                  offsets: in the target's progress ──────┘
//! ```
//!
//! There is no source, no slot and no copy: the connector has made them. Its snapshot comes as events (`op: "r"`) and is applied like
//! inserts that may be there already. The tables exist on the target, and its catalog says what types the values are of.
//!
//! # Invariants
//!
//! 1. A topic of the prefix without a table on the target stops the run before anything of it is applied, unless it was left out by name.
//! 2. Where the reading goes on stands in the target's progress, in the transaction that applied what is before it.

mod tables;

use std::time::{Duration, Instant};

use kafka::foreign::{Foreign, ForeignOptions, TOPICS_CHANGED};
use kafka::{Admin, Position};
use pg::{Error, Lsn, Result};
use pipeline::envelope::{self, Decoder, Dialect, Values};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::apply::{Applier, Connections, Feed, Handle};
use writer::control::{self, Progress, Run, RunTable, SourceIdentity, StatusError, Step};

use crate::run::retry::Backoff;
use crate::run::{Context, Former, Outcome, Owner, apply_options, live_of, modes, topics};

/// Stands for the source's system identifier, which the topics don't say.
const SYSTEM: &str = "debezium";
/// How often `status` hears of the run.
const TELL: Duration = Duration::from_secs(1);
/// How long what was read may take to be applied at the end.
const DRAIN: Duration = Duration::from_secs(4);

/// Is it a run of this kind?
#[must_use]
pub fn is_foreign(run: &Run) -> bool {
    run.source.as_ref().is_some_and(|source| source.system_id == SYSTEM)
}

/// What needs the source can't be asked of such a run.
#[must_use]
pub fn no_source(name: &str, what: &str) -> Error {
    Error::refuse(
        "NO_SOURCE",
        format!("run \"{name}\" applies the topics of a Debezium connector: there is no source to {what}"),
    )
}

/// Applies until interrupted or refused. Errors that pass, or that somebody has to cure, are tried again and stand in `status`.
///
/// # Errors
/// Of class `Refuse`, `Usage` or `Failed`: trying again would not help.
pub async fn run(context: &Context) -> Result<Outcome> {
    let (mut owner, mut former): (Option<Owner>, Option<Former>) = (None, None);
    let mut backoff = Backoff::new(context.settings.retry.connection_max, context.settings.retry.blocked_max);
    let mut started = false;
    loop {
        let result = Box::pin(attempt(context, &mut owner, &mut former, &mut started, &mut backoff)).await;
        let error = match result {
            _ if context.cancel.is_cancelled() => return Ok(Outcome::Interrupted),
            Ok(()) => return Ok(Outcome::Interrupted),
            Err(error) => error,
        };
        if error.code() == TOPICS_CHANGED {
            context.reporter.note("there are other topics than before: the stream begins again");
            continue;
        }
        if let Some(owner) = &owner {
            owner.note_error(Some(&StatusError::from(&error))).await;
        }
        if !backoff.wait(error, started, &context.health, &context.reporter, &context.cancel).await? {
            return Ok(Outcome::Interrupted);
        }
    }
}

async fn attempt(
    context: &Context,
    slot: &mut Option<Owner>,
    former: &mut Option<Former>,
    started: &mut bool,
    backoff: &mut Backoff,
) -> Result<()> {
    if slot.as_ref().is_none_or(Owner::is_closed) {
        *former = slot.take().map(|owner| owner.former()).or(*former);
        *slot = Some(Owner::take(context, *former).await?);
    }
    let Some(owner) = slot.as_mut() else { return Err(Error::failed("RUN_LOST", "the run has no owner")) };
    let options = topics::options(&context.settings)?;
    let admin = Admin::new(&options)?;
    let names = envelope::Topics::new(&options.prefix);
    let run = Run::read(owner.session(), &context.name).await?;
    if let Some(run) = &run {
        same(run, &options.prefix)?;
    }
    let session = context.target_session().await?;
    let found = kafka::foreign::table_topics(&admin, &names).await?;
    let fed = tables::look(context, &session, &names, &found).await?;
    let types = reader::catalog::types(&session, &fed.oids()).await?;
    drop(session);
    if run.is_none() {
        create(context, owner, &options.prefix).await?;
    }
    *started = true;
    RunTable::store_all(&fed.records(), owner.session(), &context.name).await?;
    Run::set_step(owner.session(), &context.name, Step::Live).await?;
    context.reporter.step(Step::Live.as_str());
    let recorded = RunTable::all(owner.session(), &context.name).await?;
    let apply = apply_options(context);
    let connections = Connections::open(&context.target, &apply).await?;
    let (applier, handle) =
        Applier::start(connections, &context.target, apply, Feed::of(&recorded), owner.epoch).await?;
    let mut envelope = envelope::Options::new(&options.prefix, "", Values::Debezium);
    modes::set(&context.settings, &mut envelope);
    let mut decoder = Decoder::new(envelope, Dialect::Debezium);
    types.into_iter().for_each(|types| decoder.describe(types));
    let carrier = Progress::carrier(owner.session(), &context.name).await?;
    let of = ForeignOptions {
        progress: applier.position().end_lsn,
        position: Position::parse(carrier.as_deref())?,
        queue_bytes: context.settings.apply.queue_bytes.as_usize(),
    };
    let transactions = fed.topics.contains_key(&names.transaction);
    context.reporter.note(if transactions {
        "the connector sends transaction metadata: whole transactions are applied, in commit order"
    } else {
        "the connector sends no transaction metadata: each partition is applied in its order; the target is consistent when nothing is on \
         its way"
    });
    let topics = fed.topics;
    let (foreign, source) = {
        let (options, admin) = (options.clone(), admin.clone());
        tokio::task::spawn_blocking(move || Foreign::start(&options, decoder, admin, topics, of))
            .await
            .map_err(|error| Error::failed("KAFKA", error.to_string()))??
    };
    let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let (reading, writing) = (stop.clone(), give_up.clone());
    tasks.spawn(async move { foreign.run(reading).await });
    tasks.spawn(async move { applier.run(source, writing).await });
    context.health.flowing();
    let result = beside(context, owner, &handle, &mut tasks, backoff).await;
    stop.cancel();
    let _ = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    give_up.cancel();
    tasks.abort_all();
    result
}

/// Until one of the tasks ends, or the signal comes.
async fn beside(
    context: &Context,
    owner: &Owner,
    handle: &Handle,
    tasks: &mut JoinSet<Result<()>>,
    backoff: &mut Backoff,
) -> Result<()> {
    let start = handle.applied.borrow().progress.end_lsn;
    let mut tick = tokio::time::interval(TELL);
    let mut last = (Instant::now(), handle.applied.borrow().progress.counters.changes());
    let mut shown_error = true;
    loop {
        tokio::select! {
            () = context.cancel.cancelled() => return Ok(()),
            ended = tasks.join_next() => {
                return match ended {
                    // The other half knows why, if this one only lost its far end.
                    Some(Ok(Err(error))) if error.code() == "WRITER_GONE" => match tasks.join_next().await {
                        Some(Ok(Err(other))) => Err(other),
                        _ => Err(error),
                    },
                    Some(Ok(Err(error))) => Err(error),
                    _ => Err(Error::connection("the stream has ended")),
                };
            }
            _ = tick.tick() => {}
        }
        let applied = *handle.applied.borrow();
        let changes = applied.progress.counters.changes();
        if applied.progress.end_lsn > start {
            backoff.reset();
        }
        if shown_error && (applied.progress.end_lsn > start || last.0.elapsed() > TELL) {
            shown_error = false;
            Run::set_error(owner.session(), &context.name, None).await?;
        }
        Run::set_live(
            owner.session(),
            &context.name,
            &live_of(None, Vec::new(), Vec::new(), Default::default()),
        )
        .await?;
        let rate = (changes - last.1) as f64 / last.0.elapsed().as_secs_f64().max(0.001);
        last = (Instant::now(), changes);
        context.reporter.live(applied.progress.end_lsn, 0, None, rate);
    }
}

/// A run of another kind, or of other topics, is not gone on with.
fn same(run: &Run, prefix: &str) -> Result<()> {
    if !is_foreign(run) {
        let was = run.mode.command();
        return Err(Error::refuse(
            "OTHER_MODE",
            format!("run \"{}\" was not started with --from debezium", run.name),
        )
        .hint(format!(
            "use the command that it was started with (walferry {was} or write), or another --name"
        )));
    }
    let then = run.source.as_ref().map_or("", |source| &source.database);
    if then != prefix {
        return Err(Error::refuse(
            "OTHER_SOURCE",
            format!("run \"{}\" reads topics of another prefix", run.name),
        )
        .detail(format!("it reads \"{then}\", --prefix is \"{prefix}\""))
        .hint("give the --prefix that it was started with, or another --name"));
    }
    Ok(())
}

async fn create(context: &Context, owner: &mut Owner, prefix: &str) -> Result<()> {
    let identity = SourceIdentity {
        system_id: SYSTEM.to_owned(),
        database: prefix.to_owned(),
        database_oid: 0,
        timeline: 0,
        version: 0,
    };
    crate::run::prepare::record(context, owner, &identity, "", &[], false).await?;
    let first = Progress { seq: 0, epoch: 0, end_lsn: Lsn::ZERO, counters: control::Counters::default() };
    let sql = first.insert_sql(&context.name, control::Carrier::At(None));
    owner.session().batch_execute(&sql).await?;
    owner.begin_epoch().await
}
