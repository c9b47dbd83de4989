//! The fence of a cutover: one source transaction that stops every writer, and stays when it commits.
//!
//! ```text
//! BEGIN; LOCK TABLE … IN EXCLUSIVE MODE        waits out running and prepared transactions of every role; readers go on
//! CREATE TRIGGER … ENABLE ALWAYS               under the lock: refuses writes and TRUNCATE from the commit on
//!   … marker, drain, sequences, last check …   everything can still be undone: ROLLBACK, or our death, leaves no trace
//! COMMIT                                       the source stays closed for every role, superusers included
//! ```
//!
//! `default_transaction_read_only` would stop neither running nor prepared transactions, and a session may turn it off.
//! The function lives in a schema of its own, `walferry_fence`: dropping `walferry` must not lift the fence.
//! Lock modes: <https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES>

use std::time::{Duration, Instant};

use pg::{Error, Params, Purpose, QualifiedName, Result, Session, quote_ident, quote_literal};
use tokio_postgres::Client;

/// A transaction on the source that is in the way of the lock.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Blocker(pub String);

/// What came of one attempt to lock.
pub enum Attempt {
    Locked(Box<Fence>),
    /// Somebody was in the way; their statements queued behind our lock for `stalled`.
    Busy {
        blockers: Vec<Blocker>,
        stalled: Duration,
    },
}

/// The open fence transaction. Dropping it rolls back.
pub struct Fence {
    session: Session,
    /// When the LOCK was sent: the downtime counts from here.
    pub since: Instant,
}

/// Sends the LOCK with a `lock_timeout` (shorter than the source's `deadlock_timeout`: writers queue behind a waiting lock).
pub async fn try_lock(
    params: &Params,
    run: &str,
    tables: &[QualifiedName],
    lock_timeout: Duration,
    new_primary: &str,
) -> Result<Attempt> {
    let session = Session::connect(params, Purpose::SourceFence, &format!("{run} (fence)")).await?;
    // Whoever looks for this session later finds it by this lock, under whatever name.
    session.batch_execute(&format!("SET lock_timeout = {}", PATIENCE.as_millis())).await?;
    session.query_one(&format!("SELECT pg_catalog.pg_advisory_lock({KEY})"), &[&run]).await.map_err(
        |error| Error::from(error).context("a session that put the fence up before is still there"),
    )?;
    let tables = &with_relatives(&session, tables).await?;
    session.batch_execute(&format!("SET lock_timeout = {}; BEGIN", lock_timeout.as_millis().max(1))).await?;
    let since = Instant::now();
    if !tables.is_empty() {
        let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
        if let Err(error) =
            session.batch_execute(&format!("LOCK TABLE {} IN EXCLUSIVE MODE", names.join(", "))).await
        {
            let error = Error::from(error);
            if !error.is(pg::sqlstate::LOCK_NOT_AVAILABLE) && !error.is("40P01") {
                return Err(error.context("could not lock the source's tables"));
            }
            let stalled = since.elapsed();
            session.batch_execute("ROLLBACK").await?;
            return Ok(Attempt::Busy { blockers: blockers(&session, tables).await?, stalled });
        }
    }
    let fence = Fence { session, since };
    fence.install(tables, new_primary).await?;
    Ok(Attempt::Locked(Box::new(fence)))
}

impl Fence {
    async fn install(&self, tables: &[QualifiedName], new_primary: &str) -> Result<()> {
        let mut sql = format!(
            "CREATE SCHEMA IF NOT EXISTS walferry_fence; \
             CREATE OR REPLACE FUNCTION walferry_fence.refuse() RETURNS trigger LANGUAGE plpgsql AS {};",
            quote_literal(&format!(
                "BEGIN RAISE EXCEPTION USING ERRCODE = '25006', \
                 MESSAGE = pg_catalog.format('table %I.%I has moved to another server', TG_TABLE_SCHEMA, TG_TABLE_NAME), \
                 HINT = {}; END",
                quote_literal(&format!("connect to the new primary: {new_primary}"))
            ))
        );
        for table in tables {
            sql += &format!(
                "CREATE TRIGGER walferry_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} \
                 FOR EACH STATEMENT EXECUTE PROCEDURE walferry_fence.refuse(); \
                 ALTER TABLE {table} ENABLE ALWAYS TRIGGER walferry_fence;"
            );
        }
        self.session
            .batch_execute(&sql)
            .await
            .map_err(|error| Error::from(error).context("could not put the fence up on the source"))
    }

    /// Is the transaction still there? A fence that is lost has let the writers in again.
    pub async fn holds(&self) -> Result<()> {
        self.session
            .batch_execute("SELECT 1")
            .await
            .map_err(|error| Error::from(error).context("the fence is lost"))
    }

    /// An exported snapshot of the fenced source: exact, because nobody can write.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The source stays closed. `synchronous_commit = on` in this session: it is on disk when this returns.
    pub async fn commit(self) -> Result<()> {
        self.session
            .batch_execute("COMMIT")
            .await
            .map_err(|error| Error::from(error).context("could not commit the fence"))
    }

    /// Puts the source back exactly as it was.
    pub async fn rollback(self) -> Result<()> {
        self.session.batch_execute("ROLLBACK").await.map_err(Error::from)
    }
}

