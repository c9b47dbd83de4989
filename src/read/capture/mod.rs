//! What of the published changes becomes events (`capture.*`, a Debezium connector's filters).
//!
//! A publication says what leaves the source; these say what of that goes into the topics. A table that is not taken has no topic, no rows in
//! a snapshot and no events.

mod sink;
mod view;

use pg::{Error, QualifiedName, Result};
use pipeline::envelope::TableTypes;
use pipeline::{Relation, TableSpec};

use crate::config::{CaptureSettings, Expressions, Operations, Settings};

pub use sink::Captured;

/// The filters of one feed.
#[derive(Clone, Debug)]
pub struct Capture {
    settings: CaptureSettings,
}

/// All of them have to agree: what is included, if anything is said about that, and is not excluded.
fn taken(name: &str, include: &Expressions, exclude: &Expressions) -> bool {
    (include.is_empty() || include.matches(name)) && !exclude.matches(name)
}

impl Capture {
    pub fn new(settings: &Settings) -> Capture {
        Capture { settings: settings.capture.clone() }
    }

    /// Is everything taken?
    pub fn is_whole(&self) -> bool {
        let of = &self.settings;
        let lists = [
            &of.schema_include,
            &of.schema_exclude,
            &of.table_include,
            &of.table_exclude,
            &of.column_include,
            &of.column_exclude,
            &of.message_include,
        ];
        lists.iter().all(|list| list.is_empty())
            && of.topic_regex.is_none()
            && of.skipped_operations == Operations::default()
    }

    pub fn messages(&self) -> bool {
        !self.settings.message_include.is_empty()
    }

    fn message(&self, prefix: &str) -> bool {
        self.messages() && taken(prefix, &self.settings.message_include, &self.settings.message_exclude)
    }

    pub fn table(&self, name: &QualifiedName) -> bool {
        let of = &self.settings;
        taken(&name.schema, &of.schema_include, &of.schema_exclude)
            && taken(&format!("{}.{}", name.schema, name.name), &of.table_include, &of.table_exclude)
    }

    pub fn column(&self, table: &QualifiedName, column: &str) -> bool {
        let name = format!("{}.{}.{column}", table.schema, table.name);
        taken(&name, &self.settings.column_include, &self.settings.column_exclude)
    }

    /// Leaves out what is not taken.
    ///
    /// # Errors
    /// A column of a table's key is not.
    pub fn tables(&self, mut tables: Vec<TableSpec>, types: &[TableTypes]) -> Result<Vec<TableSpec>> {
        tables.retain(|table| self.table(&table.name));
        for table in &mut tables {
            let name = table.name.clone();
            let key = types.iter().find(|types| types.name == name).map_or(&table.key, |types| &types.key);
            if let Some(column) = key.iter().find(|column| !self.column(&name, column)) {
                return Err(key_is_needed(&name, column));
            }
            table.columns.retain(|column| self.column(&name, &column.name));
        }
        Ok(tables)
    }

    /// Which columns of a table's rows are written; none: all of them.
    fn columns(&self, relation: &Relation) -> Option<Vec<usize>> {
        let kept = |name: &str| self.column(&relation.name, name);
        let columns = relation.columns.iter().enumerate();
        let places: Vec<usize> =
            columns.filter(|(_, column)| kept(&column.name)).map(|(place, _)| place).collect();
        (places.len() < relation.columns.len()).then_some(places)
    }
}

fn key_is_needed(table: &QualifiedName, column: &str) -> Error {
    Error::refuse(
        "KEY_COLUMN",
        format!("column \"{column}\" of table {table} is part of the key and can't be left out"),
    )
    .hint("take it out of column.exclude.list (capture.column_exclude), or into column.include.list")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, Needs};

    pub(super) fn capture(sets: &[&str]) -> Capture {
        let mut layers = Layers::default();
        layers.add_sets(&sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>());
        Capture::new(&Settings::read(&layers, Needs::Nothing).unwrap())
    }

    #[test]
    fn every_list_has_to_agree() {
        let taken = capture(&[
            "capture.schema_include=shop,log",
            "capture.table_include=shop\\.ord.*,other\\.t",
            "capture.table_exclude=.*_old",
        ]);
        let is = |schema: &str, name: &str| taken.table(&QualifiedName::new(schema, name));
        assert!(is("shop", "orders") && is("Shop", "ORDERS"));
        assert!(
            !is("shop", "orders_old") && !is("other", "t") && !is("log", "orders") && !is("shop", "items")
        );
        assert!(!taken.is_whole() && !taken.messages() && !taken.message("a"));
        let messages = capture(&["capture.message_include=.*", "capture.message_exclude=in.*"]);
        assert!(messages.message("out") && !messages.message("internal"));
        assert!(capture(&[]).is_whole());
    }
}
