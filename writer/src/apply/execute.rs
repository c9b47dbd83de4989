//! Sends a plan as one pipeline and reads what came of it.
//!
//! Statements go out without waiting; each COPY is a simple Query whose data follows at once (a server that refuses the COPY skips the
//! data). After an error the server answers every later segment with 25P02, so the first error is the one that counts, and the
//! number of ReadyForQuery messages says when everything has been answered. The source of that behaviour:
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING>

mod send;
mod truncate;
mod values;

use std::collections::VecDeque;
use std::sync::Arc;

use pg::wire::{DataRow, Frame, Wire};
use pg::{Error, Result};
use pipeline::Column;
use postgres_protocol::message::frontend;

use super::encode;
use super::missing::Missing;
use super::plan::{RowChange, Step};
use super::statement::{Shape, Statements};
use super::target::Target;

use values::full_values;
pub use values::key_values;

/// What of the ways to send rows is used; each can be switched off to find a culprit.
#[derive(Clone, Copy, Debug)]
pub struct ExecuteOptions {
    /// Inserts from this many rows on go by COPY, and the first ones into each table; 0: never.
    pub copy_threshold: usize,
    /// Updates and deletes from this many rows on go as one statement over arrays; 0: never.
    pub set_threshold: usize,
}

/// A piece of about this many bytes is flushed while it is being written.
const FLUSH_BYTES: usize = 512 * 1024;

/// What a statement in flight must have done.
struct Expected {
    target: Option<Arc<Target>>,
    /// Rows that must have changed; None: one row or none, and none counts as missing.
    rows: Option<u64>,
    /// An update or delete of one row, which may be missing.
    counts_missing: bool,
}

/// The rows of the last SELECT, or what the server, or a count, refused.
pub type Answers = std::result::Result<Vec<Vec<Option<String>>>, Refusal>;

/// Why a plan could not be carried out as it was.
#[derive(Debug)]
pub enum Refusal {
    /// A set did not find each of its rows, or violated a unique constraint: this table's changes want looking at one by one.
    Redo {
        table: u32,
        error: Option<Error>,
    },
    Error {
        error: Error,
        target: Option<Arc<Target>>,
    },
}

/// The connection that changes are applied on.
pub struct Pipeline {
    pub wire: Wire,
    pub statements: Statements,
    expected: VecDeque<Expected>,
    /// ReadyForQuery messages still to come.
    ready_due: usize,
    /// Extended-protocol messages were written that no Sync has followed.
    unsynced: bool,
    failure: Option<Refusal>,
    missing: Missing,
    /// A single change is under way, whose outcome is looked at.
    looking: bool,
    /// It found no row.
    found_none: bool,
    /// Round trips: how often the pipeline was waited for.
    pub round_trips: u64,
    rows: Vec<Vec<Option<String>>>,
}

impl Pipeline {
    pub fn new(wire: Wire) -> Self {
        Pipeline {
            wire,
            statements: Statements::default(),
            expected: VecDeque::new(),
            ready_due: 0,
            unsynced: false,
            failure: None,
            missing: Missing::default(),
            looking: false,
            found_none: false,
            round_trips: 0,
            rows: Vec::new(),
        }
    }

    /// Queues a simple Query; its answer is read by [`Pipeline::drain`].
    pub fn query(&mut self, sql: &str) -> Result<()> {
        self.sync()?;
        self.ready_due += 1;
        frontend::query(sql, self.wire.out()).map_err(|error| Error::failed("PROTOCOL", error.to_string()))
    }

    /// Queues a statement that is no change to a table. It is prepared on this connection: of a small one, to parse and plan it is most of
    /// what it costs.
    pub fn query_prepared(&mut self, sql: &str, values: &[Option<String>]) -> Result<()> {
        let out = self.wire.out();
        let statement = self.statements.prepare_other(sql, out)?;
        let values: Vec<Column<'_>> = values
            .iter()
            .map(|value| value.as_ref().map_or(Column::Null, |text| Column::Text(text.as_bytes())))
            .collect();
        encode::bind_row(out, statement, &values)?;
        self.unsynced = true;
        Ok(())
    }

