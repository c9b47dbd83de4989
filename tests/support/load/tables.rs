//! Random changes to tables of any shape, read from the catalog.
//!
//! Values are made for the types that `values` knows; a column of another type is left to its default. A row
//! that violates a constraint costs its transaction, which is part of the load.

use super::values::{Value, literal};
use super::{Plan, Rng};
use crate::support::postgres::{connect, explain};

pub struct Table {
    /// Quoted and qualified.
    name: String,
    partitioned: bool,
    columns: Vec<Column>,
}

struct Column {
    /// Quoted.
    name: String,
    value: Value,
    in_key: bool,
    has_default: bool,
    nullable: bool,
    /// Quoted table and column that a foreign key of this one column points to.
    references: Option<(String, String)>,
}

const COLUMNS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'p', quote_ident(a.attname),
           (WITH RECURSIVE base AS (
                SELECT t.* FROM pg_type t WHERE t.oid = a.atttypid
                UNION ALL SELECT t.* FROM base JOIN pg_type t ON t.oid = base.typbasetype)
            SELECT typname::text FROM base WHERE typbasetype = 0),
           format_type(a.atttypid, a.atttypmod),
           (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = a.atttypid),
           coalesce(i.indisprimary, false), a.atthasdef OR a.attidentity <> '', NOT a.attnotnull,
           (SELECT format('%I.%I', fn.nspname, fc.relname) FROM pg_class fc JOIN pg_namespace fn
            ON fn.oid = fc.relnamespace WHERE fc.oid = f.confrelid),
           (SELECT quote_ident(fa.attname) FROM pg_attribute fa WHERE fa.attrelid = f.confrelid
            AND fa.attnum = f.confkey[1]),
           (SELECT m - 4 FROM (SELECT CASE WHEN a.atttypmod > 0 THEN a.atttypmod ELSE t.typtypmod END AS m
                               FROM pg_type t WHERE t.oid = a.atttypid) AS modifier WHERE m > 4)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)
    LEFT JOIN LATERAL (SELECT * FROM pg_constraint o WHERE o.conrelid = c.oid AND o.contype = 'f'
                       AND o.conkey = ARRAY[a.attnum] LIMIT 1) f ON true
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'walferry', 'walferry_fence')
      AND a.attidentity <> 'a' AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
    ORDER BY 1, a.attnum";

pub(super) async fn look(uri: &str, names: &[&str]) -> Vec<Table> {
    let client = connect(uri).await.unwrap_or_else(|e| panic!("{uri}: {}", explain(&e)));
    let rows = client.query(COLUMNS, &[]).await.unwrap_or_else(|e| panic!("{}", explain(&e)));
    let mut tables: Vec<Table> = Vec::new();
    for row in rows {
        let name: String = row.get(0);
        if !names.is_empty() && !names.contains(&name.replace('"', "").as_str()) {
            continue;
        }
        if tables.last().is_none_or(|table| table.name != name) {
            tables.push(Table { name, partitioned: row.get(1), columns: Vec::new() });
        }
        let table = tables.last_mut().expect("one was pushed");
        let references = row.get::<_, Option<String>>(9).zip(row.get(10));
        table.columns.push(Column {
            name: row.get(2),
            value: Value { base: row.get(3), declared: row.get(4), labels: row.get(5), length: row.get(11) },
            in_key: row.get(6),
            has_default: row.get(7),
            nullable: row.get(8),
            references,
        });
    }
    assert!(!tables.is_empty(), "no table to write to");
    tables
}

pub(super) fn plan(tables: &[Table], rng: &mut Rng) -> Plan {
    let mut statements = Vec::new();
    for _ in 0..=rng.below(4) {
        statements.push(change(rng.pick(tables), rng));
    }
    if rng.percent(15) {
        statements.push("SAVEPOINT a".to_owned());
        statements.push(change(rng.pick(tables), rng));
        statements.push(if rng.percent(70) { "ROLLBACK TO a" } else { "RELEASE a" }.to_owned());
        statements.push(change(rng.pick(tables), rng));
    }
    Plan { statements, commit: !rng.percent(10) }
}

fn change(table: &Table, rng: &mut Rng) -> String {
    match rng.below(100) {
        0..45 => insert(table, rng),
        45..75 => update(table, rng, |column| !column.in_key),
        75..85 => update(table, rng, |_| true),
        _ => format!("DELETE FROM {} WHERE {}", table.name, some_rows(table, rng, 2)),
    }
}

fn insert(table: &Table, rng: &mut Rng) -> String {
    let mut columns = Vec::new();
    let mut values = Vec::new();
    for column in &table.columns {
        if column.has_default && (column.in_key || rng.percent(50)) {
            continue;
        }
        if let Some(value) = value(column, rng) {
            columns.push(column.name.as_str());
            values.push(value);
        }
    }
    if columns.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table.name);
    }
    format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), values.join(", "))
}

fn update(table: &Table, rng: &mut Rng, may_change: impl Fn(&Column) -> bool) -> String {
    let candidates: Vec<&Column> = table.columns.iter().filter(|c| may_change(c)).collect();
    let mut sets = Vec::new();
    for column in candidates {
        if rng.percent(50) {
            sets.extend(value(column, rng).map(|value| format!("{} = {value}", column.name)));
        }
    }
    let rows = 1 + rng.below(3);
    if sets.is_empty() {
        return format!("DELETE FROM {} WHERE {}", table.name, some_rows(table, rng, 1));
    }
    format!("UPDATE {} SET {} WHERE {}", table.name, sets.join(", "), some_rows(table, rng, rows))
}

/// Up to `count` rows from a random place on.
fn some_rows(table: &Table, rng: &mut Rng, count: u64) -> String {
    let name = &table.name;
    let only = if table.partitioned { "" } else { "ONLY " };
    format!(
        "(tableoid, ctid) = ANY (SELECT tableoid, ctid FROM {only}{name}
          OFFSET {} % (SELECT count(*) + 1 FROM {only}{name}) LIMIT {count})",
        rng.below(1 << 40)
    )
}

/// `None` leaves the column out.
fn value(column: &Column, rng: &mut Rng) -> Option<String> {
    if column.nullable && rng.percent(10) {
        return Some("NULL".to_owned());
    }
    if let Some((table, referenced)) = &column.references {
        let from = rng.below(1 << 40);
        return Some(format!(
            "(SELECT {referenced} FROM {table} OFFSET {from} % (SELECT greatest(count(*), 1) FROM {table}) LIMIT 1)"
        ));
    }
    literal(&column.value, column.in_key, rng)
}
