//! One run of `migrate` or `replicate`: the fixed sequence, from the two databases alone.
//!
//! ```text
//! preflight ─► slot ─► schema ─► copy ─► indexes ─► catchup ─► live ─► cutover ─► done
//! prepare.rs   slot.rs schema.rs load.rs load.rs    live/      live/  cutover.rs
//! ```
//!
//! Beside all of it, once there is a slot: what it retains (`limit`).
//!
//! Each step's completion is a row in the target. Whatever goes wrong, there is one way to go on: read where the run stands, and do
//! what is missing. The same code path serves a lost connection, a restart of either server and a new process on another host.

mod announce;
mod attach;
pub mod context;
mod cutover;
pub mod forward;
pub mod hold;
mod index;
mod lag;
pub mod limit;
mod live;
mod load;
pub mod modes;
pub mod monitor;
mod once;
mod owner;
pub mod prepare;
pub mod publication;
mod refresh;
mod resync;
pub mod retry;
mod schema;
pub mod shard;
mod slot;
pub mod topics;
mod watch;

pub use context::{Context, Half};
pub use live::apply_options;
pub use monitor::live as live_of;
pub use once::copy;
pub use owner::{Former, Owner};
pub use publication::selection;

use std::sync::atomic::Ordering;
use std::time::Duration;

use pg::{Error, Result};
use reader::slot::SlotState;
use writer::control::{CutoverState, Run, StatusError, Step};

use limit::Retained;
use retry::Backoff;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Cut over: the target is the primary now.
    CutOver,
    /// The token was cancelled; the same command resumes.
    Interrupted,
}

/// How long the work may take to end, once the slot was dropped under it, and then the record of why.
const DRAIN: Duration = Duration::from_secs(10);
const RECORD: Duration = Duration::from_secs(2);

/// Runs until cut over, interrupted, or refused. Errors that pass, or that somebody has to cure, are tried again meanwhile and stand in
/// `status`.
///
/// # Errors
/// Of class `Refuse`, `Usage` or `Failed`: trying again would not help.
pub async fn run(context: &Context) -> Result<Outcome> {
    let retained = Retained::default();
    let watch = limit::Watch {
        limits: &context.settings.limits,
        source: &context.source,
        run: &context.name,
        reporter: &context.reporter,
        again: format!("start over: walferry clean --name {}, then the same command", context.name),
    };
    let watched = Box::pin(async {
        tokio::select! {
            dropped = watch.run(&retained) => dropped,
            never = limit::tell(context, &retained) => match never {},
        }
    });
    let mut owner = None;
    let mut work = Box::pin(attempts(context, &mut owner, &retained));
    let dropped = tokio::select! {
        ended = &mut work => return ended,
        dropped = watched => dropped,
    };
    context.cancel.cancel();
    if let Ok(Ok(Outcome::CutOver)) = tokio::time::timeout(DRAIN, work).await {
        return Ok(Outcome::CutOver);
    }
    if let Some(owner) = &owner {
        let _ = tokio::time::timeout(RECORD, owner.note_error(Some(&StatusError::from(&dropped)))).await;
    }
    Err(dropped)
}

/// One after the other. `owner`: the one of the last.
async fn attempts(context: &Context, owner: &mut Option<Owner>, retained: &Retained) -> Result<Outcome> {
    let mut former = None;
    let mut backoff = Backoff::new(context.settings.retry.connection_max, context.settings.retry.blocked_max);
    let mut started = false;
    loop {
        let result =
            Box::pin(attempt(context, owner, &mut former, &mut started, &mut backoff, retained)).await;
        let error = match result {
            _ if context.cancel.is_cancelled() => return Ok(Outcome::Interrupted),
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if let Some(owner) = owner.as_ref() {
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
    retained: &Retained,
) -> Result<Outcome> {
    if slot.as_ref().is_none_or(|owner| owner.is_closed()) {
        *former = slot.take().map(|owner| owner.former()).or(*former);
        *slot = Some(Owner::take(context, *former).await?);
    }
    let Some(owner) = slot.as_mut() else { return Err(Error::failed("RUN_LOST", "the run has no owner")) };
    let mut snapshot = None;
    let mut checked = false;
    let mut announcing = None;
    loop {
        let run = match Run::read(owner.session(), &context.name).await? {
            Some(mut run) => {
                if !checked {
                    prepare::check(context, owner, &mut run).await?;
                    slot_is_there(context, &run).await?;
                }
                run
            }
            None => prepare::create(context, owner).await?,
        };
        *started = true;
        checked = true;
        if !context.resync_marked.load(Ordering::Relaxed) {
            resync::mark(context, owner, &run).await?;
            context.resync_marked.store(true, Ordering::Relaxed);
        }
        if context.half == Half::Writer && run.step > Step::Slot && announcing.is_none() {
            announcing = Some(announce::Announcing::begin(context, owner, &run).await?);
        }
        // Until it is on the record it may be another's; for a cutover that is under way nothing more comes from it.
        let watched = run.step > Step::Slot && run.cutover.is_none();
        retained.of(watched.then_some(run.slot.as_str()));
        if run.cutover.is_some() {
            return cutover::resume(context, owner, &run).await;
        }
        context.health.step(run.step.as_str());
        match run.step {
            Step::Preflight | Step::Slot => slot::make(context, owner, &run, &mut snapshot).await?,
            Step::Schema => schema::restore(context, owner, &run, &mut snapshot).await?,
            Step::Copy => load::copy(context, owner, &run, &mut snapshot).await?,
            Step::Indexes => load::indexes(context, owner).await?,
            Step::Catchup | Step::Live | Step::Cutover => {
                snapshot = None;
                match Box::pin(live::stream(context, owner, &run, backoff, retained)).await? {
                    live::End::CutOver => return Ok(Outcome::CutOver),
                    live::End::Cancelled => return Ok(Outcome::Interrupted),
                    live::End::Refresh => {}
                }
            }
            Step::Done => return Ok(Outcome::CutOver),
        }
        if context.cancel.is_cancelled() {
            return Ok(Outcome::Interrupted);
        }
        if run.cutover == Some(CutoverState::Open) {
            return Ok(Outcome::CutOver);
        }
    }
}

/// Before hours of copying, not after them: without its slot a run can't go on from what it has copied.
async fn slot_is_there(context: &Context, run: &Run) -> Result<()> {
    if !matches!(run.step, Step::Schema | Step::Copy | Step::Indexes) {
        return Ok(());
    }
    let source = context.source_session().await?;
    let state = reader::slot::look(&source, &run.slot).await?;
    SlotState::check(state.as_ref(), &run.slot, context.source.dbname(), None)
}
