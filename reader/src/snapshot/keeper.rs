//! The connection that holds a snapshot, and every table that is read from it, for as long as the copy lasts.
//!
//! A rewriting ALTER TABLE or a TRUNCATE between the slot and the first touch of a table makes it read as empty through the snapshot,
//! with nothing in the stream. So all tables are locked at once, and then the files that the snapshot knows are compared with those
//! that are there now.

use std::collections::HashMap;
use std::time::Duration;

use pg::{Error, Params, Purpose, QualifiedName, Result, ServerVersion, Session, quote_literal};
use pipeline::TableSpec;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::chunk::Sizes;
use super::ddl::{self, Waiter};
use super::identity::ServerInstance;
use crate::waits::tell_blockers;

/// Code of the error for a table that was rewritten, dropped or replaced between the slot and the lock: take a new slot and snapshot.
pub const REWRITTEN: &str = "TABLE_REWRITTEN";
/// Code of the error for a keeper that is gone, and its snapshot with it: take a new snapshot for what is not copied yet.
pub const LOST: &str = "SNAPSHOT_LOST";
/// Code of the error for a copy that was given up so that DDL can go on (`--yield-to-ddl`).
pub const YIELDED: &str = "YIELDED_TO_DDL";

/// How a snapshot is kept.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    pub application_name: String,
    /// Give up when DDL waits for one of our locks.
    pub yield_to_ddl: bool,
    /// Told whose locks are waited for.
    pub blockers: watch::Sender<Vec<String>>,
}

/// A table as the snapshot has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relation {
    pub oid: u32,
    pub sizes: Sizes,
}

/// Holds a snapshot. Dropping it releases the locks.
pub struct Keeper {
    session: Session,
    instance: ServerInstance,
    snapshot: String,
    relations: HashMap<QualifiedName, Relation>,
    waiters: watch::Receiver<Vec<Waiter>>,
    yield_to_ddl: bool,
    watcher: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Keeper {
    /// Imports `snapshot`, locks the tables and checks them. `snapshot` may be let go afterwards. Waits for whoever holds an ACCESS
    /// EXCLUSIVE lock.
    pub async fn open(
        params: &Params,
        snapshot: &str,
        tables: &[TableSpec],
        options: &KeeperOptions,
    ) -> Result<Keeper> {
        let session = Session::connect(params, Purpose::SourceSnapshot, &options.application_name).await?;
        let instance = ServerInstance::of(&session).await?;
        instance.check_primary()?;
        let attempt = attempt(&session).await?;
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(snapshot)
        );
        session.batch_execute(&begin).await.map_err(|error| lost_snapshot(error.into()))?;
        Self::keep(session, instance, attempt, params, tables, options).await
    }

    /// A snapshot of its own: exact for a copy alone, which no stream continues. The tables are locked before it is taken (LOCK takes
    /// none itself), so none of them can be rewritten in between.
    pub async fn of_now(params: &Params, tables: &[TableSpec], options: &KeeperOptions) -> Result<Keeper> {
        let session = Session::connect(params, Purpose::SourceSnapshot, &options.application_name).await?;
        let instance = ServerInstance::of(&session).await?;
        instance.check_primary()?;
        let attempt = attempt(&session).await?;
        session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Self::keep(session, instance, attempt, params, tables, options).await
    }

    async fn keep(
        session: Session,
        instance: ServerInstance,
        attempt: Duration,
        params: &Params,
        tables: &[TableSpec],
        options: &KeeperOptions,
    ) -> Result<Keeper> {
        tokio::select! {
            biased;
            locked = lock(&session, tables, attempt) => locked?,
            never = tell_blockers(params, &options.application_name, session.backend_pid(), &options.blockers) => match never {},
        }
        check(&session, tables).await?;
        let relations = measure(&session, tables).await?;
        let id = session.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await?.try_get(0)?;
        let (tell, waiters) = watch::channel(Vec::new());
        let watcher = tokio::spawn(ddl::watch(
            params.clone(),
            options.application_name.clone(),
            session.backend_pid(),
            tell,
        ));
        Ok(Keeper {
            session,
            instance,
            snapshot: id,
            relations,
            waiters,
            yield_to_ddl: options.yield_to_ddl,
            watcher,
        })
    }

    /// The name to import the snapshot by.
    #[must_use]
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// The server that the snapshot belongs to.
    #[must_use]
    pub fn instance(&self) -> &ServerInstance {
        &self.instance
    }

    #[must_use]
    pub fn version(&self) -> ServerVersion {
        self.session.version()
    }

