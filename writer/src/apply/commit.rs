//! The end of a target transaction: progress, COMMIT, and what may be acknowledged after it.

use std::time::Instant;

use pg::{Error, Lsn, Result, quote_literal};
use pipeline::ChangeSource;

use super::acknowledge::{LONG_PATIENCE, PATIENCE};
use super::execute::Refusal;
use super::piece::Piece;
use super::worker::Applier;
use crate::control::{Carrier, Progress, fenced};

/// Progress rows that may pile up before they are pruned.
const PRUNE_EVERY: i64 = 256;

/// Tells where the commit stands in the target's WAL, and how far that is flushed. With a synchronous standby its disk counts as well, which only a
/// synchronous commit waits for.
const POSITIONS: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn(), CASE pg_catalog.current_setting('synchronous_standby_names') \
    WHEN '' THEN pg_catalog.pg_current_wal_flush_lsn() ELSE '0/0' END";

/// A commit: what it stores, and whether the server answers when it is on disk.
#[derive(Clone, Copy)]
pub(super) struct Commit {
    pub next: Progress,
    pub synchronous: bool,
}

/// Where the carrier takes up: behind the last commit, and behind the piece that is being applied.
#[derive(Debug, Default)]
pub(super) struct CarrierPosition {
    /// None: as the newest row has it.
    committed: Option<Option<String>>,
    ahead: Option<(Lsn, Option<String>)>,
}

impl CarrierPosition {
    /// The position behind what ends at `end_lsn`, for the commit of it.
    pub(super) fn expect(&mut self, end_lsn: Lsn, position: Option<String>) {
        self.ahead = Some((end_lsn, position));
    }

    /// What a commit that ends there stores. A piece may be committed in parts, which end before it.
    fn behind(&self, end_lsn: Lsn) -> Carrier<'_> {
        match (&self.ahead, &self.committed) {
            (Some((lsn, position)), _) if end_lsn >= *lsn => Carrier::At(position.as_deref()),
            (_, Some(position)) => Carrier::At(position.as_deref()),
            (_, None) => Carrier::Same,
        }
    }

    fn committed(&mut self, end_lsn: Lsn) {
        if let Some((_, position)) = self.ahead.take_if(|(lsn, _)| end_lsn >= *lsn) {
            self.committed = Some(position);
        }
    }
}

impl Applier {
    /// Commits the open transaction.
    pub(super) async fn commit(&mut self, commit: Commit) -> Result<()> {
        self.queue_commit(commit)?;
        let answer = self.pipeline.drain().await?;
        if answer.is_err() {
            // A COMMIT that was refused has rolled back; after a refused progress row the transaction is still open.
            self.pipeline.query("ROLLBACK")?;
            // Statements whose Parse came after the error don't exist.
            self.pipeline.forget_statements()?;
            // Whatever the server says of that, the first refusal is the one that counts.
            let _ = self.pipeline.drain().await?;
        }
        fail::fail_point!("apply-after-commit");
        match answer {
            Ok(rows) => self.committed(commit, rows.last()).await,
            Err(Refusal::Error { error, .. } | Refusal::Redo { error: Some(error), .. }) => {
                Err(fenced(error, self.options.progress_key()))
            }
            Err(Refusal::Redo { error: None, .. }) => {
                Err(Error::failed("PROTOCOL", "COMMIT was not answered"))
            }
        }
    }

    /// Puts the progress row and the COMMIT into the pipeline. Between the two is no Sync: the server skips the COMMIT where the row, or anything
    /// before it, was refused.
    pub(super) fn queue_commit(&mut self, commit: Commit) -> Result<()> {
        if commit.synchronous {
            self.pipeline.command("SET LOCAL synchronous_commit = on")?;
        }
        let run = self.options.progress_key();
        let carrier = self.carrier.behind(commit.next.end_lsn);
        let values = commit.next.next_values(run, carrier);
        self.pipeline.query_prepared(Progress::next_sql(carrier), &values)?;
        self.pipeline.command("COMMIT")?;
        self.pipeline.query_prepared(POSITIONS, &[])
    }

