//! Statistics of the tables that were filled: without them the first queries on the target get the plans of empty tables.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures_util::future::try_join_all;
use pg::{Error, QualifiedName, Result, Session};

/// ANALYZE of the tables on several sessions, and of the partitioned tables that they are part of, which autovacuum never does.
/// A table that is gone meanwhile is left out.
pub async fn analyze_in_parallel(sessions: &[Session], tables: &[QualifiedName], which: Which) -> Result<()> {
    let Some(first) = sessions.first() else { return Ok(()) };
    let queue = Mutex::new(VecDeque::from(commands(first, tables, which).await?));
    let work = async |session: &Session| {
        loop {
            let next =
                queue.lock().map_err(|_| Error::failed("WORKER", "an ANALYZE worker failed"))?.pop_front();
            let Some(command) = next else { return Ok::<(), Error>(()) };
            let result = session.batch_execute(&command).await.map_err(Error::from);
            if let Err(error) = result
                && !error.is(pg::sqlstate::UNDEFINED_TABLE)
            {
                return Err(error);
            }
        }
    };
    try_join_all(sessions.iter().map(work)).await?;
    Ok(())
}

/// Which of the tables given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    All,
    /// Those that no ANALYZE command is known to have done. What autovacuum has looked at may have been half loaded then.
    NotDone,
}

/// Before 18 ANALYZE of a partitioned table does its partitions as well, and they need none of their own; since 18 ONLY leaves them out,
/// and they can be done beside each other. Largest first.
async fn commands(client: &Session, tables: &[QualifiedName], which: Which) -> Result<Vec<String>> {
    let major = client.version().major();
    let only = major >= 18;
    let condition = match (which, major) {
        (Which::All, _) => "true",
        // Before 14 nobody remembers when a partitioned table was analyzed.
        (Which::NotDone, ..14) => {
            "CASE c.relkind WHEN 'p' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname
                                                      AND s.tablename = c.relname AND s.inherited)
             ELSE pg_catalog.pg_stat_get_last_analyze_time(c.oid) IS NULL END"
        }
        (Which::NotDone, _) => "pg_catalog.pg_stat_get_last_analyze_time(c.oid) IS NULL",
    };
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let rows = client
        .query(
            &format!("WITH given AS (
                 SELECT c.oid FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
                 JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
             ), all_of_them AS (
                 SELECT coalesce(tree.relid, given.oid) AS oid
                 FROM given LEFT JOIN LATERAL (
                     SELECT relid FROM pg_catalog.pg_partition_tree(pg_catalog.pg_partition_root(given.oid))
                 ) AS tree ON true
             )
             SELECT n.nspname::text, c.relname::text, c.relkind = 'p'
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid IN (SELECT oid FROM all_of_them) AND c.relkind IN ('r', 'p', 'm') AND ($3 OR NOT c.relispartition)
               AND {condition}
             ORDER BY c.relkind = 'p' AND NOT $3 DESC, c.relpages DESC, 1, 2"),
            &[&schemas, &names, &only],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let table = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
            let only = if only && row.get(2) { "ONLY " } else { "" };
            format!("ANALYZE {only}{table}")
        })
        .collect())
}
