//! What events need to know of a table's columns: base types, modifiers, labels, defaults, and the key.
//!
//! Domains are looked through, also those of an array's elements; a modifier that a domain sets is the column's.

use std::collections::HashMap;

use pg::{QualifiedName, Result, Session};
use pipeline::ReplicaIdentity;
use pipeline::envelope::{ColumnType, Kind, TableTypes};

/// Types of these tables' columns, published or not; a table that is not there (any more) is left out.
///
/// # Errors
/// What the server says.
pub async fn types(session: &Session, tables: &[u32]) -> Result<Vec<TableTypes>> {
    let mut described: Vec<TableTypes> = Vec::with_capacity(tables.len());
    let mut index = HashMap::new();
    let rows = session
        .query(
            "SELECT c.oid, n.nspname, c.relname, c.relreplident::text FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1) ORDER BY 2, 3",
            &[&tables],
        )
        .await?;
    for row in &rows {
        index.insert(row.get::<_, u32>(0), described.len());
        described.push(TableTypes {
            name: QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
            key: Vec::new(),
            identity: match row.get::<_, &str>(3) {
                "f" => ReplicaIdentity::Full,
                "n" => ReplicaIdentity::Nothing,
                "i" => ReplicaIdentity::Index,
                _ => ReplicaIdentity::Default,
            },
            columns: Vec::new(),
        });
    }
    for (table, column) in columns(session, tables).await? {
        if let Some(&at) = index.get(&table) {
            described[at].columns.push(column);
        }
    }
    for (table, name) in keys(session, tables).await? {
        if let Some(&at) = index.get(&table) {
            described[at].key.push(name);
        }
    }
    Ok(described)
}

async fn columns(session: &Session, tables: &[u32]) -> Result<Vec<(u32, ColumnType)>> {
    let generated = if session.version().major() < 12 { "false" } else { "a.attgenerated <> ''" };
    // An array type is its element type's array: int2vector and the like, which look similar, are not.
    let rows = session
        .query(
            &format!(
                "WITH RECURSIVE base(attrelid, attnum, oid, modifier, is_array) AS (
                     SELECT a.attrelid, a.attnum, a.atttypid, a.atttypmod, false FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
                   UNION ALL
                     SELECT b.attrelid, b.attnum, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END,
                            CASE WHEN t.typtype = 'd' AND b.modifier < 0 THEN t.typtypmod ELSE b.modifier END,
                            b.is_array OR t.typtype <> 'd'
                     FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid
                     WHERE t.typtype = 'd' OR NOT b.is_array
                       AND EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid)
                 ), resolved AS (
                     SELECT b.*, t.typname, t.typtype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid
                     WHERE t.typtype <> 'd' AND (b.is_array OR NOT EXISTS
                       (SELECT FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid))
                 )
                 SELECT a.attrelid, a.attname, a.atttypid, r.typtype::text, r.typname, r.oid, r.modifier, r.is_array, a.attnotnull,
                        CASE WHEN {generated} THEN NULL ELSE pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
                        ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = r.oid ORDER BY e.enumsortorder)
                 FROM resolved r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.attrelid AND a.attnum = r.attnum
                 LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                 ORDER BY a.attrelid, a.attnum"
            ),
            &[&tables],
        )
        .await?;
    let column = |row: &tokio_postgres::Row| ColumnType {
        name: row.get(1),
        type_oid: row.get(2),
        kind: match row.get::<_, &str>(3) {
            "c" => Kind::Composite,
            "e" => Kind::Enum,
            "r" => Kind::Range,
            "m" => Kind::Multirange,
            "p" => Kind::Pseudo,
            _ => Kind::Base,
        },
        base_name: row.get(4),
        base_oid: row.get(5),
        type_modifier: row.get(6),
        array: row.get(7),
        not_null: row.get(8),
        default: row.get::<_, Option<&str>>(9).and_then(constant),
        computed_default: row
            .get::<_, Option<&str>>(9)
            .is_some_and(|expression| constant(expression).is_none() && !expression.starts_with("NULL")),
        labels: row.get(10),
    };
    Ok(rows.iter().map(|row| (row.get(0), column(row))).collect())
}

/// Columns of each table's message key, in the order of their index.
async fn keys(session: &Session, tables: &[u32]) -> Result<Vec<(u32, String)>> {
    let key_columns = if session.version().major() >= 11 { "i.indnkeyatts" } else { "i.indnatts" };
    let rows = session
        .query(
            &format!(
                "SELECT chosen.indrelid, a.attname
                 FROM (SELECT DISTINCT ON (i.indrelid) i.indrelid, i.indkey::int2[] AS indkey, {key_columns} AS width
                       FROM pg_catalog.pg_index i
                       WHERE i.indrelid = ANY ($1) AND i.indisunique AND i.indisvalid AND i.indimmediate
                         AND i.indpred IS NULL AND i.indexprs IS NULL
                         AND NOT EXISTS (SELECT FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
                                         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                                         WHERE k.ord <= {key_columns} AND NOT a.attnotnull)
                       ORDER BY i.indrelid, i.indisprimary DESC, i.indisreplident DESC, {key_columns}, i.indexrelid) chosen,
                 LATERAL pg_catalog.unnest(chosen.indkey) WITH ORDINALITY AS k(attnum, ord)
                 JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
                 WHERE a.attrelid = chosen.indrelid AND k.ord <= chosen.width
                 ORDER BY chosen.indrelid, k.ord"
            ),
            &[&tables],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The value of a DEFAULT that is a plain literal (`5`, `'-1'::integer`, `'text'::character varying`), as text.
fn constant(expression: &str) -> Option<String> {
    let number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let bare = expression.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(expression);
    if number(bare) {
        return Some(bare.to_owned());
    }
    match expression {
        "true" => return Some("t".to_owned()),
        "false" => return Some("f".to_owned()),
        _ => {}
    }
    let mut rest = expression.strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let end = rest.find('\'')?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => break,
        }
    }
    // A cast to a type, and nothing behind it that would be computed.
    let cast = rest.strip_prefix("::")?;
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '"' | '.' | ',' | '(' | ')' | '[' | ']')
    };
    cast.chars().all(plain).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_are_constants() {
        for (expression, value) in [
            ("5", "5"),
            ("(-5)", "-5"),
            ("1.5", "1.5"),
            ("'-1'::integer", "-1"),
            ("'it''s'::text", "it's"),
            ("'x'::character varying(10)", "x"),
            ("true", "t"),
        ] {
            assert_eq!(constant(expression).as_deref(), Some(value), "{expression}");
        }
        for expression in [
            "now()",
            "nextval('s'::regclass)",
            "('a'::text || 'b'::text)",
            "'a'::text || 'b'",
            "NULL::text",
            "'x",
            "-",
        ] {
            assert_eq!(constant(expression), None, "{expression}");
        }
    }
}
