//! C1: both sides hold the same rows.
//!
//! Each side is read in one snapshot. A table is first compared by its count and two order-free sums over the
//! digests of its rows' text; only where these differ are the rows fetched, to name the keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::side::{FOREIGN_SCHEMAS, Side, quote};

/// What is compared. By default everything, and nothing more may be on the target.
#[derive(Clone, Default)]
pub struct Scope {
    only: Vec<String>,
    extra_columns: bool,
}

impl Scope {
    /// Only these tables, as `schema.table` without quotes.
    pub fn only(tables: &[&str]) -> Self {
        Self { only: tables.iter().map(|t| (*t).to_owned()).collect(), ..Self::default() }
    }

    /// The target's tables may have columns of their own.
    pub fn extra_columns(mut self) -> Self {
        self.extra_columns = true;
        self
    }
}

/// Fails with every difference between the two databases.
pub async fn expect_same(source: &str, target: &str) {
    let found = differences(source, target, &Scope::default()).await;
    assert!(found.is_empty(), "source and target differ:\n{}", found.join("\n"));
}

/// Every difference in content as a line of text, with at most ten keys for a table and kind.
pub async fn differences(source: &str, target: &str, scope: &Scope) -> Vec<String> {
    let (source, target) = tokio::join!(Side::open(source), Side::open(target));
    let (of_source, of_target) = tokio::join!(tables(&source), tables(&target));
    let wanted = |name: &String| scope.only.is_empty() || scope.only.contains(name);
    let mut found = Vec::new();
    for name in &scope.only {
        if !of_source.contains_key(name) {
            found.push(format!("{name}: no such table on the source"));
        }
    }
    for name in of_target.keys().filter(|name| wanted(name) && !of_source.contains_key(*name)) {
        found.push(format!("{name}: only on the target"));
    }
    for (name, table) in of_source.iter().filter(|(name, _)| wanted(name)) {
        match of_target.get(name) {
            None => found.push(format!("{name}: missing on the target")),
            Some(there) => {
                let here = Read { side: &source, table };
                let there = Read { side: &target, table: there };
                found.extend(compare(name, &here, &there, scope).await);
            }
        }
    }
    tokio::join!(source.close(), target.close());
    found
}

struct Table {
    from: String,
    /// name → (type, the type's send function)
    columns: BTreeMap<String, (String, String)>,
    key: Vec<String>,
}

struct Read<'a> {
    side: &'a Side,
    table: &'a Table,
}

/// Tables by name. Of a partitioned table the root stands for its leaves, which may be cut otherwise on the
/// target; an inheritance child is a table of its own.
async fn tables(side: &Side) -> BTreeMap<String, Table> {
    let rows = side
        .rows(&format!(
            "SELECT n.nspname::text, c.relname::text, c.relkind = 'p',
                    coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
                              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}'),
                    coalesce((SELECT array_agg(coalesce(b.typname, t.typname)::text ORDER BY a.attnum)
                              FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                              LEFT JOIN pg_type b ON b.oid = t.typbasetype
                              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}'),
                    coalesce((SELECT array_agg(coalesce(b.typsend, t.typsend)::text ORDER BY a.attnum)
                              FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                              LEFT JOIN pg_type b ON b.oid = t.typbasetype
                              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}'),
                    coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum)
                              FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                              WHERE i.indrelid = c.oid AND i.indisprimary), '{{}}')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
               AND n.nspname NOT IN {FOREIGN_SCHEMAS}
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                               AND d.objid = c.oid AND d.deptype = 'e')"
        ))
        .await;
    rows.iter()
        .map(|row| {
            let (schema, name): (String, String) = (row.get(0), row.get(1));
            let only = if row.get::<_, bool>(2) { "" } else { "ONLY " };
            let columns: Vec<String> = row.get(3);
            let types: Vec<String> = row.get(4);
            let sends: Vec<String> = row.get(5);
            let table = Table {
                from: format!("{only}{}.{}", quote(&schema), quote(&name)),
                columns: columns.into_iter().zip(types.into_iter().zip(sends)).collect(),
                key: row.get(6),
            };
            (format!("{schema}.{name}"), table)
        })
        .collect()
}