    /// The server has confirmed it; `positions`: its last row.
    pub(super) async fn committed(
        &mut self,
        Commit { next, synchronous }: Commit,
        positions: Option<&Vec<Option<String>>>,
    ) -> Result<()> {
        let position = |index: usize| -> Result<Lsn> {
            let text =
                positions.and_then(|row| row.get(index)).and_then(Option::as_deref).unwrap_or_default();
            text.parse().map_err(|_| Error::failed("PROTOCOL", "the target did not tell its WAL position"))
        };
        self.progress = next;
        self.carrier.committed(next.end_lsn);
        if synchronous || self.options.synchronous_commit {
            self.unflushed.flushed(next.end_lsn);
        } else {
            self.unflushed.committed(next.end_lsn, position(0)?, position(1)?);
        }
        if self.pipeline.statements.overfull() {
            self.pipeline.forget_statements()?;
        }
        self.prune().await
    }

    /// Removes old progress rows, when there are enough of them. Only after a commit that the server has confirmed: behind one that was
    /// refused because another process has the run, the rows are that one's.
    async fn prune(&mut self) -> Result<()> {
        if self.progress.seq - self.pruned <= PRUNE_EVERY {
            return Ok(());
        }
        self.pipeline.query(&format!(
            "DELETE FROM walferry.progress WHERE run = {} AND seq >= {} AND seq < {}",
            quote_literal(self.options.progress_key()),
            self.pruned,
            self.progress.seq
        ))?;
        match self.pipeline.drain().await? {
            Ok(_) => {
                self.pruned = self.progress.seq;
                Ok(())
            }
            Err(Refusal::Error { error, .. } | Refusal::Redo { error: Some(error), .. }) => Err(error),
            Err(Refusal::Redo { error: None, .. }) => Ok(()),
        }
    }

    /// Nothing of ours up to here: the position is stored when there is nothing better to do.
    pub(super) fn note_position(&mut self, piece: &Piece) {
        self.progress.end_lsn = self.progress.end_lsn.max(piece.end_lsn);
        self.applied.send_modify(|applied| {
            applied.progress.end_lsn = self.progress.end_lsn;
            applied.committed_at = None;
        });
    }

    /// Stores the position and puts everything committed on the target's disk.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.store_position(true).await
    }

    /// The same while changes may come at any time: another session waits for the disk, where there is one.
    pub(super) async fn flush_apart(&mut self) -> Result<()> {
        if self.flusher.is_none() || self.unflushed.overdue(LONG_PATIENCE) {
            return self.flush().await;
        }
        if self.progress.end_lsn > self.unflushed.durable().applied {
            self.store_position(false).await?;
        }
        if let Some(flusher) = &self.flusher {
            flusher.ask(self.unflushed.durable().applied);
        }
        Ok(())
    }

    async fn store_position(&mut self, synchronous: bool) -> Result<()> {
        let mut next = self.progress;
        next.seq += 1;
        self.pipeline.command("BEGIN")?;
        self.commit(Commit { next, synchronous }).await?;
        self.idle_stored = Some(Instant::now());
        self.applied.send_modify(|applied| applied.progress = next);
        Ok(())
    }

    /// At the end: rolls back what is open, flushes what is committed.
    pub(super) async fn settle(&mut self, source: &mut impl ChangeSource) -> Result<()> {
        if self.open.take().is_some() {
            self.pipeline.query("ROLLBACK")?;
            let _ = self.pipeline.drain().await?;
        }
        if self.progress.end_lsn > self.unflushed.durable().flushed || !self.unflushed.is_empty() {
            self.flush().await?;
            self.acknowledge(source);
        }
        Ok(())
    }

    /// Takes in what the other session has flushed, and asks it for more when that is due.
    pub(super) fn note_flushed(&mut self) {
        let Some(flusher) = &mut self.flusher else { return };
        if let Some(end_lsn) = flusher.has_flushed() {
            self.unflushed.flushed_to(end_lsn);
        }
        if self.unflushed.overdue(PATIENCE) {
            flusher.ask(self.unflushed.durable().applied);
        }
    }

    pub(super) fn acknowledge(&self, source: &mut impl ChangeSource) {
        source.acknowledge(self.unflushed.durable());
    }
}
