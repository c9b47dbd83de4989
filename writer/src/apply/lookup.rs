//! Matches relations of the stream to the tables of the same names in the target.
//!
//! Columns are matched by name. Types may differ where the text fits. Key equality is the target column's, so two changes may be
//! coalesced by the bytes of their key only where that equality is bytewise.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pg::{Error, Lsn, QualifiedName, Result, Session, quote_ident};
use pipeline::{ColumnType, Fit, Relation, RelationColumn, ReplicaIdentity, is_portable};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Row, Statement};

use super::target::{RowType, Target, TargetColumn};
use super::unfit::missing_column;

/// The tables of these names: number of the name, OID, kind, row type, whether triggers or rules fire for a replica, and the GIN indexes
/// with a pending list, if the role owns them as the merge demands. By indexes and the flags of `pg_class` throughout: where there are many
/// tables, each catalog read as a whole would cost more than all that is asked for.
const TABLES: &str = "
SELECT g.n, c.oid, c.relkind::text, c.reltype,
       c.relhastriggers AND EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('A', 'R'))
       OR c.relhasrules AND EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_enabled IN ('A', 'R'))
       OR c.relkind = 'p' AND EXISTS (PARTS SELECT FROM part JOIN pg_catalog.pg_trigger t ON t.tgrelid = part.oid
                                      WHERE t.tgenabled IN ('A', 'R')),
       CASE WHEN c.relkind = 'p'
            THEN ARRAY(PARTS SELECT i.oid FROM part JOIN pg_catalog.pg_index x ON x.indrelid = part.oid
                       JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid WHERE PENDING)
            WHEN c.relhasindex
            THEN ARRAY(SELECT i.oid FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
                       WHERE x.indrelid = c.oid AND PENDING)
            ELSE '{}' END
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY AS g (schema, name, n)
JOIN pg_catalog.pg_namespace s ON s.nspname = g.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = g.name AND c.relkind IN ('r', 'p', 'f')";

/// A partitioned table `c` and all below it. Not `pg_partition_tree`, which locks each of them, and would wait for ever where the piece that
/// asks has truncated them: a wait of one of our sessions for another is no deadlock that the server sees.
const PARTS: &str = "WITH RECURSIVE part (oid) AS (
    SELECT c.oid UNION ALL SELECT h.inhrelid FROM part JOIN pg_catalog.pg_inherits h ON h.inhparent = part.oid)";

/// Is index `i`, `x` of `pg_index`, a GIN one with a pending list that the role may merge?
const PENDING: &str = "x.indisready AND i.relkind = 'i' AND i.relam = (SELECT oid FROM pg_catalog.pg_am WHERE amname = 'gin')
         AND pg_catalog.pg_has_role(i.relowner, 'USAGE') AND
         coalesce((SELECT option_value::boolean FROM pg_catalog.pg_options_to_table(i.reloptions) WHERE option_name = 'fastupdate'), true)";

/// The columns of these tables: name, generated, GENERATED ALWAYS AS IDENTITY, type, modifier, whether the collation is deterministic.
const COLUMNS: &str = "
SELECT a.attrelid, a.attname, a.attgenerated <> '', a.attidentity = 'a', a.atttypid,
       CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE -1 END, coalesce(l.collisdeterministic, true)
FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";

/// What there is to know of these types: name, whether it is a domain, down to its base, whether a domain on the way has a CHECK, and the
/// modifier that the domains give to the base; of the base, whether all that it is made of can be compared, with which operator, and the type
/// of its elements.
const TYPES: &str = "
WITH RECURSIVE base AS (
    SELECT t.oid AS given, t.oid, t.typtype, t.typbasetype, t.typtypmod AS modifier,
           EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c') AS checked
    FROM pg_catalog.pg_type t WHERE t.oid = ANY ($1)
  UNION ALL
    SELECT b.given, t.oid, t.typtype, t.typbasetype, CASE WHEN b.modifier >= 0 THEN b.modifier ELSE t.typtypmod END,
           b.checked OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT t.oid, n.nspname, t.typname, t.typtype = 'd', b.oid, b.typtype::text, b.checked,
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
                                  AND s.casttarget = o.opcintype AND s.castmethod = 'b' AND s.castcontext = 'i')))),
       coalesce((SELECT pg_catalog.format('OPERATOR(%I.%s)', on_.nspname, p.oprname)
                 FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
                 JOIN pg_catalog.pg_amop q ON q.amopfamily = o.opcfamily AND q.amoplefttype = o.opcintype AND q.amoprighttype = o.opcintype
                  AND q.amopstrategy = CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END
                 JOIN pg_catalog.pg_operator p ON p.oid = q.amopopr JOIN pg_catalog.pg_namespace on_ ON on_.oid = p.oprnamespace
                 WHERE o.opcdefault AND m.amname IN ('btree', 'hash') AND o.opcintype = b.oid
                 ORDER BY m.amname LIMIT 1), 'OPERATOR(pg_catalog.=)'),
       b.modifier, coalesce((SELECT e.typelem FROM pg_catalog.pg_type e WHERE e.oid = b.oid AND e.typlen = -1), 0::oid)
FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.given JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE b.typtype <> 'd'";

/// Types whose equality is that of their text, as long as the text is the type's own output: bool, bytea, "char", name, int8, int2,
/// int4, text, oid, xid, cid, macaddr, varchar, date, timestamp, timestamptz, uuid, pg_lsn, macaddr8, xid8.
const BYTEWISE: [u32; 20] =
    [16, 17, 18, 19, 20, 21, 23, 25, 26, 28, 29, 829, 1043, 1082, 1114, 1184, 2950, 3220, 774, 5069];
const BPCHAR: u32 = 1042;
const INTEGERS: [u32; 4] = [20, 21, 23, 26];
const STRINGS: [u32; 3] = [25, 1043, 19];

fn bytewise(column: &RelationColumn, here: &Column) -> bool {
    let (source, base, deterministic) = (column.type_id, here.kind.base, here.deterministic);
    if here.kind.base_typtype == "e" {
        return true;
    }
    if base == BPCHAR {
        let same = column.type_modifier == here.modifier;
        return deterministic && source == BPCHAR && here.modifier > 0 && same;
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
pub(super) const FIRST_OF_USERS: u32 = 16384;

/// A relation whose table is to be found in the target.
pub struct Wanted {
    pub relation: Arc<Relation>,
    pub id: u32,
    pub copied_at: Lsn,
    pub left_at: Option<Lsn>,
}

/// A session that answers questions about the target.
pub struct Catalog {
    session: Session,
    questions: OnceCell<Questions>,
}

/// Asked again whenever a table is met for the first time: planned once, which is most of their cost where it is one table.
struct Questions {
    tables: Statement,
    columns: Statement,
    types: Statement,
}

impl Catalog {
    pub async fn new(session: Session) -> Result<Catalog> {
        session.batch_execute("SET plan_cache_mode = force_generic_plan").await?;
        Ok(Catalog { session, questions: OnceCell::new() })
    }

    pub fn client(&self) -> &Client {
        &self.session
    }

    async fn questions(&self) -> Result<&Questions> {
        let prepare = async {
            let tables = TABLES.replace("PARTS", PARTS).replace("PENDING", PENDING);
            let (tables, columns, types) = tokio::try_join!(
                self.session.prepare(&tables),
                self.session.prepare(COLUMNS),
                self.session.prepare(TYPES),
            )?;
            Ok(Questions { tables, columns, types })
        };
        self.questions.get_or_try_init(|| prepare).await
    }
}

/// Looks the relations up in the target by schema and name, with three queries for all of them; `replica`: ordinary triggers and foreign
/// keys don't fire.
///
/// # Errors
/// The first of them has no table, or its table lacks a column. [`BINARY_UNFIT`]: the stream is `binary` and a table takes only text.
pub async fn look_up(
    catalog: &Catalog,
    wanted: &[Wanted],
    replica: bool,
    binary: bool,
) -> Result<Vec<Target>> {
    let name = |one: fn(&QualifiedName) -> &String| -> Vec<&str> {
        wanted.iter().map(|wanted| one(&wanted.relation.name).as_str()).collect()
    };
    let (schemas, names) = (name(|name| &name.schema), name(|name| &name.name));
    let mut tables = HashMap::with_capacity(wanted.len());
    let questions = catalog.questions().await?;
    for row in catalog.client().query(&questions.tables, &[&schemas, &names]).await? {
        let number: i64 = row.get(0);
        let kind: &str = row.get(2);
        let looks = Looks {
            oid: row.get(1),
            partitioned: kind == "p",
            row_type: row.get(3),
            triggers: row.get(4),
            gin: row.get(5),
            replica,
            binary,
        };
        tables.insert(number - 1, looks);
    }
    let columns = columns(catalog, tables.values().map(|looks| looks.oid).collect()).await?;
    let mut targets = Vec::with_capacity(wanted.len());
    for (number, wanted) in (0i64..).zip(wanted) {
        let table = &wanted.relation.name;
        let Some(looks) = tables.get(&number) else {
            return Err(Error::stop("TABLE_MISSING", format!("table {table} does not exist on the target")).hint(
                format!(
                    "create it there as it is on the source; the run goes on by itself: pg_dump --schema-only \
                     --table='{table}' SOURCE | psql TARGET"
                ),
            ));
        };
        let found = columns.get(&looks.oid).map_or(&[][..], Vec::as_slice);
        match matched(wanted, looks, found) {
            Ok(target) if binary && !target.columns.iter().all(|column| column.takes_binary) => {
                return Err(Error::connection(format!("table {table} can't take its values in binary"))
                    .with_code(BINARY_UNFIT));
            }
            Ok(target) => targets.push(target),
            Err(column) => return Err(missing_column(catalog.client(), table, column).await),
        }
    }
    Ok(targets)
}

/// What else there is to know of a table.
struct Looks {
    oid: u32,
    partitioned: bool,
    row_type: u32,
    triggers: bool,
    gin: Vec<u32>,
    replica: bool,
    binary: bool,
}

/// What there is to know of a type.
struct Type {
    /// As `"schema"."name"`.
    cast: String,
    domain: bool,
    base: u32,
    base_typtype: String,
    checked: bool,
    comparable: bool,
    equals: String,
    modifier: i32,
    element: u32,
}

/// A column of a table of the target.
struct Column {
    name: String,
    generated: bool,
    identity_always: bool,
    type_id: u32,
    modifier: i32,
    deterministic: bool,
    kind: Arc<Type>,
}

/// The columns of these tables, in their order.
async fn columns(catalog: &Catalog, tables: Vec<u32>) -> Result<HashMap<u32, Vec<Column>>> {
    let questions = catalog.questions().await?;
    let rows = catalog.client().query(&questions.columns, &[&tables]).await?;
    let ids: HashSet<u32> = rows.iter().map(|row| row.get(4)).collect();
    let mut types = HashMap::with_capacity(ids.len());
    for row in catalog.client().query(&questions.types, &[&Vec::from_iter(ids)]).await? {
        types.insert(row.get::<_, u32>(0), Arc::new(Type::of(&row)));
    }
    let mut columns = HashMap::<u32, Vec<Column>>::with_capacity(tables.len());
    for row in &rows {
        let type_id = row.get(4);
        // A type that is gone again, between the two questions, went with the column.
        let Some(kind) = types.get(&type_id) else { continue };
        columns.entry(row.get(0)).or_default().push(Column {
            name: row.get(1),
            generated: row.get(2),
            identity_always: row.get(3),
            type_id,
            modifier: row.get(5),
            deterministic: row.get(6),
            kind: kind.clone(),
        });
    }
    Ok(columns)
}

impl Type {
    fn of(row: &Row) -> Type {
        Type {
            cast: format!("{}.{}", quote_ident(row.get(1)), quote_ident(row.get(2))),
            domain: row.get(3),
            base: row.get(4),
            base_typtype: row.get(5),
            checked: row.get(6),
            comparable: row.get(7),
            equals: row.get(8),
            modifier: row.get(9),
            element: row.get(10),
        }
    }
}

/// Puts the table together; an error is the column that it lacks.
fn matched<'a>(
    wanted: &'a Wanted,
    looks: &Looks,
    found: &[Column],
) -> std::result::Result<Target, &'a RelationColumn> {
    let Looks { partitioned, triggers, replica, binary, .. } = *looks;
    let relation = &wanted.relation;
    let full = relation.identity == ReplicaIdentity::Full;
    let mut columns = Vec::with_capacity(relation.columns.len());
    let mut key = Vec::new();
    let mut keys_bytewise = true;
    let mut domain_checks = false;
    for column in &relation.columns {
        let here = found.iter().find(|here| here.name == column.name).ok_or(column)?;
        let kind = &here.kind;
        let loose = !bytewise(column, here);
        let fit = fit(column, here);
        if column.key && !full {
            key.push(columns.len());
            keys_bytewise &= !loose;
        }
        domain_checks |= kind.checked;
        columns.push(TargetColumn {
            ident: quote_ident(&column.name),
            cast: kind.cast.clone(),
            written: !here.generated,
            identity_always: here.identity_always,
            compare_text: !kind.comparable,
            equals: kind.equals.clone(),
            loose_equality: loose,
            type_id: here.type_id,
            takes_binary: fit.is_none() && takes_binary(column.type_id, here.type_id, &kind.base_typtype),
            fit,
        });
    }
    let sql = relation.name.to_string();
    Ok(Target {
        id: wanted.id,
        relation: relation.clone(),
        oid: looks.oid,
        name: relation.name.clone(),
        only: if partitioned { sql.clone() } else { format!("ONLY {sql}") },
        sql,
        partitioned,
        in_order: !replica || full || triggers || domain_checks || !keys_bytewise,
        row_type: if binary { row_type(looks.row_type, found, relation) } else { None },
        binary,
        looked_at: columns.iter().any(|column| column.fit.is_some()),
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

fn fit(column: &RelationColumn, here: &Column) -> Option<Fit> {
    let Type { base, modifier, element, .. } = *here.kind;
    let modifier = if here.modifier >= 0 { here.modifier } else { modifier };
    Fit::of(
        ColumnType::of_stream(column.type_id, column.type_modifier),
        ColumnType { id: base, modifier, element },
    )
}

/// Columns that are not sent are received as NULL, which a domain may refuse.
fn row_type(type_id: u32, found: &[Column], relation: &Relation) -> Option<RowType> {
    let domains = found.iter().any(|here| here.kind.domain);
    let position = |name: &str| relation.columns.iter().position(|column| column.name == name);
    let columns = found.iter().map(|here| (here.type_id, position(&here.name))).collect();
    (!domains && type_id != 0).then_some(RowType { type_id, columns })
}
