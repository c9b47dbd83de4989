//! The first start of a run, and what every later start checks before it goes on.

use pg::{Error, Lsn, Params, Result, quote_ident};
use reader::replication::{Descent, ReplicationConnection, descent};
use writer::control::{self, Progress, Run, RunTable, SourceIdentity, Step};

use super::context::{Context, on_source};
use super::owner::Owner;
use super::publication;
use super::topics::Topics;
use crate::config::Via;

/// Looks at both sides, refuses with every finding at once, and records the run. Nothing is changed before that.
pub async fn create(context: &Context, owner: &mut Owner) -> Result<Run> {
    context.reporter.step(Step::Preflight.as_str());
    crate::preflight::refuse(context).await?;
    let identity = identify(context).await?.0;
    let own = context.settings.run.publication.is_empty();
    let run =
        record(context, owner, &identity, context.settings.slot_name(), &publication::names(context), own)
            .await?;
    owner.begin_epoch().await?;
    Ok(run)
}

/// Makes schema `walferry` where it is missing, and the run's row.
pub async fn record(
    context: &Context,
    owner: &Owner,
    identity: &SourceIdentity,
    slot: &str,
    publications: &[String],
    own: bool,
) -> Result<Run> {
    control::ensure(owner.session()).await?;
    let (ours, admin) = (context.target.user(), context.target_admin.user());
    if ours != admin {
        // Indexes are built, and marked done, by the role that owns the tables.
        let admin = quote_ident(admin);
        owner
            .session()
            .batch_execute(&format!(
                "GRANT USAGE ON SCHEMA walferry TO {admin}; GRANT ALL ON ALL TABLES IN SCHEMA walferry TO {admin}"
            ))
            .await?;
    }
    Run::create(
        owner.session(),
        &context.name,
        context.mode,
        &context.settings.to_record(),
        identity,
        slot,
        publications,
        own,
    )
    .await
}

/// Which server and database the source is, and how far its WAL is.
pub async fn identify(context: &Context) -> Result<(SourceIdentity, Lsn)> {
    identify_at(&context.source, &context.name).await
}

/// As [`identify`], without a run.
pub async fn identify_at(source: &Params, name: &str) -> Result<(SourceIdentity, Lsn)> {
    let mut connection =
        ReplicationConnection::connect(source, &format!("{name} (control)")).await.map_err(on_source)?;
    let system = connection.identify_system().await?;
    let oid = connection
        .simple("SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()")
        .await?;
    let database_oid = oid
        .first()
        .and_then(|row| row.first())
        .and_then(Option::as_deref)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let identity = SourceIdentity {
        system_id: system.system_id,
        database: system.database,
        database_oid,
        timeline: i64::from(system.timeline),
        version: connection.version().0,
    };
    connection.close().await;
    Ok((identity, system.wal_position))
}

/// Is this the source that the run was made from, and does it hold what was applied from it?
pub async fn check(context: &Context, owner: &Owner, run: &mut Run) -> Result<()> {
    let (now, position) = identify(context).await?;
    if run.mode != context.mode {
        let was = run.mode.command();
        return Err(Error::refuse(
            "OTHER_MODE",
            format!("run \"{}\" was started by walferry {was}", run.name),
        )
        .hint(format!("use walferry {was}, or another --name")));
    }
    let Some(then) = run.source.clone() else { return Ok(()) };
    if then.system_id != now.system_id || then.database_oid != now.database_oid {
        return Err(Error::refuse(
            "OTHER_SOURCE",
            format!("run \"{}\" was made from another source", run.name),
        )
        .detail(format!(
            "it reads database \"{}\" of system {}; --source is database \"{}\" of system {}",
            then.database, then.system_id, now.database, now.system_id
        ))
        .hint("give the source that it was started with, or another --name"));
    }
    let progress = Progress::read(owner.session(), &run.name).await?;
    if let Some(progress) = progress
        && position < progress.end_lsn
    {
        return Err(Error::refuse("SOURCE_BEHIND", "the source's WAL ends before what was applied from it")
            .detail(format!("source at {position}, applied up to {}", progress.end_lsn))
            .hint(format!(
                "it was restored from a backup, or a standby was promoted that lacked the last changes: start over with \
                 walferry clean --name {}, then the same command",
                run.name
            )));
    }
    if then.timeline != now.timeline {
        promoted(context, owner, run, &then, &now, progress.map(|progress| progress.end_lsn)).await?;
    }
    Ok(())
}

/// The source is on another timeline than it was: a standby was promoted, or a backup restored. Going on is right if everything that the
/// run took from the timeline of before is in the history of this one.
async fn promoted(
    context: &Context,
    owner: &Owner,
    run: &mut Run,
    then: &SourceIdentity,
    now: &SourceIdentity,
    applied: Option<Lsn>,
) -> Result<()> {
    // Rows that were copied are from there as well, and what the topics hold.
    let copied = RunTable::all(owner.session(), &run.name)
        .await?
        .into_iter()
        .filter_map(|table| table.copied_at)
        .max();
    let mut taken = applied.max(copied).max(run.slot_lsn).unwrap_or_default();
    if context.settings.run.via == Via::Kafka {
        let topics = Topics::look(context, run, taken).await?;
        // A reader that has followed the promotion has compared what the topics held, and with that what was applied from them.
        taken = match topics.timeline.map(i64::from) == Some(now.timeline) {
            true => copied.max(run.slot_lsn).unwrap_or_default(),
            false => taken.max(topics.start),
        };
    }
    if let Some(parted) = parted(&context.source, &context.name, then.timeline, now.timeline, taken).await? {
        return Err(lacks(
            parted,
            &format!("start over with walferry clean --name {}, then the same command", run.name),
        ));
    }
    context.reporter.note(follows(now.timeline, taken));
    Run::set_source(owner.session(), &run.name, now).await?;
    run.source = Some(now.clone());
    Ok(())
}

/// Says that a source was promoted and nothing is missing.
pub fn follows(timeline: i64, taken: Lsn) -> String {
    format!("the source was promoted: it is on timeline {timeline} now, and holds everything up to {taken}")
}

/// Where the source's history leaves timeline `then`, if it does so before `taken`; none: all of it is in the history.
pub async fn parted(source: &Params, name: &str, then: i64, now: i64, taken: Lsn) -> Result<Option<String>> {
    let timeline = |timeline: i64| u32::try_from(timeline).unwrap_or(0);
    let mut connection =
        ReplicationConnection::connect(source, &format!("{name} (control)")).await.map_err(on_source)?;
    let history = connection.timeline_history(timeline(now)).await?;
    connection.close().await;
    let parted = match descent(&history, timeline(then), taken) {
        Descent::Contains => return Ok(None),
        Descent::Parted(end) => format!("it left timeline {then} at {end}"),
        Descent::Stranger => format!("timeline {then} is not in its history"),
    };
    Ok(Some(format!("it is on timeline {now} now; {parted}, and {taken} was applied from there")))
}

/// The refusal; `over` says how to start over.
pub fn lacks(parted: String, over: &str) -> Error {
    Error::refuse("SOURCE_BEHIND", "the source was promoted, or restored, without changes that were applied from it")
        .detail(parted)
        .hint(format!(
            "{over}; synchronized_standby_slots on the source (17 and later) keeps a promotion from losing what subscribers have"
        ))
}
