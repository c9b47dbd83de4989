//! What the schema of the source asks of the target besides tables.

use pg::{QualifiedName, Result, Session};
use pipeline::{ExtensionFacts, Finding, Side, SourceFacts};

use super::{SourceOptions, texts};

const NOT_OF_EXTENSION: &str = "NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = x.tableoid AND d.objid = x.oid AND d.deptype = 'e')";

pub(super) async fn check(
    session: &Session,
    options: &SourceOptions,
    facts: &mut SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    findings.extend(emit(session).await?);
    let whole = !options.selection.is_partial();
    let chosen = format!(
        "(SELECT c.oid, c.tableoid, c.relname, c.relkind, c.relowner, c.relacl, c.reltablespace, c.relnamespace, n.nspname,
                 n.nspowner, n.nspacl
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {})",
        options.selection.condition(session).await?
    );
    let rows = session
        .query(
            &format!("SELECT x.nspname, x.relname FROM {chosen} x WHERE {NOT_OF_EXTENSION} ORDER BY 1, 2"),
            &[],
        )
        .await?;
    facts.creates =
        rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect();
    roles(session, &chosen, whole, facts).await?;
    extensions(session, &chosen, whole, facts).await?;
    facts.collations = texts(
        session,
        &format!(
            "SELECT DISTINCT l.collname::text FROM {chosen} x JOIN pg_catalog.pg_attribute a ON a.attrelid = x.oid
             JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
             WHERE l.collnamespace = 'pg_catalog'::regnamespace AND l.collname NOT IN ('default', 'C', 'POSIX', 'ucs_basic')
             UNION
             SELECT l.collname::text FROM {chosen} x JOIN pg_catalog.pg_index i ON i.indrelid = x.oid
             JOIN pg_catalog.pg_collation l ON l.oid = ANY (i.indcollation::oid[])
             WHERE l.collnamespace = 'pg_catalog'::regnamespace AND l.collname NOT IN ('default', 'C', 'POSIX', 'ucs_basic')
             ORDER BY 1"
        ),
        &[],
    )
    .await?;
    facts.tablespaces = texts(
        session,
        &format!(
            "SELECT t.spcname::text FROM {chosen} x JOIN pg_catalog.pg_tablespace t ON t.oid = x.reltablespace
             UNION
             SELECT t.spcname::text FROM {chosen} x JOIN pg_catalog.pg_index i ON i.indrelid = x.oid
             JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
             ORDER BY 1"
        ),
        &[],
    )
    .await?;
    if whole {
        let own = |table: &str, name: &str, condition: &str| {
            format!(
                "SELECT x.{name}::text FROM pg_catalog.{table} x WHERE x.oid >= 16384 AND {condition} AND {NOT_OF_EXTENSION} ORDER BY 1"
            )
        };
        facts.languages = texts(session, &own("pg_language", "lanname", "x.lanispl"), &[]).await?;
        facts.access_methods = texts(session, &own("pg_am", "amname", "true"), &[]).await?;
    }
    Ok(())
}

/// Schema `walferry` is each side's own and is not dumped; what applications call in it has to be installed on the other side as well.
async fn emit(session: &Session) -> Result<Option<Finding>> {
    let there: bool = session
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                            WHERE n.nspname = 'walferry' AND p.proname = 'emit')",
            &[],
        )
        .await?
        .get(0);
    Ok(there.then(|| {
        Finding::warning(
            Side::Source,
            "OUTBOX_EMIT",
            "walferry.emit is not moved: on the target, applications that call it would fail",
        )
        .fix("before they use the target: walferry outbox init --source URI-OF-THE-TARGET, with the layout and grants as on the source")
    }))
}

/// Owners and grantees: of the chosen relations and their schemas, and of everything else where all is dumped.
async fn roles(session: &Session, chosen: &str, whole: bool, facts: &mut SourceFacts) -> Result<()> {
    let everything = |kinds: &str| {
        if !whole {
            return "SELECT 0::oid WHERE false".to_owned();
        }
        format!(
            "SELECT s.refobjid FROM pg_catalog.pg_shdepend s
             WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.deptype IN ({kinds})
               AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
               AND s.classid NOT IN ('pg_catalog.pg_publication'::regclass, 'pg_catalog.pg_subscription'::regclass)
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                               WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype = 'e')"
        )
    };
    facts.owners = texts(
        session,
        &format!(
            "SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.oid IN (
                 SELECT x.relowner FROM {chosen} x WHERE {NOT_OF_EXTENSION}
                 UNION SELECT x.nspowner FROM {chosen} x WHERE x.nspname <> 'public' UNION {}) ORDER BY 1",
            everything("'o'")
        ),
        &[],
    )
    .await?;
    facts.grantees = texts(
        session,
        &format!(
            "SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.oid IN (
                 SELECT a.grantee FROM {chosen} x, LATERAL pg_catalog.aclexplode(x.relacl) a WHERE {NOT_OF_EXTENSION}
                 UNION SELECT a.grantee FROM {chosen} x, LATERAL pg_catalog.aclexplode(x.nspacl) a WHERE x.nspname <> 'public'
                 UNION {}) ORDER BY 1",
            everything("'a', 'r'")
        ),
        &[],
    )
    .await?;
    Ok(())
}

/// A whole dump creates every extension; a partial one needs those whose types its columns have.
async fn extensions(session: &Session, chosen: &str, whole: bool, facts: &mut SourceFacts) -> Result<()> {
    let condition = if whole {
        "true".to_owned()
    } else {
        format!(
            "e.oid IN (SELECT d.refobjid FROM {chosen} x JOIN pg_catalog.pg_attribute a ON a.attrelid = x.oid
                       JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                       JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass
                            AND d.objid IN (t.oid, t.typelem, t.typbasetype) AND d.deptype = 'e'
                            AND d.refclassid = 'pg_catalog.pg_extension'::regclass)"
        )
    };
    let rows = session
        .query(
            &format!(
                "SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e
                 JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql' AND {condition} ORDER BY 1"
            ),
            &[],
        )
        .await?;
    facts.extensions = rows
        .iter()
        .map(|row| ExtensionFacts {
            name: row.get(0),
            version: row.get(1),
            schema: row.get(2),
            dumped: whole,
        })
        .collect();
    Ok(())
}
