//! Making a slot, with a bounded wait for the transactions that stand in its way.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use pg::{Error, Lsn, Params, Purpose, Result, Session, sqlstate};
use tokio::time::{Instant, sleep, timeout};

use super::{Blocker, blockers};
use crate::replication::{ReplicationConnection, SlotSnapshot};

/// Code of the error for a slot of that name that came into being after the caller had looked: withdraw the recorded intention.
pub const SLOT_EXISTS: &str = "SLOT_EXISTS";

/// Code of the error for transactions that stood in the way for all of [`CreateOptions::wait`]: there is no slot, and none on its way.
pub const SLOT_BLOCKED: &str = "SLOT_BLOCKED";

/// How long one attempt waits for one transaction. A walsender that waits does not notice that we are gone.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How a slot is made.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Of the connection that makes it.
    pub application_name: String,
    /// How long to wait, in all, for transactions that hold an xid.
    pub wait: Duration,
    /// FAILOVER: from 17 on, otherwise ignored.
    pub failover: bool,
}

/// A slot and the snapshot of its consistent point. The snapshot lives as long as this does: import it, export it again, then drop this.
pub struct ExportedSlot {
    pub name: String,
    /// A commit belongs to the stream iff its commit record is at or past this.
    pub consistent_point: Lsn,
    pub snapshot: String,
    _exporter: ReplicationConnection,
}

/// Makes the slot `name` and exports its snapshot. `waiting` is told, about once a second, who holds it up.
///
/// The caller has looked that there is no such slot and has recorded that it is about to make one. [`SLOT_EXISTS`] means that somebody
/// was quicker, and the slot is theirs. Any other error leaves no slot behind, unless the connection was lost on the way: then nobody
/// knows, and the recorded intention is what the next start acts on.
pub async fn create(
    params: &Params,
    name: &str,
    options: &CreateOptions,
    waiting: impl FnMut(&[Blocker]),
) -> Result<ExportedSlot> {
    make(params, name, false, options, waiting).await
}

/// Makes a temporary slot for the sake of its snapshot and LSN: it is gone with the returned value. Named after `run`.
pub async fn create_temporary(
    params: &Params,
    run: &str,
    options: &CreateOptions,
    mut waiting: impl FnMut(&[Blocker]),
) -> Result<ExportedSlot> {
    loop {
        // At random: processes in containers all have the same id.
        let number = RandomState::new().build_hasher().finish() as u32;
        match make(params, &temporary_name(run, number), true, options, &mut waiting).await {
            Err(error) if error.code() == SLOT_EXISTS => {}
            made => return made,
        }
    }
}

/// `<run>_tmp_<number>`, within the 63 bytes of a slot's name and its alphabet.
fn temporary_name(run: &str, number: u32) -> String {
    let suffix = format!("_tmp_{number}");
    let mut name: String = run
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '_' })
        .collect();
    name.truncate(63 - suffix.len());
    name + &suffix
}

async fn make(
    params: &Params,
    name: &str,
    temporary: bool,
    options: &CreateOptions,
    mut waiting: impl FnMut(&[Blocker]),
) -> Result<ExportedSlot> {
    let deadline = Instant::now() + options.wait;
    let witness_name = format!("{} (keeper)", options.application_name);
    let witness = Session::connect(params, Purpose::Query, &witness_name).await?;
    loop {
        let mut connection = ReplicationConnection::connect(params, &witness_name).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        connection.set_lock_timeout(ATTEMPT.min(left).max(Duration::from_millis(10))).await?;
        let attempt = connection.create_slot(name, temporary, SlotSnapshot::Export, options.failover);
        let result = {
            tokio::pin!(attempt);
            loop {
                if let Ok(result) = timeout(Duration::from_secs(1), &mut attempt).await {
                    break result;
                }
                if let Ok(found) = blockers(&witness).await {
                    waiting(&found);
                }
            }
        };
        let error = match result {
            Ok(created) => {
                let snapshot = created.snapshot.ok_or_else(|| {
                    Error::failed("PROTOCOL", "the server exported no snapshot with the slot")
                })?;
                return Ok(ExportedSlot {
                    name: name.to_owned(),
                    consistent_point: created.consistent_point,
                    snapshot,
                    _exporter: connection,
                });
            }
            Err(error) => error,
        };
        if error.is(sqlstate::DUPLICATE_OBJECT) {
            return Err(Error::refuse(SLOT_EXISTS, format!("replication slot \"{name}\" already exists"))
                .hint("it is not this run's: name another one with --slot, or another run with --name"));
        }
        // lock_timeout: the server has already removed the unfinished slot.
        if !error.is(sqlstate::LOCK_NOT_AVAILABLE) {
            return Err(error.context(format!("could not create replication slot \"{name}\"")));
        }
        if Instant::now() >= deadline {
            return Err(held_up(name, options.wait, &blockers(&witness).await?));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn held_up(name: &str, wait: Duration, blockers: &[Blocker]) -> Error {
    let who = blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let mut error = Error::stop(
        SLOT_BLOCKED,
        format!(
            "replication slot \"{name}\" could not be created within {} s: transactions are open",
            wait.as_secs()
        ),
    );
    if !who.is_empty() {
        error = error.detail(format!("held up by {who}"));
    }
    match blockers.first() {
        Some(oldest) => error.hint(format!("wait until they have ended, or: {}", oldest.remedy())),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_legal_and_short_enough() {
        assert_eq!(temporary_name("walferry", 42), "walferry_tmp_42");
        let long = temporary_name(&"Ä-x".repeat(40), u32::MAX);
        assert!(long.len() <= 63 && long.ends_with("_tmp_4294967295"), "{long}");
        assert!(long.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }

    #[test]
    fn the_error_names_who_is_in_the_way_and_what_ends_it() {
        let prepared = Blocker {
            pid: None,
            gid: Some("it's".into()),
            user: Some("app".into()),
            database: Some("shop".into()),
            application: None,
            seconds: Some(61.4),
        };
        let open = Blocker { pid: Some(7), gid: None, application: Some("psql".into()), ..prepared.clone() };
        let error = held_up("w", Duration::from_secs(60), &[prepared, open]);
        let detail = error.detail_text().unwrap();
        assert!(
            detail.contains("prepared transaction \"it's\" of user \"app\", database \"shop\", since 61 s"),
            "{detail}"
        );
        assert!(detail.contains("pid 7") && detail.contains("\"psql\""), "{detail}");
        assert!(error.hint_text().unwrap().contains("COMMIT PREPARED 'it''s'"));
    }
}
