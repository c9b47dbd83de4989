//! What DDL did to tables that are streamed already, where the stream has no word about it.
//!
//! `ADD COLUMN … DEFAULT random()` and `ALTER COLUMN … TYPE` give every row new values and write the table anew, with nothing in the
//! stream; a replica identity that is gone makes the source refuse the application's own UPDATE; a partition that is attached brings
//! rows along that were never changed.

use std::collections::{BTreeMap, HashMap};

use pg::{QualifiedName, Result, Session};
use pipeline::{ReplicaIdentity, TableSpec};

/// A table's file, or one of its partitions'.
pub(super) struct File {
    /// The table whose tree it belongs to.
    pub table: u32,
    pub oid: u32,
    pub node: u32,
    /// It has become a partition by ATTACH: CREATE TABLE … PARTITION OF records the table (a system column is never touched again) and its
    /// place in the tree in one transaction.
    attached: bool,
}

/// The files of these tables and of their partitions.
pub(super) async fn files(session: &Session, tables: impl Iterator<Item = u32>) -> Result<Vec<File>> {
    let oids: Vec<u32> = tables.collect();
    let rows = session
        .query(
            "WITH RECURSIVE tree (root, oid, attached) AS (
                 SELECT oid, oid, false FROM pg_catalog.unnest($1::oid[]) oid
               UNION ALL
                 SELECT tree.root, c.oid, i.xmin::text <> a.xmin::text FROM tree
                   JOIN pg_catalog.pg_class p ON p.oid = tree.oid AND p.relkind = 'p'
                   JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
                   JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = -1)
             SELECT tree.root, tree.oid, c.relfilenode, tree.attached FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid
              WHERE c.relkind = 'r'",
            &[&oids],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| File { table: row.get(0), oid: row.get(1), node: row.get(2), attached: row.get(3) })
        .collect())
}

/// What has happened to a table since it was recorded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Altered {
    /// As [`TableSpec::files`] and [`TableSpec::attributes`] are now.
    pub files: BTreeMap<u32, u32>,
    pub attributes: i16,
    /// Columns whose values a rewrite has made: new ones, and those of another type.
    pub rewritten: Vec<MadeAnew>,
    /// Partitions with rows that were attached.
    pub attached: Vec<String>,
    /// It had a replica identity, and has none any more.
    pub identity_lost: bool,
    /// Its name now, if that is another one.
    pub renamed: Option<QualifiedName>,
}

/// A column as it is after the rewrite.
#[derive(Debug, PartialEq, Eq)]
pub struct MadeAnew {
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
}

/// Looks at tables as they are now; `None` for one that is gone. Waits for nobody's lock but that on a partition just attached.
pub async fn altered(session: &Session, tables: &[TableSpec]) -> Result<Vec<Option<Altered>>> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let rows = session
        .query(
            "SELECT t.n, c.relnatts, CASE c.relreplident WHEN 'f' THEN true WHEN 'n' THEN false
                        ELSE EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
                                     AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END) END,
                    s.nspname, c.relname
               FROM pg_catalog.unnest($1::oid[]) WITH ORDINALITY t (oid, n) JOIN pg_catalog.pg_class c ON c.oid = t.oid
               JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace",
            &[&oids],
        )
        .await?;
    let mut found: Vec<Option<Altered>> = tables.iter().map(|_| None).collect();
    for row in &rows {
        let at = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
        if let (Some(place), Some(table)) = (found.get_mut(at), tables.get(at)) {
            let identity_lost = !row.get::<_, bool>(2) && named_old_rows(table);
            let name = QualifiedName::new(row.get::<_, String>(3), row.get::<_, String>(4));
            let renamed = (name != table.name).then_some(name);
            *place = Some(Altered { attributes: row.get(1), identity_lost, renamed, ..Altered::default() });
        }
    }
    let mut files_of: HashMap<u32, Vec<File>> = HashMap::new();
    for file in files(session, oids.iter().copied()).await? {
        files_of.entry(file.table).or_default().push(file);
    }
    for (table, altered) in tables.iter().zip(&mut found) {
        let Some(altered) = altered else { continue };
        let mine = files_of.remove(&table.oid).unwrap_or_default();
        altered.files = mine.iter().map(|file| (file.oid, file.node)).collect();
        if table.files.is_empty() {
            continue;
        }
        if mine.iter().any(|file| table.files.get(&file.oid).is_some_and(|node| *node != file.node)) {
            altered.rewritten = columns_made_anew(session, table).await?;
        }
        for file in mine.iter().filter(|file| file.attached && !table.files.contains_key(&file.oid)) {
            let row = session
                .query_opt(
                    "SELECT oid::pg_catalog.regclass::text FROM pg_catalog.pg_class WHERE oid = $1 AND pg_catalog.pg_relation_size(oid) > 0",
                    &[&file.oid],
                )
                .await?;
            altered.attached.extend(row.map(|row| row.get::<_, String>(0)));
        }
    }
    Ok(found)
}

fn named_old_rows(table: &TableSpec) -> bool {
    match table.identity {
        ReplicaIdentity::Full => true,
        ReplicaIdentity::Nothing => false,
        ReplicaIdentity::Default | ReplicaIdentity::Index => !table.key.is_empty(),
    }
}

/// New columns, and recorded ones that have another type now. VACUUM FULL, CLUSTER and TRUNCATE write a table anew without either.
async fn columns_made_anew(session: &Session, table: &TableSpec) -> Result<Vec<MadeAnew>> {
    let generated = if session.version().major() >= 12 { "a.attgenerated <> ''" } else { "false" };
    let rows = session
        .query(
            &format!(
                "SELECT a.attname, a.attnum, a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND NOT {generated} ORDER BY a.attnum"
            ),
            &[&table.oid],
        )
        .await?;
    let mut made = Vec::new();
    for row in &rows {
        let column = MadeAnew { name: row.get(0), type_oid: row.get(2), type_modifier: row.get(3) };
        let anew = match table.columns.iter().find(|before| before.name == column.name) {
            Some(before) => {
                (before.type_oid, before.type_modifier) != (column.type_oid, column.type_modifier)
            }
            None => row.get::<_, i16>(1) > table.attributes,
        };
        made.extend(anew.then_some(column));
    }
    Ok(made)
}
