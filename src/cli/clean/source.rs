//! The source's side of `clean`.

use std::time::Duration;

use pg::{Error, Params, Purpose, QualifiedName, Result, Session, quote_ident};
use pipeline::Reporter;
use reader::{fence, slot};
use tokio::time::{Instant, sleep};
use writer::control::{Run, Step};

use super::CleanArgs;
use crate::config::{Settings, Via};
use crate::outbox::record;

/// How long the walsender of a process that has just been killed may take to notice.
const GOING: Duration = Duration::from_secs(3);
/// How long a walsender that was told to end may take.
const DYING: Duration = Duration::from_secs(10);

/// Removes what the record says is ours, and says what was removed.
pub async fn clean(
    args: &CleanArgs,
    settings: &Settings,
    run: Option<&Run>,
    reporter: &Reporter,
    done: &mut Vec<String>,
) -> Result<()> {
    if settings.databases.source.is_none() && run.is_none() && !args.lift_fence {
        return Ok(());
    }
    let name = settings.name();
    let source = connect(&settings.source()?, name, "clean").await?;
    if let Some(run) = run {
        same_source(&source, run).await?;
        reader_is_gone(&source, settings, run).await?;
    }
    temporary_slots(&source, name).await?;
    match run {
        Some(run) if args.keep_slot || run.slot_adopted => keep_slot(&source, run, done).await?,
        Some(run) => drop_slot(&source, run, done).await?,
        None => unknown_slot(&source, settings.slot_name(), reporter).await?,
    }
    let admin = connect(&settings.source_admin()?, name, "admin").await?;
    if let Some(run) = run {
        publications(&admin, run, done).await?;
        identities(&admin, run, done).await?;
        if record::read(&admin, &run.slot).await?.is_some_and(|record| record.shared) {
            record::remove(&admin, &run.slot).await?;
            done.push("source: the record of the outbox events that the slot brought removed".to_owned());
        }
    }
    if args.lift_fence {
        if fence::lift(&admin).await? {
            done.push("source: fence lifted; it takes writes again".to_owned());
        }
    } else if fence::in_force(&admin).await? {
        reporter.note("source: the fence of a cutover stays; walferry clean --lift-fence takes it down");
    }
    Ok(())
}

async fn connect(params: &Params, name: &str, what: &str) -> Result<Session> {
    Session::connect(params, Purpose::Query, &format!("{name} ({what})")).await.map_err(|error| {
        let hint = match error.hint_text() {
            Some(hint) => hint.to_owned(),
            None => {
                "give --source with its password; if the source is gone for good, on the target: DROP SCHEMA \
                     walferry CASCADE"
                    .to_owned()
            }
        };
        error.context("source").hint(hint)
    })
}

/// On another server, things of the same names are not ours.
async fn same_source(source: &Session, run: &Run) -> Result<()> {
    let Some(then) = &run.source else { return Ok(()) };
    let row = source
        .query_one(
            "SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()), datname::text, oid
             FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
            &[],
        )
        .await?;
    let (system, database, oid): (String, String, u32) = (row.get(0), row.get(1), row.get(2));
    if system == then.system_id && oid == then.database_oid {
        return Ok(());
    }
    Err(Error::refuse("OTHER_SOURCE", format!("run \"{}\" was made from another source", run.name))
        .detail(format!(
            "it reads database \"{}\" of system {}; --source is database \"{database}\" of system {system}",
            then.database, then.system_id
        ))
        .hint("give the source that it was started with"))
}

