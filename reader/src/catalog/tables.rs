//! Tables as the source has them.

use std::collections::{BTreeMap, HashMap, HashSet};

use pg::{QualifiedName, Result, Session};
use pipeline::{ColumnSpec, ReplicaIdentity, TableSpec};

use super::publication::PublishedTable;
use super::selection::Selection;
use super::watch;

/// Every selected table that holds rows of its own: plain tables and leaf partitions, unlogged ones too.
pub async fn selected(session: &Session, selection: &Selection) -> Result<Vec<TableSpec>> {
    let condition = format!("c.relkind = 'r' AND {}", selection.condition(session).await?);
    describe(session, &condition, &[]).await
}

/// Every selected table once: a partitioned table for all of its partitions, and a partition only where no selected table holds it.
pub async fn topmost(session: &Session, selection: &Selection) -> Result<Vec<TableSpec>> {
    let condition = format!("c.relkind IN ('r', 'p') AND {}", selection.condition(session).await?);
    let mut specs = describe(session, &condition, &[]).await?;
    let rows = session
        .query(
            "SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relispartition",
            &[],
        )
        .await?;
    let parents: HashMap<u32, u32> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let chosen: HashSet<u32> = specs.iter().map(|spec| spec.oid).collect();
    specs.retain(|spec| {
        let mut above = std::iter::successors(parents.get(&spec.oid), |oid| parents.get(*oid));
        !above.any(|oid| chosen.contains(oid))
    });
    Ok(specs)
}

/// The tables of publications, with their column lists and filters. Generated columns are among the columns only where the publication
/// publishes them (18 and later).
pub async fn published(session: &Session, tables: &[PublishedTable]) -> Result<Vec<TableSpec>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let generated: Vec<u32> = tables
        .iter()
        .filter(|table| table.generated || table.columns.is_some())
        .map(|table| table.oid)
        .collect();
    let mut specs = describe(session, &format!("c.oid IN ({})", oids.join(", ")), &generated).await?;
    let by_oid: HashMap<u32, &PublishedTable> = tables.iter().map(|table| (table.oid, table)).collect();
    for spec in &mut specs {
        let Some(published) = by_oid.get(&spec.oid) else { continue };
        spec.filter.clone_from(&published.filter);
        if let Some(columns) = &published.columns {
            spec.columns.retain(|column| columns.contains(&column.name));
        }
    }
    Ok(specs)
}

