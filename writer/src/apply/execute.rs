//! Sends a plan as one pipeline and reads what came of it.
//!
//! Statements go out without waiting; each COPY is a simple Query whose data follows at once (a server that refuses the COPY skips the
//! data). After an error the server answers every later segment with 25P02, so the first error is the one that counts, and the
//! number of ReadyForQuery messages says when everything has been answered. The source of that behaviour:
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING>

use std::collections::VecDeque;
use std::sync::Arc;

use pg::wire::{DataRow, Frame, Wire};
use pg::{Error, Result};
use pipeline::Column;
use postgres_protocol::message::frontend;

use super::encode;
use super::fixed;
use super::missing::Missing;
use super::plan::{RowChange, Step};
use super::row::Row;
use super::statement::{Shape, Statements, carried_columns, fixed_columns, set_columns, sorted_key};
use super::target::Target;

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

/// Rows of one set: the server works at one while the next is being written.
const SET_ROWS: usize = 5000;

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

    async fn send_step(&mut self, step: &Step, options: ExecuteOptions) -> Result<()> {
        match step {
            Step::Row { target, change, .. } => self.send_row(target, change),
            Step::Insert { target, rows } => {
                let writes = target.columns.iter().any(|column| column.written);
                // Of a statement that may be used once, preparing costs more than all of a COPY.
                let copies = rows.len() >= options.copy_threshold || self.statements.first_insert(target);
                if options.copy_threshold > 0 && writes && copies {
                    return self.send_copy(target, rows).await;
                }
                for row in rows {
                    self.send_insert(target, row)?;
                    self.flush_some().await?;
                }
                Ok(())
            }
            Step::Update { target, unchanged, rows } => {
                if options.set_threshold == 0 || rows.len() < options.set_threshold {
                    for row in rows {
                        self.send_update(target, None, row)?;
                    }
                    return Ok(());
                }
                if target.binary {
                    return self.send_rows(target, unchanged, rows).await;
                }
                let columns: Vec<usize> = carried_columns(target, unchanged).collect();
                for rows in rows.chunks(SET_ROWS) {
                    let shape = Shape::UpdateSet { unchanged: unchanged.clone() };
                    self.send_set(target, shape, rows.iter().flat_map(Row::columns), rows.len(), &columns)?;
                    self.flush_some().await?;
                }
                Ok(())
            }
            Step::Delete { target, keys, certain } => {
                if options.set_threshold == 0 || keys.len() < options.set_threshold {
                    for key in keys {
                        self.send_delete(target, key, *certain)?;
                    }
                    return Ok(());
                }
                for keys in keys.chunks(SET_ROWS) {
                    let values = keys.iter().flat_map(|key| key.columns());
                    self.send_set(target, Shape::DeleteSet, values, keys.len(), &sorted_key(target))?;
                    if !certain && let Some(last) = self.expected.back_mut() {
                        last.rows = None;
                    }
                    self.flush_some().await?;
                }
                Ok(())
            }
            Step::Truncate { targets, restart_identity, partial, check_first } => {
                if *check_first {
                    self.query(&check_sql(targets))?;
                }
                for statement in truncate_sql(targets, *restart_identity, *partial) {
                    self.query(&statement)?;
                    self.expected.push_back(Expected {
                        target: targets.first().cloned(),
                        rows: None,
                        counts_missing: false,
                    });
                }
                if *check_first {
                    self.query("SET CONSTRAINTS ALL DEFERRED")?;
                }
                Ok(())
            }
        }
    }

    fn send_row(&mut self, target: &Arc<Target>, change: &RowChange) -> Result<()> {
        match change {
            RowChange::Insert(row) => self.send_insert(target, row),
            RowChange::Update { key, new } => self.send_update(target, key.as_ref(), new),
            RowChange::Delete(key) => self.send_delete(target, key, true),
            RowChange::UpdateFull { old, new } => {
                fixed::expect_same(target, old, new)?;
                let unchanged = new.unchanged();
                let (nulls, old_values) = full_values(target, old);
                let mut values = pick(new.columns(), set_columns(target, &unchanged));
                if values.is_empty() {
                    return Ok(());
                }
                values.extend(old_values);
                self.send_bound(target, Shape::UpdateFull { unchanged, nulls }, &values, true)
            }
            RowChange::DeleteFull(old) => {
                let (nulls, values) = full_values(target, old);
                self.send_bound(target, Shape::DeleteFull { nulls }, &values, true)
            }
        }
    }

    fn send_insert(&mut self, target: &Arc<Target>, row: &Row) -> Result<()> {
        let values = pick(row.columns(), target.written());
        self.send_bound(target, Shape::Insert, &values, false)
    }

    fn send_update(&mut self, target: &Arc<Target>, key: Option<&pipeline::Tuple>, new: &Row) -> Result<()> {
        if let Some(old) = key {
            fixed::expect_same(target, old, new)?;
        }
        let unchanged = new.unchanged();
        let mut values = pick(new.columns(), set_columns(target, &unchanged));
        if values.is_empty() {
            return Ok(());
        }
        match key {
            Some(old) => values.extend(key_values(target, old.columns())),
            None => values.extend(key_values(target, new.columns())),
        }
        values.extend(pick(new.columns(), fixed_columns(target, &unchanged)));
        self.send_bound(target, Shape::Update { unchanged }, &values, true)
    }

    fn send_delete(&mut self, target: &Arc<Target>, key: &pipeline::Tuple, certain: bool) -> Result<()> {
        let values = key_values(target, key.columns());
        self.send_bound(target, Shape::Delete, &values, certain)
    }

    fn send_bound(
        &mut self,
        target: &Arc<Target>,
        shape: Shape,
        values: &[Column<'_>],
        counts_missing: bool,
    ) -> Result<()> {
        let out = self.wire.out();
        let statement = self.statements.prepare(target, shape, out)?;
        encode::bind_row(out, statement, values)?;
        self.unsynced = true;
        self.expected.push_back(Expected { target: Some(target.clone()), rows: None, counts_missing });
        Ok(())
    }

    fn send_set<'a>(
        &mut self,
        target: &Arc<Target>,
        shape: Shape,
        values: impl Iterator<Item = Column<'a>>,
        rows: usize,
        columns: &[usize],
    ) -> Result<()> {
        let values: Vec<Column<'a>> = values.collect();
        let out = self.wire.out();
        let statement = self.statements.prepare(target, shape, out)?;
        let element =
            |column: usize| if target.binary { target.columns[column].type_id } else { encode::TEXT_OID };
        encode::bind_columns(out, statement, &values, target.columns.len(), columns, element)?;
        self.unsynced = true;
        self.expected.push_back(Expected {
            target: Some(target.clone()),
            rows: Some(rows as u64),
            counts_missing: false,
        });
        Ok(())
    }

    /// A set of updates whose values are binary.
    async fn send_rows(&mut self, target: &Arc<Target>, unchanged: &[u16], rows: &[Row]) -> Result<()> {
        let Some(row_type) = &target.row_type else {
            for row in rows {
                self.send_update(target, None, row)?;
                self.flush_some().await?;
            }
            return Ok(());
        };
        if set_columns(target, unchanged).next().is_none() {
            return Ok(());
        }
        for rows in rows.chunks(SET_ROWS) {
            let out = self.wire.out();
            let shape = Shape::UpdateRows { unchanged: unchanged.to_vec() };
            let statement = self.statements.prepare(target, shape, out)?;
            encode::bind_rows(out, statement, rows, row_type)?;
            self.unsynced = true;
            let rows = Some(rows.len() as u64);
            self.expected.push_back(Expected { target: Some(target.clone()), rows, counts_missing: false });
            self.flush_some().await?;
        }
        Ok(())
    }

    async fn send_copy(&mut self, target: &Arc<Target>, rows: &[Row]) -> Result<()> {
        let columns: Vec<&str> = target.written().map(|index| target.columns[index].ident.as_str()).collect();
        let format = if target.binary { " (FORMAT binary)" } else { "" };
        self.query(&format!("COPY {} ({}) FROM STDIN{format}", target.sql, columns.join(", ")))?;
        self.expected.push_back(Expected { target: Some(target.clone()), rows: None, counts_missing: false });
        let mut at = encode::begin_copy_data(self.wire.out());
        if target.binary {
            self.wire.out().extend_from_slice(encode::COPY_BINARY);
        }
        for row in rows {
            let values = row.columns().zip(&target.columns).filter(|(_, column)| column.written);
            let values = values.map(|(value, _)| value);
            if !target.binary {
                encode::copy_line(self.wire.out(), values);
            } else if !encode::copy_tuple(self.wire.out(), columns.len() as u16, values) {
                return Err(Error::failed("STREAM_BROKEN", "a value came as text in a binary stream"));
            }
            if self.wire.out().len() > FLUSH_BYTES {
                encode::end_copy_data(self.wire.out(), at)?;
                self.wire.flush().await?;
                at = encode::begin_copy_data(self.wire.out());
            }
        }
        if target.binary {
            self.wire.out().extend_from_slice(encode::COPY_BINARY_END);
        }
        encode::end_copy_data(self.wire.out(), at)?;
        frontend::copy_done(self.wire.out());
        Ok(())
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

fn pick<'a>(
    values: impl Iterator<Item = Column<'a>>,
    wanted: impl Iterator<Item = usize>,
) -> Vec<Column<'a>> {
    let mut wanted = wanted.peekable();
    let mut picked = Vec::new();
    for (index, value) in values.enumerate() {
        if wanted.peek() == Some(&index) {
            wanted.next();
            picked.push(value);
        }
    }
    picked
}

