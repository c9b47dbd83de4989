//! One worker: a connection to each side, and jobs from the queue until there are none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pg::{Class, Error, Result, sqlstate};
use pipeline::Fit;
use reader::snapshot::{CopyOut, LOST, Range};
use writer::load::{CommitError, CopyIn, Empty};

use super::Work;
use super::queue::{End, Job, Shared};

pub(super) fn application_name(run: &str) -> String {
    format!("{run} (copy)")
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    source: Option<CopyOut>,
    target: Option<CopyIn>,
    /// Since when connections fail.
    failing: Option<Instant>,
    attempts: u32,
}

/// Pause after a lost connection: 1 s at first, never more than 5.
fn pause(attempts: u32) -> Duration {
    Duration::from_secs(1).saturating_mul(1 << attempts.min(3)).min(Duration::from_secs(5))
}

impl Worker {
    /// With connections that are there already, or without.
    pub(super) fn new(shared: Arc<Shared>, connections: Option<(CopyOut, CopyIn)>) -> Worker {
        let (source, target) = connections.unzip();
        Worker { shared, source, target, failing: None, attempts: 0 }
    }

    /// Ends when the queue is empty. An error ends the whole load.
    pub(super) async fn run(mut self) -> Result<()> {
        let shared = self.shared.clone();
        while let Some((job, work)) = shared.next().await {
            let mut counted = Counted::default();
            match self.perform(job, work, &mut counted).await {
                Ok((rows, bytes)) => {
                    if let Some(since) = self.failing.take() {
                        shared.reporter.resumed("copy", since.elapsed());
                    }
                    self.attempts = 0;
                    shared.end(job, work, End::Done { rows, bytes });
                }
                Err(failure) => {
                    let (CommitError::Failed(error) | CommitError::Unknown(error)) = &failure;
                    let error = error.clone();
                    // What was in the middle of something is of no more use.
                    (self.source, self.target) = (None, None);
                    work.meter.take_back(counted.rows, counted.bytes);
                    if error.code() == LOST || error.class() == Class::Refuse {
                        shared.end(job, work, End::Failed);
                        return Err(error);
                    }
                    if error.class() != Class::Connection {
                        shared.failed(explain(error, work));
                        shared.end(job, work, End::Failed);
                        continue;
                    }
                    shared.end(
                        job,
                        work,
                        if matches!(failure, CommitError::Unknown(_)) { End::Unknown } else { End::Lost },
                    );
                    self.wait(error).await?;
                }
            }
        }
        Ok(())
    }

    async fn wait(&mut self, error: Error) -> Result<()> {
        let since = *self.failing.get_or_insert_with(Instant::now);
        if self.shared.options.give_up_after.is_some_and(|limit| since.elapsed() > limit) {
            return Err(error);
        }
        if self.attempts == 0 {
            self.shared.reporter.lost("copy", error.to_string());
        }
        tokio::time::sleep(pause(self.attempts)).await;
        self.attempts += 1;
        Ok(())
    }

    /// Rows and bytes that the job has brought.
    async fn perform(
        &mut self,
        job: Job,
        work: &Work,
        counted: &mut Counted,
    ) -> Result<(u64, u64), CommitError> {
        let options = &self.shared.options;
        let name = application_name(&options.run);
        let target = match &mut self.target {
            Some(target) => target,
            none => none.insert(CopyIn::connect(&options.target, &name, &options.run).await?),
        };
        match job {
            Job::Empty { .. } => {
                target.begin(&work.target, Empty::Truncate).await?;
                target.record_copying(&options.ledger, &work.spec.name).await?;
                target.commit().await?;
                return Ok((0, 0));
            }
            Job::Record { table } => {
                let (rows, bytes) = self.shared.sums(table);
                target.begin(&work.target, Empty::No).await?;
                return record(target, &self.shared, work, rows, bytes).await;
            }
            Job::Whole { .. } | Job::Piece { .. } => {}
        }
        let source = match &mut self.source {
            Some(source) => source,
            none => none.insert(CopyOut::join(&options.source, &name, &self.shared.ticket).await?),
        };
        work.meter.begin();
        if let Job::Piece { piece, .. } = job {
            target.begin(&work.target, Empty::No).await?;
            let range = work.ranges.get(piece).copied();
            let rows = transfer(source, target, work, range, false, counted).await?;
            fail::fail_point!("copy-piece-before-commit");
            target.still_ours(&options.ledger).await?;
            target.commit().await?;
            fail::fail_point!("copy-piece-after-commit");
            return Ok((rows, counted.bytes));
        }
        let empty = match (work.again, work.created) {
            (true, _) => Empty::Delete,
            (false, true) => Empty::Truncate,
            (false, false) => Empty::No,
        };
        target.begin(&work.target, empty).await?;
        let freeze = work.created && options.freeze;
        let rows = transfer(source, target, work, None, freeze, counted).await?;
        record(target, &self.shared, work, rows, counted.bytes).await
    }
}

