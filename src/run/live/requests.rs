//! What the running process is asked for: taken from `walferry.requests`, served, answered.

use std::collections::HashSet;

use pg::Result;
use writer::apply::Handle;
use writer::control::{Request, RequestKind, RequestState, Run, Step};

use super::End;
use super::beside::Done;
use crate::run::context::Context;
use crate::run::owner::Owner;
use crate::run::{cutover, hold};

pub(super) async fn serve(
    context: &Context,
    owner: &Owner,
    run: &Run,
    handle: Handle,
    request: Request,
    step: Step,
) -> Done {
    let client = owner.session();
    let name = run.name.as_str();
    let id = request.id;
    let outcome = match request.kind {
        RequestKind::Verify => hold::serve(client, name, &handle, &request).await.map(|()| None),
        RequestKind::Refresh => Request::advance(client, name, id, RequestState::Running, None, None)
            .await
            .map(|()| Some(End::Refresh)),
        RequestKind::Cutover if step < Step::Live => {
            let refused = serde_json::json!({
                "ok": false, "code": "NOT_LIVE", "message": "the run is not live yet",
                "hint": format!("wait for it: walferry status --name {name} --wait live"),
            });
            Request::advance(client, name, id, RequestState::Failed, None, Some(&refused))
                .await
                .map(|()| None)
        }
        RequestKind::Cutover => match cutover::serve(context, owner, run, &handle, &request).await {
            Ok(open) => Ok(open.then_some(End::CutOver)),
            Err(error) => return Done::Broken(error),
        },
    };
    match outcome {
        Ok(end) => Done::Request(id, end),
        Err(error) => {
            tracing::debug!("request {id} failed: {error}");
            let result = serde_json::json!({"ok": false, "code": error.code(), "message": error.to_string()});
            let _ = Request::advance(client, name, id, RequestState::Failed, None, Some(&result)).await;
            Done::Request(id, None)
        }
    }
}

/// Drops requests that nobody waits for any more.
pub(super) async fn expire(client: &tokio_postgres::Client, run: &str, active: &HashSet<i64>) -> Result<()> {
    for request in Request::open(client, run).await? {
        if request.expired && !active.contains(&request.id) {
            let result = serde_json::json!({"ok": false, "code": "EXPIRED", "message": "nobody waited for it any more"});
            Request::advance(client, run, request.id, RequestState::Failed, None, Some(&result)).await?;
        }
    }
    Ok(())
}

/// Requests that are not being served, the oldest first; a comparison waits for the one before it, which holds the writer. A second cutover
/// is refused while one is under way: they would compare, fence and let go of the writer for each other.
pub(super) async fn take_new(
    client: &tokio_postgres::Client,
    run: &str,
    active: &HashSet<i64>,
) -> Result<Vec<Request>> {
    let open = Request::open(client, run).await?;
    let under_way = |kind| open.iter().any(|r| r.kind == kind && active.contains(&r.id));
    let (mut holding, mut cutting_over) = (under_way(RequestKind::Verify), under_way(RequestKind::Cutover));
    let mut fresh = Vec::new();
    for request in open {
        if active.contains(&request.id) || request.expired || request.state != RequestState::Requested {
            continue;
        }
        match request.kind {
            RequestKind::Verify if std::mem::replace(&mut holding, true) => continue,
            RequestKind::Cutover if std::mem::replace(&mut cutting_over, true) => {
                let refused = serde_json::json!({
                    "ok": false, "code": "CUTOVER_RUNNING", "message": "another cutover of this run is under way",
                    "hint": format!("see how it ends: walferry status --name {run}"),
                });
                Request::advance(client, run, request.id, RequestState::Failed, None, Some(&refused)).await?;
                continue;
            }
            _ => {}
        }
        fresh.push(request);
    }
    Ok(fresh)
}