/// `walferry read` is a process of its own and holds no lock of the run: while it lives it streams from the slot, and would write to the topics
/// that are removed here.
async fn reader_is_gone(source: &Session, settings: &Settings, run: &Run) -> Result<()> {
    if settings.run.via != Via::Kafka || run.slot_lsn.is_none() {
        return Ok(());
    }
    let deadline = Instant::now() + GOING;
    loop {
        let state = slot::look(source, &run.slot).await?;
        let Some(pid) = state.and_then(|state| state.active_pid) else { return Ok(()) };
        if Instant::now() >= deadline {
            let error = Error::refuse("RUNNING", format!("a reader streams slot \"{}\"", run.slot));
            return Err(error.detail(format!("backend {pid} on the source")).hint(format!(
                "stop walferry read (SIGTERM), then walferry clean again; if its host is gone, on the source: SELECT \
                 pg_terminate_backend({pid})"
            )));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Temporary slots end with their sessions; those of a process that was killed may not have noticed yet.
async fn temporary_slots(source: &Session, name: &str) -> Result<()> {
    source
        .execute(
            "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots
             WHERE temporary AND active_pid IS NOT NULL AND database = pg_catalog.current_database()
               AND pg_catalog.left(slot_name::text, pg_catalog.length($1::text) + 5) = $1 || '_tmp_'
               AND pg_catalog.substr(slot_name::text, pg_catalog.length($1::text) + 6) ~ '^[0-9]+$'",
            &[&name],
        )
        .await
        .map_err(|error| Error::from(error).context("could not end the session of a temporary slot"))?;
    Ok(())
}

/// We hold the run's lock, so whoever streams from its slot is a walsender that has not noticed its client's end.
async fn drop_slot(source: &Session, run: &Run, done: &mut Vec<String>) -> Result<()> {
    if run.slot_lsn.is_none() && !run.slot_intent {
        return Ok(());
    }
    let Some(state) = slot::look(source, &run.slot).await? else { return Ok(()) };
    if let Some(pid) = state.active_pid {
        source.execute("SELECT pg_catalog.pg_terminate_backend($1)", &[&pid]).await.map_err(Error::from)?;
    }
    slot::drop(source, &run.slot, DYING).await?;
    done.push(format!("source: replication slot \"{}\" dropped", run.slot));
    Ok(())
}

/// What is kept retains WAL: say so.
async fn keep_slot(source: &Session, run: &Run, done: &mut Vec<String>) -> Result<()> {
    if slot::look(source, &run.slot).await?.is_some() {
        let why = if run.slot_adopted { "it was there before the run" } else { "as asked" };
        done.push(format!("source: replication slot \"{}\" kept ({why}); it retains WAL", run.slot));
    }
    Ok(())
}

async fn unknown_slot(source: &Session, name: &str, reporter: &Reporter) -> Result<()> {
    if slot::look(source, name).await?.is_some() {
        reporter.warning(
            format!("replication slot \"{name}\" exists on the source, but no record says that walferry made it; it is left"),
            Some(format!(
                "if nobody needs it, on the source: SELECT pg_drop_replication_slot({})",
                pg::quote_literal(name)
            )),
        );
    }
    Ok(())
}

async fn publications(admin: &Session, run: &Run, done: &mut Vec<String>) -> Result<()> {
    // Before step 2 nothing was made: a publication of that name is somebody else's.
    if !run.publication_own || run.step == Step::Preflight {
        return Ok(());
    }
    for name in [run.name.clone(), format!("{}_inserts", run.name)] {
        let there =
            admin.query_opt("SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", &[&name]).await?;
        if there.is_some() {
            admin
                .batch_execute(&format!("DROP PUBLICATION IF EXISTS {}", quote_ident(&name)))
                .await
                .map_err(|error| {
                    Error::from(error)
                        .context(format!("could not drop publication \"{name}\""))
                        .hint("use the role that made it: --source-admin")
                })?;
            done.push(format!("source: publication \"{name}\" dropped"));
        }
    }
    Ok(())
}

/// Sets back what `--keyless full` changed, where it still is as it was left.
async fn identities(admin: &Session, run: &Run, done: &mut Vec<String>) -> Result<()> {
    let Some(before) = run.keyless.as_ref().and_then(|keyless| keyless.as_object()) else { return Ok(()) };
    for (recorded, was) in before {
        let was = match was.as_str() {
            Some("NOTHING") => "NOTHING",
            _ => "DEFAULT",
        };
        let found = admin
            .query_opt(
                "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.oid = pg_catalog.to_regclass($1::text) AND c.relreplident = 'f'",
                &[recorded],
            )
            .await?;
        let Some(row) = found else { continue };
        let table = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        admin.batch_execute(&format!("ALTER TABLE {table} REPLICA IDENTITY {was}")).await.map_err(
            |error| {
                Error::from(error)
                    .context(format!("could not set the replica identity of {table} back"))
                    .hint("use a role that owns the table: --source-admin")
            },
        )?;
        done.push(format!("source: replica identity of {table} is {was} again"));
    }
    Ok(())
}