    /// A table that is held.
    #[must_use]
    pub fn relation(&self, name: &QualifiedName) -> Option<Relation> {
        self.relations.get(name).copied()
    }

    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.session.is_closed()
    }

    /// Who waits for our locks; looked at about once a second.
    #[must_use]
    pub fn waiters(&self) -> watch::Receiver<Vec<Waiter>> {
        self.waiters.clone()
    }

    /// Resolves when nothing may be read any more: the connection is gone ([`LOST`]), or DDL waits and we are to yield ([`YIELDED`]).
    pub fn ended(&self) -> impl Future<Output = Error> + Send + use<> {
        let closed = self.session.closed();
        let mut waiters = self.waiters.clone();
        let yields = self.yield_to_ddl;
        async move {
            let ddl = async {
                if yields && let Ok(found) = waiters.wait_for(|found| !found.is_empty()).await {
                    let who = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                    return Error::stop(
                        YIELDED,
                        "the copy was given up because DDL on the source waited for it",
                    )
                    .detail(who);
                }
                std::future::pending().await
            };
            tokio::select! {
                () = closed => lost(),
                error = ddl => error,
            }
        }
    }
}

/// How long an attempt to get the locks may wait, unless the server looks for deadlocks sooner.
const ATTEMPT: Duration = Duration::from_millis(500);

/// Half of `deadlock_timeout`, at most [`ATTEMPT`].
async fn attempt(session: &Session) -> Result<Duration> {
    let row = session
        .query_one("SELECT setting::int4 FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'", &[])
        .await?;
    let deadlock = Duration::from_millis(u64::try_from(row.get::<_, i32>(0)).unwrap_or(0));
    Ok((deadlock / 2).clamp(Duration::from_millis(1), ATTEMPT))
}

const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

/// Locks all tables. Nobody else is to lose his transaction over it: somebody who holds one table in ACCESS EXCLUSIVE mode and wants another
/// one that we hold would be in a deadlock with us, and the server may choose either. So an attempt gives up, and lets go of what it has
/// got, before `deadlock_timeout`. The savepoint keeps transaction and snapshot (which LOCK alone doesn't take).
async fn lock(session: &Session, tables: &[TableSpec], attempt: Duration) -> Result<()> {
    session
        .batch_execute(&format!("SET LOCAL lock_timeout = {}; SAVEPOINT unlocked", attempt.as_millis()))
        .await?;
    loop {
        match lock_once(session, tables).await {
            Err(error) if error.is(pg::sqlstate::LOCK_NOT_AVAILABLE) => {
                session.batch_execute("ROLLBACK TO unlocked").await?;
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
            Err(error) if error.is(pg::sqlstate::UNDEFINED_TABLE) => return Err(rewritten(error.primary())),
            done => {
                done?;
                break;
            }
        }
    }
    // A snapshot is not exported from within a savepoint.
    session.batch_execute("RELEASE unlocked; SET LOCAL lock_timeout = 0").await?;
    Ok(())
}

async fn lock_once(session: &Session, tables: &[TableSpec]) -> Result<()> {
    for group in tables.chunks(500) {
        let names: Vec<String> = group.iter().map(TableSpec::from_clause).collect();
        session.batch_execute(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "))).await?;
    }
    Ok(())
}

/// The keeper, or the server with it, is gone.
pub(crate) fn lost() -> Error {
    Error::connection("the connection that held the source's snapshot is lost").with_code(LOST)
}

/// An import that failed because nobody holds the snapshot any more.
pub(crate) fn lost_snapshot(error: Error) -> Error {
    // "invalid snapshot identifier"; from 17 on "snapshot … does not exist".
    if error.is("22023") || error.is(pg::sqlstate::UNDEFINED_OBJECT) { lost() } else { error }
}

fn rewritten(what: &str) -> Error {
    Error::stop(REWRITTEN, format!("a table was changed while the snapshot was taken: {what}"))
        .hint("wait until the DDL on the source is over")
}

fn names(tables: &[TableSpec]) -> Vec<&QualifiedName> {
    tables.iter().map(|table| &table.name).collect()
}

/// `VALUES` of the tables' places and names.
fn values(tables: &[&QualifiedName]) -> String {
    let rows = tables.iter().enumerate().map(|(n, table)| {
        let (schema, name) = (quote_literal(&table.schema), quote_literal(&table.name));
        format!("({n}, {schema}::pg_catalog.text, {name}::pg_catalog.text)")
    });
    rows.collect::<Vec<_>>().join(", ")
}

/// The tables and their partitions as the snapshot has them.
fn given(tables: &[&QualifiedName]) -> String {
    format!(
        "WITH RECURSIVE given (n, schema, name) AS (VALUES {}),
         found AS (
           SELECT g.n, g.schema, g.name, c.oid, c.relkind
             FROM given g
             LEFT JOIN pg_catalog.pg_namespace s ON s.nspname = g.schema
             LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = g.name),
         tree (n, oid, relkind) AS (
           SELECT n, oid, relkind FROM found
           UNION
           SELECT t.n, c.oid, c.relkind FROM tree t
             JOIN pg_catalog.pg_inherits i ON t.relkind = 'p' AND i.inhparent = t.oid
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid)",
        values(tables)
    )
}

/// The first of the tables that was rewritten, dropped or replaced since the snapshot. What the query reads is the snapshot's catalog;
/// to_regclass and pg_relation_filenode look into the present one.
fn rewritten_sql(tables: &[&QualifiedName]) -> String {
    format!(
        "{} SELECT pg_catalog.format('%I.%I', f.schema, f.name) FROM found f
          WHERE f.oid IS NULL
             OR f.oid IS DISTINCT FROM pg_catalog.to_regclass(pg_catalog.format('%I.%I', f.schema, f.name))::pg_catalog.oid
             OR EXISTS (SELECT FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid
                         WHERE t.n = f.n AND c.relkind = 'r'
                           AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid))
          ORDER BY f.n LIMIT 1",
        given(tables)
    )
}

/// The same for one table, cheaper where it has no partitions: a row if it is not what the snapshot knows.
pub(super) fn table_rewritten_sql(table: &QualifiedName, partitioned: bool) -> String {
    if partitioned {
        return rewritten_sql(&[table]);
    }
    format!(
        "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c
                WHERE c.oid = pg_catalog.to_regclass({})::pg_catalog.oid
                  AND (c.relkind <> 'r' OR c.relfilenode = pg_catalog.pg_relation_filenode(c.oid)))",
        quote_literal(&table.to_string())
    )
}

