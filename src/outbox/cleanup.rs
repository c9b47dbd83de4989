//! Rows that Kafka has acknowledged and that are old enough are deleted.
//!
//! What Kafka has is known from the slot's confirmed position alone. How a row compares with it:
//!
//! ```text
//! rows that are visible now ─► the WAL's position after that look ─► wait until the slot is confirmed past it ─► delete just those rows
//! ```
//!
//! # Invariants
//!
//! 1. A row that a snapshot shows was committed before any position read afterwards. So once the slot is confirmed past that position, the
//!    row's event is with Kafka. A row that was inserted earlier and committed later is not in the look, however old it says it is.
//! 2. Visibility is asked of PostgreSQL, by really looking: numbers of transactions don't tell (a subtransaction's is in no list).
//! 3. A row is named by its place and its transaction (ctid, xmin): what came to that place meanwhile is another row.
//! 4. What was there before the slot never came through it, and stays: its transaction is one that the slot's own snapshot sees. So does
//!    what was in a table before its rows were routed.

use std::time::Duration;

use pg::{Error, Lsn, Result, Session};
use reader::slot;
use tokio::time::{Instant, sleep};

use super::plan::Table;
use super::record::{self, SlotRecord};
use super::{Context, layout};
use crate::config::Settings;

/// Rows of one look.
const LOOK: i64 = 50_000;
/// How long the locks may take: on an old partition, to which nobody writes, and at last on the table, behind which inserts queue
/// meanwhile.
const LOCK_TIMEOUT: &str = "200ms";

/// What was done to one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    pub rows: u64,
    pub partitions: u64,
    /// Old enough, but from before the slot.
    pub before_slot: u64,
    /// Old enough, but not delivered within the wait.
    pub undelivered: bool,
}

/// How to clean.
#[derive(Clone, Copy, Debug)]
pub struct CleanOptions {
    pub retention: Duration,
    pub batch: usize,
    /// Rows from before the slot too: somebody knows that they were published.
    pub before_slot: bool,
    /// How long to wait for the slot.
    pub wait: Duration,
}

/// Cleans one table.
///
/// # Errors
/// No slot, no column that says how old a row is, no record of the slot's beginning, or what the server says.
pub async fn clean(
    context: &Context,
    session: &Session,
    table: &Table,
    options: &CleanOptions,
) -> Result<Cleaned> {
    let old = old(&context.settings, table, options.retention)?;
    let record = record::read(session, &context.slot).await?;
    let before = before(session, record.as_ref(), table, options).await?;
    let mut cleaned = Cleaned::default();
    if table.partitioned {
        partitions(context, session, table, &old, &before, options, &mut cleaned).await?;
    }
    loop {
        // Without a partition of their own (the default one), and in plain tables: row by row.
        let rows = session
            .query(
                &format!(
                    "SELECT tableoid, ctid::text, xmin::text FROM {} WHERE {old} AND NOT {before} LIMIT {LOOK}",
                    table.name
                ),
                &[],
            )
            .await?;
        if rows.is_empty() {
            break;
        }
        let seen: Vec<(u32, String, String)> =
            rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        if !delivered(context, session, options.wait).await? {
            cleaned.undelivered = true;
            break;
        }
        for batch in seen.chunks(options.batch.max(1)) {
            if context.cancel.is_cancelled() {
                return Ok(cleaned);
            }
            cleaned.rows += delete(session, table, batch).await?;
        }
        if seen.len() < usize::try_from(LOOK).unwrap_or(usize::MAX) {
            break;
        }
    }
    if before != NOTHING {
        let row = session
            .query_one(&format!("SELECT count(*) FROM {} WHERE {old} AND {before}", table.name), &[])
            .await?;
        cleaned.before_slot = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
    }
    Ok(cleaned)
}

async fn delete(session: &Session, table: &Table, batch: &[(u32, String, String)]) -> Result<u64> {
    let places: Vec<&str> = batch.iter().map(|(_, place, _)| place.as_str()).collect();
    let transactions: Vec<&str> = batch.iter().map(|(_, _, xmin)| xmin.as_str()).collect();
    let leaves: Vec<u32> = batch.iter().map(|(leaf, _, _)| *leaf).collect();
    let sql = format!(
        "DELETE FROM {} t WHERE t.ctid = ANY ($1::text[]::tid[]) AND EXISTS (
             SELECT FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::oid[]))
                 AS seen(place, txid, leaf)
             WHERE t.ctid::text = seen.place AND t.xmin::text = seen.txid AND t.tableoid = seen.leaf)",
        table.name
    );
    session.execute(&sql, &[&places, &transactions, &leaves]).await.map_err(|error| {
        let error = Error::from(error).context(format!("cleanup of {}", table.name));
        if error.is(pg::sqlstate::INSUFFICIENT_PRIVILEGE) {
            return error.hint(format!("GRANT SELECT, DELETE ON {} TO the run's role", table.name));
        }
        error
    })
}

