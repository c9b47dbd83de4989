//! Building indexes and constraints, several at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pg::{QualifiedName, Result, Session};
use tokio::sync::mpsc;
use writer::schema::{Phase, PostItem, missing, run_item};

use super::context::Context;

/// Builds items in parallel; each is done or not, whatever happens.
pub async fn build(context: &Context, items: Vec<PostItem>, jobs: usize) -> Result<()> {
    let mut queue = VecDeque::from(items);
    let mut idle = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        while running.len() < jobs.max(1)
            && first_error.is_none()
            && !context.cancel.is_cancelled()
            && let Some(item) = queue.pop_front()
        {
            running.push(one(context, idle.pop(), item));
        }
        match running.next().await {
            Some(Ok(session)) => idle.extend(session),
            Some(Err(error)) => {
                first_error.get_or_insert(error);
            }
            None => break,
        }
    }
    match first_error {
        Some(error) => Err(error),
        None => context.not_cancelled(),
    }
}

/// Builds the indexes of tables as they are loaded; ends when nothing more will be. What fails here is built again, and reported, by
/// the step that follows the load. `abandoned`: the load has failed, what is not begun is left.
pub async fn as_loaded(
    context: &Context,
    names: &[QualifiedName],
    mut loaded: mpsc::UnboundedReceiver<usize>,
    abandoned: &AtomicBool,
) {
    let jobs = context.settings.index.jobs.get().max(1);
    let mut queue = VecDeque::new();
    let mut idle: Vec<Session> = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut more = true;
    let mut asking = None;
    while more || !running.is_empty() {
        tokio::select! {
            table = loaded.recv(), if more => match table.and_then(|table| names.get(table)) {
                Some(name) => match items(context, &mut asking, name).await {
                    Ok(items) => queue.extend(items),
                    Err(error) => tracing::debug!("indexes of {name} are left for later: {error}"),
                },
                None => more = false,
            },
            Some(built) = running.next(), if !running.is_empty() => match built {
                Ok(session) => idle.extend(session),
                Err(error) => tracing::debug!("an index is left for later: {error}"),
            },
        }
        if abandoned.load(Ordering::Relaxed) || context.cancel.is_cancelled() {
            queue.clear();
        }
        while running.len() < jobs
            && let Some(item) = queue.pop_front()
        {
            running.push(one(context, idle.pop(), item));
        }
    }
}

async fn items(
    context: &Context,
    session: &mut Option<Session>,
    table: &QualifiedName,
) -> Result<Vec<PostItem>> {
    let session = match session {
        Some(session) if !session.is_closed() => session,
        other => other.insert(context.target_admin_session().await?),
    };
    missing(session, &context.name, Phase::Index, Some(table)).await
}

/// Builds one item, on a session that has one to spare. The session comes back unless it has to end: a run that is to end cancels what
/// the server does, so that it is not found half done by the next start.
async fn one(context: &Context, session: Option<Session>, item: PostItem) -> Result<Option<Session>> {
    let session = match session {
        Some(session) => session,
        None => connect(context).await?,
    };
    let began = Instant::now();
    if let Some(table) = &item.table {
        context.reporter.index_started(&item.name, table);
    }
    {
        let work = run_item(&session, &context.name, &item);
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            result = &mut work => result?,
            () = context.cancel.cancelled() => {
                session.canceller().cancel().await?;
                work.await?;
            }
        }
    }
    if let Some(table) = &item.table {
        context.reporter.index_done(&item.name, table, began.elapsed());
    }
    Ok(Some(session))
}

async fn connect(context: &Context) -> Result<Session> {
    let session = context.target_admin_session().await?;
    let index = &context.settings.index;
    session
        .batch_execute(&format!(
            "SET maintenance_work_mem = '{}kB'; SET max_parallel_maintenance_workers = {}",
            (index.maintenance_work_mem.bytes() / 1024).clamp(1024, 2_097_151),
            index.parallel_workers
        ))
        .await?;
    Ok(session)
}
