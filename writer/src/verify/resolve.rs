//! Pass 2: reads differing buckets again, row by row, and names what differs.
//!
//! A few rows are collected in pieces, like pass 1, and sorted here. Many rows are sorted by the servers and merged as they come, so
//! that memory does not grow with what differs. Buckets that only one side has need no merge: all their rows are missing or extra.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use futures_util::future::try_join_all;
use futures_util::{Stream, TryStreamExt, stream};
use pg::{Error, Result, Session};
use tokio_postgres::Row;

use super::compare::{Comparison, Task};
use super::keys;
use super::merge::{Entry, Merge, merge};
use super::reading::Reading;
use super::report::Mode;
use super::scan::{Again, explained};
use super::side::Which;
use super::statement::{Slice, Statements};
use super::values;

/// Differing tables, and those of which only given keys are compared.
pub async fn resolve(comparison: &Comparison<'_>, tasks: &mut [Task<'_>], again: Vec<Again>) -> Result<()> {
    let mut waiting: VecDeque<Job<'_, '_>> = VecDeque::new();
    let mut again: std::collections::HashMap<usize, Again> =
        again.into_iter().map(|again| (again.task, again)).collect();
    for (index, task) in tasks.iter_mut().enumerate() {
        let again = again.remove(&index);
        if task.pair.is_some() && (again.is_some() || task.report.mode == Mode::Keys) {
            waiting.push_back(Job { task, again });
        }
    }
    let workers = comparison.options.jobs.max(1).min(waiting.len());
    let waiting = Mutex::new(waiting);
    try_join_all((0..workers).map(|_| work(comparison, &waiting))).await?;
    Ok(())
}

struct Job<'a, 't> {
    task: &'a mut Task<'t>,
    again: Option<Again>,
}

async fn work(comparison: &Comparison<'_>, waiting: &Mutex<VecDeque<Job<'_, '_>>>) -> Result<()> {
    let mut readings = open(comparison).await?;
    loop {
        let job = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
        let Some(Job { task, again }) = job else { return Ok(()) };
        let started = Instant::now();
        if let Err((which, error)) = one(comparison, &readings, task, again).await {
            let error = explained(error, which, task);
            task.fail(&error);
            // An error ends the transaction of one session and may leave a stream half read in the other.
            tokio::join!(readings[0].cancel(), readings[1].cancel());
            readings = open(comparison).await?;
        }
        task.report.duration += started.elapsed();
    }
}

async fn open<'a>(comparison: &'a Comparison<'_>) -> Result<[Reading<'a>; 2]> {
    let (source, target) = tokio::try_join!(comparison.open(Which::Source), comparison.open(Which::Target))?;
    Ok([source, target])
}

