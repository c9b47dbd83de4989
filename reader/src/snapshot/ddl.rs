//! Who waits behind the keeper's locks: an ALTER TABLE, and everybody who queues up behind it.
//!
//! A session of our own among those would wait for ever, and the ALTER with it: it waits for the ALTER, which waits for the keeper, which
//! is let go when our sessions are done. The server sees no deadlock in that. So the keeper is ended: the ALTER goes on, and what is not
//! copied yet is copied from a new snapshot.

use std::collections::BTreeSet;
use std::fmt;

use pg::{Params, Purpose, Result, Session};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::keeper::LOOK_EVERY;

/// A session that waits for a lock that we hold, and how many wait for it in turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    pub pid: i32,
    pub user: Option<String>,
    pub application: Option<String>,
    /// The table, where it is one of this database.
    pub table: Option<String>,
    /// Lock mode that it wants.
    pub mode: String,
    /// Sessions that wait for it, directly or behind others.
    pub behind: usize,
    /// One of those is our own.
    pub holds_us_up: bool,
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        if let Some(user) = &self.user {
            write!(f, " of user {user:?}")?;
        }
        if let Some(application) = self.application.as_deref().filter(|name| !name.is_empty()) {
            write!(f, ", application {application:?},")?;
        }
        write!(f, " waits for {}", self.mode)?;
        if let Some(table) = &self.table {
            write!(f, " on table {table}")?;
        }
        match self.behind {
            0 => Ok(()),
            n => write!(f, " and holds up {n} more"),
        }
    }
}

/// Looks again and again, on a connection of its own, until the receivers are gone. A lost connection is opened again.
pub(crate) async fn watch(
    params: Params,
    application_name: String,
    keeper: i32,
    tell: watch::Sender<Vec<Waiter>>,
) {
    let mut session = None;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tell.closed() => return,
        }
        match look(&mut session, &params, &application_name, keeper).await {
            Ok(found) => {
                tell.send_if_modified(|before| {
                    let changed = *before != found;
                    *before = found;
                    changed
                });
            }
            Err(error) => {
                tracing::debug!("could not look who waits for the snapshot's locks: {error}");
                session = None;
            }
        }
    }
}

async fn look(
    session: &mut Option<Session>,
    params: &Params,
    application_name: &str,
    keeper: i32,
) -> Result<Vec<Waiter>> {
    let session = match session {
        Some(session) => session,
        none => none.insert(Session::connect(params, Purpose::Query, application_name).await?),
    };
    let rows = session
        .query(
            "SELECT l.pid, pg_catalog.pg_blocking_pids(l.pid), a.usename::text, a.application_name,
                    CASE WHEN l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                         THEN l.relation::pg_catalog.regclass::text END, l.mode
               FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
              WHERE NOT l.granted AND l.pid IS NOT NULL ORDER BY l.pid",
            &[],
        )
        .await?;
    let mut waiting = Vec::with_capacity(rows.len());
    for row in rows {
        let waiter = Waiter {
            pid: row.try_get(0)?,
            user: row.try_get(2)?,
            application: row.try_get(3)?,
            table: row.try_get(4)?,
            mode: row.try_get(5)?,
            behind: 0,
            holds_us_up: false,
        };
        waiting.push((waiter, row.try_get::<_, Vec<i32>>(1)?));
    }
    let found =
        direct(keeper, waiting, application_name.strip_suffix(" (keeper)").unwrap_or(application_name));
    if let Some(waiter) = found.iter().find(|waiter| waiter.holds_us_up) {
        tracing::warn!(
            "the snapshot is given up and a new one taken: {waiter}, among them sessions of this run"
        );
        session.execute("SELECT pg_catalog.pg_terminate_backend($1)", &[&keeper]).await?;
    }
    Ok(found)
}

/// Those who wait for the keeper itself, each with the number of those behind it. Sessions of the run have its name, alone or with what
/// they do in brackets.
fn direct(keeper: i32, waiting: Vec<(Waiter, Vec<i32>)>, run: &str) -> Vec<Waiter> {
    let ours: BTreeSet<i32> = waiting
        .iter()
        .filter(|(waiter, _)| {
            let rest = waiter.application.as_deref().and_then(|name| name.strip_prefix(run));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        })
        .map(|(waiter, _)| waiter.pid)
        .collect();
    let edges: Vec<(i32, Vec<i32>)> =
        waiting.iter().map(|(waiter, blockers)| (waiter.pid, blockers.clone())).collect();
    waiting
        .into_iter()
        .filter(|(_, blockers)| blockers.contains(&keeper))
        .map(|(mut waiter, _)| {
            let mut behind = BTreeSet::from([waiter.pid]);
            while let Some((pid, _)) = edges.iter().find(|(pid, blockers)| {
                !behind.contains(pid) && blockers.iter().any(|blocker| behind.contains(blocker))
            }) {
                behind.insert(*pid);
            }
            waiter.behind = behind.len() - 1;
            behind.remove(&waiter.pid);
            waiter.holds_us_up = !behind.is_disjoint(&ours);
            waiter
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(pid: i32) -> Waiter {
        Waiter {
            pid,
            user: None,
            application: None,
            table: Some("s.t".into()),
            mode: "AccessExclusiveLock".into(),
            behind: 0,
            holds_us_up: false,
        }
    }

    #[test]
    fn those_behind_the_alter_are_counted_and_strangers_are_not() {
        let waiting = vec![
            (waiter(10), vec![1]),
            (waiter(11), vec![10]),
            (waiter(12), vec![11, 10]),
            (waiter(20), vec![99]),
        ];
        let found = direct(1, waiting, "move");
        assert_eq!(found.len(), 1);
        assert!(!found[0].holds_us_up);
        assert_eq!(
            found[0].to_string(),
            "pid 10 waits for AccessExclusiveLock on table s.t and holds up 2 more"
        );
    }

    #[test]
    fn our_own_sessions_behind_the_alter_are_seen() {
        for (name, ours) in [("move", true), ("move (copy)", true), ("moved", false), ("other", false)] {
            let application = Some(name.to_owned());
            let waiting = vec![
                (waiter(10), vec![1]),
                (waiter(11), vec![10]),
                (Waiter { application, ..waiter(12) }, vec![11]),
            ];
            assert_eq!(direct(1, waiting, "move")[0].holds_us_up, ours, "{name}");
        }
    }
}
