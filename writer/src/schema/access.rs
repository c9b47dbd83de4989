//! Two roles on the target: the run's own (`--target`), which owns schema `walferry`, copies and applies, and the admin
//! (`--target-admin`), which makes the tables and their indexes. Each is let into what the other one made; where they are one role, or
//! one is superuser or a member of the other, there is nothing to do.

use pg::{Error, Result, quote_ident};
use tokio_postgres::{Client, Transaction};

use super::Phase;

/// Lets the admin write into schema `walferry`: it restores the schema, and records that, in one transaction. `control`: a session of the
/// schema's owner.
pub async fn let_admin_in(control: &Client, admin: &str) -> Result<()> {
    let row = control
        .query_opt(
            "SELECT pg_catalog.pg_has_role(r.oid, n.nspowner, 'USAGE') FROM pg_catalog.pg_roles r, pg_catalog.pg_namespace n
             WHERE r.rolname = $1 AND n.nspname = 'walferry'",
            &[&admin],
        )
        .await?;
    if row.is_none_or(|row| row.get(0)) {
        return Ok(());
    }
    let role = quote_ident(admin);
    control
        .batch_execute(&format!(
            "GRANT USAGE, CREATE ON SCHEMA walferry TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA walferry TO {role}"
        ))
        .await
        .map_err(|error| {
            Error::from(error).context(format_args!("role \"{admin}\" can't be let into schema walferry"))
        })
}

/// Lets the run's role fill the tables that the admin has just made. What had to be granted for that is taken back when the target is
/// opened, so that it ends with the source's privileges.
pub(super) async fn let_apply_in(tx: &Transaction<'_>, run: &str) -> Result<()> {
    let rows = tx
        .query(
            "SELECT grants.object, r.rolname::text, pg_catalog.string_agg(grants.privilege, ', ')
             FROM pg_catalog.pg_class control
             JOIN pg_catalog.pg_roles r ON r.oid = control.relowner
             CROSS JOIN LATERAL (
                 SELECT 'TABLE ' || c.oid::pg_catalog.regclass::text AS object, p AS privilege
                 FROM walferry.tables t
                 JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.name,
                 unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p
                 WHERE t.run = $1 AND t.created AND NOT pg_catalog.has_table_privilege(r.oid, c.oid, p)
               UNION ALL
                 SELECT DISTINCT 'SCHEMA ' || pg_catalog.quote_ident(n.nspname), 'USAGE'
                 FROM walferry.tables t JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
                 WHERE t.run = $1 AND t.created AND NOT pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
             ) AS grants
             WHERE control.oid = 'walferry.runs'::pg_catalog.regclass
             GROUP BY 1, 2 ORDER BY 1",
            &[&run],
        )
        .await?;
    let (mut grant, mut revoke) = (String::new(), String::new());
    for row in &rows {
        let (object, role, privileges): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let role = quote_ident(&role);
        grant += &format!("GRANT {privileges} ON {object} TO {role};\n");
        revoke += &format!("REVOKE {privileges} ON {object} FROM {role};\n");
    }
    if grant.is_empty() {
        return Ok(());
    }
    tx.batch_execute(&grant).await.map_err(|error| {
        Error::from(error).context("the run's role can't be let into the tables that were made for it")
    })?;
    tx.execute(
        "INSERT INTO walferry.post_data (run, ord, phase, kind, schema, tbl, name, sql)
         SELECT $1, coalesce(max(ord), 0) + 1, $2, 'ACL', '', '', 'the run''s own', $3 FROM walferry.post_data WHERE run = $1",
        &[&run, &Phase::Open.as_str(), &revoke],
    )
    .await?;
    Ok(())
}
