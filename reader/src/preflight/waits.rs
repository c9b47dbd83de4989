//! Who would hold up the start of a run: transactions that the slot waits for, and locks that the copy waits for.

use std::collections::BTreeSet;

use pg::{Result, Session};
use pipeline::{Finding, Side, SourceFacts, some_of};

use crate::slot;

/// A transaction that is younger is no news: it is over soon.
const LONG_SECONDS: f64 = 5.0;

pub(super) async fn check(session: &Session, facts: &SourceFacts, findings: &mut Vec<Finding>) -> Result<()> {
    locked(session, facts, findings).await?;
    let blockers = slot::blockers(session).await?;
    let (prepared, running): (Vec<_>, Vec<_>) =
        blockers.into_iter().partition(|blocker| blocker.gid.is_some());
    if !prepared.is_empty() {
        findings.push(
            Finding::warning(
                Side::Source,
                "PREPARED_TRANSACTIONS",
                format!(
                    "{} prepared transaction(s) hold up the creation of the slot, and a cutover",
                    prepared.len()
                ),
            )
            .detail(some_of(&prepared))
            .fix(prepared.iter().map(slot::Blocker::remedy).collect::<Vec<_>>().join("\n")),
        );
    }
    let long: Vec<_> =
        running.into_iter().filter(|b| b.seconds.is_some_and(|age| age >= LONG_SECONDS)).collect();
    if !long.is_empty() {
        findings.push(
            Finding::warning(
                Side::Source,
                "LONG_TRANSACTIONS",
                format!("{} long transaction(s) hold up the creation of the slot until they end", long.len()),
            )
            .detail(some_of(&long))
            .fix(format!(
                "wait, or: {}",
                long.iter().map(slot::Blocker::remedy).collect::<Vec<_>>().join(" ")
            )),
        );
    }
    Ok(())
}

/// Tables of the run that somebody keeps from being read.
async fn locked(session: &Session, facts: &SourceFacts, findings: &mut Vec<Finding>) -> Result<()> {
    let oids: Vec<u32> = facts.tables.iter().map(|table| table.oid).collect();
    let rows = session
        .query(
            "SELECT l.relation::pg_catalog.regclass::text, l.pid, a.usename::text, a.application_name,
                    extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::int8
               FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
              WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_catalog.pg_backend_pid()
                AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                AND l.relation IN (WITH RECURSIVE tree (oid) AS (
                                       SELECT pg_catalog.unnest($1::oid[])
                                     UNION
                                       SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
                                       JOIN pg_catalog.pg_class p ON p.oid = tree.oid AND p.relkind = 'p')
                                   SELECT oid FROM tree)
              ORDER BY 2, 1",
            &[&oids],
        )
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let held: Vec<String> = rows
        .iter()
        .map(|row| {
            let (name, pid): (&str, i32) = (row.get(0), row.get(1));
            let (user, application) = (row.get::<_, Option<String>>(2), row.get::<_, Option<String>>(3));
            format!(
                "{name} by pid {pid} of user {:?}, application {:?}, for {} s",
                user.unwrap_or_default(),
                application.unwrap_or_default(),
                row.get::<_, Option<i64>>(4).unwrap_or(0)
            )
        })
        .collect();
    let pids: BTreeSet<i32> = rows.iter().map(|row| row.get(1)).collect();
    let remedies = pids.iter().map(|pid| format!("SELECT pg_terminate_backend({pid});"));
    findings.push(
        Finding::warning(
            Side::Source,
            "TABLES_LOCKED",
            format!("{} table(s) are locked in ACCESS EXCLUSIVE mode: the start waits for them", held.len()),
        )
        .detail(some_of(&held))
        .fix(format!("wait, or: {}", remedies.collect::<Vec<_>>().join(" "))),
    );
    Ok(())
}
