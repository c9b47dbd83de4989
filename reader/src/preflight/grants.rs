//! The script of rights that a run needs on the source (`walferry check --grants`).

use pg::quote_ident;
use pipeline::{SourceFacts, TableSpec};

/// For `role`; the owner of the tables runs it.
#[must_use]
pub fn source_grants(role: &str, publication: Option<&str>, facts: &SourceFacts) -> String {
    let role = quote_ident(role);
    let mut schemas: Vec<String> = facts.tables.iter().map(|table| quote_ident(&table.name.schema)).collect();
    schemas.sort();
    schemas.dedup();
    let schemas = schemas.join(", ");
    let names = |tables: &mut dyn Iterator<Item = &TableSpec>, only: &str| {
        tables.map(|table| format!("{only}{}", table.name)).collect::<Vec<_>>().join(", ")
    };
    let mut script = format!(
        "-- on the source\n\
         CREATE ROLE {role} LOGIN REPLICATION PASSWORD '…';  -- RDS: GRANT rds_replication TO {role}\n\
         GRANT CONNECT ON DATABASE {} TO {role};\n",
        quote_ident(&facts.database)
    );
    if facts.tables.is_empty() {
        return script;
    }
    script += &format!("GRANT USAGE ON SCHEMA {schemas} TO {role};\n");
    script += &format!("GRANT SELECT ON TABLE {} TO {role};\n", names(&mut facts.tables.iter(), ""));
    script += &format!("GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schemas} TO {role};  -- for a cutover\n");
    if let Some(publication) = publication {
        let tables = names(&mut facts.tables.iter().filter(|table| table.streamed), "ONLY ");
        script += &format!(
            "-- by the tables' owner; then --publication {publication}, or leave it out and give the owner as --source-admin\n\
             CREATE PUBLICATION {} FOR TABLE {tables};\n",
            quote_ident(publication)
        );
    }
    script
}
