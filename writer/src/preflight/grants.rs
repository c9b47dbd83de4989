//! The script of rights that a run needs on the target (`walferry check --grants`).

use pg::quote_ident;
use pipeline::SourceFacts;

/// For `role` in `database`; the owner of the tables runs it.
#[must_use]
pub fn target_grants(role: &str, database: &str, existing_schema: bool, facts: &SourceFacts) -> String {
    let role = quote_ident(role);
    let mut schemas: Vec<String> = facts.tables.iter().map(|table| quote_ident(&table.name.schema)).collect();
    schemas.sort();
    schemas.dedup();
    let schemas = schemas.join(", ");
    let tables: Vec<String> = facts.tables.iter().map(|table| table.name.to_string()).collect();
    let mut script = format!(
        "-- on the target\n\
         CREATE ROLE {role} LOGIN PASSWORD '…';\n\
         GRANT CONNECT ON DATABASE {} TO {role};\n\
         CREATE SCHEMA walferry AUTHORIZATION {role};\n",
        quote_ident(database)
    );
    if existing_schema && !tables.is_empty() {
        script += &format!(
            "GRANT USAGE ON SCHEMA {schemas} TO {role};\n\
             GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLE {} TO {role};\n\
             GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schemas} TO {role};\n",
            tables.join(", ")
        );
    } else {
        script += &format!(
            "-- schema, indexes and constraints are made by --target-admin, or with:\n\
             GRANT CREATE ON DATABASE {} TO {role};\n",
            quote_ident(database)
        );
    }
    script +=
        &format!("GRANT SET ON PARAMETER session_replication_role TO {role};  -- 15 and later, optional\n");
    script
}