async fn one(
    comparison: &Comparison<'_>,
    readings: &[Reading<'_>; 2],
    task: &mut Task<'_>,
    again: Option<Again>,
) -> Result<(), (Which, Error)> {
    let source = |error: Error| (Which::Source, error);
    let target = |error: Error| (Which::Target, error);
    readings[0].begin().await.map_err(source)?;
    readings[1].begin().await.map_err(target)?;
    let Some(pair) = &task.pair else { return Ok(()) };
    let sessions = [readings[0].session(), readings[1].session()];
    let mut digest = false;
    let mut found = Merge::new(comparison.options.keys);
    match (&again, &task.table.keys) {
        (Some(again), _) => {
            digest = again.digest;
            let both = [Which::Source, Which::Target].map(|which| Statements {
                pair,
                which,
                hashing: &comparison.hashing,
                digest,
            });
            differences(sessions, both, again, &mut found).await?;
        }
        (None, Some(list)) => {
            let rows =
                keys::find(sessions, pair, &comparison.hashing, list, &mut found).await.map_err(source)?;
            task.report.source_rows = Some(rows[0]);
            task.report.target_rows = Some(rows[1]);
        }
        (None, None) => {}
    }
    for which in [Which::Source, Which::Target] {
        let reading = &readings[which.index()];
        reading.still_the_same(&pair.side(which).relation).await.map_err(|e| (which, e))?;
    }
    task.report.changed = found.changed;
    task.report.missing = found.missing;
    task.report.extra = found.extra;
    task.differs |= task.report.differing() > 0;
    task.report.differences = found.into_listed();
    if comparison.options.values {
        let both = [Which::Source, Which::Target].map(|which| Statements {
            pair,
            which,
            hashing: &comparison.hashing,
            digest,
        });
        values::fill(sessions, both, &mut task.report.differences).await?;
    }
    readings[0].end().await.map_err(source)?;
    readings[1].end().await.map_err(target)
}

/// Rows that are sorted here; more are sorted by the servers.
const FEW: u64 = 50_000;

async fn differences(
    sessions: [&Session; 2],
    statements: [Statements<'_>; 2],
    again: &Again,
    found: &mut Merge,
) -> Result<(), (Which, Error)> {
    let differing = &again.differing;
    let both = [Which::Source, Which::Target];
    if !differing.both.is_empty() {
        let all = differing.both.len() == statements[0].pair.buckets as usize;
        let buckets = (!all).then_some(differing.both.as_slice());
        if differing.both_rows <= FEW {
            let [ours, theirs] =
                both.map(|which| collect(sessions[which.index()], statements[which.index()], buckets));
            let (ours, theirs) = tokio::join!(ours, theirs);
            let ours = ours.map_err(|e| (Which::Source, e))?;
            let theirs = theirs.map_err(|e| (Which::Target, e))?;
            let (ours, theirs) =
                (stream::iter(ours.into_iter().map(Ok)), stream::iter(theirs.into_iter().map(Ok)));
            merge(found, ours, theirs).await.map_err(|e| (Which::Source, e))?;
        } else {
            let [ours, theirs] =
                both.map(|which| sorted(sessions[which.index()], statements[which.index()], buckets));
            let (ours, theirs) = tokio::join!(ours, theirs);
            let ours = ours.map_err(|e| (Which::Source, e))?;
            let theirs = theirs.map_err(|e| (Which::Target, e))?;
            merge(found, ours, theirs).await.map_err(|e| (Which::Source, e))?;
        }
    }
    found.missing += differing.missing;
    found.extra += differing.extra;
    for (which, buckets) in [(Which::Source, &differing.only_source), (Which::Target, &differing.only_target)]
    {
        if buckets.is_empty() || found.is_full() {
            continue;
        }
        let statements = statements[which.index()];
        let all = buckets.len() == statements.pair.buckets as usize;
        let sql = statements.entries(
            &statements.pair.side(which).relation.clause(),
            Slice::All,
            (!all).then_some(buckets),
            false,
        );
        let sql = format!("{sql} LIMIT {}", found.room());
        let rows =
            sessions[which.index()].query(&sql, &[]).await.map_err(|e| (which, which.blame(e.into())))?;
        for row in &rows {
            found.lone(which, entry(row).map_err(|e| (which, e))?);
        }
    }
    Ok(())
}

async fn collect(
    session: &Session,
    statements: Statements<'_>,
    buckets: Option<&[u32]>,
) -> Result<Vec<Entry>> {
    let from = statements.pair.side(statements.which).relation.clause();
    let sql = statements.entries(&from, Slice::All, buckets, false);
    let rows = session.query(&sql, &[]).await.map_err(|e| statements.which.blame(e.into()))?;
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<Entry>>>()?;
    entries.sort_by_key(|entry| entry.order);
    Ok(entries)
}

async fn sorted(
    session: &Session,
    statements: Statements<'_>,
    buckets: Option<&[u32]>,
) -> Result<impl Stream<Item = Result<Entry>> + use<>> {
    let from = statements.pair.side(statements.which).relation.clause();
    let sql = statements.entries(&from, Slice::All, buckets, true);
    let which = statements.which;
    let none: [&str; 0] = [];
    let rows = session.query_raw(&sql, none).await.map_err(|e| which.blame(e.into()))?;
    Ok(rows.map_err(move |e| which.blame(e.into())).and_then(async |row| entry(&row)))
}

/// A row of [`Statements::entries`].
pub(super) fn entry(row: &Row) -> Result<Entry> {
    Ok(Entry {
        order: row.try_get(0)?,
        hash: (row.try_get(1)?, row.try_get(2)?),
        key: row.try_get(3)?,
        place: row.try_get(4)?,
    })
}
