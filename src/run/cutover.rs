//! Step 8: the hand-over.
//!
//! ```text
//! full verify, beside the load ─► fence: LOCK, triggers ─► marker applied ─► sequences, matviews ─► last check
//!    ─► record "fencing" ─► COMMIT of the fence ─► record "fenced" ─► target opened ─► record "open"
//! ```
//!
//! Everything before that COMMIT can be undone and is undone on any failure; after it the cutover is finished, by this process or by
//! the next one, which looks for the fence on the source.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pg::{Class, Error, QualifiedName, Result, Session};
use reader::fence::{self, Attempt, Fence};
use serde_json::{Value, json};
use writer::apply::{Command, Handle};
use writer::control::{CutoverState, Request, RequestKind, RequestState, Run, RunTable, Step, TableState};
use writer::schema::{self, Phase};

use super::context::{Context, Half};
use super::owner::Owner;
use super::{Outcome, hold, live, load, monitor};

/// How far an attempt had come when it failed.
enum Failure {
    /// Nothing was changed, or it was undone.
    RolledBack(Error),
    /// The fence may be in force on the source: the next attempt of the run looks, and finishes or rolls back.
    Underway(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::RolledBack(error)
    }
}

/// Carries a cutover out; true when the target is open, false when it was rolled back.
///
/// # Errors
/// The cutover is under way: [`resume`] goes on with it.
pub async fn serve(
    context: &Context,
    owner: &Owner,
    run: &Run,
    handle: &Handle,
    request: &Request,
) -> Result<bool> {
    let client = owner.session();
    if !Request::take(client, &run.name, request.id).await? {
        return Ok(false);
    }
    let result = tokio::select! {
        result = Box::pin(attempt(context, owner, run, handle, request)) => result,
        never = beat(client, request.id) => match never {},
    };
    let _ = handle.commands.send(Command::Record(false)).await;
    let _ = handle.commands.send(Command::Release).await;
    match result {
        Ok(told) => {
            Request::advance(client, &run.name, request.id, RequestState::Done, None, Some(&told)).await?;
            Ok(true)
        }
        Err(Failure::Underway(error)) => Err(tried_again(error)),
        Err(Failure::RolledBack(error)) => {
            context.reporter.warning(
                format!("the cutover was rolled back: {error}"),
                error.hint_text().map(str::to_owned),
            );
            let told = json!({
                "ok": false, "code": error.code(), "message": error.to_string(),
                "detail": error.detail_text(), "hint": error.hint_text().unwrap_or(UNDONE),
            });
            Request::advance(client, &run.name, request.id, RequestState::Failed, None, Some(&told)).await?;
            Ok(false)
        }
    }
}

/// What whoever asked has to know where the error itself has nothing to advise, a lost connection for example.
const UNDONE: &str =
    "the cutover was rolled back: the source is as it was, and the stream goes on; try again";

/// Tells the asker that somebody is at work, for as long as that is so.
async fn beat(client: &tokio_postgres::Client, request: i64) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(BEAT).await;
        if let Err(error) = Request::beat(client, request).await {
            tracing::debug!("could not tell the asker that the cutover goes on: {error}");
            // What comes next on this connection says so as well, and knows whether the fence is in force.
            std::future::pending::<()>().await;
        }
    }
}

/// An asker that hears nothing for as long as the cutover may take, and some seconds, takes its request back.
const BEAT: Duration = Duration::from_secs(2);

/// Between the fence and the opening nobody can write anywhere: whatever went wrong is tried again.
fn tried_again(error: Error) -> Error {
    match error.class() {
        Class::Connection | Class::Stop => error,
        _ => error.with_class(Class::Stop),
    }
}

