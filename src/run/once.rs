//! `walferry copy`: steps 3 to 5 from one snapshot, without a slot and without a stream.
//!
//! ```text
//! record ─► lock, snapshot ─► schema ─► copy ─► indexes, constraints ─► triggers, sequences, matviews ─► record removed
//! ```
//!
//! The record is what makes a copy that was killed visible, and says which tables it made. It can't go on from there: nothing brings the
//! tables that were copied forward to another snapshot. So whatever fails, the tables that it made are emptied and the record goes.

use std::time::Duration;

use pg::{Class, Error, QualifiedName, Result, Session};
use pipeline::TableSpec;
use reader::catalog;
use reader::snapshot::REWRITTEN;
use writer::control::{self, Mode, Run, RunTable, SourceIdentity, Step, StepTime, TableState};
use writer::schema::{self, Phase};

use super::attach::{self, Snapshot};
use super::context::Context;
use super::owner::Owner;
use super::{load, prepare, publication};

/// What was copied, and how long each step took.
pub struct Copied {
    pub tables: u64,
    pub rows: u64,
    pub bytes: u64,
    pub steps: Vec<StepTime>,
}

impl Copied {
    async fn read(owner: &Owner, name: &str) -> Result<Copied> {
        let tables = RunTable::all(owner.session(), name).await?;
        let sum = |part: fn(&RunTable) -> i64| {
            tables.iter().map(|table| u64::try_from(part(table)).unwrap_or(0)).sum()
        };
        Ok(Copied {
            tables: tables.len() as u64,
            rows: sum(|table| table.rows),
            bytes: sum(|table| table.bytes),
            steps: StepTime::all(owner.session(), name).await?,
        })
    }
}

/// Copies, or leaves nothing of it.
pub async fn copy(context: &Context) -> Result<Copied> {
    let mut owner = Owner::take(context, None).await?;
    if let Some(run) = Run::read(owner.session(), &context.name).await? {
        if run.mode != Mode::Copy {
            return Err(Error::refuse(
                "RUN_EXISTS",
                format!("run \"{}\" is a {}", run.name, run.mode.command()),
            )
            .hint("give this copy another --name"));
        }
        context.reporter.note("an earlier copy was cut short: what it made is emptied");
        undo(context, &mut owner).await?;
    }
    let (source, identity, tables) = tokio::select! {
        found = Box::pin(look(context)) => found?,
        () = context.cancel.cancelled() => return Err(interrupted()),
    };
    let run = prepare::record(context, &owner, &identity, "", &[], false).await?;
    owner.begin_epoch().await?;
    let result = tokio::select! {
        result = Box::pin(steps(context, &mut owner, &run, source, tables)) => result,
        () = context.cancel.cancelled() => Err(interrupted()),
    };
    match result {
        Ok(()) => {
            let copied = Copied::read(&owner, &context.name).await?;
            control::remove_if_unused(owner.client(), &context.name).await?;
            Ok(copied)
        }
        Err(error) => {
            // The owner's session may be the one that was lost.
            if owner.is_closed()
                && let Ok(again) = Owner::take(context, None).await
            {
                owner = again;
            }
            if let Err(failed) = undo(context, &mut owner).await {
                context.reporter.warning(
                    format!("what was copied could not be emptied: {failed}"),
                    Some(format!("walferry clean --name {}", context.name)),
                );
            }
            Err(if error.class() == Class::Usage { error } else { error.with_class(Class::Failed) })
        }
    }
}

fn interrupted() -> Error {
    Error::failed("INTERRUPTED", "the copy was interrupted")
}

/// Changes nothing.
async fn look(context: &Context) -> Result<(Session, SourceIdentity, Vec<TableSpec>)> {
    context.reporter.step(Step::Preflight.as_str());
    crate::preflight::refuse(context).await?;
    let source = context.source_session().await?;
    let tables = catalog::selected(&source, &publication::selection(&context.settings)).await?;
    if tables.is_empty() {
        return Err(Error::refuse("NO_TABLES", "the selection matches no table on the source")
            .hint("see --schema and --table; walferry check lists what is found"));
    }
    let identity = identity(&source).await?;
    Ok((source, identity, tables))
}

async fn identity(source: &tokio_postgres::Client) -> Result<SourceIdentity> {
    let row = source
        .query_one(
            "SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()), datname::text, oid,
                    pg_catalog.current_setting('server_version_num')::int8
             FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
            &[],
        )
        .await?;
    let version: i64 = row.get(3);
    Ok(SourceIdentity {
        system_id: row.get(0),
        database: row.get(1),
        database_oid: row.get(2),
        timeline: 0,
        version: u32::try_from(version).unwrap_or(0),
    })
}

