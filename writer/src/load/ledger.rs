//! What the record says about a table while it is loaded.

use pg::{Error, Lsn, QualifiedName, Result, quote_literal};

use crate::control::{RunTable, TableState};

/// Where the load records what it has done.
#[derive(Clone, Debug)]
pub enum Ledger {
    /// `walferry copy`: nowhere.
    None,
    /// In the run's rows of `walferry.tables`, as long as no later start of the run has taken over.
    Run { run: String, epoch: i64, copied_at: Lsn },
}

impl Ledger {
    /// Says that some of the table's rows may be there. Answers with one row, or none when the run is no longer ours.
    #[must_use]
    pub fn copying_sql(&self, table: &QualifiedName) -> Option<String> {
        let Ledger::Run { run, .. } = self else { return None };
        Some(self.guarded(&format!(
            "UPDATE walferry.tables SET state = '{}' WHERE run = {} AND schema = {} AND name = {}",
            TableState::Copying,
            quote_literal(run),
            quote_literal(&table.schema),
            quote_literal(&table.name)
        )))
    }

    /// Says that all rows are there. Answers with one row, or none when they were already, or the run is no longer ours. It waits for
    /// a transaction that has said the same and whose COMMIT is on its way: the two can't both succeed.
    #[must_use]
    pub fn copied_sql(&self, table: &QualifiedName, rows: u64, bytes: u64) -> Option<String> {
        let Ledger::Run { run, copied_at, .. } = self else { return None };
        Some(self.guarded(&RunTable::copied_sql(run, table, *copied_at, rows, bytes)))
    }

    fn guarded(&self, update: &str) -> String {
        let Ledger::Run { run, epoch, .. } = self else { return String::new() };
        format!(
            "{update} AND state IN ('pending', 'copying', 'again') \
             AND EXISTS (SELECT FROM walferry.runs r WHERE r.name = {} AND r.epoch = {epoch}) RETURNING 1",
            quote_literal(run)
        )
    }

    /// Asks whether the run is still ours, and keeps it so to the end of the transaction: whoever takes it over waits for that.
    #[must_use]
    pub(crate) fn ours_sql(&self) -> Option<String> {
        let Ledger::Run { run, epoch, .. } = self else { return None };
        Some(format!(
            "SELECT 1 FROM walferry.runs WHERE name = {} AND epoch = {epoch} FOR SHARE",
            quote_literal(run)
        ))
    }

    /// Asks why a record was not taken: is the table copied, at our position, in our time? (`t` or nothing)
    #[must_use]
    pub(crate) fn look_sql(&self, table: &QualifiedName) -> Option<String> {
        let Ledger::Run { run, epoch, copied_at } = self else { return None };
        Some(format!(
            "SELECT 1 FROM walferry.tables t JOIN walferry.runs r ON r.name = t.run WHERE t.run = {} AND t.schema = {} \
             AND t.name = {} AND t.state = 'copied' AND t.copied_at_lsn = '{copied_at}' AND r.epoch = {epoch}",
            quote_literal(run),
            quote_literal(&table.schema),
            quote_literal(&table.name)
        ))
    }

    /// Another process has the run.
    pub(crate) fn taken_over<T>(&self) -> Result<T> {
        let run = if let Ledger::Run { run, .. } = self { run } else { "" };
        Err(Error::refuse("OWNED_BY", format!("another process has taken over run \"{run}\""))
            .hint(format!("see who it is with: walferry status --name {run}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_guarded_by_state_and_epoch() {
        let ledger = Ledger::Run { run: "it's".into(), epoch: 7, copied_at: Lsn::new(16) };
        let sql = ledger.copied_sql(&QualifiedName::new("s", "t"), 1, 2).unwrap();
        assert!(
            sql.contains("state IN ('pending', 'copying', 'again')") && sql.contains("r.epoch = 7"),
            "{sql}"
        );
        assert!(sql.contains("'it''s'") && sql.ends_with("RETURNING 1"), "{sql}");
        assert_eq!(Ledger::None.copied_sql(&QualifiedName::new("s", "t"), 1, 2), None);
    }
}
