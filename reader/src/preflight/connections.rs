//! Can we connect, as what a run connects as, to one and the same server each time?
//!
//! A pooler hands out another server process from one transaction to the next, and swallows start-up settings; a proxy may send two
//! connections to two servers. Snapshots and slots live in one server process or one server.

use pg::{Error, Params, Purpose, Session, quote_ident};
use pipeline::{Finding, Side};

use super::SourceOptions;
use crate::replication::ReplicationConnection;

const IDENTITY: &str = "SELECT pg_catalog.pg_backend_pid(), (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
    pg_catalog.pg_postmaster_start_time()::text, pg_catalog.current_setting('search_path')";

/// Opens every kind of connection that a run needs; the first of them is for the checks that follow.
pub(super) async fn open(
    params: &Params,
    options: &SourceOptions,
    findings: &mut Vec<Finding>,
) -> Option<Session> {
    let name = format!("{} (check)", options.name);
    let session = match Session::connect(params, Purpose::SourceSnapshot, &name).await {
        Ok(session) => session,
        Err(error) => {
            findings.push(Finding::unreachable(Side::Source, "--source", &error));
            return None;
        }
    };
    match same_server(&session, params, &name).await {
        Ok(finding) => findings.extend(finding),
        Err(error) => findings.push(Finding::unreachable(Side::Source, "--source, a second time", &error)),
    }
    if options.stream {
        replication(params, &name, findings).await;
    }
    Some(session)
}

async fn same_server(first: &Session, params: &Params, name: &str) -> pg::Result<Option<Finding>> {
    let second = Session::connect(params, Purpose::SourceSnapshot, name).await?;
    let (ours, theirs) = (first.query_one(IDENTITY, &[]).await?, second.query_one(IDENTITY, &[]).await?);
    let pooler = Finding::refuse(
        Side::Source,
        "POOLER",
        "a pooler or proxy stands between us and the source",
    )
    .fix("connect to the server itself, on its own port: neither snapshots nor slots pass through a pooler");
    for (session, row) in [(first, &ours), (&second, &theirs)] {
        if session.backend_pid() != row.get::<_, i32>(0) {
            return Ok(Some(
                pooler.detail("statements run in another server process than the one we are connected to"),
            ));
        }
        if row.get::<_, &str>(3) != "pg_catalog" {
            return Ok(Some(pooler.detail("settings of the connection's start-up do not reach the server")));
        }
    }
    if ours.get::<_, Option<String>>(1) != theirs.get::<_, Option<String>>(1)
        || ours.get::<_, Option<String>>(2) != theirs.get::<_, Option<String>>(2)
    {
        return Ok(Some(pooler.detail("two connections reached two different servers")));
    }
    Ok(None)
}

/// A walsender: needs REPLICATION, a line in pg_hba.conf that fits, and a free place.
async fn replication(params: &Params, name: &str, findings: &mut Vec<Finding>) {
    let attempt = async {
        let mut connection = ReplicationConnection::connect(params, name).await?;
        connection.identify_system().await?;
        connection.close().await;
        Ok::<(), Error>(())
    };
    let Err(error) = attempt.await else { return };
    let role = quote_ident(params.user());
    findings.push(match error.sqlstate() {
        Some("42501") => Finding::refuse(
            Side::Source,
            "REPLICATION_PRIVILEGE",
            format!("role {role} may not replicate from the source"),
        )
        .fix(format!("ALTER ROLE {role} REPLICATION; on RDS: GRANT rds_replication TO {role}")),
        Some("53300") => {
            Finding::refuse(Side::Source, "NO_FREE_WALSENDER", "the source has no free walsender")
                .detail(error.primary())
                .fix("ALTER SYSTEM SET max_wal_senders = …; then restart the source")
        }
        _ => Finding::unreachable(Side::Source, "--source for replication", &error),
    });
}
