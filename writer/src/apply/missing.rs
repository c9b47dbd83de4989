//! Updates and deletes that found no row: how many, and of which tables.

use std::sync::Arc;

use super::target::Target;

/// What did not find its row.
#[derive(Debug, Default)]
pub struct Missing {
    count: i64,
    /// Each table once.
    tables: Vec<Arc<Target>>,
}

impl Missing {
    /// One more; the table is not known where the answer belongs to none.
    pub fn add(&mut self, target: Option<&Arc<Target>>) {
        self.count += 1;
        target.into_iter().for_each(|target| self.name(target));
    }

    fn name(&mut self, target: &Arc<Target>) {
        if self.tables.iter().all(|one| one.id != target.id) {
            self.tables.push(target.clone());
        }
    }

    pub fn merge(&mut self, more: &Missing) {
        self.count += more.count;
        more.tables.iter().for_each(|target| self.name(target));
    }

    pub fn count(&self) -> i64 {
        self.count
    }

    pub fn tables(&self) -> &[Arc<Target>] {
        &self.tables
    }
}