/// Records the table as copied and commits.
async fn record(
    target: &mut CopyIn,
    shared: &Shared,
    work: &Work,
    rows: u64,
    bytes: u64,
) -> Result<(u64, u64), CommitError> {
    if target.record_copied(&shared.options.ledger, &work.spec.name, rows, bytes).await? {
        fail::fail_point!("copy-before-commit");
        target.commit().await?;
        fail::fail_point!("copy-after-commit");
    } else {
        // An earlier attempt, whose answer was lost, has done it.
        target.rollback().await?;
    }
    Ok((rows, bytes))
}

/// What one job has told the table's meter.
#[derive(Default)]
struct Counted {
    rows: u64,
    bytes: u64,
}

/// Moves the rows of a table or of one range of it within the target's open transaction.
async fn transfer(
    source: &mut CopyOut,
    target: &mut CopyIn,
    work: &Work,
    range: Option<Range>,
    freeze: bool,
    counted: &mut Counted,
) -> Result<u64> {
    if work.spec.columns.is_empty() {
        let rows = source.count(&work.spec).await?;
        target.insert_empty(&work.target, rows).await?;
        return Ok(rows);
    }
    source.start(&work.spec, range, work.format).await?;
    target.start(&work.target, &work.spec, work.format, freeze).await?;
    let mut check = work.check.clone();
    while let Some(chunk) = source.next().await? {
        if let Some(check) = &mut check {
            check.take(&chunk.bytes).map_err(|(column, fit)| narrower(work, column, fit))?;
        }
        let (rows, bytes) = (chunk.frames, chunk.payload_bytes());
        target.write(chunk).await?;
        work.meter.add(rows, bytes);
        counted.rows += rows;
        counted.bytes += bytes;
        if range.is_some() {
            fail::fail_point!("copy-piece-midway");
        }
    }
    target.finish().await
}

fn narrower(work: &Work, column: usize, fit: Fit) -> Error {
    let column = work.spec.columns.get(column);
    let (name, formatted) = column.map_or(("", ""), |column| (&column.name, &column.formatted));
    fit.error(&work.spec.name, name, formatted)
}

/// Says which table it was, and what to do.
fn explain(error: Error, work: &Work) -> Error {
    let name = &work.spec.name;
    let hint = match error.sqlstate() {
        Some(sqlstate::UNIQUE_VIOLATION | sqlstate::EXCLUSION_VIOLATION) => {
            format!("remove the rows in the way from {name} on the target; the copy is tried again by itself")
        }
        Some(sqlstate::INSUFFICIENT_PRIVILEGE) => {
            format!("GRANT SELECT ON {name} on the source, GRANT INSERT, TRUNCATE ON {name} on the target")
        }
        Some(sqlstate::NOT_NULL_VIOLATION | "23514") => {
            format!(
                "drop the target's constraint, or give the column of {name} that only the target has a default"
            )
        }
        _ => String::new(),
    };
    let error = error.context(format_args!("table {name} can't be copied"));
    if error.hint_text().is_none() && !hint.is_empty() { error.hint(hint) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_five_seconds() {
        let pauses: Vec<u64> = (0..5).map(|attempt| pause(attempt).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
    }
}
