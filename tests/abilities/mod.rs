//! `replicate --publication … --existing-schema` wherever native logical replication is used.

mod process;
mod publications;

use crate::support::{Postgres, Walferry};

pub const DB: &str = "app";

/// A source and a target with the same empty tables, and a publication on the source.
pub async fn pair(schema: &str, publication: &str) -> (Postgres, Postgres) {
    let (source, target) =
        tokio::join!(Postgres::builder(15).database(DB).start(), Postgres::builder(15).database(DB).start());
    tokio::join!(source.sql(DB, schema), target.sql(DB, schema));
    if !publication.is_empty() {
        source.sql(DB, publication).await;
    }
    (source, target)
}

pub fn replicate(source: &str, target: &str, publications: &str) -> Walferry {
    Walferry::new(source, target).command("replicate").args(&[
        "--publication",
        publications,
        "--existing-schema",
    ])
}
