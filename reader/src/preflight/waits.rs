//! Who would hold up the creation of the slot.

use pg::{Result, Session};
use pipeline::{Finding, Side, some_of};

use crate::slot;

/// A transaction that is younger is no news: it is over soon.
const LONG_SECONDS: f64 = 5.0;

pub(super) async fn check(session: &Session, findings: &mut Vec<Finding>) -> Result<()> {
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