/// `generated`: tables whose stored generated columns are wanted too.
async fn describe(session: &Session, condition: &str, generated: &[u32]) -> Result<Vec<TableSpec>> {
    let major = session.version().major();
    let not_generated = match major {
        0..12 => "true".to_owned(),
        12..18 => "a.attgenerated = ''".to_owned(),
        _ => {
            let tables: Vec<String> = generated.iter().map(u32::to_string).collect();
            format!(
                "(a.attgenerated = '' OR a.attgenerated = 's' AND a.attrelid = ANY ('{{{}}}'::oid[]))",
                tables.join(",")
            )
        }
    };
    let tables = session
        .query(
            &format!(
                "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relreplident::text, c.relpersistence = 'p', c.relnatts
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p') AND c.relpersistence IN ('p', 'u') AND {condition}
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                   AND d.objid = c.oid AND d.deptype = 'e')
                 ORDER BY 2, 3"
            ),
            &[],
        )
        .await?;
    let mut specs: Vec<TableSpec> = Vec::with_capacity(tables.len());
    for row in &tables {
        let partitioned: bool = row.get(3);
        specs.push(TableSpec {
            oid: row.get(0),
            name: QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
            root: partitioned,
            partitioned,
            columns: Vec::new(),
            filter: None,
            key: Vec::new(),
            identity: match row.get::<_, &str>(4) {
                "f" => ReplicaIdentity::Full,
                "n" => ReplicaIdentity::Nothing,
                "i" => ReplicaIdentity::Index,
                _ => ReplicaIdentity::Default,
            },
            bytes: 0,
            pages: 0,
            streamed: row.get(5),
            files: BTreeMap::new(),
            attributes: row.get(6),
        });
    }
    let files = watch::files(session, specs.iter().map(|spec| spec.oid)).await?;
    let index: HashMap<u32, usize> = specs.iter().enumerate().map(|(at, spec)| (spec.oid, at)).collect();
    for file in &files {
        if let Some(&at) = index.get(&file.table) {
            specs[at].files.insert(file.oid, file.node);
        }
    }
    measure(session, &mut specs).await?;
    let oids: Vec<u32> = specs.iter().map(|spec| spec.oid).collect();
    let columns = session
        .query(
            &format!(
                "SELECT a.attrelid, a.attname, tn.nspname, t.typname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid,
                        a.atttypmod, a.attnotnull
                 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                 JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
                 WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND {not_generated}
                 ORDER BY a.attrelid, a.attnum"
            ),
            &[&oids],
        )
        .await?;
    for row in &columns {
        if let Some(&at) = index.get(&row.get::<_, u32>(0)) {
            specs[at].columns.push(ColumnSpec {
                name: row.get(1),
                type_schema: row.get(2),
                type_name: row.get(3),
                formatted: row.get(4),
                type_oid: row.get(5),
                type_modifier: row.get(6),
                not_null: row.get(7),
            });
        }
    }
    // The identity index if one was chosen, else the primary key. A deferrable one is no identity.
    let key_columns = if major >= 11 { "i.indnkeyatts" } else { "i.indnatts" };
    let keys = session
        .query(
            &format!(
                "SELECT i.indrelid, a.attname FROM pg_catalog.pg_index i
                 JOIN pg_catalog.pg_class c ON c.oid = i.indrelid,
                 LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
                 JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
                 WHERE a.attrelid = i.indrelid AND i.indrelid = ANY ($1) AND i.indisvalid AND i.indimmediate AND k.ord <= {key_columns}
                   AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary END
                 ORDER BY i.indrelid, k.ord"
            ),
            &[&oids],
        )
        .await?;
    for row in &keys {
        if let Some(&at) = index.get(&row.get::<_, u32>(0)) {
            specs[at].key.push(row.get(1));
        }
    }
    Ok(specs)
}

/// Sizes, from the files; of a root the whole tree's, since its own relation is empty. Looking at a file takes a lock on the table: where
/// somebody keeps one away from everybody (or waits to), the sizes are those of the last ANALYZE.
async fn measure(session: &Session, specs: &mut [TableSpec]) -> Result<()> {
    let places: HashMap<u32, usize> = specs.iter().enumerate().map(|(at, spec)| (spec.oid, at)).collect();
    let oids: Vec<u32> = specs.iter().map(|spec| spec.oid).collect();
    let rows = session
        .query(
            "WITH RECURSIVE tree (root, oid) AS (
                 SELECT oid, oid FROM pg_catalog.unnest($1::oid[]) oid
               UNION ALL
                 SELECT tree.root, i.inhrelid FROM tree
                   JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
                   JOIN pg_catalog.pg_class p ON p.oid = tree.oid AND p.relkind = 'p'
             ), block AS (SELECT pg_catalog.current_setting('block_size')::int8 AS size
             ), locked AS (
                 SELECT relation FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
                    AND pid <> pg_catalog.pg_backend_pid()
                    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
             SELECT tree.root,
                    coalesce(sum(CASE WHEN c.oid IN (SELECT relation FROM locked) THEN block.size * (c.relpages
                             + coalesce((SELECT t.relpages FROM pg_catalog.pg_class t WHERE t.oid = c.reltoastrelid), 0))
                         ELSE pg_catalog.pg_table_size(c.oid) END), 0)::int8,
                    coalesce(sum(CASE WHEN tree.oid <> tree.root OR c.relkind <> 'r' THEN 0
                                      WHEN c.oid IN (SELECT relation FROM locked) THEN c.relpages
                                      ELSE pg_catalog.pg_relation_size(c.oid) / block.size END), 0)::int8
             FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid, block
             GROUP BY 1",
            &[&oids],
        )
        .await?;
    for row in &rows {
        if let Some(&at) = places.get(&row.get::<_, u32>(0)) {
            specs[at].bytes = row.get::<_, i64>(1).max(0) as u64;
            specs[at].pages = row.get::<_, i64>(2).max(0) as u64;
        }
    }
    Ok(())
}