/// How far behind UTC the clock of a time zone may be. A `timestamp` doesn't say in which zone it was written: that is the writer's session's,
/// which need not be the server's. Only what is older by this much is old wherever it was written.
const FURTHEST_BEHIND: Duration = Duration::from_secs(12 * 3600);

/// A condition that holds for rows that are old enough; all of them where nothing is too young.
///
/// # Errors
/// `OUTBOX_RETENTION`: the table has no column that says how old a row is.
pub fn old(settings: &Settings, table: &Table, retention: Duration) -> Result<String> {
    let named = settings.outbox.retention_column.as_ref();
    if retention.is_zero() && named.is_none() {
        return Ok("true".to_owned());
    }
    let candidates: Vec<&str> = match named.or(table.options.timestamp.as_ref()) {
        Some(name) => vec![name],
        None => vec!["created_at", "timestamp"],
    };
    let column = candidates
        .iter()
        .filter_map(|name| table.types.column(name))
        .find(|column| !column.array && matches!(column.base_name.as_str(), "timestamp" | "timestamptz"))
        .ok_or_else(|| {
            Error::refuse(
                "OUTBOX_RETENTION",
                format!(
                    "outbox.retention_column: table {} has no timestamp or timestamptz column \"{}\"",
                    table.name,
                    candidates.join("\" or \"")
                ),
            )
            .hint("give --set outbox.retention_column=COLUMN, or add one: ADD COLUMN created_at timestamptz NOT NULL DEFAULT now()")
        })?;
    if retention.is_zero() {
        return Ok("true".to_owned());
    }
    let (now, age) = match column.base_name.as_str() {
        "timestamp" => {
            ("pg_catalog.clock_timestamp() AT TIME ZONE 'UTC'", retention.saturating_add(FURTHEST_BEHIND))
        }
        _ => ("pg_catalog.clock_timestamp()", retention),
    };
    Ok(format!(
        "{} < {now} - pg_catalog.make_interval(secs => {})",
        pg::quote_ident(&column.name),
        age.as_secs_f64()
    ))
}

const NOTHING: &str = "false";

/// A condition that holds for rows that were there when the slot was made, or the table's rows began to be routed.
async fn before(
    session: &Session,
    record: Option<&SlotRecord>,
    table: &Table,
    options: &CleanOptions,
) -> Result<String> {
    if options.before_slot {
        return Ok(NOTHING.to_owned());
    }
    let unknown = |what: &str| {
        Error::refuse(
            "OUTBOX_RETENTION",
            format!("it is not known which rows were there before the slot: {what}"),
        )
        .detail("those never came through it, and are not deleted")
        .hint("walferry outbox clean --before-slot, if they all were published")
    };
    let record = record.ok_or_else(|| {
        unknown("there is no record of its beginning").hint(
            "the next start of walferry outbox run makes one, and keeps the rows that are there then; or walferry outbox clean --before-slot, if \
             they all were published",
        )
    })?;
    let snapshot = record.tables.get(&table.oid).ok_or_else(|| {
        unknown(&format!("there is no record of when rows of {} began to be routed", table.name))
    })?;
    let row = session
        .query_one(
            "SELECT pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())
                  - pg_catalog.txid_snapshot_xmax($1::text::pg_catalog.txid_snapshot)",
            &[snapshot],
        )
        .await?;
    if row.get::<_, i64>(0) >= 1 << 31 {
        return Err(unknown("too many transactions have passed since"));
    }
    // The row's 32 bits as one of the last 2^32 transactions.
    let now = "pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())";
    let full = format!(
        "{now} - pg_catalog.mod(pg_catalog.mod({now} - xmin::text::int8, 4294967296) + 4294967296, 4294967296)"
    );
    Ok(format!(
        "pg_catalog.txid_visible_in_snapshot({full}, {}::pg_catalog.txid_snapshot)",
        pg::quote_literal(snapshot)
    ))
}

