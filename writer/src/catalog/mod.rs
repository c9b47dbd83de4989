//! What is on the target: the tables of given names, as they are now.
//!
//! Names are looked up as schema and name, never through search_path. Nothing is kept: somebody may change the target at any time.

use std::collections::HashMap;

use pg::{QualifiedName, Result};
use tokio_postgres::Client;

/// GENERATED … AS IDENTITY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    Always,
    ByDefault,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    pub name: String,
    pub type_schema: String,
    pub type_name: String,
    /// `format_type` with the modifier.
    pub formatted: String,
    pub not_null: bool,
    pub has_default: bool,
    /// Makes its own value: nothing may be written to it.
    pub generated: bool,
    pub identity: Option<Identity>,
}

/// What the role of the session may do, row security included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Privileges {
    pub usage: bool,
    pub select: bool,
    pub insert: bool,
    pub update: bool,
    pub delete: bool,
    pub truncate: bool,
    /// Policies apply: with `row_security = off` every statement fails.
    pub row_security: bool,
}

/// A relation of the target; only tables can take rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    pub oid: u32,
    /// `pg_class.relkind`.
    pub kind: char,
    pub columns: Vec<Column>,
    pub privileges: Privileges,
    /// Triggers that fire although changes are applied as replica (ENABLE REPLICA or ALWAYS), partitions' included.
    pub firing_triggers: Vec<String>,
    /// Key columns of each valid, complete index, in index order.
    pub indexes: Vec<Vec<String>>,
}

impl Table {
    #[must_use]
    pub fn takes_rows(&self) -> bool {
        matches!(self.kind, 'r' | 'p' | 'f')
    }

    /// Is there an index that finds a row by these columns, or by some of them first?
    #[must_use]
    pub fn finds_by(&self, key: &[String]) -> bool {
        self.indexes.iter().any(|index| index.first().is_some_and(|first| key.contains(first)))
    }

    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The relations of these names, whatever they are; a name that the target doesn't know is left out.
pub async fn look(client: &Client, names: &[QualifiedName]) -> Result<HashMap<QualifiedName, Table>> {
    let (schemas, relations): (Vec<&str>, Vec<&str>) =
        names.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    let rows = client
        .query(
            "SELECT n.nspname, c.relname, c.oid, c.relkind::text, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
                    pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.has_table_privilege(c.oid, 'INSERT'),
                    pg_catalog.has_table_privilege(c.oid, 'UPDATE'), pg_catalog.has_table_privilege(c.oid, 'DELETE'),
                    pg_catalog.has_table_privilege(c.oid, 'TRUNCATE'), pg_catalog.row_security_active(c.oid),
                    ARRAY(SELECT g.tgname::text FROM pg_catalog.pg_trigger g WHERE g.tgenabled IN ('A', 'R')
                          AND g.tgrelid IN (SELECT c.oid UNION ALL SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)))
             FROM unnest($1::text[], $2::text[]) AS w(schema, name)
             JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
             WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c', 'i')",
            &[&schemas, &relations],
        )
        .await?;
    let mut tables = HashMap::new();
    let mut by_oid = HashMap::new();
    for row in &rows {
        let name = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let oid: u32 = row.get(2);
        by_oid.insert(oid, name.clone());
        tables.insert(
            name,
            Table {
                oid,
                kind: row.get::<_, &str>(3).chars().next().unwrap_or('?'),
                columns: Vec::new(),
                privileges: Privileges {
                    usage: row.get(4),
                    select: row.get(5),
                    insert: row.get(6),
                    update: row.get(7),
                    delete: row.get(8),
                    truncate: row.get(9),
                    row_security: row.get(10),
                },
                firing_triggers: row.get(11),
                indexes: Vec::new(),
            },
        );
    }
    let oids: Vec<u32> = by_oid.keys().copied().collect();
    columns(client, &oids, &by_oid, &mut tables).await?;
    indexes(client, &oids, &by_oid, &mut tables).await?;
    Ok(tables)
}

async fn columns(
    client: &Client,
    oids: &[u32],
    by_oid: &HashMap<u32, QualifiedName>,
    tables: &mut HashMap<QualifiedName, Table>,
) -> Result<()> {
    let rows = client
        .query(
            "SELECT a.attrelid, a.attname, n.nspname, t.typname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
                    a.atthasdef, a.attgenerated <> '', a.attidentity::text
             FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
             WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum",
            &[&oids],
        )
        .await?;
    for row in &rows {
        let Some(table) = by_oid.get(&row.get::<_, u32>(0)).and_then(|name| tables.get_mut(name)) else {
            continue;
        };
        table.columns.push(Column {
            name: row.get(1),
            type_schema: row.get(2),
            type_name: row.get(3),
            formatted: row.get(4),
            not_null: row.get(5),
            has_default: row.get(6),
            generated: row.get(7),
            identity: match row.get::<_, &str>(8) {
                "a" => Some(Identity::Always),
                "d" => Some(Identity::ByDefault),
                _ => None,
            },
        });
    }
    Ok(())
}

async fn indexes(
    client: &Client,
    oids: &[u32],
    by_oid: &HashMap<u32, QualifiedName>,
    tables: &mut HashMap<QualifiedName, Table>,
) -> Result<()> {
    let rows = client
        .query(
            "SELECT i.indrelid, ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
                                      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                                      WHERE k.ord <= i.indnkeyatts ORDER BY k.ord)
             FROM pg_catalog.pg_index i
             WHERE i.indrelid = ANY ($1) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY i.indexrelid",
            &[&oids],
        )
        .await?;
    for row in &rows {
        if let Some(table) = by_oid.get(&row.get::<_, u32>(0)).and_then(|name| tables.get_mut(name)) {
            table.indexes.push(row.get(1));
        }
    }
    Ok(())
}