async fn attempt(
    context: &Context,
    owner: &Owner,
    run: &Run,
    handle: &Handle,
    request: &Request,
) -> Result<Value, Failure> {
    let verify = request.args["verify"].as_str().unwrap_or("changed").to_owned();
    let timeout =
        request.args["timeout_ms"].as_u64().map_or(context.settings.cutover.timeout, Duration::from_millis);
    context.reporter.note("cutover: checking that everything is in place");
    if context.half == Half::Writer && !hold::slot_is_read(context).await? {
        // Writers of the source would wait for nothing.
        return Err(Failure::RolledBack(hold::nobody_reads(context)));
    }
    // What would take long, or wait, goes before the fence.
    load::constraints(context, owner).await?;
    let known = in_the_run(owner.session(), run).await?;
    new_tables(context, run, &context.source_session().await?, &known).await?;
    if verify == "changed" {
        let _ = handle.commands.send(Command::Record(true)).await;
        context.reporter.note("cutover: full comparison beside the load");
        Box::pin(crate::compare::beside_the_stream(context, owner.session())).await?;
        fail::fail_point!("cutover-compared");
    }
    let deadline = Instant::now() + timeout;
    let tables = fed(owner, run).await?;
    let (fence, stalls) = lock(context, &tables, deadline).await?;
    let since = fence.since;
    let limit = deadline.saturating_duration_since(Instant::now());
    let checked =
        tokio::time::timeout(limit, Box::pin(under_the_fence(context, run, handle, &fence, &verify))).await;
    let outcome = match checked {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::failed(
            "CUTOVER_TIMEOUT",
            format!("the cutover took longer than {} s", timeout.as_secs_f64()),
        )
        .hint("nothing was changed; try again when the lag is small, or with a longer --timeout")),
    };
    let told = match outcome {
        Ok(told) => told,
        Err(error) => {
            // A connection that is lost rolls back as well.
            let _ = fence.rollback().await;
            return Err(Failure::RolledBack(error));
        }
    };
    let began = monitor::unix_ms().saturating_sub(u64::try_from(since.elapsed().as_millis()).unwrap_or(0));
    if !Request::begin(owner.session(), request.id, began).await? {
        let _ = fence.rollback().await;
        return Err(Failure::RolledBack(Error::failed(
            "CUTOVER_WITHDRAWN",
            "the cutover was withdrawn by whoever asked for it",
        )));
    }
    let finish = async {
        Run::set_cutover(owner.session(), &run.name, Some(CutoverState::Fencing)).await?;
        fail::fail_point!("cutover-fencing");
        // A lost reply: the next attempt looks whether the fence is there.
        fence.commit().await.map_err(|error| error.with_class(Class::Connection))?;
        fail::fail_point!("cutover-fenced");
        Run::set_cutover(owner.session(), &run.name, Some(CutoverState::Fenced)).await?;
        open(context, owner, run).await
    };
    finish.await.map_err(Failure::Underway)?;
    let downtime = since.elapsed();
    context
        .reporter
        .note(format!("cutover: the target is open; downtime {:.0} ms", downtime.as_secs_f64() * 1000.0));
    Ok(json!({
        "ok": true,
        "downtime_ms": (downtime.as_secs_f64() * 1e4).round() / 10.0,
        "failed_attempts": stalls.len(),
        "stall_ms": stalls.iter().map(Duration::as_millis).sum::<u128>() as u64,
        "marker_lsn": told["marker_lsn"],
        "sequences": told["sequences"],
        "matviews": told["matviews"],
        "checked": told["checked"],
    }))
}

/// The first attempts are short: among short transactions one of them soon meets a gap, and the writers that queue behind a failed
/// one hardly notice. Whoever has a long one open is met by the later attempts, which wait up to `cutover.lock_timeout`.
const FIRST_ATTEMPT: Duration = Duration::from_millis(20);

/// The tables that the run feeds.
async fn fed(owner: &Owner, run: &Run) -> Result<Vec<QualifiedName>> {
    let tables = RunTable::all(owner.session(), &run.name).await?;
    Ok(tables.into_iter().filter(|table| table.state != TableState::Left).map(|table| table.name).collect())
}

/// Between two attempts writers that queued behind ours get through.
const SPACING: Duration = Duration::from_millis(500);

