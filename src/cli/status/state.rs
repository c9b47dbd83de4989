//! What schema `walferry` says about a run, and its JSON object. The fields are fixed; new ones may be added.

use pg::{Lsn, Result};
use serde_json::{Value, json};
use tokio_postgres::Client;
use writer::control::{Counters, Holder, Progress, Run, RunTable, StepTime, TableState, holder, together};

/// One look at a run.
pub struct State {
    pub run: Run,
    pub progress: Option<Progress>,
    /// The tables that the run feeds now.
    pub tables: Vec<RunTable>,
    pub steps: Vec<StepTime>,
    /// Who runs it.
    pub holder: Option<Holder>,
}

impl State {
    /// `None`: no such run.
    pub async fn read(client: &Client, name: &str) -> Result<Option<State>> {
        let Some(run) = Run::read(client, name).await? else { return Ok(None) };
        let mut tables = RunTable::all(client, name).await?;
        tables.retain(|table| table.state != TableState::Left);
        Ok(Some(State {
            progress: match Progress::read(client, name).await? {
                Some(progress) => Some(together(client, name, progress).await?),
                None => None,
            },
            steps: StepTime::all(client, name).await?,
            holder: holder(client, name).await?,
            tables,
            run,
        }))
    }

    #[must_use]
    pub fn applied(&self) -> Option<Lsn> {
        self.progress.map(|progress| progress.end_lsn)
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.progress.map(|progress| progress.counters).unwrap_or_default()
    }

    #[must_use]
    pub fn tables_ready(&self) -> usize {
        self.tables.iter().filter(|table| table.state == TableState::Ready).count()
    }

    /// Rows and bytes of the tables whose copy is committed.
    #[must_use]
    pub fn copied(&self) -> (i64, i64) {
        self.tables.iter().map(copied).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    #[must_use]
    pub fn to_json(&self) -> Value {
        let run = &self.run;
        let live = &run.live;
        let counters = self.counters();
        let (copied_rows, copied_bytes) = self.copied();
        let tables: Vec<Value> = self
            .tables
            .iter()
            .map(|table| {
                let (rows, bytes) = copied(table);
                json!({
                    "schema": table.name.schema,
                    "table": table.name.name,
                    "state": table.state.as_str(),
                    "rows": rows,
                    "bytes": bytes,
                    "copied_at_lsn": table.copied_at.map(|lsn| lsn.to_string()),
                })
            })
            .collect();
        json!({
            "name": run.name,
            "mode": run.mode,
            "step": run.step.as_str(),
            "running": self.holder.is_some(),
            "tables_total": self.tables.len(),
            "tables_ready": self.tables_ready(),
            "copied_rows": copied_rows,
            "copied_bytes": copied_bytes,
            "slot": run.slot,
            "slot_lsn": run.slot_lsn.map(|lsn| lsn.to_string()),
            "applied_lsn": self.applied().map(|lsn| lsn.to_string()),
            "source_lsn": live.source_lsn,
            "lag_bytes": live.lag_bytes,
            "lag_ms": live.lag_ms,
            "retained_wal_bytes": live.retained_wal_bytes,
            "inserted": counters.inserted,
            "updated": counters.updated,
            "deleted": counters.deleted,
            "truncated": counters.truncated,
            "transactions": counters.transactions,
            "missing": counters.missing,
            "overwritten": counters.overwritten,
            "skipped": counters.skipped,
            "epoch": run.epoch,
            "started_at": run.started_at_text,
            "error": run.error,
            "tables": tables,
            "publications": run.publications,
            "cutover": run.cutover,
            "waiting": live.waiting,
            "warnings": live.warnings,
            "topics": live.topics,
            "outbox": live.outbox,
            "gap": run.gap,
            "steps": self.steps,
            "host": self.holder.as_ref().map(|_| &live.host),
            "pid": self.holder.as_ref().map(|_| live.pid),
            "seen_at_ms": (live.at_ms > 0).then_some(live.at_ms),
        })
    }
}

/// Before a table is copied its row holds the size expected.
fn copied(table: &RunTable) -> (i64, i64) {
    match table.state {
        TableState::Copied | TableState::Ready if table.rows > 0 => (table.rows, table.bytes),
        _ => (0, 0),
    }
}
