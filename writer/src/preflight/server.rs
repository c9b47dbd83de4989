//! The server and the database: version, role, encoding, the same as the source?

use pg::{Result, ServerVersion, Session};
use pipeline::{Finding, Side, SourceFacts};

const IDENTITY: &str = "SELECT pg_catalog.pg_backend_pid(), (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
    d.oid, pg_catalog.pg_postmaster_start_time()::text || ' ' || pg_catalog.current_setting('port'),
    pg_catalog.current_setting('search_path'), pg_catalog.pg_is_in_recovery(),
    pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate::text
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

pub(super) async fn check(
    session: &Session,
    admin: Option<&Session>,
    source: Option<&SourceFacts>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let version = session.version();
    if version.major() < 12 {
        findings.push(
            Finding::refuse(
                Side::Target,
                "VERSION",
                format!("the target is PostgreSQL {version}; 12 is the oldest that works"),
            )
            .fix("use a newer server as the target"),
        );
    } else if version.major() > 18 {
        findings.push(Finding::warning(
            Side::Target,
            "VERSION",
            format!("the target is PostgreSQL {version}; versions up to 18 are tested"),
        ));
    }
    let row = session.query_one(IDENTITY, &[]).await?;
    if row.get::<_, i32>(0) != session.backend_pid() || row.get::<_, &str>(4) != "pg_catalog" {
        findings.push(
            Finding::refuse(Side::Target, "POOLER", "a pooler stands between us and the target")
                .fix("connect to the server itself, on its own port: session settings and locks do not survive a pooler"),
        );
    }
    if row.get::<_, bool>(5) {
        findings.push(
            Finding::refuse(Side::Target, "STANDBY", "the target is a standby: nothing can be written to it")
                .fix("connect to its primary, or promote it: SELECT pg_promote()"),
        );
    }
    if let Some(admin) = admin {
        let theirs = admin.query_one(IDENTITY, &[]).await?;
        if theirs.get::<_, u32>(2) != row.get::<_, u32>(2)
            || theirs.get::<_, String>(3) != row.get::<_, String>(3)
        {
            findings.push(
                Finding::refuse(
                    Side::Target,
                    "ADMIN_ELSEWHERE",
                    "--target-admin connects to another database or server than --target",
                )
                .fix("give the same host, port and database in both; only user and password may differ"),
            );
        }
    }
    let Some(source) = source else { return Ok(()) };
    let system: Option<String> = row.get(1);
    if system.as_deref() == Some(&source.system_id)
        && row.get::<_, &str>(3) == source.started
        && row.get::<_, u32>(2) == source.database_oid
    {
        findings.push(
            Finding::refuse(Side::Target, "SAME_DATABASE", "source and target are the same database")
                .fix("check --source and --target; two databases of one server are fine"),
        );
    }
    if version.major() < ServerVersion(source.version).major() {
        findings.push(Finding::note(
            Side::Target,
            "OLDER_TARGET",
            format!(
                "the target ({version}) is older than the source ({}): it works as far as the schema uses nothing newer",
                ServerVersion(source.version)
            ),
        ));
    }
    encoding(source, row.get(6), findings);
    let collate: &str = row.get(7);
    if collate != source.collate && !source.collate.is_empty() {
        findings.push(Finding::note(
            Side::Target,
            "COLLATE",
            format!(
                "the databases sort differently: lc_collate is \"{}\" on the source and \"{collate}\" on the target",
                source.collate
            ),
        ));
    }
    Ok(())
}

fn encoding(source: &SourceFacts, target: &str, findings: &mut Vec<Finding>) {
    let ours = source.encoding.as_str();
    if ours == "SQL_ASCII" && target == ours {
        findings.push(
            Finding::warning(Side::Target, "ENCODING", "both databases are SQL_ASCII, which knows no characters")
                .detail("rows are read and written as UTF-8: one with bytes that are none stops the run, and is never changed")
                .fix("run pg_dump --encoding=UTF8 --data-only on the source: it names the first table with such bytes, if there is one"),
        );
    }
    if ours == target || ours.is_empty() {
        return;
    }
    let text = format!("the source's encoding is {ours}, the target's is {target}");
    if ours == "SQL_ASCII" || target == "SQL_ASCII" {
        findings.push(
            Finding::refuse(Side::Target, "ENCODING", text)
                .detail("SQL_ASCII converts nothing: bytes would be read as characters that they are not")
                .fix(if target == "SQL_ASCII" {
                    format!("CREATE DATABASE … ENCODING '{ours}' TEMPLATE template0 on the target")
                } else {
                    "CREATE DATABASE … ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0 on the target"
                        .to_owned()
                }),
        );
    } else if target != "UTF8" {
        findings.push(
            Finding::warning(Side::Target, "ENCODING", text)
                .detail("a character that the target's encoding lacks stops the run at its row")
                .fix("CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0 on the target"),
        );
    }
}
