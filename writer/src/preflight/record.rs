//! What the target knows of this run, against what the source has: a slot or a publication that no record mentions is somebody else's.

use pg::{Result, Session, quote_ident, quote_literal};
use pipeline::{Finding, Side, SourceFacts};

use super::TargetOptions;
use crate::control::{self, Run};

pub(super) async fn check(
    session: &Session,
    options: &TargetOptions,
    source: &SourceFacts,
    run: Option<&Run>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    if !options.stream {
        return Ok(());
    }
    if let Some(run) = run {
        let mut note = Finding::note(
            Side::Target,
            "RUN_EXISTS",
            format!("run \"{}\" stands at step {}: the same command goes on from there", run.name, run.step),
        );
        if let Some(holder) = control::holder(session, &run.name).await? {
            note = note.detail(format!("a process works on it: pid {} from {}", holder.pid, holder.client));
        }
        findings.push(note);
        identity(source, run, findings);
    }
    if let Some(slot) = &source.slot {
        let ours =
            run.is_some_and(|run| run.slot == slot.name && (run.slot_intent || run.slot_lsn.is_some()));
        if let (false, Some(pid)) = (ours, slot.active_pid) {
            findings.push(
                Finding::refuse(Side::Source, "SLOT_ACTIVE", format!("replication slot \"{}\" is in use by pid {pid}", slot.name))
                    .fix("another program reads from it: stop that one, or name another slot with --slot or --name"),
            );
        } else if !ours && !options.adopt_slot {
            findings.push(
                Finding::refuse(
                    Side::Source,
                    "SLOT_EXISTS",
                    format!("the source has a replication slot \"{}\" that no record of ours mentions", slot.name),
                )
                .fix(format!(
                    "take it over: --slot {0}; or name the run otherwise: --name; or, if nobody needs it: SELECT \
                     pg_drop_replication_slot({1})",
                    slot.name,
                    quote_literal(&slot.name)
                )),
            );
        }
    }
    if run.is_none_or(|run| !run.publication_own) && !source.own_publications.is_empty() {
        let names: Vec<String> = source.own_publications.iter().map(|name| quote_ident(name)).collect();
        findings.push(
            Finding::refuse(
                Side::Source,
                "PUBLICATION_EXISTS",
                format!("the source has a publication {} that no record of ours mentions", names.join(", ")),
            )
            .fix(format!(
                "use it: --publication {}; or name the run otherwise: --name; or, if nobody needs it: DROP PUBLICATION {}",
                source.own_publications[0],
                names.join(", ")
            )),
        );
    }
    Ok(())
}

fn identity(source: &SourceFacts, run: &Run, findings: &mut Vec<Finding>) {
    let Some(then) = &run.source else { return };
    if then.system_id != source.system_id || then.database_oid != source.database_oid {
        findings.push(
            Finding::refuse(
                Side::Source,
                "OTHER_SOURCE",
                format!("run \"{}\" was made from another source", run.name),
            )
            .detail(format!(
                "it reads database \"{}\" of system {}; --source is database \"{}\" of system {}",
                then.database, then.system_id, source.database, source.system_id
            ))
            .fix("give the source that it was started with, or another --name"),
        );
    }
}
