//! Steps 4 and 5: rows, then indexes and constraints.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pg::{Purpose, QualifiedName, Result, Session};
use reader::snapshot::ChunkSizes;
use tokio::sync::mpsc;
use writer::control::{Mode, Run, RunTable, Step, TableState};
use writer::load::Ledger;
use writer::schema::{Phase, Which, analyze_in_parallel, missing};

use super::attach::{self, Snapshot};
use super::context::Context;
use super::index;
use super::owner::Owner;
use crate::load::{self, Table};

const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Step 4.
pub async fn copy(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    snapshot: &mut Option<Snapshot>,
) -> Result<()> {
    context.reporter.step(Step::Copy.as_str());
    Run::set_step(owner.session(), &run.name, Step::Copy).await?;
    pending(context, owner, run, snapshot).await?;
    Run::set_step(owner.session(), &run.name, Step::Indexes).await
}

/// Tables that joined a run which is streaming already.
pub async fn joined(context: &Context, owner: &mut Owner, run: &Run) -> Result<()> {
    let mut snapshot = None;
    pending(context, owner, run, &mut snapshot).await?;
    RunTable::set_ready(owner.session(), &run.name).await
}

/// Copies what is not copied yet; the indexes of a table are begun as soon as it is loaded. The snapshot is released with the last row.
async fn pending(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    snapshot: &mut Option<Snapshot>,
) -> Result<()> {
    let is_pending = |table: &RunTable| table.state.to_copy();
    if !RunTable::all(owner.session(), &run.name).await?.iter().any(is_pending) {
        return Ok(());
    }
    attach::ensure(context, owner, run, snapshot).await?;
    let Some(held) = snapshot.take() else { return Ok(()) };
    let tables = RunTable::all(owner.session(), &run.name)
        .await?
        .into_iter()
        .filter(is_pending)
        .map(|table| {
            let again = table.state == TableState::Again;
            Ok(Table { spec: table.spec()?.clone(), created: table.created, again })
        })
        .collect::<Result<Vec<_>>>()?;
    let names: Vec<QualifiedName> = tables.iter().map(|table| table.spec.name.clone()).collect();
    let copy = &context.settings.copy;
    let options = load::Options {
        source: context.source.clone(),
        target: context.target.clone(),
        run: run.name.clone(),
        jobs: copy.jobs.get(),
        chunk_sizes: ChunkSizes {
            smallest: copy.chunk_bytes_min.bytes(),
            largest: copy.chunk_bytes_max.bytes(),
        },
        binary: copy.binary,
        freeze: copy.freeze,
        ledger: Ledger::Run { run: run.name.clone(), epoch: owner.epoch, copied_at: held.lsn },
        // A copy alone can't go on later: it waits for a server that restarts, not for ever.
        give_up_after: (context.mode == Mode::Copy).then_some(GIVE_UP_AFTER),
        keep_going: context.mode != Mode::Copy,
    };
    let (tell, loaded) = mpsc::unbounded_channel();
    let abandoned = AtomicBool::new(false);
    let loading = async {
        let waiters = held.keeper.waiters();
        let load = load::run(options, tables, &held.keeper, &context.reporter, tell, &context.cancel);
        let result = attach::shown(context, owner, waiters, attach::OTHERS_WAIT, Box::pin(load)).await;
        drop(held);
        abandoned.store(result.is_err(), Ordering::Relaxed);
        result
    };
    let (result, ()) = tokio::join!(loading, index::as_loaded(context, &names, loaded, &abandoned));
    if !context.cancel.is_cancelled() {
        result?;
    }
    context.not_cancelled()
}

/// Step 5: what is missing of indexes and constraints.
pub async fn indexes(context: &Context, owner: &mut Owner) -> Result<()> {
    context.reporter.step(Step::Indexes.as_str());
    let name = &context.name;
    for phase in [Phase::Index, Phase::Attach, Phase::Misc, Phase::ForeignKey] {
        let items = missing(owner.session(), name, phase, None).await?;
        let jobs = if phase == Phase::Index { context.settings.index.jobs.get() } else { 1 };
        index::build(context, items, jobs).await?;
    }
    RunTable::set_ready(owner.session(), name).await?;
    Run::set_step(owner.session(), name, Step::Catchup).await
}

/// Once the tables are whole: foreign keys validated, statistics gathered. Runs beside the stream.
pub async fn constraints(context: &Context, owner: &Owner) -> Result<()> {
    let items = missing(owner.session(), &context.name, Phase::Validate, None).await?;
    let jobs = context.settings.index.jobs.get();
    index::build(context, items, jobs).await?;
    let tables: Vec<QualifiedName> = RunTable::all(owner.session(), &context.name)
        .await?
        .into_iter()
        .filter(|table| table.created && table.state == TableState::Ready)
        .map(|table| table.name)
        .collect();
    let mut sessions = Vec::new();
    for _ in 0..jobs.min(tables.len()) {
        sessions.push(context.target_admin_session().await?);
    }
    // A stream comes by here at each of its starts.
    let which = if context.mode == Mode::Copy { Which::All } else { Which::NotDone };
    analyze_in_parallel(&sessions, &tables, which).await?;
    if context.mode == Mode::Replicate {
        replica_triggers(context, owner).await?;
    }
    Ok(())
}

/// A feed that is never cut over gets its triggers, rules and policies now; ordinary ones don't fire for apply, which is replica. Where it
/// may not be, they would, and wait.
async fn replica_triggers(context: &Context, owner: &Owner) -> Result<()> {
    let late = missing(owner.session(), &context.name, Phase::Late, None).await?;
    if late.is_empty() {
        return Ok(());
    }
    let apply =
        Session::connect(&context.target, Purpose::TargetApply, &format!("{} (control)", context.name))
            .await?;
    if apply.batch_execute("SET session_replication_role = replica").await.is_err() {
        let text = format!(
            "{} triggers, rules and policies are not created: they would fire for replicated changes",
            late.len()
        );
        let hint = "on the target: GRANT SET ON PARAMETER session_replication_role TO the run's role (15+)"
            .to_owned();
        context.reporter.warning(text, Some(hint));
        return Ok(());
    }
    index::build(context, late, 1).await
}
