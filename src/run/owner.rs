//! The session that owns a run: its advisory lock, its epoch, and the announcements of requests.

use std::time::Duration;

use pg::{Error, Purpose, Result, Session};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::{Client, Notification};
use writer::control::{self, Progress, Run, StatusError};

use super::context::{Context, on_target};

/// How long to wait for the lock of a process that has just died: its backend ends when it notices.
const PATIENCE: Duration = Duration::from_secs(3);

/// Holds the run for as long as it lives.
pub struct Owner {
    session: Session,
    /// The server's process of the session.
    backend: i32,
    pub notifications: Option<UnboundedReceiver<Notification>>,
    name: String,
    /// Counts the starts of the run; 0 before its record exists.
    pub epoch: i64,
}

/// What is left of an owner whose connection was lost.
#[derive(Clone, Copy, Debug)]
pub struct Former {
    epoch: i64,
    backend: i32,
}

impl Former {
    /// Ends the session of before, where it still holds the run's lock.
    async fn end(self, session: &Session, name: &str) -> Result<()> {
        if control::holder(session, name).await?.is_some_and(|holder| holder.pid == self.backend) {
            session.query_one("SELECT pg_catalog.pg_terminate_backend($1)", &[&self.backend]).await?;
        }
        Ok(())
    }
}

impl Owner {
    /// Takes the run. `before`: what this process had when it lost the connection; another process may have taken the run over since.
    pub async fn take(context: &Context, before: Option<Former>) -> Result<Owner> {
        let name = &context.name;
        let mut session =
            Session::connect(&context.target, Purpose::TargetControl, &format!("{name} (control)"))
                .await
                .map_err(on_target)?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let epoch = before.map(|former| former.epoch);
        while !control::try_lock(&session, name).await? {
            // The server may not know yet that the connection of before is gone, and keep our own lock from us.
            if let Some(former) = before {
                former.end(&session, name).await?;
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(owned(&session, name).await?);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        session.batch_execute("LISTEN walferry").await?;
        let backend = session.backend_pid();
        let notifications = session.notifications();
        let mut owner =
            Owner { session, backend, notifications, name: name.clone(), epoch: epoch.unwrap_or(0) };
        if let Some(now) = Run::epoch_of(&owner.session, name).await? {
            match epoch {
                Some(ours) if ours != 0 && ours != now => {
                    return Err(Error::refuse(
                        "OWNED_BY",
                        format!("another process has taken over run \"{name}\""),
                    ));
                }
                Some(ours) if ours != 0 => {}
                _ => owner.begin_epoch().await?,
            }
        }
        Ok(owner)
    }

    /// A new start of the run: nobody with an older epoch can commit any more. On disk when this returns, and with it everything that was
    /// committed before, so the slot may be acknowledged up to the progress that is read now.
    pub async fn begin_epoch(&mut self) -> Result<()> {
        self.epoch = Run::bump_epoch(&self.session, &self.name).await?;
        loop {
            let Some(mut progress) = Progress::read(&self.session, &self.name).await? else { return Ok(()) };
            progress.seq += 1;
            progress.epoch = self.epoch;
            match progress.append_flushed(&self.session, &self.name).await {
                // The predecessor's last transaction was still on its way: read again.
                Err(error) if error.code() == control::FENCED => {
                    self.session.batch_execute("ROLLBACK").await?;
                }
                result => return result,
            }
        }
    }

    pub fn session(&self) -> &Client {
        &self.session
    }

    pub fn client(&mut self) -> &mut Session {
        &mut self.session
    }

    /// For the next one, when the connection is lost.
    pub fn former(&self) -> Former {
        Former { epoch: self.epoch, backend: self.backend }
    }

    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// For `status`; a target that is away can't be told.
    pub async fn note_error(&self, error: Option<&StatusError>) {
        if let Err(failed) = Run::set_error(self.session(), &self.name, error).await {
            tracing::debug!("could not note the error in the target: {failed}");
        }
    }
}

async fn owned(session: &Session, name: &str) -> Result<Error> {
    let error = Error::refuse("OWNED_BY", format!("run \"{name}\" is owned by another process"));
    Ok(match control::holder(session, name).await? {
        Some(holder) => error
            .detail(format!(
                "backend {} on the target, connected from {} since {}",
                holder.pid, holder.client, holder.since
            ))
            .hint(format!(
                "stop that process, or give this run another --name; if its host is gone, on the target: SELECT \
                 pg_terminate_backend({})",
                holder.pid
            )),
        None => error.hint("try again"),
    })
}
