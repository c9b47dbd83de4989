//! Merges the pending lists of GIN indexes from a session of its own, so that the apply session does not.
//!
//! A GIN index takes new entries into a list, and whoever makes that list too long merges it into the index: more work than all the
//! rest of a row. While another session merges, nobody else does (`ginInsertCleanup` only tries its lock), so the second session takes that
//! work off the first. It changes what lies where in the index and nothing else. Without it, or when it fails, the apply session
//! merges as any session does. <https://www.postgresql.org/docs/current/gin.html#GIN-FAST-UPDATE>

use std::collections::BTreeSet;
use std::time::Duration;

use pg::{Params, Purpose, Result, Session};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::plan::{Plan, Step};

/// How many pages were merged. An index that was dropped meanwhile is left out.
const MERGE: &str = "
SELECT coalesce(sum(pg_catalog.gin_clean_pending_list(c.oid::pg_catalog.regclass)), 0)::bigint
FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)";
/// Behind a lock that somebody else waits for or has, it does not wait for long.
const SETTINGS: &str = "SET lock_timeout = '1s'; SET synchronous_commit = off";
/// Fewer rows of a table in one piece are left to the apply session.
const ROWS: usize = 500;
/// A list that grows is merged this often: many entries at once cost less than few.
const SPACING: Duration = Duration::from_millis(40);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// What does not fit is asked for by the next piece.
const QUEUE: usize = 64;

/// A handle to the task; dropped, the task ends.
pub struct Merger {
    growing: mpsc::Sender<Vec<u32>>,
    _task: JoinSet<()>,
}

impl Merger {
    /// `name`: of the session, which is opened when it is first needed.
    pub fn spawn(params: &Params, name: String) -> Merger {
        let (growing, indexes) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        task.spawn(run(params.clone(), name, indexes));
        Merger { growing, _task: task }
    }

    /// What the plan's large steps put into pending lists is merged from now on until they are empty. Said before the plan is carried
    /// out, so that lists don't grow long, and after it, for what came when they were empty.
    pub fn merge(&self, plan: &Plan) {
        for step in &plan.steps {
            let (target, rows) = match step {
                Step::Insert { target, rows } | Step::Update { target, rows, .. } => (target, rows.len()),
                _ => continue,
            };
            if rows >= ROWS && !target.gin.is_empty() {
                let _ = self.growing.try_send(target.gin.clone());
            }
        }
    }
}

async fn run(params: Params, name: String, mut asked: mpsc::Receiver<Vec<u32>>) {
    let mut session = None;
    while let Some(indexes) = asked.recv().await {
        let mut growing = BTreeSet::from_iter(indexes);
        loop {
            while let Ok(more) = asked.try_recv() {
                growing.extend(more);
            }
            let indexes: Vec<u32> = growing.iter().copied().collect();
            match merge(&mut session, &params, &name, &indexes).await {
                Ok(0) => break,
                Ok(_) => tokio::time::sleep(SPACING).await,
                Err(error) => {
                    tracing::debug!("the session that merges pending lists of indexes failed: {error}");
                    session = None;
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            }
        }
    }
}

async fn merge(session: &mut Option<Session>, params: &Params, name: &str, indexes: &[u32]) -> Result<i64> {
    let session = match session {
        Some(session) => session,
        none => {
            let fresh = Session::connect(params, Purpose::TargetControl, name).await?;
            fresh.batch_execute(SETTINGS).await?;
            none.insert(fresh)
        }
    };
    Ok(session.query_one(MERGE, &[&indexes]).await?.get(0))
}