/// What was read of it, or would be, is not what the snapshot's rows were.
pub(super) fn another_table(table: &QualifiedName) -> Error {
    Error::connection(format!(
        "{table} was rewritten, dropped or replaced before it was read through the snapshot"
    ))
    .with_code(LOST)
}

/// For a session that has read the table through the snapshot, or has locked it to do so: is it the table that the snapshot knows? Before this
/// session got its lock, DDL may have been carried out (a keeper may have lost its locks, on purpose or not), and what that wrote anew reads as
/// empty. The session's own lock, which its transaction keeps, holds off any more of it.
///
/// # Errors
/// [`LOST`]: take a new snapshot.
pub async fn expect_same_table(session: &Session, table: &QualifiedName, partitioned: bool) -> Result<()> {
    let rewritten = session.query_opt(&table_rewritten_sql(table, partitioned), &[]).await?;
    if rewritten.is_none() { Ok(()) } else { Err(another_table(table)) }
}

async fn check(session: &Session, tables: &[TableSpec]) -> Result<()> {
    for group in tables.chunks(1000) {
        if let Some(row) = session.query_opt(&rewritten_sql(&names(group)), &[]).await? {
            let name: String = row.try_get(0)?;
            return Err(rewritten(&format!("table {name} was rewritten, dropped or replaced")));
        }
    }
    Ok(())
}

/// What building an index takes, roughly, beside loading the rows: a GIN index over a jsonb or an array takes twice as long as they do.
const INDEX_EFFORT: &str =
    "CASE m.amname WHEN 'btree' THEN 0.25 WHEN 'hash' THEN 0.25 WHEN 'brin' THEN 0.05 ELSE 2 END";

/// Sizes of the files under the lock: nothing can shrink any more.
async fn measure(session: &Session, tables: &[TableSpec]) -> Result<HashMap<QualifiedName, Relation>> {
    let mut relations = HashMap::with_capacity(tables.len());
    for group in tables.chunks(1000) {
        // Before 12 there are no access methods for tables: relam is 0.
        let sql = format!(
            "{} SELECT f.n, f.oid,
                    coalesce(sum(pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8), 0)::int8,
                    coalesce(sum(pg_catalog.pg_relation_size(c.oid)
                        + coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0)), 0)::int8,
                    f.relkind = 'r' AND coalesce((SELECT a.amname = 'heap' FROM pg_catalog.pg_am a WHERE a.oid = min(c.relam::int8)), true),
                    coalesce(sum(pg_catalog.pg_relation_size(c.oid) * (SELECT sum({INDEX_EFFORT}) FROM pg_catalog.pg_index x
                        JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid JOIN pg_catalog.pg_am m ON m.oid = i.relam
                        WHERE x.indrelid = c.oid)), 0)::int8
               FROM found f JOIN tree t ON t.n = f.n JOIN pg_catalog.pg_class c ON c.oid = t.oid
              WHERE c.relkind <> 'f'
              GROUP BY f.n, f.oid, f.relkind ORDER BY f.n",
            given(&names(group))
        );
        for row in session.query(&sql, &[]).await? {
            let unsigned = |column| row.try_get(column).map(|n: i64| u64::try_from(n).unwrap_or(0));
            let sizes = Sizes {
                pages: unsigned(2)?,
                bytes: unsigned(3)?,
                heap: row.try_get(4)?,
                index_effort: unsigned(5)?,
            };
            let place = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(usize::MAX);
            if let Some(table) = group.get(place) {
                relations.insert(table.name.clone(), Relation { oid: row.try_get(1)?, sizes });
            }
        }
    }
    if relations.len() != tables.len() {
        return Err(rewritten("a table is no longer an ordinary one"));
    }
    Ok(relations)
}

/// How often the watcher looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
