//! One connection that loads tables.

use pg::wire::{CopyChunk, Wire};
use pg::{Class, Error, Params, Purpose, QualifiedName, Result, quote_literal, sqlstate};
use pipeline::TableSpec;
use pipeline::copy::Format;

use super::{Ledger, TargetTable};

/// Loads through one connection. After an error of the connection it is of no more use; after any other one [`CopyIn::rollback`] makes
/// it ready again.
pub struct CopyIn {
    wire: Wire,
    loading: bool,
}

/// What becomes of the rows that the table has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Empty {
    No,
    /// Locks everybody out until the end.
    Truncate,
    /// Everybody sees them until the end; works where foreign keys refer to the table too, as a replica.
    Delete,
}

/// A transaction that did not end well.
#[derive(Debug)]
pub enum CommitError {
    /// It had no effect.
    Failed(Error),
    /// COMMIT was sent and the answer never came: it may have taken effect.
    Unknown(Error),
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        CommitError::Failed(error)
    }
}

impl CopyIn {
    /// Connects as what the protection triggers let pass: a replica or, where the role may not be one, by `walferry.apply`.
    pub async fn connect(params: &Params, application_name: &str, run: &str) -> Result<CopyIn> {
        let mut wire = Wire::connect(params, Purpose::TargetApply, application_name, false).await?;
        if let Err(error) = wire.simple("SET session_replication_role = replica").await
            && !error.is(sqlstate::INSUFFICIENT_PRIVILEGE)
        {
            return Err(error);
        }
        // A piece that is committed is counted as done in memory only: a crash of the target must not take it back.
        wire.simple(&format!("SET walferry.apply = {}; SET synchronous_commit = local", quote_literal(run)))
            .await?;
        Ok(CopyIn { wire, loading: false })
    }

    #[must_use]
    pub fn version(&self) -> pg::ServerVersion {
        self.wire.version()
    }

    /// The target's tables for `tables`, each checked to take every column.
    pub async fn look(&mut self, tables: &[TableSpec]) -> Result<Vec<Result<TargetTable>>> {
        let names: Vec<QualifiedName> = tables.iter().map(|table| table.name.clone()).collect();
        let found = TargetTable::look(&mut self.wire, &names).await?;
        Ok(found
            .into_iter()
            .zip(tables)
            .map(|(found, table)| match found {
                Some(found) => found.check(table).map(|()| found),
                None => Err(Error::stop(
                    "TABLE_MISSING",
                    format!("table {} does not exist on the target", table.name),
                )
                .hint("create it there, or leave it out of the selection")),
            })
            .collect())
    }

    /// Opens a transaction; the table is emptied first, or not.
    pub async fn begin(&mut self, table: &TargetTable, empty: Empty) -> Result<()> {
        let sql = match empty {
            Empty::No => String::new(),
            Empty::Truncate => table.truncate_sql(),
            Empty::Delete => table.delete_sql(),
        };
        self.wire.simple(&format!("BEGIN; {sql}")).await?;
        Ok(())
    }

    /// Starts taking rows in the open transaction; `freeze` if it has emptied the table.
    pub async fn start(
        &mut self,
        target: &TargetTable,
        table: &TableSpec,
        format: Format,
        freeze: bool,
    ) -> Result<()> {
        self.wire.copy_in(&target.copy_sql(table, format, freeze)).await?;
        self.loading = true;
        Ok(())
    }

    /// Passes CopyData messages on. An error that the server has sent meanwhile comes out here.
    pub async fn write(&mut self, chunk: CopyChunk) -> Result<()> {
        self.wire.write_bytes(chunk.bytes).await?;
        self.wire.copy_in_error()
    }

    /// All rows are sent; how many the table has taken.
    pub async fn finish(&mut self) -> Result<u64> {
        let rows = self.wire.copy_in_end().await;
        self.loading = false;
        rows
    }

    /// Rows of a table without columns; what the target's has more takes its defaults.
    pub async fn insert_empty(&mut self, target: &TargetTable, rows: u64) -> Result<()> {
        let insert = format!("INSERT INTO {} SELECT FROM pg_catalog.generate_series(1, {rows})", target.name);
        self.wire.simple(&insert).await?;
        Ok(())
    }

    /// Records the table as being loaded in pieces, with the open transaction.
    pub async fn record_copying(&mut self, ledger: &Ledger, table: &QualifiedName) -> Result<()> {
        let Some(sql) = ledger.copying_sql(table) else { return Ok(()) };
        if self.wire.simple(&sql).await?.is_empty() { ledger.taken_over() } else { Ok(()) }
    }

    /// Records the table as copied, with the open transaction. False: it was already, by a transaction of ours whose answer was lost;
    /// this one has to be rolled back.
    pub async fn record_copied(
        &mut self,
        ledger: &Ledger,
        table: &QualifiedName,
        rows: u64,
        bytes: u64,
    ) -> Result<bool> {
        let Some(sql) = ledger.copied_sql(table, rows, bytes) else { return Ok(true) };
        if !self.wire.simple(&sql).await?.is_empty() {
            return Ok(true);
        }
        match ledger.look_sql(table) {
            Some(look) if !self.wire.simple(&look).await?.is_empty() => Ok(false),
            _ => ledger.taken_over(),
        }
    }

    /// Makes sure, with the open transaction, that no later start of the run has taken over: it may have emptied the table already.
    pub async fn still_ours(&mut self, ledger: &Ledger) -> Result<()> {
        let Some(sql) = ledger.ours_sql() else { return Ok(()) };
        if self.wire.simple(&sql).await?.is_empty() { ledger.taken_over() } else { Ok(()) }
    }

    /// Ends the transaction. On disk when this returns.
    pub async fn commit(&mut self) -> Result<(), CommitError> {
        match self.wire.simple("COMMIT").await {
            Ok(_) => Ok(()),
            Err(error) if error.class() == Class::Connection => Err(CommitError::Unknown(error)),
            Err(error) => Err(CommitError::Failed(error)),
        }
    }

    /// Makes the connection ready again after an error.
    pub async fn rollback(&mut self) -> Result<()> {
        if std::mem::take(&mut self.loading) {
            self.wire.copy_in_fail("the copy was given up").await?;
        }
        self.wire.simple("ROLLBACK").await?;
        Ok(())
    }
}
