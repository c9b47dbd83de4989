//! A table of the stream, matched to the table of the same name in the target.
//!
//! Columns are matched by name. Types may differ where the text fits. Key equality is the target column's, so two changes may be
//! coalesced by the bytes of their key only where that equality is bytewise.

use std::collections::HashMap;
use std::sync::Arc;

use pg::{Error, Lsn, QualifiedName, Result, quote_ident};
use pipeline::{Relation, RelationColumn, ReplicaIdentity, is_portable};
use tokio_postgres::{Client, Row};

use super::statement::fixed_columns;

/// One column of the stream's relation, as the target has it.
#[derive(Clone, Debug)]
pub struct TargetColumn {
    pub ident: String,
    /// The type as `"schema"."name"`: never with a modifier, so that a value that is too long is an error and not cut.
    pub cast: String,
    /// False for generated columns: they make their own value.
    pub written: bool,
    /// GENERATED ALWAYS AS IDENTITY: takes a value on INSERT (OVERRIDING SYSTEM VALUE) but can't be SET (428C9).
    pub identity_always: bool,
    /// The type, or one that it is made of, has no equality of its own (json, point, xml): its text is compared.
    pub compare_text: bool,
    /// The type's own equality, with its schema: it may be an extension's, and search_path is pinned.
    pub equals: String,
    /// Values that are equal may have different texts (1.0 and 1.00).
    pub loose_equality: bool,
    /// The column's type, on the target.
    pub type_id: u32,
    /// Takes the source's binary values as they are.
    pub takes_binary: bool,
}

/// The table's row type: many rows travel as one array of it.
#[derive(Clone, Debug)]
pub struct RowType {
    pub type_id: u32,
    /// Type and position in [`Target::columns`] of every column that the table has, in its order.
    pub columns: Vec<(u32, Option<usize>)>,
}

/// A table that changes go to.
#[derive(Debug)]
pub struct Target {
    /// Tells prepared statements of different tables, and of different versions of one, apart.
    pub id: u32,
    pub relation: Arc<Relation>,
    pub name: QualifiedName,
    /// As SQL, with ONLY where the table is not partitioned.
    pub only: String,
    /// As SQL, without.
    pub sql: String,
    pub partitioned: bool,
    pub columns: Vec<TargetColumn>,
    /// Values come in binary: sets of updates are arrays of this. None: they come as text, or the type can't be received in part.
    pub row_type: Option<RowType>,
    pub binary: bool,
    /// Positions of the key in `columns`; empty without a key, and under identity FULL.
    pub key: Vec<usize>,
    pub full: bool,
    /// Changes are applied in WAL order, never coalesced.
    pub in_order: bool,
    /// ENABLE ALWAYS or REPLICA triggers or rules fire: the whole piece keeps WAL order.
    pub triggers: bool,
    /// GIN indexes with a pending list that the role may merge, those of partitions included.
    pub gin: Vec<u32>,
    pub copied_at: Lsn,
    pub left_at: Option<Lsn>,
}

impl Target {
    /// Is the change that commits at `commit_lsn` ours?
    pub fn wants(&self, commit_lsn: Lsn) -> bool {
        commit_lsn >= self.copied_at && self.left_at.is_none_or(|left| commit_lsn < left)
    }

    /// The row of a change may be there although the change finds none: a BEFORE trigger has returned NULL, or a column that can't
    /// be set holds another value.
    pub fn may_find_none(&self) -> bool {
        self.triggers || !self.key.is_empty() && fixed_columns(self, &[]).next().is_some()
    }

    /// Positions of the columns that an INSERT writes.
    pub fn written(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().enumerate().filter(|(_, column)| column.written).map(|(index, _)| index)
    }
}

