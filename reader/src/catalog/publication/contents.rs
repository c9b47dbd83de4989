//! The catalog rows about publications, as they are.

use std::collections::HashMap;

use pg::{QualifiedName, Result, Session};

use super::Actions;
use crate::catalog::selection::USER_SCHEMA;

/// Everything that decides what is published.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub publications: Vec<Publication>,
    /// Tables named in a publication: by (publication, table).
    pub members: HashMap<(u32, u32), Member>,
    /// Schemas named in a publication: (publication, schema).
    pub schemas: Vec<(u32, u32)>,
    pub relations: Vec<Relation>,
}

#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub name: String,
    pub oid: u32,
    pub all_tables: bool,
    pub actions: Actions,
    pub via_root: bool,
    pub generated: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub filter: Option<String>,
    /// None also when the list has every column that is not generated.
    pub columns: Option<Vec<String>>,
}

/// A table that may be published.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub oid: u32,
    pub name: QualifiedName,
    pub schema_oid: u32,
    pub partitioned: bool,
    /// Nearest first, the root last.
    pub ancestors: Vec<u32>,
}

pub(super) async fn read(session: &Session, names: &[String]) -> Result<Contents> {
    let major = session.version().major();
    let since = |version: u32, column: &'static str| if major >= version { column } else { "false" };
    let publications = session
        .query(
            &format!(
                "SELECT pubname, oid, puballtables, pubinsert, pubupdate, pubdelete, {}, {}, {}
                 FROM pg_catalog.pg_publication WHERE pubname = ANY ($1) ORDER BY pubname",
                since(11, "pubtruncate"),
                since(13, "pubviaroot"),
                since(18, "pubgencols = 's'"),
            ),
            &[&names],
        )
        .await?
        .iter()
        .map(|row| Publication {
            name: row.get(0),
            oid: row.get(1),
            all_tables: row.get(2),
            actions: Actions {
                insert: row.get(3),
                update: row.get(4),
                delete: row.get(5),
                truncate: row.get(6),
            },
            via_root: row.get(7),
            generated: row.get(8),
        })
        .collect::<Vec<_>>();
    let oids: Vec<u32> = publications.iter().map(|publication| publication.oid).collect();
    Ok(Contents {
        members: members(session, &oids, major).await?,
        schemas: schemas(session, &oids, major).await?,
        relations: relations(session).await?,
        publications,
    })
}

async fn members(session: &Session, publications: &[u32], major: u32) -> Result<HashMap<(u32, u32), Member>> {
    let columns = if major >= 15 {
        "pg_catalog.pg_get_expr(r.prqual, r.prrelid),
         CASE WHEN r.prattrs IS NOT NULL AND (
             SELECT pg_catalog.bool_or(a.attnum = ANY (r.prattrs::int2[]) <> (a.attgenerated = ''))
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum > 0 AND NOT a.attisdropped)
         THEN (SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum)
               FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])) END"
    } else {
        "NULL::text, NULL::text[]"
    };
    let rows = session
        .query(
            &format!(
                "SELECT r.prpubid, r.prrelid, {columns} FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = ANY ($1)"
            ),
            &[&publications],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| ((row.get(0), row.get(1)), Member { filter: row.get(2), columns: row.get(3) }))
        .collect())
}

async fn schemas(session: &Session, publications: &[u32], major: u32) -> Result<Vec<(u32, u32)>> {
    if major < 15 {
        return Ok(Vec::new());
    }
    let rows = session
        .query(
            "SELECT pnpubid, pnnspid FROM pg_catalog.pg_publication_namespace WHERE pnpubid = ANY ($1)",
            &[&publications],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// As the server's is_publishable_class: permanent tables that initdb did not make.
async fn relations(session: &Session) -> Result<Vec<Relation>> {
    let rows = session
        .query(
            &format!(
                "WITH RECURSIVE up AS (
                     SELECT i.inhrelid AS oid, i.inhparent AS ancestor, 1 AS level
                     FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
                   UNION ALL
                     SELECT up.oid, i.inhparent, up.level + 1
                     FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.ancestor
                     JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
                 ), chains AS (
                     SELECT oid, pg_catalog.array_agg(ancestor ORDER BY level) AS ancestors FROM up GROUP BY oid
                 )
                 SELECT c.oid, n.nspname, c.relname, n.oid, c.relkind = 'p', coalesce(u.ancestors, '{{}}')
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 LEFT JOIN chains u ON u.oid = c.oid
                 WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384 AND {USER_SCHEMA}
                 ORDER BY n.nspname, c.relname"
            ),
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Relation {
            oid: row.get(0),
            name: QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
            schema_oid: row.get(3),
            partitioned: row.get(4),
            ancestors: row.get(5),
        })
        .collect())
}
