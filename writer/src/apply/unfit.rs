//! What is said of tables that can't take what the stream brings.

use pg::{Error, QualifiedName, quote_ident};
use pipeline::{COLUMN_NARROWER, RelationColumn};
use tokio_postgres::Client;

use super::lookup::FIRST_OF_USERS;
use super::target::Target;

/// The error for a value that column `index` of the table would lose a part of.
pub async fn narrower(client: &Client, target: &Target, index: usize) -> Error {
    match (target.relation.columns.get(index), target.columns.get(index).and_then(|here| here.fit)) {
        (Some(column), Some(fit)) => fit.error(&target.name, &column.name, &formatted(client, column).await),
        _ => Error::failed(COLUMN_NARROWER, format!("table {} keeps every value whole", target.name)),
    }
}

/// The column's type on the source, as a definition says it.
async fn formatted(client: &Client, column: &RelationColumn) -> String {
    // Built-in types have the same OID everywhere; the name of another one is not in the stream's Relation message, and no OID is in
    // the events of topics.
    let built_in = (1..FIRST_OF_USERS).contains(&column.type_id);
    match client
        .query_one("SELECT pg_catalog.format_type($1, $2)", &[&column.type_id, &column.type_modifier])
        .await
    {
        Ok(row) if built_in => row.get::<_, Option<String>>(0).unwrap_or_default(),
        _ => "<its type on the source>".to_owned(),
    }
}

/// The error for a table that lacks a column.
pub async fn missing_column(client: &Client, table: &QualifiedName, column: &RelationColumn) -> Error {
    let formatted = formatted(client, column).await;
    Error::stop(
        "COLUMN_MISSING",
        format!("column {} of table {table} does not exist on the target", quote_ident(&column.name)),
    )
    .hint(format!(
        "run on the target: ALTER TABLE {table} ADD COLUMN {} {formatted}; the run then goes on by itself",
        quote_ident(&column.name)
    ))
}