/// The tables of these names: number of the name, OID, kind, row type, whether triggers or rules fire for a replica, and the GIN indexes
/// with a pending list, if the role owns them as the merge demands.
const TABLES: &str = "
WITH triggers AS MATERIALIZED (SELECT DISTINCT tgrelid AS relid FROM pg_catalog.pg_trigger WHERE tgenabled IN ('A', 'R')),
     rules AS MATERIALIZED (SELECT DISTINCT ev_class AS relid FROM pg_catalog.pg_rewrite WHERE ev_enabled IN ('A', 'R')),
     gin AS MATERIALIZED (
       SELECT i.oid, x.indrelid AS relid
       FROM pg_catalog.pg_class i JOIN pg_catalog.pg_am m ON m.oid = i.relam JOIN pg_catalog.pg_index x ON x.indexrelid = i.oid
       WHERE m.amname = 'gin' AND i.relkind = 'i' AND x.indisready AND pg_catalog.pg_has_role(i.relowner, 'USAGE') AND
         coalesce((SELECT option_value::boolean FROM pg_catalog.pg_options_to_table(i.reloptions) WHERE option_name = 'fastupdate'), true))
SELECT g.n, c.oid, c.relkind::text, c.reltype,
       c.oid IN (SELECT relid FROM triggers) OR c.oid IN (SELECT relid FROM rules)
       OR c.relkind = 'p' AND EXISTS (SELECT FROM triggers t WHERE t.relid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid))),
       ARRAY(SELECT oid FROM gin WHERE relid = c.oid OR c.relkind = 'p' AND relid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)))
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY AS g (schema, name, n)
JOIN pg_catalog.pg_namespace s ON s.nspname = g.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = g.name AND c.relkind IN ('r', 'p', 'f')";

/// The columns of these tables. Types down to the base of a domain; `checked` when a domain on the way has a CHECK. What there is to know
/// of a type is found once, however many columns have it.
const COLUMNS: &str = "
WITH RECURSIVE base AS (
    SELECT a.attrelid, a.attnum, t.oid, t.typtype, t.typbasetype, a.attcollation, false AS checked,
           CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE -1 END AS typmod
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
    SELECT b.attrelid, b.attnum, t.oid, t.typtype, t.typbasetype, b.attcollation,
           b.checked OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contypid = b.oid AND k.contype = 'c'), b.typmod
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
), kind AS MATERIALIZED (
    SELECT b.oid,
       NOT EXISTS (
           WITH RECURSIVE part AS (
               SELECT b.oid
             UNION
               SELECT n.oid FROM part JOIN pg_catalog.pg_type x ON x.oid = part.oid
               CROSS JOIN LATERAL (
                   SELECT x.typelem WHERE x.typelem <> 0 AND x.typlen = -1
                   UNION ALL SELECT x.typbasetype WHERE x.typtype = 'd'
                   UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
                             WHERE f.attrelid = x.typrelid AND x.typtype = 'c' AND f.attnum > 0 AND NOT f.attisdropped) AS n (oid)
           )
           SELECT FROM part JOIN pg_catalog.pg_type x ON x.oid = part.oid
           WHERE x.typtype IN ('b', 'p') AND NOT (x.typelem <> 0 AND x.typlen = -1)
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
                             WHERE o.opcdefault AND m.amname IN ('btree', 'hash') AND
                               (o.opcintype = x.oid OR EXISTS (SELECT FROM pg_catalog.pg_cast s WHERE s.castsource = x.oid
                                  AND s.casttarget = o.opcintype AND s.castmethod = 'b' AND s.castcontext = 'i')))) AS comparable,
       coalesce((SELECT pg_catalog.format('OPERATOR(%I.%s)', on_.nspname, p.oprname)
                 FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
                 JOIN pg_catalog.pg_amop q ON q.amopfamily = o.opcfamily AND q.amoplefttype = o.opcintype AND q.amoprighttype = o.opcintype
                  AND q.amopstrategy = CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END
                 JOIN pg_catalog.pg_operator p ON p.oid = q.amopopr JOIN pg_catalog.pg_namespace on_ ON on_.oid = p.oprnamespace
                 WHERE o.opcdefault AND m.amname IN ('btree', 'hash') AND o.opcintype = b.oid
                 ORDER BY m.amname LIMIT 1), 'OPERATOR(pg_catalog.=)') AS equals
    FROM (SELECT DISTINCT oid FROM base WHERE typtype <> 'd') b
)
SELECT a.attname, n.nspname, t.typname, a.attgenerated <> '', a.attidentity = 'a',
       b.oid, b.typtype::text, b.checked OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'),
       coalesce(l.collisdeterministic, true), b.typmod, kind.comparable, kind.equals, a.attrelid, a.atttypid, t.typtype = 'd'
