//! Materialized views: their rows are not in the stream; they are refreshed, each after those that it reads.

use std::collections::HashSet;

use pg::{Error, QualifiedName, Result};
use tokio_postgres::Client;

/// Refreshes the materialized views of `schemas` that are populated on the source and exist on the target. Returns how many.
pub async fn refresh_matviews(source: &Client, target: &Client, schemas: &[String]) -> Result<usize> {
    let populated = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'm' AND c.relispopulated AND n.nspname = ANY ($1)";
    let wanted: HashSet<(String, String)> =
        source.query(populated, &[&schemas]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    if wanted.is_empty() {
        return Ok(0);
    }
    let mut refreshed = 0;
    for (schema, name) in in_order(target, schemas).await? {
        if !wanted.contains(&(schema.clone(), name.clone())) {
            continue;
        }
        let view = QualifiedName::new(schema, name);
        match target.batch_execute(&format!("REFRESH MATERIALIZED VIEW {view}")).await.map_err(Error::from) {
            Ok(()) => refreshed += 1,
            // It reads one that is not populated on the source any more: there it shows what was.
            Err(error) if error.is(pg::sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                tracing::warn!("materialized view {view} stays empty: {error}");
            }
            Err(error) => {
                return Err(error.context(format_args!("materialized view {view} can't be refreshed on the target")).hint(
                    "what it calls has to be there: compare the functions of both sides, or DROP MATERIALIZED VIEW on the source if \
                     it is of no use",
                ));
            }
        }
    }
    Ok(refreshed)
}

/// By depth in the graph of relations that read each other, through plain views too.
async fn in_order(target: &Client, schemas: &[String]) -> Result<Vec<(String, String)>> {
    let rows = target
        .query(
            "WITH RECURSIVE reads AS (
                 SELECT DISTINCT r.ev_class AS reader, d.refobjid AS read
                 FROM pg_catalog.pg_rewrite r
                 JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
                     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class
             ), depth AS (
                 SELECT c.oid, 0 AS level FROM pg_catalog.pg_class c WHERE c.relkind = 'm'
               UNION
                 SELECT reads.reader, depth.level + 1 FROM depth JOIN reads ON reads.read = depth.oid WHERE depth.level < 1000
             )
             SELECT n.nspname::text, c.relname::text FROM depth JOIN pg_catalog.pg_class c USING (oid)
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'm' AND n.nspname = ANY ($1) GROUP BY 1, 2 ORDER BY max(depth.level), 1, 2",
            &[&schemas],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
