//! A column as far as COPY is concerned, read from a server's catalog.

use crate::fit::ColumnType;

/// One column of a table on one side.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ColumnShape {
    pub name: String,
    /// `GENERATED ALWAYS AS (…)`: computed by the server, never copied.
    pub generated: bool,
    /// The type under all domains, as `schema.name`, if its binary format means the same on every server that has it; `None` = text.
    pub binary_type: Option<String>,
    /// The type under all domains.
    pub of: ColumnType,
}

impl ColumnShape {
    /// From the rows of [`shapes_sql`]: each with the OID of its table.
    pub fn from_rows(rows: Vec<Vec<Option<String>>>) -> impl Iterator<Item = (u32, ColumnShape)> {
        rows.into_iter().filter_map(|row| {
            let [oid, name, generated, binary_type, id, modifier, element] =
                <[Option<String>; 7]>::try_from(row).ok()?;
            let generated = generated.as_deref() == Some("t");
            let of = ColumnType {
                id: id?.parse().ok()?,
                modifier: modifier?.parse().ok()?,
                element: element?.parse().ok()?,
            };
            Some((oid?.parse().ok()?, ColumnShape { name: name?, generated, binary_type, of }))
        })
    }
}

/// SQL that reads the columns of the tables with these OIDs, in the order of the tables' columns: `oid, name, generated, binary type`,
/// and the type under all domains, its modifier and its elements' type; all as text. It runs on 10 to 18.
///
/// Safe in binary are PostgreSQL's own types (their bytes carry no OID but builtin ones) and enums (a label). Not safe are types of
/// extensions and users (their version may differ), arrays and composites of those (their bytes carry OIDs of one server),
/// `reg…` types (an OID that means another object there), and xml (its bytes carry an encoding declaration).
#[must_use]
pub fn shapes_sql(oids: &[u32]) -> String {
    let list = oids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    format!(
        "WITH RECURSIVE base AS (
           SELECT a.attrelid, a.attnum, a.attname, coalesce(to_jsonb(a)->>'attgenerated', '') <> '' AS generated, a.atttypid AS typid,
                  a.atttypmod AS modifier
             FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = ANY ('{{{list}}}'::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
           UNION ALL
           SELECT b.attrelid, b.attnum, b.attname, b.generated, t.typbasetype,
                  CASE WHEN b.modifier >= 0 THEN b.modifier ELSE t.typtypmod END
             FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typid WHERE t.typtype = 'd'
         )
         SELECT b.attrelid::pg_catalog.text, b.attname::pg_catalog.text, CASE WHEN b.generated THEN 't' ELSE 'f' END,
                CASE WHEN t.typtype = 'e'
                       OR t.oid < 10000 AND t.typtype IN ('b', 'r', 'm') AND t.typsend <> 0 AND t.typreceive <> 0
                          AND t.typname !~ '^_?(reg|xml$)'
                     THEN n.nspname || '.' || t.typname END,
                t.oid::pg_catalog.text, b.modifier::pg_catalog.text,
                CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END::pg_catalog.text
           FROM base b
           JOIN pg_catalog.pg_type t ON t.oid = b.typid AND t.typtype <> 'd'
           JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
          ORDER BY b.attrelid, b.attnum"
    )
}
