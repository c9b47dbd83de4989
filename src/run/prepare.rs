//! The first start of a run, and what every later start checks before it goes on.

use pg::{Error, Lsn, Params, Result, quote_ident};
use reader::replication::ReplicationConnection;
use writer::control::{self, Progress, Run, SourceIdentity, Step};

use super::context::{Context, on_source};
use super::owner::Owner;
use super::publication;

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
pub async fn check(context: &Context, owner: &Owner, run: &Run) -> Result<()> {
    let (now, position) = identify(context).await?;
    if run.mode != context.mode {
        let was = run.mode.command();
        return Err(Error::refuse(
            "OTHER_MODE",
            format!("run \"{}\" was started by walferry {was}", run.name),
        )
        .hint(format!("use walferry {was}, or another --name")));
    }
    let Some(then) = &run.source else { return Ok(()) };
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
    if let Some(progress) = Progress::read(owner.session(), &run.name).await?
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
    Ok(())
}
