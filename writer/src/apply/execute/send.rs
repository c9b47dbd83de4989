//! How each step of a plan is written: row by row with prepared statements, as sets over arrays, by COPY.

use std::sync::Arc;

use pg::{Error, Result};
use pipeline::Column;
use postgres_protocol::message::frontend;

use super::truncate::{check_sql, truncate_sql};
use super::values::{full_values, key_values, pick};
use super::{ExecuteOptions, Expected, FLUSH_BYTES, Pipeline};
use crate::apply::plan::{RowChange, Step};
use crate::apply::row::Row;
use crate::apply::statement::{Shape, carried_columns, fixed_columns, set_columns, sorted_key};
use crate::apply::target::Target;
use crate::apply::{encode, fixed};

/// Rows of one set: the server works at one while the next is being written.
const SET_ROWS: usize = 5000;

impl Pipeline {
    pub(super) async fn send_step(&mut self, step: &Step, options: ExecuteOptions) -> Result<()> {
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

    pub(super) fn send_row(&mut self, target: &Arc<Target>, change: &RowChange) -> Result<()> {
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
}
