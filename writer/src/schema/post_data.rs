//! What comes after the rows: indexes, constraints, triggers; each item's DDL and its `done` mark in one transaction.
//!
//! The items are stored with the schema itself, so that a new process on any host goes on with what is missing; a `kill -9` in the middle
//! of an index leaves nothing of it.

use std::collections::HashSet;

use pg::{Error, QualifiedName, Result, Session, quote_literal};
use tokio_postgres::{Client, GenericClient, Transaction};

use super::explain::explain;
use super::plan::{Planned, Target, plan};
use super::pre_data::{AlwaysColumn, HEADER};
use super::sections::Entry;
use super::{Phase, access, batch};

/// One item of `walferry.post_data`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostItem {
    pub ord: i32,
    pub kind: String,
    pub schema: String,
    /// The table it belongs to, where it has one.
    pub table: Option<QualifiedName>,
    pub name: String,
    pub sql: String,
}

/// Stores the items of a run, in the transaction that restores pre-data. Before that every item is tried on the tables, which are empty,
/// and undone: what the target can't take is known before the first row is copied, not at the cutover. Returns what is left out, in
/// words: foreign keys to tables that are not part of the selection and, with `fed`, those that lead to or from a table that is not fed: its
/// rows are not those that the key was made for.
pub async fn store(
    tx: &Transaction<'_>,
    run: &str,
    entries: &[Entry],
    always: &[AlwaysColumn],
    fed: Option<&[QualifiedName]>,
) -> Result<Vec<String>> {
    let mut left_out = Vec::new();
    let mut target = look(tx).await?;
    if let Some(fed) = fed {
        target.fed = Some(trees(tx, fed).await?);
    }
    let items = plan(entries, always, &target, &mut left_out);
    rehearse(tx, &items).await?;
    let mut columns: [Vec<String>; 6] = Default::default();
    for item in &items {
        let table = item.table.clone().unwrap_or_else(|| QualifiedName::new(&item.schema, ""));
        let values = [
            item.phase.as_str().to_owned(),
            item.kind.clone(),
            table.schema,
            table.name,
            item.name.clone(),
            item.sql.clone(),
        ];
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(value);
        }
    }
    let [phases, kinds, schemas, tables, names, scripts] = &columns;
    tx.execute(
        "INSERT INTO walferry.post_data (run, ord, phase, kind, schema, tbl, name, sql)
         SELECT $1, item.ord, item.phase, item.kind, item.schema, item.tbl, item.name, item.sql
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
              WITH ORDINALITY AS item (phase, kind, schema, tbl, name, sql, ord)",
        &[&run, phases, kinds, schemas, tables, names, scripts],
    )
    .await?;
    access::let_apply_in(tx, run).await?;
    Ok(left_out)
}

async fn look(client: &impl GenericClient) -> Result<Target> {
    let version: i32 =
        client.query_one("SELECT pg_catalog.current_setting('server_version_num')::int4", &[]).await?.get(0);
    let rows = client
        .query(
            "SELECT n.nspname::text, c.relname::text, c.relkind = 'p' FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')",
            &[],
        )
        .await?;
    let mut target = Target { major: u32::try_from(version).unwrap_or(0) / 10_000, ..Target::default() };
    for row in &rows {
        let name = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        if row.get(2) {
            target.partitioned.insert(name.clone());
        }
        target.tables.insert(name);
    }
    Ok(target)
}