/// The tables under lock, and the snapshot of that moment. Between the look and the lock somebody may have altered them.
async fn lock(
    context: &Context,
    owner: &Owner,
    source: Session,
    mut tables: Vec<TableSpec>,
) -> Result<(Snapshot, Vec<TableSpec>)> {
    for _ in 0..attach::REWRITES {
        let snapshot = Snapshot::plain(context, owner, &tables).await;
        let now = catalog::selected(&source, &publication::selection(&context.settings)).await?;
        match snapshot {
            Ok(snapshot) if attach::same_tables(&tables, &now) => return Ok((snapshot, now)),
            Err(error) if error.code() != REWRITTEN => return Err(error),
            _ => tables = now,
        }
    }
    Err(attach::rewritten_again())
}

async fn steps(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    source: Session,
    tables: Vec<TableSpec>,
) -> Result<()> {
    let (snapshot, tables) = lock(context, owner, source, tables).await?;
    let mut snapshot = Some(snapshot);
    let tables = &tables;
    let existing = context.settings.run.existing_schema;
    let table = |spec: &TableSpec| RunTable {
        name: spec.name.clone(),
        state: TableState::Pending,
        copied_at: None,
        left_at: None,
        rows: 0,
        bytes: i64::try_from(spec.bytes).unwrap_or(i64::MAX),
        created: !existing,
        spec: Some(spec.clone()),
    };
    let records: Vec<RunTable> = tables.iter().map(table).collect();
    RunTable::store_all(&records, owner.session(), &run.name).await?;
    super::schema::restore(context, owner, run, &mut snapshot).await?;
    load::copy(context, owner, run, &mut snapshot).await?;
    drop(snapshot);
    load::indexes(context, owner).await?;
    load::constraints(context, owner).await?;
    if !existing {
        finish(context, owner, tables).await?;
    }
    context.not_cancelled()
}

/// What fires or is numbered: after the rows.
async fn finish(context: &Context, owner: &Owner, tables: &[TableSpec]) -> Result<()> {
    let mut admin = context.target_admin_session().await?;
    for phase in [Phase::Late, Phase::Open, Phase::Last] {
        let items = schema::missing(owner.session(), &context.name, phase, None).await?;
        schema::run_items(&mut admin, &context.name, &items, Duration::ZERO).await?;
    }
    let mut schemas: Vec<String> = tables.iter().map(|table| table.name.schema.clone()).collect();
    schemas.sort();
    schemas.dedup();
    let source = context.source_session().await?;
    let names: Vec<QualifiedName> = tables.iter().map(|table| table.name.clone()).collect();
    let sequences = super::schema::sequences(context, &source, &names, true).await?;
    schema::set_sequences(&admin, &sequences).await?;
    schema::refresh_matviews(&source, &admin, &schemas).await?;
    Ok(())
}

/// Empties the tables that this copy made, and forgets it.
async fn undo(context: &Context, owner: &mut Owner) -> Result<()> {
    let Some(run) = Run::read(owner.session(), &context.name).await? else { return Ok(()) };
    let tables = RunTable::all(owner.session(), &context.name).await?;
    // Before the schema is restored, tables of these names are somebody else's.
    if run.step >= Step::Copy {
        let created: Vec<&QualifiedName> =
            tables.iter().filter(|table| table.created).map(|table| &table.name).collect();
        let kept: Vec<String> = tables
            .iter()
            .filter(|table| !table.created && table.copied_at.is_some())
            .map(|table| table.name.to_string())
            .collect();
        empty(context, &created).await?;
        if !created.is_empty() {
            context.reporter.note(format!("{} tables on the target were emptied", created.len()));
        }
        if !kept.is_empty() {
            context.reporter.warning(
                format!("{} tables that were there before hold the rows copied into them", kept.len()),
                Some(format!("look at {}", kept.join(", "))),
            );
        }
    }
    control::remove_if_unused(owner.client(), &context.name).await?;
    Ok(())
}

/// In one command, because of the foreign keys between them.
async fn empty(context: &Context, tables: &[&QualifiedName]) -> Result<()> {
    let admin = context.target_admin_session().await?;
    let mut there = Vec::new();
    for table in tables {
        let name = table.to_string();
        let exists: bool =
            admin.query_one("SELECT pg_catalog.to_regclass($1::text) IS NOT NULL", &[&name]).await?.get(0);
        if exists {
            there.push(name);
        }
    }
    if !there.is_empty() {
        admin.batch_execute(&format!("TRUNCATE {}", there.join(", "))).await?;
    }
    Ok(())
}
