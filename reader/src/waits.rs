//! Whom a session of ours waits for.

use std::convert::Infallible;
use std::time::Duration;

use pg::{Params, Purpose, Result, Session};
use tokio::sync::watch;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells whose locks backend `pid` waits for, on a connection of its own, each different answer once. Never ends: run it beside the
/// statement that may wait.
pub async fn tell_blockers(
    params: &Params,
    application_name: &str,
    pid: i32,
    tell: &watch::Sender<Vec<String>>,
) -> Infallible {
    let mut session = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match blockers(&mut session, params, application_name, pid).await {
            // Between two attempts nobody is waited for; that is no news.
            Ok(found) if found.is_empty() => {}
            Ok(found) => {
                tell.send_if_modified(|said| {
                    let new = *said != found;
                    *said = found;
                    new
                });
            }
            Err(error) => {
                tracing::debug!("could not look whose locks are waited for: {error}");
                session = None;
            }
        }
    }
}

async fn blockers(
    session: &mut Option<Session>,
    params: &Params,
    application_name: &str,
    pid: i32,
) -> Result<Vec<String>> {
    let session = match session {
        Some(session) => session,
        none => none.insert(Session::connect(params, Purpose::Query, application_name).await?),
    };
    let rows = session
        .query(
            "SELECT b.pid, a.usename::text, a.application_name, p.gid
               FROM unnest(pg_catalog.pg_blocking_pids($1)) b (pid)
               LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
               LEFT JOIN pg_catalog.pg_prepared_xacts p ON b.pid = 0 ORDER BY b.pid",
            &[&pid],
        )
        .await?;
    rows.iter()
        .map(|row| {
            if let Some(gid) = row.try_get::<_, Option<String>>(3)? {
                return Ok(format!("prepared transaction {gid:?}"));
            }
            let (user, application) =
                (row.try_get::<_, Option<String>>(1)?, row.try_get::<_, Option<String>>(2)?);
            let pid: i32 = row.try_get(0)?;
            let user = user.unwrap_or_default();
            Ok(format!("pid {pid} of user {user:?}, application {:?}", application.unwrap_or_default()))
        })
        .collect()
}