/// Waits until the slot is confirmed past everything that is committed now; false when it is not within `wait`.
async fn delivered(context: &Context, session: &Session, wait: Duration) -> Result<bool> {
    let now: Lsn = position(session).await?;
    // What other sessions have written and not flushed is decoded when something flushes it, and with nobody committing that is never.
    session
        .batch_execute("SET synchronous_commit = on; SELECT pg_catalog.pg_logical_emit_message(true, 'walferry.cleanup', '')")
        .await?;
    let deadline = Instant::now() + wait;
    loop {
        let state = slot::look(session, &context.slot).await?.ok_or_else(|| {
            Error::refuse("SLOT_MISSING", format!("replication slot \"{}\" does not exist", context.slot))
                .hint("without it nothing is known about what Kafka has: walferry outbox run makes it")
        })?;
        if state.confirmed_flush().is_some_and(|confirmed| confirmed >= now) {
            return Ok(true);
        }
        if Instant::now() >= deadline || context.cancel.is_cancelled() {
            return Ok(false);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn position(session: &Session) -> Result<Lsn> {
    let text: String =
        session.query_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
    text.parse().map_err(|error| Error::failed("PROTOCOL", format!("{error}")))
}

/// Drops whole partitions whose range is over, and makes those of the days ahead.
async fn partitions(
    context: &Context,
    session: &Session,
    table: &Table,
    old: &str,
    before: &str,
    options: &CleanOptions,
    cleaned: &mut Cleaned,
) -> Result<()> {
    let admin = super::connect(&context.admin, &context.name, "admin").await?;
    // A bound without an offset is of days that are over elsewhere at another time.
    let leaves = session
        .query(
            "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_inherits i
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN LATERAL substring(pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''(.*)''[)]$') AS bound
             WHERE i.inhparent = $1 AND c.relkind = 'r' AND pg_catalog.clock_timestamp()
                 - pg_catalog.make_interval(secs => $2::float8 + CASE WHEN bound LIKE '%+00' THEN 0 ELSE $3::float8 END) > bound::timestamptz
             ORDER BY 2",
            &[&table.oid, &options.retention.as_secs_f64(), &FURTHEST_BEHIND.as_secs_f64()],
        )
        .await?;
    for leaf in &leaves {
        let leaf = pg::QualifiedName::new(leaf.get::<_, String>(0), leaf.get::<_, String>(1));
        let over = format!("SELECT NOT EXISTS (SELECT FROM {leaf} WHERE NOT ({old}))");
        if !session.query_one(&over, &[]).await?.get::<_, bool>(0) {
            continue;
        }
        if drop(context, session, &admin, &leaf, &over, before, options).await? {
            cleaned.partitions += 1;
        }
    }
    let parent = format!("{}.{}", pg::quote_ident(&table.name.schema), pg::quote_ident(&table.name.name));
    admin.batch_execute(&layout::partitions(&parent)).await?;
    Ok(())
}

/// Under the lock nobody is writing to the partition, so all that is in it is committed, before the position read then.
async fn drop(
    context: &Context,
    session: &Session,
    admin: &Session,
    leaf: &pg::QualifiedName,
    over: &str,
    before: &str,
    options: &CleanOptions,
) -> Result<bool> {
    admin.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")).await?;
    let dropped = async {
        let locked = admin.batch_execute(&format!("LOCK TABLE {leaf} IN ACCESS EXCLUSIVE MODE")).await;
        match locked.map_err(Error::from) {
            Ok(()) => {}
            Err(error) if error.is(pg::sqlstate::LOCK_NOT_AVAILABLE) => return Ok(false),
            Err(error) => return Err(error.context(format!("cleanup of {leaf}"))),
        }
        let fits: bool = admin.query_one(over, &[]).await?.get(0);
        let kept: bool =
            admin.query_one(&format!("SELECT EXISTS (SELECT FROM {leaf} WHERE {before})"), &[]).await?.get(0);
        if !fits || kept || !delivered(context, session, options.wait.min(Duration::from_secs(10))).await? {
            return Ok(false);
        }
        match admin.batch_execute(&format!("DROP TABLE {leaf}")).await.map_err(Error::from) {
            Ok(()) => Ok(true),
            // Somebody has written to the table and has not committed: another time.
            Err(error) if error.is(pg::sqlstate::LOCK_NOT_AVAILABLE) => Ok(false),
            Err(error) => Err(error
                .context(format!("cleanup of {leaf}"))
                .hint("dropping needs the table's owner: --source-admin")),
        }
    }
    .await;
    admin.batch_execute(if matches!(dropped, Ok(true)) { "COMMIT" } else { "ROLLBACK" }).await?;
    dropped
}
