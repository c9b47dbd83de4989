//! Puts what was committed on the target's disk from a session of its own, so that no change waits for the disk.
//!
//! ```text
//! apply session:   COMMIT COMMIT COMMIT … (asynchronous)        acknowledge ◄─┐
//! flusher:               └── one record of WAL, committed synchronously ──────┘
//! ```
//!
//! A synchronous commit flushes the WAL before it, whoever wrote it. Should the session fail, the apply session flushes by itself, as it
//! does without a flusher.

use std::time::Duration;

use pg::{Error, Lsn, Params, Purpose, Result, Session};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Writes a record of WAL, without which a commit has nothing to flush.
const FLUSH: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'walferry.flush', '')";
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A handle to the task; dropped, the task ends.
pub struct Flusher {
    wanted: watch::Sender<Lsn>,
    done: watch::Receiver<Lsn>,
    _task: JoinSet<()>,
}

impl Flusher {
    /// `name`: of the session, which is opened when it is first needed.
    pub fn spawn(params: &Params, name: String, start: Lsn) -> Flusher {
        let (wanted, asked) = watch::channel(start);
        let (report, done) = watch::channel(start);
        let mut task = JoinSet::new();
        task.spawn(run(params.clone(), name, asked, report));
        Flusher { wanted, done, _task: task }
    }

    /// Asks for everything that is committed now, which is everything up to `end_lsn`.
    pub fn ask(&self, end_lsn: Lsn) {
        self.wanted.send_if_modified(|wanted| {
            let more = end_lsn > *wanted;
            *wanted = end_lsn.max(*wanted);
            more
        });
    }

    /// Asked for, and not answered yet?
    pub fn has_been_asked(&self, end_lsn: Lsn) -> bool {
        *self.wanted.borrow() >= end_lsn
    }

    /// Waits until more is on disk, and says up to where. Cancel-safe.
    pub async fn flushed(&mut self) -> Lsn {
        if self.done.changed().await.is_err() {
            // The task has failed; nothing will come.
            std::future::pending::<()>().await;
        }
        *self.done.borrow_and_update()
    }

    /// What is on disk by now, if that has not been told yet.
    pub fn has_flushed(&mut self) -> Option<Lsn> {
        self.done.has_changed().unwrap_or(false).then(|| *self.done.borrow_and_update())
    }
}

async fn run(params: Params, name: String, mut asked: watch::Receiver<Lsn>, report: watch::Sender<Lsn>) {
    let mut session = None;
    while asked.changed().await.is_ok() {
        let end_lsn = *asked.borrow_and_update();
        match flush(&mut session, &params, &name).await {
            Ok(()) => {
                report.send_replace(end_lsn);
            }
            Err(error) => {
                tracing::debug!("the session that flushes the target failed: {error}");
                session = None;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn flush(session: &mut Option<Session>, params: &Params, name: &str) -> Result<()> {
    let session = match session {
        Some(session) => session,
        none => {
            let fresh = Session::connect(params, Purpose::TargetControl, name).await?;
            fresh.batch_execute("SET synchronous_commit = on").await?;
            none.insert(fresh)
        }
    };
    session.batch_execute(FLUSH).await.map_err(Error::from)
}
