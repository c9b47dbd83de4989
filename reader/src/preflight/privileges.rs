//! May the roles do what a run asks of them on the source?
//! <https://www.postgresql.org/docs/current/ddl-priv.html>

use pg::{Purpose, QualifiedName, Result, Session, quote_ident};
use pipeline::{Finding, Side, SourceFacts, some_of};

use super::SourceOptions;
use crate::fence;

pub(super) async fn check(
    session: &Session,
    user: &str,
    options: &SourceOptions,
    facts: &SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let oids: Vec<u32> = facts.tables.iter().map(|table| table.oid).collect();
    let role = quote_ident(user);
    let rows = session
        .query(
            "SELECT n.nspname, c.relname, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
                    pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.row_security_active(c.oid)
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid = ANY ($1) ORDER BY 1, 2",
            &[&oids],
        )
        .await?;
    let (mut schemas, mut tables, mut secured) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let name = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        if !row.get::<_, bool>(2) {
            schemas.push(quote_ident(&name.schema));
        }
        if row.get::<_, bool>(4) {
            secured.push(name.clone());
        }
        if !row.get::<_, bool>(3) {
            tables.push(name);
        }
    }
    schemas.dedup();
    if !tables.is_empty() || !schemas.is_empty() {
        let mut fix = Vec::new();
        if !schemas.is_empty() {
            fix.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", schemas.join(", ")));
        }
        if !tables.is_empty() {
            let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
            fix.push(format!("GRANT SELECT ON TABLE {} TO {role};", names.join(", ")));
        }
        let missing = if tables.is_empty() {
            format!("USAGE on {} schema(s)", schemas.len())
        } else {
            format!("SELECT on {} table(s)", tables.len())
        };
        findings.push(
            Finding::refuse(
                Side::Source,
                "SELECT_PRIVILEGE",
                format!("role {role} lacks {missing} of the source"),
            )
            .detail(if tables.is_empty() { some_of(&schemas) } else { some_of(&tables) })
            .fix(fix.join("\n")),
        );
    }
    if !secured.is_empty() {
        findings.push(
            Finding::refuse(
                Side::Source,
                "ROW_SECURITY",
                format!(
                    "row security hides rows of {} table(s) from role {role}: the copy would be a part",
                    secured.len()
                ),
            )
            .detail(some_of(&secured))
            .fix(format!("ALTER ROLE {role} BYPASSRLS")),
        );
    }
    sequences(session, &role, options, findings).await?;
    if options.stream {
        admin(session, options, facts, findings).await?;
    }
    Ok(())
}

async fn sequences(
    session: &Session,
    role: &str,
    options: &SourceOptions,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let condition = options.selection.condition(session).await?;
    let rows = session
        .query(
            &format!(
                "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE CASE WHEN c.relkind = 'S' THEN {condition} AND NOT pg_catalog.has_sequence_privilege(c.oid, 'SELECT') END
                 ORDER BY 1, 2"
            ),
            &[],
        )
        .await?;
    let names: Vec<QualifiedName> =
        rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect();
    if !names.is_empty() {
        let list: Vec<String> = names.iter().map(ToString::to_string).collect();
        findings.push(
            Finding::warning(
                Side::Source,
                "SEQUENCE_PRIVILEGE",
                format!(
                    "role {role} can't read {} sequence(s): a cutover could not set them on the target",
                    names.len()
                ),
            )
            .detail(some_of(&names))
            .fix(format!("GRANT SELECT ON SEQUENCE {} TO {role}", list.join(", "))),
        );
    }
    Ok(())
}

/// The owner's part: the run's own publication, `--keyless full`, and the fence of a cutover.
async fn admin(
    session: &Session,
    options: &SourceOptions,
    facts: &SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let admin =
        match Session::connect(&options.admin, Purpose::Query, &format!("{} (check)", options.name)).await {
            Ok(admin) => admin,
            Err(error) => {
                findings.push(Finding::unreachable(Side::Source, "--source-admin", &error));
                return Ok(());
            }
        };
    let role = quote_ident(options.admin.user());
    let identity = "SELECT pg_catalog.current_database()::text, pg_catalog.pg_postmaster_start_time()::text";
    let (ours, theirs) = (session.query_one(identity, &[]).await?, admin.query_one(identity, &[]).await?);
    if ours.get::<_, String>(0) != theirs.get::<_, String>(0)
        || ours.get::<_, String>(1) != theirs.get::<_, String>(1)
    {
        findings.push(
            Finding::refuse(
                Side::Source,
                "ADMIN_ELSEWHERE",
                "--source-admin connects to another database or server than --source",
            )
            .fix("give the same host, port and database in both; only user and password may differ"),
        );
        return Ok(());
    }
    if fence::in_force(&admin).await? {
        findings.push(
            Finding::warning(Side::Source, "FENCED", "writers of the source are stopped by the fence of an earlier cutover")
                .fix("walferry clean --lift-fence, if the source is to take writes again: DROP SCHEMA walferry_fence CASCADE"),
        );
    }
    let oids: Vec<u32> = facts.tables.iter().filter(|table| table.streamed).map(|table| table.oid).collect();
    let rows = admin
        .query(
            "SELECT n.nspname, c.relname, r.rolname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
             WHERE c.oid = ANY ($1) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY 1, 2",
            &[&oids],
        )
        .await?;
    let foreign: Vec<QualifiedName> =
        rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect();
    let mut owners: Vec<String> = rows.iter().map(|row| quote_ident(row.get(2))).collect();
    owners.sort();
    owners.dedup();
    let create: bool = admin
        .query_one("SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')", &[])
        .await?
        .get(0);
    if foreign.is_empty() && create {
        return Ok(());
    }
    let mut missing = Vec::new();
    let mut fix = Vec::new();
    if !foreign.is_empty() {
        missing.push(format!("does not own {} table(s)", foreign.len()));
        fix.push(format!("GRANT {} TO {role};", owners.join(", ")));
    }
    if !create {
        missing.push("may not create in the database".to_owned());
        fix.push(format!("GRANT CREATE ON DATABASE {} TO {role};", quote_ident(&facts.database)));
    }
    fix.push("or give a role that may: --source-admin".to_owned());
    let missing = missing.join(" and ");
    findings.push(if options.publications.is_empty() {
        let names: Vec<String> = facts.tables.iter().filter(|t| t.streamed).map(|t| format!("ONLY {}", t.name)).collect();
        fix.push(format!(
            "or let the owner make the publication, then use --publication {0}: CREATE PUBLICATION {1} FOR TABLE {2};",
            options.name,
            quote_ident(&options.name),
            names.join(", ")
        ));
        Finding::refuse(
            Side::Source,
            "PUBLICATION_PRIVILEGE",
            format!("role {role} {missing}: it can't make the publication, nor the fence of a cutover"),
        )
        .detail(some_of(&foreign))
        .fix(fix.join("\n"))
    } else {
        Finding::warning(
            Side::Source,
            "FENCE_PRIVILEGE",
            format!("role {role} {missing}: a cutover can't stop the writers (walferry replicate needs none of it)"),
        )
        .detail(some_of(&foreign))
        .fix(fix.join("\n"))
    });
    Ok(())
}
