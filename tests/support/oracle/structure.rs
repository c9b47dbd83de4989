//! The schema and the sequences of both sides are the same.
//!
//! Asked of the catalogs, in forms that all majors print alike. Where both sides are of one major, the dumps of
//! both are compared as well, which sees everything there is (owners, privileges, comments, functions).

use std::collections::BTreeSet;

use super::side::{FOREIGN_SCHEMAS, Side, quote};
use crate::support::programs;

pub async fn expect_same_structure(source: &str, target: &str) {
    let found = structure_differences(source, target).await;
    assert!(found.is_empty(), "the schemas differ:\n{}", found.join("\n"));
}

pub async fn expect_same_sequences(source: &str, target: &str) {
    let found = sequence_differences(source, target).await;
    assert!(found.is_empty(), "the sequences differ:\n{}", found.join("\n"));
}

/// Every difference as a line `only on the source: …` or `only on the target: …`.
pub async fn structure_differences(source_uri: &str, target_uri: &str) -> Vec<String> {
    let (source, target) = tokio::join!(Side::open(source_uri), Side::open(target_uri));
    let (a, b) = tokio::join!(structure(&source), structure(&target));
    let mut found = differing(&a, &b);
    if source.major == target.major {
        let (a, b) = tokio::join!(dump(source_uri), dump(target_uri));
        found.extend(differing(&a, &b));
    }
    found
}

/// `last_value` and `is_called` of every sequence.
pub async fn sequence_differences(source: &str, target: &str) -> Vec<String> {
    let (source, target) = tokio::join!(Side::open(source), Side::open(target));
    let (a, b) = tokio::join!(sequences(&source), sequences(&target));
    differing(&a, &b)
}

fn differing(source: &BTreeSet<String>, target: &BTreeSet<String>) -> Vec<String> {
    let only = |side: &str, a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).map(|line| format!("only on the {side}: {line}")).collect::<Vec<_>>()
    };
    [only("source", source, target), only("target", target, source)].concat()
}

async fn structure(side: &Side) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for statement in STRUCTURE {
        let statement = statement.replace("$SCHEMAS", FOREIGN_SCHEMAS);
        lines.extend(side.lines(&statement).await);
    }
    lines
}

const STRUCTURE: [&str; 7] = [
    // to_jsonb: attgenerated came with 12
    "SELECT format('column %s of %s.%s: %s %s%s%s default %s collation %s',
            row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), n.nspname, c.relname, a.attname,
            format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' not null' END,
            ' identity ' || a.attidentity::text || ' generated ' || coalesce(to_jsonb(a) ->> 'attgenerated', ''),
            pg_get_expr(d.adbin, d.adrelid), (SELECT collname FROM pg_collation WHERE oid = a.attcollation))
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND n.nspname NOT IN $SCHEMAS",
    "SELECT format('relation %s.%s: kind %s persistence %s identity %s partition %s options %s row security %s',
            n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident,
            pg_get_expr(c.relpartbound, c.oid), c.reloptions, c.relrowsecurity)
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN $SCHEMAS",
    // not null is the column's business, 18 lists it here as well; a foreign key towards a partition is named by the server, and not
    // every major names it alike (conparentid came with 11)
    "SELECT format('constraint %s on %s.%s: %s%s',
            CASE WHEN o.contype <> 'f' OR coalesce(to_jsonb(o) ->> 'conparentid', '0') = '0' THEN o.conname END, n.nspname, coalesce(c.relname, t.typname),
            pg_get_constraintdef(o.oid), CASE WHEN NOT o.convalidated THEN ' (not validated)' END)
     FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
     LEFT JOIN pg_class c ON c.oid = o.conrelid LEFT JOIN pg_type t ON t.oid = o.contypid
     WHERE o.contype NOT IN ('n', 't') AND n.nspname NOT IN $SCHEMAS",
    "SELECT format('index %s.%s: %s valid %s identity %s', n.nspname, c.relname, pg_get_indexdef(i.indexrelid),
            i.indisvalid, i.indisreplident)
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT IN $SCHEMAS",
    "SELECT format('trigger on %s.%s: %s enabled %s', n.nspname, c.relname,
            replace(pg_get_triggerdef(t.oid), 'EXECUTE PROCEDURE', 'EXECUTE FUNCTION'), t.tgenabled)
     FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE NOT t.tgisinternal AND n.nspname NOT IN $SCHEMAS
       AND p.pronamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'walferry%')",
    "SELECT format('sequence %s.%s: %s start %s increment %s min %s max %s cache %s cycle %s owned by %s', n.nspname,
            c.relname, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
            s.seqcycle, (SELECT d.refobjid::regclass || ' ' || d.refobjsubid FROM pg_depend d WHERE d.objid = c.oid
                         AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                         AND d.deptype IN ('a', 'i')))
     FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT IN $SCHEMAS",
    "SELECT format('enum %s.%s: %s', n.nspname, t.typname, string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder))
     FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE n.nspname NOT IN $SCHEMAS GROUP BY n.nspname, t.typname",
];

async fn sequences(side: &Side) -> BTreeSet<String> {
    let rows = side
        .rows(&format!(
            "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'S' AND n.nspname NOT IN {FOREIGN_SCHEMAS}"
        ))
        .await;
    let mut lines = BTreeSet::new();
    for row in rows {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        let statement = format!("SELECT last_value, is_called FROM {}.{}", quote(&schema), quote(&name));
        let value = side.rows(&statement).await;
        let (last, called): (i64, bool) = (value[0].get(0), value[0].get(1));
        lines.insert(format!("sequence {schema}.{name} at {last}, called {called}"));
    }
    lines
}

/// The lines of a schema dump without what varies from run to run.
async fn dump(uri: &str) -> BTreeSet<String> {
    let mut command = tokio::process::Command::new(programs::client("pg_dump"));
    command.args(["--schema-only", "--no-publications", "--no-subscriptions"]).args([
        "--exclude-schema=walferry",
        "--exclude-schema=walferry_fence",
        "-d",
        uri,
    ]);
    let output = command.output().await.expect("pg_dump runs");
    assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--") && !line.starts_with('\\'))
        .filter(|line| !line.contains("walferry"))
        .map(|line| format!("dump: {line}"))
        .collect()
}
