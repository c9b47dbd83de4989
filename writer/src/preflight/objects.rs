//! The schema is to be restored: is the place free, and is what it refers to there?

use pg::{QualifiedName, Result, Session, quote_ident};
use pipeline::{Finding, Side, SourceFacts, some_of};

use super::TargetOptions;
use crate::catalog;

/// Names that are taken already.
pub(super) async fn occupied(
    session: &Session,
    source: &SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let there = catalog::look(session, &source.creates).await?;
    let mut names: Vec<&QualifiedName> = there.keys().collect();
    names.sort();
    if names.is_empty() {
        return Ok(());
    }
    let drop: Vec<String> = names
        .iter()
        .filter(|name| there[**name].kind != 'S')
        .map(|name| {
            let what = match there[*name].kind {
                'v' => "VIEW",
                'm' => "MATERIALIZED VIEW",
                'f' => "FOREIGN TABLE",
                _ => "TABLE",
            };
            format!("DROP {what} {name} CASCADE;")
        })
        .collect();
    findings.push(
        Finding::refuse(
            Side::Target,
            "TARGET_NOT_EMPTY",
            format!("the target has {} of the tables, views and sequences already", names.len()),
        )
        .detail(some_of(&names))
        .fix(format!(
            "--existing-schema, if rows are to go into these tables; or another, empty database; or, if nobody needs them:\n{}",
            drop.join("\n")
        )),
    );
    Ok(())
}

/// Roles, extensions, collations, tablespaces and the like that a dump only refers to.
pub(super) async fn needed(
    session: &Session,
    admin: Option<&Session>,
    options: &TargetOptions,
    source: &SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let mut roles: Vec<&String> = Vec::new();
    if !options.no_owner {
        roles.extend(&source.owners);
    }
    if !options.no_privileges {
        roles.extend(&source.grantees);
    }
    roles.sort();
    roles.dedup();
    let missing = missing(session, "pg_catalog.pg_roles WHERE rolname", &roles).await?;
    if !missing.is_empty() {
        let create: Vec<String> =
            missing.iter().map(|role| format!("CREATE ROLE {};", quote_ident(role))).collect();
        findings.push(
            Finding::refuse(Side::Target, "ROLE_MISSING", format!("{} role(s) that own or may use something are missing on the target", missing.len()))
                .detail(some_of(&missing))
                .fix(format!(
                    "{}\nor pg_dumpall --roles-only on the source; or --no-owner and --no-privileges, and everything belongs to the \
                     restoring role",
                    create.join("\n")
                )),
        );
    }
    for (kind, code, from, names, fix) in [
        (
            "collation",
            "COLLATION_MISSING",
            "pg_catalog.pg_collation WHERE collencoding IN (-1, (SELECT encoding FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) AND collname",
            &source.collations,
            "install the operating system's locale on the target (locale-gen), then: SELECT pg_import_system_collations('pg_catalog')",
        ),
        (
            "tablespace",
            "TABLESPACE_MISSING",
            "pg_catalog.pg_tablespace WHERE spcname",
            &source.tablespaces,
            "CREATE TABLESPACE NAME LOCATION '/an/empty/folder/of/the/server';",
        ),
        (
            "language",
            "LANGUAGE_MISSING",
            "pg_catalog.pg_language WHERE lanname",
            &source.languages,
            "CREATE LANGUAGE NAME;",
        ),
        (
            "access method",
            "ACCESS_METHOD_MISSING",
            "pg_catalog.pg_am WHERE amname",
            &source.access_methods,
            "CREATE ACCESS METHOD NAME …; usually by an extension",
        ),
    ] {
        let names: Vec<&String> = names.iter().collect();
        let missing = self::missing(session, from, &names).await?;
        if !missing.is_empty() {
            let fixes: Vec<String> = if fix.contains("NAME") {
                missing.iter().map(|name| fix.replace("NAME", &quote_ident(name))).collect()
            } else {
                vec![fix.to_owned()]
            };
            findings.push(
                Finding::refuse(
                    Side::Target,
                    code,
                    format!("the target lacks {} {kind}(s) that the source uses", missing.len()),
                )
                .detail(some_of(&missing))
                .fix(fixes.join("\n")),
            );
        }
    }
    extensions(session, admin, source, findings).await
}

/// The names that `from` (a table and a condition up to the name) doesn't know.
async fn missing(session: &Session, from: &str, names: &[&String]) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT w.name FROM unnest($1::text[]) AS w(name) WHERE NOT EXISTS (SELECT FROM {from} = w.name) ORDER BY 1"
    );
    let rows = session.query(&sql, &[&names]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn extensions(
    session: &Session,
    admin: Option<&Session>,
    source: &SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let maker = admin.unwrap_or(session);
    let superuser: bool = maker
        .query_one("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", &[])
        .await?
        .get(0);
    let trusted = if maker.version().major() >= 13 { "v.trusted" } else { "false" };
    let (mut unavailable, mut create) = (Vec::new(), Vec::new());
    for extension in &source.extensions {
        let row = maker
            .query_one(
                &format!(
                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = $1),
                            EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = $1),
                            coalesce((SELECT pg_catalog.bool_or({trusted}) FROM pg_catalog.pg_available_extension_versions v
                                      WHERE v.name = $1), false)"
                ),
                &[&extension.name],
            )
            .await?;
        let (installed, available, trusted): (bool, bool, bool) = (row.get(0), row.get(1), row.get(2));
        if installed {
            continue;
        }
        if !available {
            unavailable.push(format!("{} {}", extension.name, extension.version));
        } else if !extension.dumped || !superuser && !trusted {
            let schema = match extension.schema.as_str() {
                "public" | "pg_catalog" => String::new(),
                schema => format!(" SCHEMA {}", quote_ident(schema)),
            };
            create.push(format!("CREATE EXTENSION {}{schema};", quote_ident(&extension.name)));
        }
    }
    if !unavailable.is_empty() {
        findings.push(
            Finding::refuse(Side::Target, "EXTENSION_MISSING", format!("{} extension(s) of the source are not installed on the target's machine", unavailable.len()))
                .detail(some_of(&unavailable))
                .fix("install their packages there (postgresql-contrib, postgresql-NN-NAME), or leave out what uses them: --exclude-schema, --exclude-table"),
        );
    }
    if !create.is_empty() {
        findings.push(
            Finding::refuse(
                Side::Target,
                "EXTENSION_MISSING",
                format!("{} extension(s) must be created on the target first", create.len()),
            )
            .fix(format!("as a superuser: {}", create.join("\n"))),
        );
    }
    Ok(())
}
