//! What is to be said of the slot, in the run's `status`: during the copy and the building of indexes, when nobody else writes there.
//!
//! The loop beside the stream writes the same about once a second, among the rest (`live/beside.rs`).

use std::time::Duration;

use pg::{Purpose, Result, Session};
use serde_json::json;

use super::watch::Retained;
use crate::run::context::{Context, on_target};

/// A target that needs longer for an answer is as good as away.
const PATIENCE: Duration = Duration::from_secs(10);

/// In the place of what was said at an earlier look, by this process or the one before.
const TELL: &str = "UPDATE walferry.runs SET updated_at = pg_catalog.clock_timestamp(),
         live = pg_catalog.jsonb_set(coalesce(live, '{}'), '{warnings}', (
             SELECT coalesce(pg_catalog.jsonb_agg(warning), '[]') FROM pg_catalog.jsonb_array_elements(live -> 'warnings') warning
             WHERE pg_catalog.strpos(warning #>> '{}', $3) = 0) || $2::jsonb)
     WHERE name = $1";

/// Tells of each look while there is something to say, and once when there is nothing.
pub async fn tell(context: &Context, retained: &Retained) -> std::convert::Infallible {
    let mut looks = retained.looks();
    let (mut session, mut clear) = (None, false);
    loop {
        if looks.changed().await.is_err() {
            return std::future::pending().await;
        }
        let warning = looks.borrow_and_update().clone();
        if warning.is_none() && clear {
            continue;
        }
        let told = tokio::time::timeout(PATIENCE, write(context, &mut session, warning.as_deref())).await;
        let done = matches!(told, Ok(Ok(())));
        clear = done && warning.is_none();
        if clear || !done {
            // Seldom needed; or lost, and it is said again at the next look.
            session = None;
        }
    }
}

async fn write(context: &Context, session: &mut Option<Session>, warning: Option<&str>) -> Result<()> {
    let session = match session {
        Some(session) => session,
        none => {
            let name = format!("{} (control)", context.name);
            none.insert(
                Session::connect(&context.target, Purpose::TargetControl, &name).await.map_err(on_target)?,
            )
        }
    };
    let now = json!(warning.as_slice());
    session.execute(TELL, &[&context.name, &now, &super::KEY]).await?;
    Ok(())
}