/// The key's values in the order of `Target::key`.
pub fn key_values<'a>(target: &Target, values: impl Iterator<Item = Column<'a>>) -> Vec<Column<'a>> {
    // `Target::key` ascends: it is built in column order.
    pick(values, target.key.iter().copied())
}

fn full_values<'a>(target: &Target, old: &'a pipeline::Tuple) -> (Vec<u16>, Vec<Column<'a>>) {
    let mut nulls = Vec::new();
    let mut values = Vec::new();
    for (index, value) in old.columns().enumerate() {
        if !target.columns.get(index).is_some_and(|column| column.written) {
            continue;
        }
        match value {
            Column::Null | Column::Unchanged => nulls.push(index as u16),
            value => values.push(value),
        }
    }
    (nulls, values)
}

/// Makes the checks of these tables that were put off. Others may have been put off by the source itself, and hold at its COMMIT only.
fn check_sql(targets: &[Arc<Target>]) -> String {
    let names: Vec<String> = targets
        .iter()
        .map(|target| format!("{}::regclass", pg::quote_literal(&target.name.to_string())))
        .collect();
    let tables = names.join(", ");
    let body = format!(
        "DECLARE named text; BEGIN
             SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.conname), ', ') INTO named
             FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
             WHERE c.condeferrable AND (c.conrelid IN ({tables}) OR c.confrelid IN ({tables}));
             IF named IS NOT NULL THEN EXECUTE 'SET CONSTRAINTS ' || named || ' IMMEDIATE'; END IF;
         END"
    );
    // No dollars around it: a table's name may have them.
    format!("DO {}", pg::quote_literal(&body))
}

fn truncate_sql(targets: &[Arc<Target>], restart_identity: bool, partial: bool) -> Vec<String> {
    if partial {
        // TRUNCATE refuses a table whose referencing table is not in the list, even as replica.
        return targets.iter().map(|target| format!("DELETE FROM {}", target.only)).collect();
    }
    let names: Vec<&str> = targets.iter().map(|target| target.only.as_str()).collect();
    let restart = if restart_identity { " RESTART IDENTITY" } else { "" };
    vec![format!("TRUNCATE {}{restart}", names.join(", "))]
}