/// These tables, what they are partitions of, and their partitions.
async fn trees(client: &impl GenericClient, tables: &[QualifiedName]) -> Result<HashSet<QualifiedName>> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let rows = client
        .query(
            "WITH RECURSIVE given (oid) AS (SELECT pg_catalog.to_regclass(name)::pg_catalog.oid FROM pg_catalog.unnest($1::text[]) name),
             above (oid) AS (SELECT oid FROM given UNION SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.oid),
             below (oid) AS (SELECT oid FROM given UNION SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid)
             SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE c.oid IN (SELECT oid FROM above UNION SELECT oid FROM below)",
            &[&names],
        )
        .await?;
    Ok(rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

/// Runs all items in order inside a savepoint and undoes them.
async fn rehearse(tx: &Transaction<'_>, items: &[Planned]) -> Result<()> {
    let mut ordered: Vec<&Planned> = items.iter().collect();
    ordered.sort_by_key(|item| item.phase);
    let scripts: Vec<String> = ordered.iter().map(|item| item.sql.clone()).collect();
    tx.batch_execute(&format!("SAVEPOINT rehearsal; {HEADER}")).await?;
    let outcome = batch::run(tx, &scripts).await;
    if let Err((at, error)) = outcome {
        // All items together take more locks than one at a time will.
        if !error.is(OUT_OF_MEMORY) {
            return Err(match ordered.get(at) {
                Some(item) => explain(error, &item.kind, &item.schema, &item.name),
                None => error,
            });
        }
        tracing::warn!("the target's indexes and constraints were not tried beforehand: {error}");
    }
    tx.batch_execute("ROLLBACK TO rehearsal; RELEASE rehearsal").await?;
    Ok(())
}

const OUT_OF_MEMORY: &str = "53200";

/// What is still to be done in a phase, in pg_dump's order; of one table, or of all.
pub async fn missing(
    client: &Client,
    run: &str,
    phase: Phase,
    table: Option<&QualifiedName>,
) -> Result<Vec<PostItem>> {
    let rows = client
        .query(
            "SELECT ord, kind, schema, tbl, name, sql FROM walferry.post_data
             WHERE run = $1 AND phase = $2 AND NOT done AND ($3::text IS NULL OR (schema = $3 AND tbl = $4)) ORDER BY ord",
            &[&run, &phase.as_str(), &table.map(|table| &table.schema), &table.map(|table| &table.name)],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let table = QualifiedName::new(row.get::<_, String>(2), row.get::<_, String>(3));
            PostItem {
                ord: row.get(0),
                kind: row.get(1),
                schema: table.schema.clone(),
                table: (!table.name.is_empty()).then_some(table),
                name: row.get(4),
                sql: row.get(5),
            }
        })
        .collect())
}

/// Is everything of a phase done?
pub async fn done(client: &Client, run: &str, phase: Phase) -> Result<bool> {
    Ok(missing(client, run, phase, None).await?.is_empty())
}

/// Runs one item and marks it done, in one transaction.
pub async fn run_item(session: &Session, run: &str, item: &PostItem) -> Result<()> {
    let script = format!("BEGIN; {HEADER} {} {}", item.sql, mark(run, &[item.ord]));
    let mut attempts = 0;
    loop {
        let attempt = async {
            session.batch_execute(&script).await?;
            fail::fail_point!("index-before-commit");
            session.batch_execute("COMMIT").await
        };
        let Err(error) = attempt.await.map_err(Error::from) else { break };
        // The session may be used for the next item.
        if !session.is_closed() {
            session.batch_execute("ROLLBACK").await?;
        }
        attempts += 1;
        // Items beside each other may lock parent and child in either order; one of them is told to give way.
        if !(error.is(DEADLOCK) && attempts < 10) {
            return Err(named(error, item));
        }
    }
    fail::fail_point!("index-after-commit");
    Ok(())
}

const DEADLOCK: &str = "40P01";

/// Items in one transaction: few round trips, and locks that fit beside everybody else's.
const TOGETHER: usize = 256;

/// Runs items in order and marks them done, many in one transaction. For what is quick: triggers, policies, comments. `lock_timeout`
/// bounds each wait for somebody else's lock; zero waits as long as it takes.
pub async fn run_items(
    session: &mut Session,
    run: &str,
    items: &[PostItem],
    lock_timeout: std::time::Duration,
) -> Result<()> {
    for together in items.chunks(TOGETHER) {
        let tx = session.transaction().await?;
        tx.batch_execute(&format!("{HEADER} SET LOCAL lock_timeout = {}", lock_timeout.as_millis())).await?;
        let scripts: Vec<String> = together.iter().map(|item| item.sql.clone()).collect();
        if let Err((at, error)) = batch::run(&tx, &scripts).await {
            return Err(match together.get(at) {
                Some(item) => named(error, item),
                None => error,
            });
        }
        let ords: Vec<i32> = together.iter().map(|item| item.ord).collect();
        tx.batch_execute(&mark(run, &ords)).await?;
        tx.commit().await?;
    }
    Ok(())
}

fn mark(run: &str, ords: &[i32]) -> String {
    let ords: Vec<String> = ords.iter().map(i32::to_string).collect();
    format!(
        "UPDATE walferry.post_data SET done = true WHERE run = {} AND ord IN ({});",
        quote_literal(run),
        ords.join(", ")
    )
}

fn named(error: Error, item: &PostItem) -> Error {
    explain(error, &item.kind, &item.schema, &item.name)
}