async fn compare(name: &str, source: &Read<'_>, target: &Read<'_>, scope: &Scope) -> Vec<String> {
    let columns: Vec<&String> = source.table.columns.keys().collect();
    let missing: Vec<&&String> = columns.iter().filter(|c| !target.table.columns.contains_key(**c)).collect();
    if !missing.is_empty() {
        return vec![format!("{name}: columns {missing:?} are missing on the target")];
    }
    let extra: Vec<&String> =
        target.table.columns.keys().filter(|c| !source.table.columns.contains_key(*c)).collect();
    if !extra.is_empty() && !scope.extra_columns {
        return vec![format!("{name}: columns {extra:?} are only on the target")];
    }
    // Before 12 extra_float_digits = 3 means 17 digits, from then on the shortest that is exact.
    let floats_as_bytes = (source.side.major < 12) != (target.side.major < 12);
    let row = |read: &Read| row_text(read, &columns, floats_as_bytes);
    let (source_row, target_row) = (row(source), row(target));
    let (a, b) = tokio::join!(sums(source, &source_row), sums(target, &target_row));
    if a == b {
        return Vec::new();
    }
    let key = key_text(source.table, floats_as_bytes);
    let (a, b) = tokio::join!(rows(source, &key, &source_row), rows(target, &key, &target_row));
    describe(name, &a, &b)
}

fn row_text(read: &Read, columns: &[&String], floats_as_bytes: bool) -> String {
    let value = |column: &String| value_text(read.table, column, floats_as_bytes);
    format!("ROW({})::text", columns.iter().map(|c| value(c)).collect::<Vec<_>>().join(", "))
}

fn value_text(table: &Table, column: &String, floats_as_bytes: bool) -> String {
    const WITH_FLOATS: [&str; 9] =
        ["float4", "float8", "point", "line", "lseg", "box", "path", "polygon", "circle"];
    let (kind, send) = &table.columns[column];
    if floats_as_bytes && WITH_FLOATS.contains(&kind.trim_start_matches('_')) {
        format!("encode({send}({}), 'hex')", quote(column))
    } else {
        quote(column)
    }
}

/// The key of the source's table on both sides; without one, the whole row is the key.
fn key_text(table: &Table, floats_as_bytes: bool) -> Option<String> {
    let values: Vec<String> = table.key.iter().map(|c| value_text(table, c, floats_as_bytes)).collect();
    (!values.is_empty()).then(|| format!("ROW({})::text", values.join(", ")))
}

/// Count and two sums. Sums and not xor: two equal rows must not cancel each other.
async fn sums(read: &Read<'_>, row: &str) -> (i64, String, String) {
    let half = |from: u32| format!("coalesce(sum(('x' || substr(h, {from}, 15))::bit(60)::bigint), 0)::text");
    let statement = format!(
        "SELECT count(*), {}, {} FROM (SELECT md5(r) AS h FROM (SELECT {row} AS r FROM {} OFFSET 0) AS s) AS t",
        half(1),
        half(17),
        read.table.from
    );
    let rows = read.side.rows(&statement).await;
    (rows[0].get(0), rows[0].get(1), rows[0].get(2))
}

async fn rows(read: &Read<'_>, key: &Option<String>, row: &str) -> HashMap<String, Vec<String>> {
    let key = key.as_deref().unwrap_or(row);
    let statement = format!("SELECT {key}, {row} FROM {}", read.table.from);
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for row in read.side.rows(&statement).await {
        found.entry(row.get(0)).or_default().push(row.get(1));
    }
    found.values_mut().for_each(|rows| rows.sort_unstable());
    found
}

fn describe(
    name: &str,
    source: &HashMap<String, Vec<String>>,
    target: &HashMap<String, Vec<String>>,
) -> Vec<String> {
    let mut kinds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let keys: BTreeSet<&String> = source.keys().chain(target.keys()).collect();
    for key in keys {
        let short = |rows: &[String]| rows.iter().map(|r| shorten(r, 200)).collect::<Vec<_>>().join(" ");
        match (source.get(key), target.get(key)) {
            (Some(_), None) => kinds.entry("missing on the target").or_default().push(shorten(key, 100)),
            (None, Some(_)) => kinds.entry("only on the target").or_default().push(shorten(key, 100)),
            (Some(a), Some(b)) if a.len() != b.len() => {
                let line = format!("{} {} times, not {}", shorten(key, 100), b.len(), a.len());
                kinds.entry("other count").or_default().push(line);
            }
            (Some(a), Some(b)) if a != b => {
                let line = format!("{}\n    source {}\n    target {}", shorten(key, 100), short(a), short(b));
                kinds.entry("other values").or_default().push(line);
            }
            _ => {}
        }
    }
    kinds
        .into_iter()
        .map(|(kind, keys)| {
            let shown = &keys[..keys.len().min(10)];
            format!("{name}: {} rows {kind}:\n  {}", keys.len(), shown.join("\n  "))
        })
        .collect()
}

fn shorten(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}
