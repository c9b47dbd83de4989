//! What has to be known about the slot's beginning later on: rows that were there before it never came through it.
//!
//! One row in `walferry.outbox_slots` on the source, written when the slot is made (or, for one that was there and for the slot of a run that
//! does something else as well, when routing from it begins). A table whose rows are routed from later on is added to it then.

use std::collections::HashMap;

use pg::{Error, Lsn, Result, Session};

use super::plan::Table;
use super::{Context, connect};

/// The tables that `walferry outbox` keeps on the source.
pub const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS walferry.outbox_slots (
    slot text PRIMARY KEY,
    consistent_point pg_lsn NOT NULL,
    snapshot text NOT NULL,
    shared boolean NOT NULL DEFAULT false,
    adopted boolean,
    tables jsonb,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);";

/// How a slot began.
#[derive(Clone, Debug)]
pub struct SlotRecord {
    pub consistent_point: Lsn,
    /// `txid_current_snapshot()` of the slot's snapshot: what it sees was there before.
    pub snapshot: String,
    /// The slot is a run's that brings tables to their topics as well.
    pub shared: bool,
    /// The slot was there before: it is not ours to drop. A record of a version that did not say counts as one.
    pub adopted: bool,
    /// By the table's OID, `txid_snapshot` of what was there when its rows began to be routed. A record of a version that did not say has none.
    pub tables: HashMap<u32, String>,
}

/// The same beginning for all of these tables.
#[must_use]
pub fn together(tables: &[Table], snapshot: &str) -> HashMap<u32, String> {
    tables.iter().map(|table| (table.oid, snapshot.to_owned())).collect()
}

fn json(tables: &HashMap<u32, String>) -> serde_json::Value {
    tables
        .iter()
        .map(|(oid, snapshot)| (oid.to_string(), serde_json::Value::from(snapshot.as_str())))
        .collect()
}

/// Is there a slot of this name?
pub async fn slot_exists(session: &Session, slot: &str) -> Result<bool> {
    Ok(reader::slot::look(session, slot).await?.is_some())
}

/// The record of a slot; None: there is none, or no table of them.
pub async fn read(session: &Session, slot: &str) -> Result<Option<SlotRecord>> {
    let there: bool = session
        .query_one(
            "SELECT coalesce(bool_or(pg_catalog.has_table_privilege(c.oid, 'SELECT')
                 AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')), false)
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'walferry' AND c.relname = 'outbox_slots'",
            &[],
        )
        .await?
        .get(0);
    if !there {
        return Ok(None);
    }
    let row = session
        .query_opt(
            "SELECT consistent_point::text, snapshot, shared, coalesce((pg_catalog.to_jsonb(s) ->> 'adopted')::boolean, true),
                    coalesce(pg_catalog.to_jsonb(s) -> 'tables', '{}')
             FROM walferry.outbox_slots s WHERE slot = $1",
            &[&slot],
        )
        .await?;
    row.map(|row| {
        let point: String = row.get(0);
        let consistent_point =
            point.parse().map_err(|error| pg::Error::failed("PROTOCOL", format!("{error}")))?;
        let tables: serde_json::Value = row.get(4);
        let tables = tables.as_object().into_iter().flatten();
        let table = |(oid, snapshot): (&String, &serde_json::Value)| {
            Some((oid.parse().ok()?, snapshot.as_str()?.to_owned()))
        };
        Ok(SlotRecord {
            consistent_point,
            snapshot: row.get(1),
            shared: row.get(2),
            adopted: row.get(3),
            tables: tables.filter_map(table).collect(),
        })
    })
    .transpose()
}

async fn make_table(session: &Session) -> Result<()> {
    let row = session
        .query_one(
            "SELECT pg_catalog.to_regclass('walferry.outbox_slots') IS NOT NULL, (SELECT count(*) = 2 FROM pg_catalog.pg_attribute
                 WHERE attrelid = pg_catalog.to_regclass('walferry.outbox_slots') AND attname IN ('adopted', 'tables')
                   AND NOT attisdropped)",
            &[],
        )
        .await?;
    let (there, whole): (bool, bool) = (row.get(0), row.get(1));
    if there && !whole {
        session
            .batch_execute(
                "ALTER TABLE walferry.outbox_slots ADD COLUMN IF NOT EXISTS adopted boolean, ADD COLUMN IF NOT EXISTS tables jsonb",
            )
            .await?;
    }
    if !there {
        let schema: bool =
            session.query_one("SELECT pg_catalog.to_regnamespace('walferry') IS NOT NULL", &[]).await?.get(0);
        if !schema {
            session.batch_execute("CREATE SCHEMA IF NOT EXISTS walferry").await?;
        }
        session.batch_execute(TABLES).await?;
    }
    Ok(())
}