FROM pg_catalog.pg_attribute a
JOIN base b ON b.attrelid = a.attrelid AND b.attnum = a.attnum AND b.typtype <> 'd'
JOIN kind ON kind.oid = b.oid
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_collation l ON l.oid = b.attcollation
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";

/// Types whose equality is that of their text, as long as the text is the type's own output: bool, bytea, "char", name, int8, int2,
/// int4, text, oid, xid, cid, macaddr, varchar, date, timestamp, timestamptz, uuid, pg_lsn, macaddr8, xid8.
const BYTEWISE: [u32; 20] =
    [16, 17, 18, 19, 20, 21, 23, 25, 26, 28, 29, 829, 1043, 1082, 1114, 1184, 2950, 3220, 774, 5069];
const BPCHAR: u32 = 1042;
const INTEGERS: [u32; 4] = [20, 21, 23, 26];
const STRINGS: [u32; 3] = [25, 1043, 19];

fn bytewise(column: &RelationColumn, base: u32, typtype: &str, deterministic: bool, modifier: i32) -> bool {
    let source = column.type_id;
    if typtype == "e" {
        return true;
    }
    if base == BPCHAR {
        return deterministic && source == BPCHAR && modifier > 0 && column.type_modifier == modifier;
    }
    // Strings keep every byte of what they are given; the others read several spellings as one value, so the source's own
    // output has to be canonical.
    BYTEWISE.contains(&base)
        && deterministic
        && (source == base
            || STRINGS.contains(&base)
            || INTEGERS.contains(&base) && INTEGERS.contains(&source))
}

/// Code of the error for a table that can't take what the stream brings in binary: it has to bring text.
pub const BINARY_UNFIT: &str = "BINARY_UNFIT";
/// OIDs from here on are given out by the database.
const FIRST_OF_USERS: u32 = 16384;

/// A relation whose table is to be found in the target.
pub struct Wanted {
    pub relation: Arc<Relation>,
    pub id: u32,
    pub copied_at: Lsn,
    pub left_at: Option<Lsn>,
}

/// Looks the relations up in the target by schema and name, with two queries for all of them; `replica`: ordinary triggers and foreign
/// keys don't fire.
///
/// # Errors
/// The first of them has no table, or its table lacks a column. [`BINARY_UNFIT`]: the stream is `binary` and a table takes only text.
pub async fn resolve(client: &Client, wanted: &[Wanted], replica: bool, binary: bool) -> Result<Vec<Target>> {
    let name = |one: fn(&QualifiedName) -> &String| -> Vec<&str> {
        wanted.iter().map(|wanted| one(&wanted.relation.name).as_str()).collect()
    };
    let (schemas, names) = (name(|name| &name.schema), name(|name| &name.name));
    let mut tables = HashMap::with_capacity(wanted.len());
    let mut oids = Vec::with_capacity(wanted.len());
    for row in client.query(TABLES, &[&schemas, &names]).await? {
        let number: i64 = row.get(0);
        let oid: u32 = row.get(1);
        oids.push(oid);
        let kind: String = row.get(2);
        let looks = Looks {
            partitioned: kind == "p",
            row_type: row.get(3),
            triggers: row.get(4),
            gin: row.get(5),
            replica,
            binary,
        };
        tables.insert(number - 1, (oid, looks));
    }
    let mut columns = HashMap::<u32, Vec<Row>>::with_capacity(oids.len());
    for row in client.query(COLUMNS, &[&oids]).await? {
        columns.entry(row.get(12)).or_default().push(row);
    }
    let mut targets = Vec::with_capacity(wanted.len());
    for (number, wanted) in (0i64..).zip(wanted) {
        let table = &wanted.relation.name;
        let Some((oid, looks)) = tables.get(&number) else {
            return Err(Error::stop("TABLE_MISSING", format!("table {table} does not exist on the target")).hint(
                format!(
                    "create it there as it is on the source; the run goes on by itself: pg_dump --schema-only \
                     --table='{table}' SOURCE | psql TARGET"
                ),
            ));
        };
        let found = columns.get(oid).map_or(&[][..], Vec::as_slice);
        match matched(wanted, looks, found) {
            Ok(target) if binary && !target.columns.iter().all(|column| column.takes_binary) => {
                return Err(Error::connection(format!("table {table} can't take its values in binary"))
                    .with_code(BINARY_UNFIT));
            }
            Ok(target) => targets.push(target),
            Err(column) => return Err(missing_column(client, table, column).await),
        }
    }
    Ok(targets)
}

