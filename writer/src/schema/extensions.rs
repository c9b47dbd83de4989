//! Which extensions some tables need: pg_dump leaves all of them out when it is told schemas or tables.

use pg::{QualifiedName, Result};
use tokio_postgres::Client;

/// The extensions that the tables depend on, through columns, defaults, indexes, constraints and the types behind them.
pub async fn used_extensions(source: &Client, tables: &[QualifiedName]) -> Result<Vec<String>> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let rows = source
        .query(
            "WITH RECURSIVE needed (classid, objid) AS (
                 SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid, c.oid
                 FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
                 JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
               UNION
                 SELECT other.classid, other.objid FROM needed JOIN LATERAL (
                     SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_catalog.pg_depend d
                     WHERE d.classid = needed.classid AND d.objid = needed.objid AND d.deptype IN ('n', 'a', 'i', 'e')
                   UNION ALL
                     -- what is part of a table: its indexes, constraints and defaults
                     SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
                     WHERE d.refclassid = needed.classid AND d.refobjid = needed.objid AND d.deptype IN ('a', 'i')
                       AND needed.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                 ) AS other ON true
             )
             SELECT e.extname::text FROM needed JOIN pg_catalog.pg_extension e ON e.oid = needed.objid
             WHERE needed.classid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.extname <> 'plpgsql' GROUP BY 1 ORDER BY 1",
            &[&schemas, &names],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