async fn lock(
    context: &Context,
    tables: &[QualifiedName],
    deadline: Instant,
) -> Result<(Box<Fence>, Vec<Duration>)> {
    let primary = context.target.display();
    let longest = context.settings.cutover.lock_timeout;
    let mut patience = FIRST_ATTEMPT.min(longest);
    let mut stalls = Vec::new();
    let mut said = Vec::new();
    loop {
        match fence::try_lock(&context.source_admin, &context.name, tables, patience, &primary).await? {
            Attempt::Locked(fence) => return Ok((fence, stalls)),
            Attempt::Busy { blockers, stalled } => {
                stalls.push(stalled);
                let who: Vec<String> = blockers.into_iter().map(|blocker| blocker.0).collect();
                // Those that a short attempt met are gone before anybody could read their names.
                if patience == longest && who != said && !who.is_empty() {
                    context.reporter.note(format!("cutover: waiting for {}", who.join("; ")));
                }
                said = who;
                let spacing = SPACING.min(patience * 4);
                if Instant::now() + spacing >= deadline {
                    return Err(Error::failed("CUTOVER_BLOCKED", "the source's tables could not be locked in time")
                        .detail(format!("in the way: {}", said.join("; ")))
                        .hint("end or commit these transactions (ROLLBACK PREPARED for prepared ones), then: walferry cutover"));
                }
                tokio::time::sleep(spacing).await;
                patience = longest.min(patience * 5 / 4);
            }
        }
    }
}

/// Nobody can write meanwhile: how often it is looked whether the slot is read.
const LOOK: Duration = Duration::from_secs(1);

/// Nobody can write: drain, and make the rest equal.
async fn under_the_fence(
    context: &Context,
    run: &Run,
    handle: &Handle,
    fence: &Fence,
    verify: &str,
) -> Result<Value> {
    let source = context.source_session().await?;
    let marker = fence::emit_marker(&source, &run.name).await?;
    fail::fail_point!("cutover-marker");
    tokio::select! {
        applied = live::applied_past(handle, marker) => applied?,
        // A reader that had just ended may have been taken for one that reads.
        missing = hold::no_reader(context, LOOK), if context.half == Half::Writer => return Err(missing),
    }
    hold::ask(handle, Command::Hold).await?;
    let admin = context.target_admin_session().await?;
    let tables = in_the_run(&admin, run).await?;
    // Made during the comparison; partitions of a table that is locked now can't be any more.
    new_tables(context, run, &source, &tables).await?;
    let sequences = super::schema::sequences(context, &source, &tables, run.publication_own).await?;
    let schemas = super::selection(&context.settings).chosen_schemas(&source).await?;
    let set = schema::set_sequences(&admin, &sequences).await?;
    let matviews = schema::refresh_matviews(&source, &admin, &schemas).await?;
    let checked = match verify {
        "none" => json!("nothing"),
        "full" => crate::compare::at_rest(context, None).await?,
        _ => {
            let (reply, answer) = tokio::sync::oneshot::channel();
            let gone = || Error::connection("the writer has ended");
            handle.commands.send(Command::Touched(reply)).await.map_err(|_| gone())?;
            let touched = answer.await.map_err(|_| gone())?.ok_or_else(|| {
                Error::failed("CUTOVER_UNCHECKED", "what has changed since the full comparison was not noted")
                    .hint("try again: walferry cutover")
            })?;
            crate::compare::at_rest(context, Some(touched)).await?
        }
    };
    fence.holds().await?;
    Ok(json!({"marker_lsn": marker.to_string(), "sequences": set, "matviews": matviews, "checked": checked}))
}

/// Every table that the run knows, those that have left too.
async fn in_the_run(client: &tokio_postgres::Client, run: &Run) -> Result<Vec<QualifiedName>> {
    Ok(RunTable::all(client, &run.name).await?.into_iter().map(|table| table.name).collect())
}

