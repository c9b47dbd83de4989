//! May the roles do what a run asks of them on the target?

use pg::{Result, Session, quote_ident};
use pipeline::{Finding, Side, SourceFacts, some_of};

use super::TargetOptions;
use crate::control::Run;

pub(super) async fn check(
    session: &Session,
    admin: Option<&Session>,
    user: &str,
    options: &TargetOptions,
    source: &SourceFacts,
    run: &Option<Run>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let role = quote_ident(user);
    let row = session
        .query_one(
            "SELECT pg_catalog.current_database()::text, pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
                    (SELECT pg_catalog.has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = 'walferry')",
            &[],
        )
        .await?;
    let database = quote_ident(row.get(0));
    let (create, control): (bool, Option<bool>) = (row.get(1), row.get(2));
    if options.stream && run.is_none() && !control.unwrap_or(create) {
        findings.push(
            Finding::refuse(
                Side::Target,
                "CONTROL_SCHEMA",
                format!("role {role} can't keep the run's record: it may not make schema walferry"),
            )
            .fix(format!("CREATE SCHEMA walferry AUTHORIZATION {role}")),
        );
    }
    if options.stream || options.existing_schema {
        replica(session, &role, findings).await?;
    }
    if let Some(admin) = admin.filter(|_| !options.existing_schema) {
        if run.as_ref().is_none_or(|run| run.step <= crate::control::Step::Schema) {
            schemas(admin, &database, source, options, findings).await?;
        }
        if options.admin.user() != user {
            apart(session, &role, options, findings).await?;
        }
        locks(admin, source, findings).await?;
    }
    Ok(())
}

/// Tries it: managed services let some roles set it that are no superusers.
async fn replica(session: &Session, role: &str, findings: &mut Vec<Finding>) -> Result<()> {
    let may =
        session.batch_execute("BEGIN READ ONLY; SET LOCAL session_replication_role = replica").await.is_ok();
    session.batch_execute("ROLLBACK").await?;
    if may {
        return Ok(());
    }
    let fix = if session.version().major() >= 15 {
        format!("GRANT SET ON PARAMETER session_replication_role TO {role}")
    } else {
        format!("ALTER ROLE {role} SUPERUSER (before 15 there is no smaller right)")
    };
    findings.push(
        Finding::warning(Side::Target, "REPLICA_ROLE", format!("role {role} can't set session_replication_role"))
            .detail(
                "tables that walferry makes get their foreign keys and triggers at the cutover; those that exist have theirs fire on every \
                 change",
            )
            .fix(fix),
    );
    Ok(())
}

/// The schema step creates in these schemas.
async fn schemas(
    admin: &Session,
    database: &str,
    source: &SourceFacts,
    options: &TargetOptions,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let mut wanted: Vec<&str> = source.creates.iter().map(|name| name.schema.as_str()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let rows = admin
        .query(
            "SELECT w.name, n.oid IS NOT NULL FROM unnest($1::text[]) AS w(name)
             LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.name
             WHERE NOT CASE WHEN n.oid IS NULL THEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
                            ELSE pg_catalog.has_schema_privilege(n.oid, 'CREATE') END ORDER BY 1",
            &[&wanted],
        )
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let role = quote_ident(options.admin.user());
    let (mut fix, mut names) = (Vec::new(), Vec::new());
    for row in &rows {
        let schema = quote_ident(row.get(0));
        if row.get::<_, bool>(1) {
            fix.push(format!("GRANT CREATE, USAGE ON SCHEMA {schema} TO {role};"));
        } else {
            fix.push(format!("GRANT CREATE ON DATABASE {database} TO {role};"));
        }
        names.push(schema);
    }
    fix.dedup();
    fix.push("or give a role that may: --target-admin".to_owned());
    findings.push(
        Finding::refuse(
            Side::Target,
            "CREATE_PRIVILEGE",
            format!("role {role} may not create in {} schema(s) of the target", names.len()),
        )
        .detail(some_of(&names))
        .fix(fix.join("\n")),
    );
    Ok(())
}

/// The admin role owns what it makes; the other one must be able to write to it.
async fn apart(
    session: &Session,
    role: &str,
    options: &TargetOptions,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let admin = options.admin.user();
    let member: bool = session
        .query_one(
            "SELECT coalesce((SELECT pg_catalog.pg_has_role(oid, 'USAGE') FROM pg_catalog.pg_roles WHERE rolname = $1), true)
                    OR coalesce((SELECT pg_catalog.pg_has_role(oid, 'USAGE') FROM pg_catalog.pg_roles
                                 WHERE rolname = 'pg_write_all_data'), false)",
            &[&admin],
        )
        .await?
        .get(0);
    if !member {
        let admin = quote_ident(admin);
        findings.push(
            Finding::warning(
                Side::Target,
                "TARGET_OWNER",
                format!("role {role} needs rights on the tables that {admin} will make"),
            )
            .fix(format!(
                "GRANT {admin} TO {role}; or: ALTER DEFAULT PRIVILEGES FOR ROLE {admin} GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON \
                 TABLES TO {role}"
            )),
        );
    }
    Ok(())
}

/// The restore is one transaction: a table needs a lock for itself, its TOAST table and index, its type and its sequences.
async fn locks(admin: &Session, source: &SourceFacts, findings: &mut Vec<Finding>) -> Result<()> {
    let row = admin
        .query_one(
            "SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8,
                    pg_catalog.current_setting('max_connections')::int8 + pg_catalog.current_setting('max_prepared_transactions')::int8",
            &[],
        )
        .await?;
    let (each, sessions): (i64, i64) = (row.get(0), row.get(1));
    let needed = source.creates.len() as i64 * 4 + 100;
    if needed > each * sessions {
        let finding = format!(
            "the lock table of the target has room for {} locks; restoring {} relations in one transaction needs about {needed}",
            each * sessions,
            source.creates.len()
        );
        findings.push(Finding::refuse(Side::Target, "LOCK_TABLE", finding).fix(format!(
            "ALTER SYSTEM SET max_locks_per_transaction = {}; then restart the target",
            (needed / sessions.max(1) + 1).max(each * 2)
        )));
    }
    Ok(())
}