/// Writes the record; makes its table where it is missing.
pub async fn write(session: &Session, slot: &str, record: &SlotRecord) -> Result<()> {
    make_table(session).await?;
    session
        .execute(
            "INSERT INTO walferry.outbox_slots (slot, consistent_point, snapshot, shared, adopted, tables)
             VALUES ($1, $2::text::pg_lsn, $3, $4, $5, $6)
             ON CONFLICT (slot) DO UPDATE SET consistent_point = excluded.consistent_point, snapshot = excluded.snapshot,
                 shared = excluded.shared, adopted = excluded.adopted, tables = excluded.tables, made_at = pg_catalog.clock_timestamp()",
            &[
                &slot,
                &record.consistent_point.to_string(),
                &record.snapshot,
                &record.shared,
                &record.adopted,
                &json(&record.tables),
            ],
        )
        .await?;
    Ok(())
}

/// Puts on record what was there before. Without the right to, cleanup keeps every row.
pub async fn note(context: &Context, record: &SlotRecord) -> Result<()> {
    let admin = connect(&context.admin, &context.name, "admin").await?;
    match write(&admin, &context.slot, record).await {
        Err(error) if error.is(pg::sqlstate::INSUFFICIENT_PRIVILEGE) => {
            unrecorded(context, &error);
            Ok(())
        }
        written => written,
    }
}

/// Says that there is no record, and why.
pub fn unrecorded(context: &Context, error: &Error) {
    context.reporter.warning(
        format!(
            "the slot's beginning could not be recorded on the source: {error}; outbox clean will delete nothing, a slot that gets lost is \
             made anew without a word, and outbox remove leaves slot and publication to you"
        ),
        Some("walferry outbox init (as an administrator) makes the table for it, or give --source-admin".to_owned()),
    );
}

/// How many of the last transactions are asked whether they are running.
const ASKED: i64 = 1_000_000;

/// Puts a slot on record that was there already: what is visible now counts as from before it. False: there was a record, which this role can't read.
///
/// A transaction that is running now is one of the stream's, with all its subtransactions. The snapshot has no numbers of those, once they are
/// released, so each number that may be one is asked for. One that is older than all that are asked counts as from before, and its rows are kept.
pub async fn adopt(context: &Context, confirmed: Lsn, tables: &[Table]) -> Result<bool> {
    let admin = connect(&context.admin, &context.name, "admin").await?;
    make_table(&admin).await?;
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let made = admin
        .execute(
            "INSERT INTO walferry.outbox_slots (slot, adopted, consistent_point, snapshot, tables)
             SELECT $1, true, $2::text::pg_lsn, snapshot,
                    coalesce((SELECT pg_catalog.jsonb_object_agg(oid, snapshot) FROM pg_catalog.unnest($4::text[]) AS oid), '{}')
             FROM (SELECT pg_catalog.concat(low, ':', high, ':', (
                 SELECT pg_catalog.string_agg(running::text, ',' ORDER BY running) FROM (
                     SELECT pg_catalog.txid_snapshot_xip(pg_catalog.txid_current_snapshot()) AS running
                     UNION
                     SELECT asked FROM pg_catalog.generate_series(GREATEST(low, high - $3), high - 1) AS asked
                     WHERE pg_catalog.txid_status(asked) = 'in progress') AS all_running)) AS snapshot
             FROM (SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()) AS low,
                          pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot()) AS high) AS now) AS begins
             ON CONFLICT (slot) DO NOTHING",
            &[&context.slot, &confirmed.to_string(), &ASKED, &oids],
        )
        .await?;
    Ok(made > 0)
}

/// Puts tables on record whose rows are routed from now on, if any is not: whatever has a transaction number by now counts as there before,
/// since it may have been written before. Answers with the tables that are new; without the right to, none is, and cleanup keeps their rows.
pub async fn join<'a>(context: &Context, record: &SlotRecord, tables: &'a [Table]) -> Result<Vec<&'a Table>> {
    let new: Vec<&Table> = tables.iter().filter(|table| !record.tables.contains_key(&table.oid)).collect();
    if new.is_empty() {
        return Ok(new);
    }
    let admin = connect(&context.admin, &context.name, "admin").await?;
    let oids: Vec<String> = new.iter().map(|table| table.oid.to_string()).collect();
    let joined = async {
        make_table(&admin).await?;
        let sql = "UPDATE walferry.outbox_slots SET tables = (
                       SELECT pg_catalog.jsonb_object_agg(oid, pg_catalog.concat(next, ':', next, ':'))
                       FROM pg_catalog.unnest($2::text[]) AS oid,
                            pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot()) AS next
                   ) || coalesce(tables, '{}') WHERE slot = $1";
        Ok::<_, Error>(admin.execute(sql, &[&context.slot, &oids]).await?)
    };
    match joined.await {
        Err(error) if error.is(pg::sqlstate::INSUFFICIENT_PRIVILEGE) => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(_) => Ok(new),
    }
}

/// Forgets a slot.
pub async fn remove(session: &Session, slot: &str) -> Result<()> {
    if read(session, slot).await?.is_some() {
        session.execute("DELETE FROM walferry.outbox_slots WHERE slot = $1", &[&slot]).await?;
    }
    Ok(())
}
