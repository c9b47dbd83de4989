//! One connection that reads tables through a kept snapshot.

use std::collections::HashMap;

use pg::wire::{self, CopyChunk, Wire};
use pg::{Params, Purpose, QualifiedName, Result, quote_ident, quote_literal};
use pipeline::TableSpec;
use pipeline::copy::{ColumnShape, Format, shapes_sql};

use super::chunk::Range;
use super::identity::{INSTANCE_SQL, ServerInstance};
use super::keeper::{Keeper, another_table, lost_snapshot, table_rewritten_sql};

/// What a connection needs to join a snapshot; outlives borrowing the keeper.
#[derive(Clone, Debug)]
pub struct Ticket {
    snapshot: String,
    instance: ServerInstance,
}

impl Keeper {
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket { snapshot: self.snapshot().to_owned(), instance: self.instance().clone() }
    }
}

/// Reads through the snapshot. One COPY at a time; after an error of the connection it is of no more use.
pub struct CopyOut {
    wire: Wire,
    /// The table that is read, and whether it is partitioned.
    table: Option<(QualifiedName, bool)>,
}

impl CopyOut {
    /// Connects, makes sure that it is the keeper's server, and imports its snapshot.
    pub async fn join(params: &Params, application_name: &str, ticket: &Ticket) -> Result<CopyOut> {
        let mut wire = Wire::connect(params, Purpose::SourceSnapshot, application_name, false).await?;
        let mut row = wire.simple(INSTANCE_SQL).await?.into_iter().flatten().map(Option::unwrap_or_default);
        let mut next = || row.next().unwrap_or_default();
        ticket.instance.check_same(&ServerInstance::from_row([next(), next(), next(), next()]))?;
        wire.simple(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(&ticket.snapshot)
        ))
        .await
        .map_err(lost_snapshot)?;
        Ok(CopyOut { wire, table: None })
    }

    /// The columns of the tables with these OIDs, each table's in order.
    pub async fn shapes(&mut self, oids: &[u32]) -> Result<Vec<Vec<ColumnShape>>> {
        let mut shapes = HashMap::<u32, Vec<ColumnShape>>::new();
        for group in oids.chunks(1000) {
            for (oid, shape) in ColumnShape::from_rows(self.wire.simple(&shapes_sql(group)).await?) {
                shapes.entry(oid).or_default().push(shape);
            }
        }
        Ok(oids.iter().map(|oid| shapes.remove(oid).unwrap_or_default()).collect())
    }

    /// Starts reading a table, or one range of it.
    pub async fn start(&mut self, table: &TableSpec, range: Option<Range>, format: Format) -> Result<()> {
        self.table = Some((table.name.clone(), table.partitioned));
        self.wire.copy_out(&copy_sql(table, range, format)).await
    }

    /// The next bytes, which may be a part of a long row; `None` at the end.
    ///
    /// # Errors
    /// `SNAPSHOT_LOST` at the end: what was read is not the table that the snapshot knows.
    pub async fn next(&mut self) -> Result<Option<CopyChunk>> {
        match self.wire.recv_copy_part().await? {
            wire::CopyOut::Data(chunk) => Ok(Some(chunk)),
            wire::CopyOut::Done => {
                self.wire.copy_out_end().await?;
                self.expect_same_table().await?;
                Ok(None)
            }
        }
    }

    /// As [`super::expect_same_table`].
    async fn expect_same_table(&mut self) -> Result<()> {
        let Some((table, partitioned)) = &self.table else { return Ok(()) };
        let rewritten = self.wire.simple(&table_rewritten_sql(table, *partitioned)).await?;
        if rewritten.is_empty() { Ok(()) } else { Err(another_table(table)) }
    }

    /// The number of rows, for a table without columns: COPY has nothing to say about it.
    pub async fn count(&mut self, table: &TableSpec) -> Result<u64> {
        let filter = condition(table, None);
        let sql = format!("SELECT pg_catalog.count(*) FROM {}{filter}", table.from_clause());
        let count = self.wire.simple_value(&sql).await?;
        self.table = Some((table.name.clone(), table.partitioned));
        self.expect_same_table().await?;
        count
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| pg::Error::connection("no count from the source"))
    }
}

/// COPY of a plain table without conditions needs no executor; everything else is a query.
fn copy_sql(table: &TableSpec, range: Option<Range>, format: Format) -> String {
    let columns: Vec<String> = table.columns.iter().map(|column| quote_ident(&column.name)).collect();
    let list = columns.join(", ");
    let condition = condition(table, range);
    let format = format.sql();
    if condition.is_empty() && !table.partitioned {
        return format!("COPY {} ({list}) TO STDOUT ({format})", table.name);
    }
    format!("COPY (SELECT {list} FROM {}{condition}) TO STDOUT ({format})", table.from_clause())
}

fn condition(table: &TableSpec, range: Option<Range>) -> String {
    let filter = table.filter.as_ref().map(|filter| format!("({filter})"));
    let conditions: Vec<String> = range.map(|range| range.sql()).into_iter().chain(filter).collect();
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pg::QualifiedName;
    use pipeline::{ColumnSpec, ReplicaIdentity};

    fn table() -> TableSpec {
        let column = |name: &str| ColumnSpec {
            name: name.into(),
            type_schema: "pg_catalog".into(),
            type_name: "int4".into(),
            formatted: "integer".into(),
            type_oid: 23,
            type_modifier: -1,
            not_null: false,
        };
        TableSpec {
            name: QualifiedName::new("s", "T"),
            oid: 1,
            root: false,
            partitioned: false,
            columns: vec![column("a"), column("b\"")],
            filter: None,
            key: Vec::new(),
            identity: ReplicaIdentity::Default,
            bytes: 0,
            pages: 0,
            streamed: true,
            files: Default::default(),
            attributes: 0,
        }
    }

    #[test]
    fn plain_tables_are_copied_and_everything_else_is_selected() {
        let plain = table();
        assert_eq!(
            copy_sql(&plain, None, Format::Binary),
            "COPY \"s\".\"T\" (\"a\", \"b\"\"\") TO STDOUT (FORMAT binary)"
        );
        let filtered = TableSpec { filter: Some("a > 1 OR a < 0".into()), ..table() };
        assert_eq!(
            copy_sql(&filtered, Some(Range { from: 3, to: None }), Format::Text),
            "COPY (SELECT \"a\", \"b\"\"\" FROM ONLY \"s\".\"T\" WHERE ctid >= '(3,0)'::pg_catalog.tid AND (a > 1 OR a < 0)) \
             TO STDOUT (FORMAT text)"
        );
        let root = TableSpec { partitioned: true, ..table() };
        assert_eq!(
            copy_sql(&root, None, Format::Text),
            "COPY (SELECT \"a\", \"b\"\"\" FROM \"s\".\"T\") TO STDOUT (FORMAT text)"
        );
    }
}
