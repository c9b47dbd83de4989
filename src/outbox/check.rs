//! `check --outbox`: what would stop or surprise `outbox run`, and the role that it needs.

use pg::{Error, Purpose, Result, Session, quote_ident};
use pipeline::{Finding, Side};
use reader::slot;

use super::plan::{self, MESSAGES_SINCE, Table};
use super::publication;
use crate::config::Settings;

/// Looks, and changes nothing. What goes wrong is a finding itself.
pub async fn look(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let params = match settings.source() {
        Ok(params) => params,
        Err(error) => return vec![Finding::from_error(Side::Source, &error)],
    };
    match Session::connect(&params, Purpose::Query, &format!("{} (check)", settings.name())).await {
        Err(error) => findings.push(Finding::unreachable(Side::Source, "--source", &error)),
        Ok(session) => {
            if let Err(error) = inspect(settings, &session, params.user(), &mut findings).await {
                findings.push(Finding::from_error(Side::Source, &error));
            }
        }
    }
    findings.extend(brokers(settings).await);
    findings.sort_by_key(|finding| (finding.side, finding.severity));
    findings
}

async fn brokers(settings: &Settings) -> Option<Finding> {
    let asked = async { kafka::Admin::new(&crate::run::topics::options(settings)?)?.all().await };
    asked.await.err().map(|error| Finding::from_error(Side::Here, &error))
}

async fn inspect(
    settings: &Settings,
    session: &Session,
    role: &str,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let row = session
        .query_one(
            "SELECT pg_catalog.current_setting('wal_level'), r.rolsuper OR r.rolreplication FROM pg_catalog.pg_roles r
             WHERE r.rolname = current_user",
            &[],
        )
        .await?;
    let (level, replication): (String, bool) = (row.get(0), row.get(1));
    if level != "logical" {
        findings.push(
            Finding::refuse(
                Side::Source,
                "WAL_LEVEL",
                format!("wal_level is {level}, logical decoding needs logical"),
            )
            .fix("ALTER SYSTEM SET wal_level = logical; then restart the server"),
        );
    }
    if !replication {
        findings.push(
            Finding::refuse(Side::Source, "REPLICATION", format!("role {role} may not replicate"))
                .fix(format!("ALTER ROLE {} REPLICATION", quote_ident(role))),
        );
    }
    if session.version().major() < MESSAGES_SINCE {
        findings.push(Finding::note(
            Side::Source,
            "OUTBOX_MESSAGES",
            format!("logical messages need a source of {MESSAGES_SINCE} or later: events come from an outbox table alone"),
        ));
    }
    let planned = match plan::look(settings, session, false).await {
        Ok(planned) => planned,
        Err(error) => {
            findings.push(Finding::from_error(Side::Source, &error));
            return Ok(());
        }
    };
    for table in planned.tables.iter().filter(|table| !table.identity) {
        findings.push(Finding::note(
            Side::Source,
            "OUTBOX_IDENTITY",
            format!("outbox table {} has no replica identity: only its inserts are published", table.name),
        ));
    }
    let state = slot::look(session, settings.slot_name()).await?;
    match &state {
        Some(state) => {
            if let Err(error) = state.check_usable(session_database(session).await?.as_str()) {
                findings.push(Finding::from_error(Side::Source, &error));
            }
        }
        None => {
            let record = super::record::read(session, settings.slot_name()).await?;
            if record.is_some() {
                findings.push(
                    Finding::refuse(
                        Side::Source,
                        "SLOT_MISSING",
                        format!("replication slot \"{}\" does not exist any more", settings.slot_name()),
                    )
                    .fix(format!("walferry outbox remove --name {}, then outbox run", settings.name())),
                );
            }
        }
    }
    for name in &planned.publications {
        let there = session
            .query_opt("SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", &[name])
            .await?
            .is_some();
        if there {
            continue;
        }
        let sql = publication::create(name, &planned.tables, session);
        if may_publish(session, &planned.tables).await? && planned.own_publication {
            findings.push(Finding::note(
                Side::Source,
                "PUBLICATION",
                format!("publication \"{name}\" will be made"),
            ));
        } else {
            findings.push(
                Finding::refuse(
                    Side::Source,
                    "PUBLICATION_MISSING",
                    format!("publication \"{name}\" does not exist, and role {role} can't make it"),
                )
                .fix(sql),
            );
        }
    }
    Ok(())
}

async fn session_database(session: &Session) -> Result<String> {
    Ok(session.query_one("SELECT pg_catalog.current_database()::text", &[]).await?.get(0))
}

async fn may_publish(session: &Session, tables: &[Table]) -> Result<bool> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let row = session
        .query_one(
            "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AND NOT EXISTS (
                 SELECT FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))",
            &[&oids],
        )
        .await
        .map_err(Error::from)?;
    Ok(row.get(0))
}

/// The SQL that makes the role of `outbox run`: what it needs, and no more.
pub async fn grants(settings: &Settings) -> Result<String> {
    let params = settings.source()?;
    let session = super::connect(&params, settings.name(), "check").await?;
    let base = plan::options(settings)?;
    let tables = plan::tables(settings, &session, &base).await?;
    let role = quote_ident(params.user());
    let publication = settings.run.publication.first().map_or(settings.name(), String::as_str);
    let mut lines = vec![
        "-- source, as an administrator: the role of outbox run".to_owned(),
        format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '…';"),
        format!("GRANT CONNECT ON DATABASE {} TO {role};", quote_ident(params.dbname())),
        "CREATE SCHEMA IF NOT EXISTS walferry;".to_owned(),
        super::record::TABLES.to_owned(),
        format!("GRANT USAGE ON SCHEMA walferry TO {role};"),
        "-- where the slot began, so that cleanup knows what was there before".to_owned(),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON walferry.outbox_slots TO {role};"),
        "-- by the owner of the outbox table".to_owned(),
        format!("{};", publication::create(publication, &tables, &session)),
    ];
    if !tables.is_empty() {
        lines.push(
            "-- only for cleanup (outbox.retention, outbox clean) and --snapshot; routing itself needs none"
                .to_owned(),
        );
    }
    for table in &tables {
        lines.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", quote_ident(&table.name.schema)));
        lines.push(format!("GRANT SELECT, DELETE ON {} TO {role};", table.name));
    }
    lines.push("-- Kafka: Write, Describe, DescribeConfigs and Create on the events' topics and on the dead-letter topic; Read on that one for outbox dlq".to_owned());
    Ok(lines.join("\n"))
}