/// What else there is to know of a table.
struct Looks {
    partitioned: bool,
    row_type: u32,
    triggers: bool,
    gin: Vec<u32>,
    replica: bool,
    binary: bool,
}

/// Puts the table together from its rows of [`COLUMNS`]; an error is the column that it lacks.
fn matched<'a>(
    wanted: &'a Wanted,
    looks: &Looks,
    found: &[Row],
) -> std::result::Result<Target, &'a RelationColumn> {
    let Looks { partitioned, triggers, replica, binary, .. } = *looks;
    let relation = &wanted.relation;
    let full = relation.identity == ReplicaIdentity::Full;
    let mut columns = Vec::with_capacity(relation.columns.len());
    let mut key = Vec::new();
    let mut keys_bytewise = true;
    let mut domain_checks = false;
    for column in &relation.columns {
        let row = found.iter().find(|row| row.get::<_, &str>(0) == column.name).ok_or(column)?;
        let base: u32 = row.get(5);
        let loose = !bytewise(column, base, row.get(6), row.get(8), row.get(9));
        if column.key && !full {
            key.push(columns.len());
            keys_bytewise &= !loose;
        }
        domain_checks |= row.get::<_, bool>(7);
        columns.push(TargetColumn {
            ident: quote_ident(&column.name),
            cast: format!("{}.{}", quote_ident(row.get(1)), quote_ident(row.get(2))),
            written: !row.get::<_, bool>(3),
            identity_always: row.get(4),
            compare_text: !row.get::<_, bool>(10),
            equals: row.get(11),
            loose_equality: loose,
            type_id: row.get(13),
            takes_binary: takes_binary(column.type_id, row.get(13), row.get(6)),
        });
    }
    let sql = relation.name.to_string();
    Ok(Target {
        id: wanted.id,
        relation: relation.clone(),
        name: relation.name.clone(),
        only: if partitioned { sql.clone() } else { format!("ONLY {sql}") },
        sql,
        partitioned,
        in_order: !replica || full || triggers || domain_checks || !keys_bytewise,
        row_type: if binary { row_type(looks.row_type, found, relation) } else { None },
        binary,
        columns,
        key,
        full,
        triggers: triggers || !replica,
        gin: looks.gin.clone(),
        copied_at: wanted.copied_at,
        left_at: wanted.left_at,
    })
}

/// The same type of PostgreSQL's own, or an enum's label, which is a text: what OIDs users' types have is each database's own matter.
fn takes_binary(source: u32, target: u32, typtype: &str) -> bool {
    source == target && is_portable(source) || typtype == "e" && source >= FIRST_OF_USERS
}

/// Columns that are not sent are received as NULL, which a domain may refuse.
fn row_type(type_id: u32, found: &[Row], relation: &Relation) -> Option<RowType> {
    let domains = found.iter().any(|row| row.get::<_, bool>(14));
    let position = |name: &str| relation.columns.iter().position(|column| column.name == name);
    let columns = found.iter().map(|row| (row.get(13), position(row.get(0)))).collect();
    (!domains && type_id != 0).then_some(RowType { type_id, columns })
}

async fn missing_column(client: &Client, table: &QualifiedName, column: &RelationColumn) -> Error {
    // Built-in types have the same OID everywhere; the name of another one is not in the stream's Relation message.
    let built_in = column.type_id < FIRST_OF_USERS;
    let formatted = match client
        .query_one("SELECT pg_catalog.format_type($1, $2)", &[&column.type_id, &column.type_modifier])
        .await
    {
        Ok(row) if built_in => row.get::<_, Option<String>>(0).unwrap_or_default(),
        _ => "<its type on the source>".to_owned(),
    };
    Error::stop(
        "COLUMN_MISSING",
        format!("column {} of table {table} does not exist on the target", quote_ident(&column.name)),
    )
    .hint(format!(
        "run on the target: ALTER TABLE {table} ADD COLUMN {} {formatted}; the run then goes on by itself",
        quote_ident(&column.name)
    ))
}