    /// Queues a command that has nothing to plan. Unlike a simple Query it can stand in one segment with statements: the server skips it where
    /// one of those was refused.
    pub fn command(&mut self, sql: &str) -> Result<()> {
        let out = self.wire.out();
        frontend::parse("", sql, std::iter::empty(), out)
            .map_err(|error| Error::failed("PROTOCOL", error.to_string()))?;
        encode::bind_row(out, "", &[])?;
        self.unsynced = true;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if self.unsynced {
            frontend::sync(self.wire.out());
            self.ready_due += 1;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Puts a step into the pipeline.
    pub async fn send(&mut self, step: &Step, options: ExecuteOptions) -> Result<()> {
        self.send_step(step, options).await?;
        self.flush_some().await
    }

    async fn flush_some(&mut self) -> Result<()> {
        if self.wire.out().len() > FLUSH_BYTES { self.wire.flush().await } else { Ok(()) }
    }

    /// Sends what is queued; its answers are read later.
    pub async fn flush(&mut self) -> Result<()> {
        self.sync()?;
        self.wire.flush().await
    }

    /// Sends what is queued and reads every answer. `Ok(Err(_))`: the server, or a count, refused something. The rows of the last
    /// SELECT are returned, the number of missing rows is added up in [`Pipeline::take_missing`].
    pub async fn drain(&mut self) -> Result<Answers> {
        self.flush().await?;
        self.round_trips += 1;
        self.rows.clear();
        while self.ready_due > 0 {
            let frame = self.wire.recv().await?;
            self.note(&frame)?;
        }
        self.expected.clear();
        match self.failure.take() {
            Some(refusal) => Ok(Err(refusal)),
            None => Ok(Ok(std::mem::take(&mut self.rows))),
        }
    }

    fn note(&mut self, frame: &Frame) -> Result<()> {
        match frame.tag {
            b'Z' => self.ready_due -= 1,
            b'E' if self.failure.is_none() => {
                let target = self.expected.pop_front().and_then(|expected| expected.target);
                let error = frame.error();
                self.failure = Some(match &target {
                    Some(target) if unique_violation(&error) => {
                        Refusal::Redo { table: target.id, error: Some(error) }
                    }
                    _ => Refusal::Error { error, target },
                });
            }
            b'D' if self.failure.is_none() => self.rows.push(text_row(frame)),
            b'C' if self.failure.is_none() => self.complete(frame),
            _ => {}
        }
        Ok(())
    }

    fn complete(&mut self, frame: &Frame) {
        // BEGIN, SAVEPOINT and the like change no rows and are not expected.
        let counted = [&b"INSERT "[..], b"UPDATE ", b"DELETE ", b"COPY ", b"TRUNCATE"];
        if !counted.iter().any(|command| frame.body.starts_with(command)) {
            return;
        }
        let Some(expected) = self.expected.pop_front() else { return };
        match (expected.rows, frame.affected_rows()) {
            (Some(rows), affected) if rows != affected => {
                if let Some(target) = expected.target {
                    self.failure = Some(Refusal::Redo { table: target.id, error: None });
                }
            }
            (None, 0) if expected.counts_missing => match expected.target {
                Some(target) if target.may_find_none() && !self.looking => {
                    self.failure = Some(Refusal::Redo { table: target.id, error: None });
                }
                _ if self.looking => self.found_none = true,
                target => self.missing.add(target.as_ref()),
            },
            _ => {}
        }
    }

    /// Updates and deletes that found no row since the last call.
    pub fn take_missing(&mut self) -> Missing {
        std::mem::take(&mut self.missing)
    }

    /// One statement, waited for: rows affected.
    pub async fn one(
        &mut self,
        target: &Arc<Target>,
        change: &RowChange,
    ) -> Result<std::result::Result<u64, Refusal>> {
        self.send_row(target, change)?;
        (self.looking, self.found_none) = (true, false);
        let result = self.drain().await;
        self.looking = false;
        Ok(result?.map(|_| u64::from(!self.found_none)))
    }

    /// Is there a row with this key?
    pub async fn row_exists(&mut self, target: &Arc<Target>, key: &[Column<'_>]) -> Result<bool> {
        self.finds(target, Shape::Exists, key).await
    }

    /// Is there a row that is equal to this one, as identity FULL finds it?
    pub async fn equal_row_exists(&mut self, target: &Arc<Target>, old: &pipeline::Tuple) -> Result<bool> {
        let (nulls, values) = full_values(target, old);
        self.finds(target, Shape::ExistsFull { nulls }, &values).await
    }

    async fn finds(&mut self, target: &Arc<Target>, shape: Shape, values: &[Column<'_>]) -> Result<bool> {
        let out = self.wire.out();
        let statement = self.statements.prepare(target, shape, out)?;
        encode::bind_row(out, statement, values)?;
        self.unsynced = true;
        match self.drain().await? {
            Ok(rows) => Ok(!rows.is_empty()),
            Err(Refusal::Error { error, .. }) => Err(error),
            Err(Refusal::Redo { .. }) => Ok(false),
        }
    }

    /// Forgets every prepared statement, here and on the server.
    pub fn forget_statements(&mut self) -> Result<()> {
        self.statements.clear();
        self.query("DEALLOCATE ALL")
    }
}

fn text_row(frame: &Frame) -> Vec<Option<String>> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    DataRow::new(frame).values().map(|value| value.map(text)).collect()
}

/// Unique and exclusion violations, and two rows for one key in a set.
fn unique_violation(error: &Error) -> bool {
    ["23505", "23P01", "21000"].iter().any(|code| error.is(code))
}
