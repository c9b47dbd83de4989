//! The server: version, role, settings, free slots.

use std::collections::HashMap;

use pg::{Result, Session};
use pipeline::{Finding, Side, SlotFacts, SourceFacts};

use super::{SourceOptions, floors};
use crate::slot;

pub(super) async fn check(
    session: &Session,
    options: &SourceOptions,
    facts: &mut SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let version = session.version();
    facts.version = version.0;
    let row = session
        .query_one(
            "SELECT d.datname, d.oid, pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate::text, pg_catalog.pg_is_in_recovery(),
                    (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
                    pg_catalog.pg_postmaster_start_time()::text || ' ' || pg_catalog.current_setting('port')
             FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
            &[],
        )
        .await?;
    facts.database = row.get(0);
    facts.database_oid = row.get(1);
    facts.encoding = row.get(2);
    facts.collate = row.get(3);
    facts.system_id = row.get::<_, Option<String>>(5).unwrap_or_default();
    facts.started = row.get(6);
    if version.major() < 10 {
        findings.push(
            Finding::refuse(
                Side::Source,
                "VERSION",
                format!("the source is PostgreSQL {version}; 10 is the oldest that works"),
            )
            .fix("upgrade the source, or move it with pg_dump"),
        );
    } else if version.major() > 18 {
        findings.push(Finding::warning(
            Side::Source,
            "VERSION",
            format!("the source is PostgreSQL {version}; versions up to 18 are tested"),
        ));
    }
    if let Some(wanted) = floors::wanted(version) {
        findings.push(
            Finding::warning(
                Side::Source,
                "MINOR_VERSION",
                format!("PostgreSQL {version} has known bugs in logical decoding"),
            )
            .fix(format!("update the source to {wanted} or newer (a restart, no dump)")),
        );
    }
    if row.get::<_, bool>(4) {
        findings.push(
            Finding::refuse(Side::Source, "STANDBY", "the source is a standby: publications can't be made on it")
                .fix("connect to the primary, for example with target_session_attrs=primary and all hosts in --source"),
        );
        return Ok(());
    }
    if options.stream {
        settings(session, options, facts, findings).await?;
    }
    Ok(())
}

async fn settings(
    session: &Session,
    options: &SourceOptions,
    facts: &mut SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let rows = session.query("SELECT name, setting FROM pg_catalog.pg_settings", &[]).await?;
    let settings: HashMap<String, String> =
        rows.iter().map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default())).collect();
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok());
    let level = settings.get("wal_level").map_or("", String::as_str);
    if level != "logical" {
        findings.push(
            Finding::refuse(Side::Source, "WAL_LEVEL", format!("wal_level is \"{level}\" on the source, logical is needed"))
                .fix("ALTER SYSTEM SET wal_level = 'logical'; then restart the source (RDS: rds.logical_replication = 1)"),
        );
    }
    slots(session, options, &number, facts, findings).await?;
    let limit = number("max_slot_wal_keep_size").unwrap_or(-1);
    if limit < 0 {
        findings.push(
            Finding::note(
                Side::Source,
                "SLOT_WAL_UNLIMITED",
                "nothing bounds the WAL that the slot keeps on the source: while the run is stopped, its disk fills",
            )
            .detail("a server whose pg_wal is full shuts down; see max_slot_wal_keep_size")
            .fix("watch the disk, or --max-retained-wal SIZE (with --on-limit drop the slot goes before the disk is full)"),
        );
    } else {
        findings.push(
            Finding::warning(
                Side::Source,
                "SLOT_WAL_LIMIT",
                format!("max_slot_wal_keep_size is {limit} MB: a run that falls further behind loses its slot and starts over"),
            )
            .fix("ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf(); and watch the disk, or --max-retained-wal"),
        );
    }
    if let Some(limit) = number("idle_replication_slot_timeout").filter(|limit| *limit > 0) {
        findings.push(
            Finding::warning(
                Side::Source,
                "SLOT_IDLE_LIMIT",
                format!("idle_replication_slot_timeout is {limit} s: a run that is stopped for longer loses its slot"),
            )
            .fix("ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()"),
        );
    }
    if let Some(timeout) = number("wal_sender_timeout").filter(|timeout| (1..10_000).contains(timeout)) {
        findings.push(
            Finding::warning(
                Side::Source,
                "WAL_SENDER_TIMEOUT",
                format!("wal_sender_timeout is {timeout} ms: a short stall of the network ends the stream"),
            )
            .fix("ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()"),
        );
    }
    if session.version().major() < 11 {
        findings.push(
            Finding::warning(
                Side::Source,
                "TRUNCATE_NOT_DECODED",
                "PostgreSQL 10 does not decode TRUNCATE: a truncated table keeps its rows on the target",
            )
            .fix("use DELETE instead while the run lasts; walferry verify finds tables that were truncated"),
        );
    }
    Ok(())
}

/// The run's own slot, and one more for the snapshots of verify and resume; a walsender for each.
async fn slots(
    session: &Session,
    options: &SourceOptions,
    number: &(impl Fn(&str) -> Option<i64> + Sync),
    facts: &mut SourceFacts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let existing = slot::look(session, &options.slot).await?;
    if let Some(slot) = &existing {
        facts.slot = Some(SlotFacts { name: slot.slot_name.clone(), active_pid: slot.active_pid });
        if options.adopt_slot
            && let Err(error) = slot.check_usable(&facts.database)
        {
            findings.push(Finding::from_error(Side::Source, &error));
        }
    }
    let row = session
        .query_one(
            "SELECT (SELECT count(*) FROM pg_catalog.pg_replication_slots),
                    (SELECT count(*) FROM pg_catalog.pg_stat_replication)",
            &[],
        )
        .await?;
    let needed = if existing.is_some() { 1 } else { 2 };
    for (used, setting, code, what) in [
        (row.get::<_, i64>(0), "max_replication_slots", "NO_FREE_SLOT", "replication slot"),
        (row.get::<_, i64>(1), "max_wal_senders", "NO_FREE_WALSENDER", "walsender"),
    ] {
        let limit = number(setting).unwrap_or(i64::MAX);
        let free = limit - used;
        if free >= needed || findings.iter().any(|finding| finding.code == code) {
            continue;
        }
        let text = format!(
            "{free} {what}(s) free on the source, {needed} needed: {used} of {setting} = {limit} are in use"
        );
        let finding = if free < 1 {
            Finding::refuse(Side::Source, code, text)
        } else {
            Finding::warning(Side::Source, code, text)
                .detail("one is the run's own; the other is needed for moments, by verify and after an interrupted copy")
        };
        findings.push(finding.fix(format!(
            "ALTER SYSTEM SET {setting} = {}; then restart the source; or free one (see {})",
            used + needed,
            if code == "NO_FREE_SLOT" { "pg_replication_slots" } else { "pg_stat_replication" }
        )));
    }
    Ok(())
}
