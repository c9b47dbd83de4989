//! One change at a time, each looked at: the exact way, for tables that a set failed on.
//!
//! An insert that meets its key becomes an update of that key (a replay of a suffix over its own result converges), counted as
//! `overwritten`. A violation of any other constraint stops: it would be there in any order.

use std::sync::Arc;

use pg::{Error, Result};

use super::execute::{Pipeline, Refusal, key_values};
use super::fixed;
use super::plan::RowChange;
use super::target::Target;

/// What a change looked at came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// An insert met its key.
    Overwritten,
    /// There was no such row.
    Missing,
}

/// Applies one change inside the open transaction.
pub async fn apply(
    pipeline: &mut Pipeline,
    target: &Arc<Target>,
    change: &RowChange,
) -> Result<std::result::Result<Outcome, Refusal>> {
    match change {
        RowChange::Insert(row) => insert(pipeline, target, change, row).await,
        RowChange::Update { key, new } => {
            let changed = match pipeline.one(target, change).await? {
                Ok(changed) => changed,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let key = match key {
                Some(old) => key_values(target, old.columns()),
                None => key_values(target, new.columns()),
            };
            if changed == 0
                && !target.key.is_empty()
                && let Some(error) = fixed::differs(target, new)
                && pipeline.row_exists(target, &key).await?
            {
                return Ok(Err(Refusal::Error { error, target: Some(target.clone()) }));
            }
            found(pipeline, target, changed, &key).await
        }
        RowChange::Delete(old) => {
            let changed = match pipeline.one(target, change).await? {
                Ok(changed) => changed,
                Err(refusal) => return Ok(Err(refusal)),
            };
            found(pipeline, target, changed, &key_values(target, old.columns())).await
        }
        RowChange::UpdateFull { old, .. } | RowChange::DeleteFull(old) => {
            let changed = match pipeline.one(target, change).await? {
                Ok(changed) => changed,
                Err(refusal) => return Ok(Err(refusal)),
            };
            // Nothing has changed, so that the row that was found is still what it was.
            let there = changed > 0 || target.triggers && pipeline.equal_row_exists(target, old).await?;
            Ok(Ok(if there { Outcome::Applied } else { Outcome::Missing }))
        }
    }
}

/// A BEFORE trigger that returns NULL changes no row either, and is no missing row.
async fn found(
    pipeline: &mut Pipeline,
    target: &Arc<Target>,
    changed: u64,
    key: &[pipeline::Column<'_>],
) -> Result<std::result::Result<Outcome, Refusal>> {
    let there =
        changed > 0 || target.triggers && !target.key.is_empty() && pipeline.row_exists(target, key).await?;
    Ok(Ok(if there { Outcome::Applied } else { Outcome::Missing }))
}

async fn insert(
    pipeline: &mut Pipeline,
    target: &Arc<Target>,
    change: &RowChange,
    row: &super::row::Row,
) -> Result<std::result::Result<Outcome, Refusal>> {
    pipeline.query("SAVEPOINT walferry_row")?;
    let violation = match pipeline.one(target, change).await? {
        Ok(_) => {
            pipeline.query("RELEASE SAVEPOINT walferry_row")?;
            return Ok(Ok(Outcome::Applied));
        }
        Err(Refusal::Redo { error: Some(error), .. }) => error,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let stop = |error: Error| Ok(Err(Refusal::Error { error, target: Some(target.clone()) }));
    if target.key.is_empty() {
        return stop(violation);
    }
    pipeline.query("ROLLBACK TO SAVEPOINT walferry_row")?;
    let update = RowChange::Update { key: None, new: row.clone() };
    let overwritten = match pipeline.one(target, &update).await? {
        Ok(changed) => changed > 0,
        Err(Refusal::Redo { error: Some(error), .. }) => return stop(error),
        Err(refusal) => return Ok(Err(refusal)),
    };
    // A table of nothing but its key has nothing to set.
    let key = key_values(target, row.columns());
    if !overwritten {
        if !pipeline.row_exists(target, &key).await? {
            return stop(violation);
        }
        if let Some(error) = fixed::differs(target, row) {
            return stop(error);
        }
    }
    pipeline.query("RELEASE SAVEPOINT walferry_row")?;
    Ok(Ok(Outcome::Overwritten))
}
