//! Compares only the rows with given keys: what a cutover checks last, under its fence.

use pg::{Class, Error, Result, Session};
use tokio_postgres::types::ToSql;

use super::compare::Task;
use super::hashing::Hashing;
use super::merge::{Entry, Merge};
use super::pair::{Pair, VerifyTable, prepare};
use super::report::{Mode, TableReport};
use super::resolve::entry;
use super::side::Which;
use super::statement::Statements;

/// Keys asked for in one statement.
const BATCH: usize = 2000;

/// Compares the rows with these keys (text, in the order of `table.spec.key`) as both sessions see them now: the caller has
/// snapshots open there, or knows that nobody writes. The sessions have the pinned settings ([`Session::connect`]).
pub async fn compare_keys(
    source: &Session,
    target: &Session,
    table: &VerifyTable,
    keys: &[Vec<Option<String>>],
    limit: usize,
) -> Result<TableReport> {
    let mut report = TableReport::new(table.spec.name.clone(), table.target.clone(), Mode::Keys);
    let started = std::time::Instant::now();
    let hashing = Hashing::agree(source, target).await?;
    let pairs = prepare(source, target, std::slice::from_ref(table)).await?;
    let Some(pair) = pairs.into_iter().next() else { return Ok(report) };
    let pair = match pair {
        Ok(pair) => pair,
        Err(error) => return Ok(report.unverified(&error)),
    };
    report.key.clone_from(&pair.key);
    report.generated_columns.clone_from(&pair.generated_columns);
    let mut found = Merge::new(limit);
    match find([source, target], &pair, &hashing, keys, &mut found).await {
        Ok([ours, theirs]) => {
            report.source_rows = Some(ours);
            report.target_rows = Some(theirs);
        }
        Err(error) => return Ok(report.unverified(&error)),
    }
    report.changed = found.changed;
    report.missing = found.missing;
    report.extra = found.extra;
    report.differences = found.into_listed();
    report.duration = started.elapsed();
    let task = Task { table, pair: Some(pair), report, differs: false };
    Ok(task.finish())
}

/// Adds what differs to `found`; answers with the rows found on each side.
pub(super) async fn find(
    sessions: [&Session; 2],
    pair: &Pair,
    hashing: &Hashing,
    keys: &[Vec<Option<String>>],
    found: &mut Merge,
) -> Result<[u64; 2]> {
    let width = pair.key.len();
    if width == 0 || keys.iter().any(|key| key.len() != width) {
        return Err(Error::new(
            Class::Unverifiable,
            "KEY_UNKNOWN",
            format!(
                "{} has no key that both sides could be asked for",
                pair.side(Which::Source).relation.name
            ),
        )
        .hint("compare the whole table"));
    }
    let mut total = [0, 0];
    for batch in keys.chunks(BATCH) {
        let nulls: Vec<bool> = (0..width).map(|n| batch.iter().any(|key| key[n].is_none())).collect();
        let columns: Vec<Vec<Option<&str>>> =
            (0..width).map(|n| batch.iter().map(|key| key[n].as_deref()).collect()).collect();
        let both = [Which::Source, Which::Target].map(|which| {
            let statements = Statements { pair, which, hashing, digest: false };
            rows_of(sessions[which.index()], which, statements.by_key(&nulls), &columns)
        });
        let [ours, theirs] = both;
        let (ours, theirs) = tokio::try_join!(ours, theirs)?;
        total[0] += ours.len() as u64;
        total[1] += theirs.len() as u64;
        let mut all: Vec<(Which, Entry)> = ours.into_iter().map(|entry| (Which::Source, entry)).collect();
        all.extend(theirs.into_iter().map(|entry| (Which::Target, entry)));
        all.sort_by_key(|(_, entry)| entry.order);
        for (which, entry) in all {
            found.add(which, entry);
        }
        found.flush();
    }
    Ok(total)
}

async fn rows_of(
    session: &Session,
    which: Which,
    sql: String,
    columns: &[Vec<Option<&str>>],
) -> Result<Vec<Entry>> {
    let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
    let rows = session.query(&sql, &parameters).await.map_err(|e| which.blame(e.into()))?;
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<Entry>>>()?;
    // Two spellings of one key find the same row twice.
    entries.sort_by(|a, b| (a.order, &a.place).cmp(&(b.order, &b.place)));
    entries.dedup_by(|a, b| a.place.is_some() && a.place == b.place);
    Ok(entries)
}
