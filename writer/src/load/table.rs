//! A table of the target as the load finds it.

use std::collections::HashMap;

use pg::wire::Wire;
use pg::{Error, QualifiedName, Result, quote_ident, quote_literal};
use pipeline::TableSpec;
use pipeline::copy::{ColumnShape, Format, shapes_sql};

/// One table of the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetTable {
    pub name: QualifiedName,
    pub partitioned: bool,
    pub columns: Vec<ColumnShape>,
}

impl TargetTable {
    /// The tables of these names, in their order; `None` where there is none that takes rows.
    pub(super) async fn look(wire: &mut Wire, names: &[QualifiedName]) -> Result<Vec<Option<TargetTable>>> {
        let mut found = Vec::with_capacity(names.len());
        for group in names.chunks(1000) {
            let values = group.iter().enumerate().map(|(n, name)| {
                let (schema, name) = (quote_literal(&name.schema), quote_literal(&name.name));
                format!("({n}, {schema}::pg_catalog.text, {name}::pg_catalog.text)")
            });
            let sql = format!(
                "SELECT g.n, c.oid, c.relkind FROM (VALUES {}) g (n, schema, name)
                   JOIN pg_catalog.pg_namespace s ON s.nspname = g.schema
                   JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = g.name
                  WHERE c.relkind IN ('r', 'p', 'f')",
                values.collect::<Vec<_>>().join(", ")
            );
            let mut places = HashMap::new();
            for row in wire.simple(&sql).await? {
                let [Some(n), Some(oid), Some(kind)] = row.as_slice() else { continue };
                if let (Ok(n), Ok(oid)) = (n.parse::<usize>(), oid.parse::<u32>()) {
                    places.insert(n, (oid, kind == "p"));
                }
            }
            let oids: Vec<u32> = places.values().map(|(oid, _)| *oid).collect();
            let mut shapes = HashMap::<u32, Vec<ColumnShape>>::new();
            for (oid, shape) in ColumnShape::from_rows(wire.simple(&shapes_sql(&oids)).await?) {
                shapes.entry(oid).or_default().push(shape);
            }
            found.extend(group.iter().enumerate().map(|(n, name)| {
                let (oid, partitioned) = places.get(&n)?;
                let columns = shapes.remove(oid).unwrap_or_default();
                Some(TargetTable { name: name.clone(), partitioned: *partitioned, columns })
            }));
        }
        Ok(found)
    }

    /// Can it take every column of `table`?
    pub(super) fn check(&self, table: &TableSpec) -> Result<()> {
        for column in &table.columns {
            let name = &column.name;
            match self.columns.iter().find(|ours| ours.name == *name) {
                Some(ours) if !ours.generated => {}
                Some(_) => {
                    return Err(Error::stop(
                        "COLUMN_GENERATED",
                        format!(
                            "column {} of table {} is generated on the target only",
                            quote_ident(name),
                            self.name
                        ),
                    )
                    .hint(format!(
                        "ALTER TABLE {} ALTER COLUMN {} DROP EXPRESSION",
                        self.name,
                        quote_ident(name)
                    )));
                }
                None => {
                    return Err(Error::stop(
                        "COLUMN_MISSING",
                        format!("table {} on the target has no column {}", self.name, quote_ident(name)),
                    )
                    .hint(format!(
                        "ALTER TABLE {} ADD COLUMN {} {}",
                        self.name,
                        quote_ident(name),
                        column.formatted
                    )));
                }
            }
        }
        Ok(())
    }

    pub(super) fn truncate_sql(&self) -> String {
        let only = if self.partitioned { "" } else { "ONLY " };
        format!("TRUNCATE {only}{}", self.name)
    }

    /// Its rows go with the transaction that brings the new ones; until then everybody sees them.
    pub(super) fn delete_sql(&self) -> String {
        let only = if self.partitioned { "" } else { "ONLY " };
        format!("DELETE FROM {only}{}", self.name)
    }

    /// FREEZE: only right after TRUNCATE in the same transaction, and never on a partitioned table.
    pub(super) fn copy_sql(&self, table: &TableSpec, format: Format, freeze: bool) -> String {
        let columns: Vec<String> = table.columns.iter().map(|column| quote_ident(&column.name)).collect();
        let freeze = if freeze && !self.partitioned { ", FREEZE" } else { "" };
        format!("COPY {} ({}) FROM STDIN ({}{freeze})", self.name, columns.join(", "), format.sql())
    }
}
