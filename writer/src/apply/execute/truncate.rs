//! The statements of a TRUNCATE.

use std::sync::Arc;

use crate::apply::target::Target;

/// Makes the checks of these tables that were put off. Others may have been put off by the source itself, and hold at its COMMIT only.
pub fn check_sql(targets: &[Arc<Target>]) -> String {
    let names: Vec<String> = targets
        .iter()
        .map(|target| format!("{}::regclass", pg::quote_literal(&target.name.to_string())))
        .collect();
    let tables = names.join(", ");
    let body = format!(
        "DECLARE named text; BEGIN
             SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.conname), ', ') INTO named
             FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
             WHERE c.condeferrable AND (c.conrelid IN ({tables}) OR c.confrelid IN ({tables}));
             IF named IS NOT NULL THEN EXECUTE 'SET CONSTRAINTS ' || named || ' IMMEDIATE'; END IF;
         END"
    );
    // No dollars around it: a table's name may have them.
    format!("DO {}", pg::quote_literal(&body))
}

/// One TRUNCATE of all, or, where only a part of those the source truncated is here, a DELETE of each.
pub fn truncate_sql(targets: &[Arc<Target>], restart_identity: bool, partial: bool) -> Vec<String> {
    if partial {
        // TRUNCATE refuses a table whose referencing table is not in the list, even as replica.
        return targets.iter().map(|target| format!("DELETE FROM {}", target.only)).collect();
    }
    let names: Vec<&str> = targets.iter().map(|target| target.only.as_str()).collect();
    let restart = if restart_identity { " RESTART IDENTITY" } else { "" };
    vec![format!("TRUNCATE {}{restart}", names.join(", "))]
}