/// The tables with everything that a write to their rows may name: partitions and inheritance children, and the parents above. A
/// statement trigger fires for the table that the statement names, and for no other. Parents come first: that is the order in which
/// writers lock them.
async fn with_relatives(client: &Client, tables: &[QualifiedName]) -> Result<Vec<QualifiedName>> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let rows = client
        .query(
            "WITH RECURSIVE given AS (
                 SELECT c.oid FROM unnest($1::text[], $2::text[]) AS w(schema, name)
                 JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
             ), above AS (
                 SELECT oid, 0 AS depth FROM given
               UNION
                 SELECT i.inhparent, depth - 1 FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.oid
             ), below AS (
                 SELECT oid, 0 AS depth FROM given
               UNION
                 SELECT i.inhrelid, depth + 1 FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid
             )
             SELECT n.nspname, c.relname FROM (SELECT * FROM above UNION ALL SELECT * FROM below) tree
             JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') GROUP BY 1, 2 ORDER BY min(depth), 1, 2",
            &[&schemas, &names],
        )
        .await?;
    Ok(rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

/// Who holds a lock that conflicts with EXCLUSIVE on one of the tables: anything but ACCESS SHARE.
async fn blockers(client: &Client, tables: &[QualifiedName]) -> Result<Vec<Blocker>> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let rows = client
        .query(
            "SELECT DISTINCT coalesce(
                 'pid ' || l.pid || ' (' || coalesce(a.usename, '?') || ', ' ||
                     coalesce(nullif(a.application_name, ''), 'no application_name') || ', ' || coalesce(a.state, '?') ||
                     coalesce(', transaction open for ' || pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start), '') || ')',
                 'prepared transaction ' || pg_catalog.quote_literal(x.gid) || ' of ' || x.owner ||
                     ', prepared ' || pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - x.prepared) || ' ago',
                 'an unknown transaction')
             FROM pg_catalog.pg_locks l
             JOIN pg_catalog.pg_class c ON c.oid = l.relation
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN unnest($1::text[], $2::text[]) AS w(schema, name) ON w.schema = n.nspname AND w.name = c.relname
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
             LEFT JOIN pg_catalog.pg_locks xid ON l.pid IS NULL AND xid.pid IS NULL AND xid.locktype = 'transactionid'
                 AND xid.virtualtransaction = l.virtualtransaction
             LEFT JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = xid.transactionid
             WHERE l.granted AND l.mode <> 'AccessShareLock' AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
               AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
            &[&schemas, &names],
        )
        .await?;
    Ok(rows.iter().map(|row| Blocker(row.get(0))).collect())
}

/// Is a committed fence in force on all of these tables? A transaction of `run` that is still open, or whose COMMIT is under way, is ended
/// first, so that the answer stays true.
pub async fn committed_on(client: &Client, run: &str, tables: &[QualifiedName]) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while client
        .query_one(
            &format!(
                "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_locks
                 WHERE locktype = 'advisory' AND granted AND objsubid = 1
                   AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                   AND classid::bigint = (({KEY} >> 32) & 4294967295) AND objid::bigint = ({KEY} & 4294967295)"
            ),
            &[&run],
        )
        .await?
        .get::<_, i64>(0)
        > 0
    {
        if Instant::now() > deadline {
            return Err(Error::connection("a session that put the fence up is still there"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let row = client
        .query_one(
            "SELECT coalesce(bool_and(EXISTS (
                 SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
                 JOIN pg_catalog.pg_namespace f ON f.oid = p.pronamespace
                 WHERE t.tgrelid = c.oid AND f.nspname = 'walferry_fence' AND p.proname = 'refuse')), false)
             FROM unnest($1::text[], $2::text[]) AS w(schema, name)
             JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')",
            &[&schemas, &names],
        )
        .await?;
    Ok(row.get(0))
}

/// The fence session of a run holds this session-level advisory lock until it ends: its name may be another one (`application_name` of the
/// connection, a run's name that is cut or not ASCII).
const KEY: &str =
    "('x' || pg_catalog.substr(pg_catalog.md5('walferry fence ' || $1::text), 1, 16))::bit(64)::bigint";

/// How long a session that was told to end may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Is a committed fence in force on any of the source's tables?
pub async fn in_force(client: &Client) -> Result<bool> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
                            JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                            WHERE n.nspname = 'walferry_fence' AND p.proname = 'refuse')",
            &[],
        )
        .await?;
    Ok(row.get(0))
}

/// Takes a committed fence down: the source takes writes again. True when there was one.
pub async fn lift(client: &Client) -> Result<bool> {
    let there: bool = client
        .query_one("SELECT pg_catalog.to_regnamespace('walferry_fence') IS NOT NULL", &[])
        .await?
        .get(0);
    if there {
        client.batch_execute(&format!("DROP SCHEMA {} CASCADE", quote_ident("walferry_fence"))).await?;
    }
    Ok(there)
}

/// Writes a transactional logical message and returns its position: when the target's progress is at or past it, everything committed
/// before it has been applied. Empty transactions and keepalives move progress too, so this holds on every version.
pub async fn emit_marker(client: &Client, run: &str) -> Result<pg::Lsn> {
    let row = client
        .query_one("SELECT pg_catalog.pg_logical_emit_message(true, 'walferry', $1::text)::text", &[&run])
        .await?;
    let text: String = row.get(0);
    text.parse().map_err(|error| Error::failed("PROTOCOL", format!("{error}")))
}