/// Tables that were created, or published, on the source after the run began are not in it: somebody has to decide.
async fn new_tables(context: &Context, run: &Run, source: &Session, known: &[QualifiedName]) -> Result<()> {
    let there = if run.publication_own {
        reader::catalog::selected(source, &super::publication::selection(&context.settings)).await?
    } else {
        super::publication::look(context, source, &run.publications, false).await?.tables
    };
    let known: HashSet<&QualifiedName> = known.iter().collect();
    let unknown: Vec<String> = there
        .into_iter()
        .filter(|table| !known.contains(&table.name))
        .map(|table| table.name.to_string())
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let error =
        Error::failed("NEW_TABLES", format!("{} table(s) of the source are not in the run", unknown.len()))
            .detail(unknown.join(", "));
    if !run.publication_own {
        return Err(
            error.hint(format!("create each on the target, then: walferry refresh --name {}", run.name))
        );
    }
    Err(error.hint(format!(
            "create each on the target, ALTER PUBLICATION \"{0}\" ADD TABLE … on the source, then walferry refresh --name {0}; or \
             leave them out: --exclude-table",
            run.name
        )))
}

/// The target takes ordinary writes from here on.
async fn open(context: &Context, owner: &Owner, run: &Run) -> Result<()> {
    let mut admin = context.target_admin_session().await?;
    for phase in [Phase::Late, Phase::Open] {
        let items = schema::missing(owner.session(), &run.name, phase, None).await?;
        schema::run_items(&mut admin, &run.name, &items, Duration::ZERO).await?;
    }
    schema::open(&admin, &run.name).await?;
    let event_triggers = schema::missing(owner.session(), &run.name, Phase::Last, None).await?;
    schema::run_items(&mut admin, &run.name, &event_triggers, Duration::ZERO).await?;
    fail::fail_point!("cutover-opened");
    Run::set_cutover(owner.session(), &run.name, Some(CutoverState::Open)).await?;
    Run::set_step(owner.session(), &run.name, Step::Done).await?;
    schema::drop_protection(&admin, &run.name).await?;
    Ok(())
}

/// A start, or a new attempt, that finds a cutover under way: finishes it where the fence is in force, rolls back where it is not.
pub async fn resume(context: &Context, owner: &mut Owner, run: &Run) -> Result<Outcome> {
    if run.cutover == Some(CutoverState::Fencing) {
        let source = context.source_admin_session().await?;
        if !fence::committed_on(&source, &run.name, &fed(owner, run).await?).await? {
            context
                .reporter
                .note("cutover: the fence was never committed; it is rolled back and the stream goes on");
            Run::set_cutover(owner.session(), &run.name, None).await?;
            let error = Error::new(
                Class::Connection,
                "CUTOVER_ROLLED_BACK",
                "the cutover was rolled back on the way",
            )
            .hint(format!("the source is as it was; again: walferry cutover --name {}", run.name));
            let told = json!({
                "ok": false, "code": error.code(), "message": error.to_string(), "hint": error.hint_text(),
            });
            answer(owner, run, RequestState::Failed, |_| told.clone()).await?;
            return Err(error);
        }
        Run::set_cutover(owner.session(), &run.name, Some(CutoverState::Fenced)).await?;
    }
    if run.cutover == Some(CutoverState::Open) {
        schema::drop_protection(&*context.target_admin_session().await?, &run.name).await?;
        Run::set_step(owner.session(), &run.name, Step::Done).await?;
    } else {
        context.reporter.note("cutover: the fence is in force on the source; the target is being opened");
        open(context, owner, run).await.map_err(tried_again)?;
    }
    answer(owner, run, RequestState::Done, |args| {
        let began = args["began_ms"].as_u64();
        json!({"ok": true, "resumed": true, "downtime_ms": began.map(|began| monitor::unix_ms().saturating_sub(began))})
    })
    .await?;
    owner.note_error(None).await;
    Ok(Outcome::CutOver)
}

/// Answers those who asked for the cutover that an earlier process, or attempt, had begun.
async fn answer(owner: &Owner, run: &Run, state: RequestState, told: impl Fn(&Value) -> Value) -> Result<()> {
    for request in Request::open(owner.session(), &run.name).await? {
        if request.kind == RequestKind::Cutover {
            let told = told(&request.args);
            Request::advance(owner.session(), &run.name, request.id, state, None, Some(&told)).await?;
        }
    }
    Ok(())
}
