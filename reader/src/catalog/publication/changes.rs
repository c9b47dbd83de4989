//! What differs between two looks at the publications.
//!
//! A table leaves in WAL order: its changes committed before the look are still applied. A table that joins has been copied already where
//! its rows came under another name before: a root whose leaves were published one by one, or the other way round.

use std::collections::{HashMap, HashSet};

use pg::QualifiedName;
use serde::Serialize;

use super::{PublicationState, PublishedTable};

/// A table that was not published under this name at the last look.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Joined {
    pub name: QualifiedName,
    /// Names under which some of its rows came before; empty for a new table.
    pub before: Vec<QualifiedName>,
    /// Leaves whose rows did not come before; all of them for a new table. With `before` not empty only these are to be copied (none when
    /// this is empty), for example with the filter `tableoid IN (…)`.
    pub uncovered: Vec<u32>,
}

/// What differs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct PublicationChanges {
    pub joined: Vec<Joined>,
    /// No longer published under this name, dropped, made anew, renamed or moved to another schema.
    pub left: Vec<QualifiedName>,
    /// Another column list, other generated columns.
    pub columns: Vec<QualifiedName>,
    /// Another row filter.
    pub filters: Vec<QualifiedName>,
    /// Another `publish =`.
    pub actions: Vec<QualifiedName>,
    /// Publications of this name that are others now (dropped and made anew): WAL between the two was not published.
    pub recreated: Vec<String>,
    /// Publications of the list that were not on it, and the other way round.
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

impl PublicationChanges {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == PublicationChanges::default()
    }

    /// Tables that stay, but of which WAL between the two looks may not have been published, or not in full: to be said with the
    /// interval; `verify` finds what is missing.
    #[must_use]
    pub fn uncertain(&self, now: &PublicationState) -> Vec<QualifiedName> {
        let new: HashSet<&QualifiedName> = self.joined.iter().map(|joined| &joined.name).collect();
        now.tables
            .iter()
            .map(|table| &table.name)
            .filter(|name| !new.contains(name))
            .filter(|name| {
                !self.recreated.is_empty()
                    || self.columns.contains(name)
                    || self.filters.contains(name)
                    || self.actions.contains(name)
            })
            .cloned()
            .collect()
    }
}

impl PublicationState {
    fn by_name(&self) -> HashMap<&QualifiedName, &PublishedTable> {
        self.tables.iter().map(|table| (&table.name, table)).collect()
    }

    /// What differs between `before` and this look.
    #[must_use]
    pub fn changes_since(&self, before: &PublicationState) -> PublicationChanges {
        let mut changes = PublicationChanges::default();
        for (name, now) in &self.publications {
            match before.publications.get(name) {
                None => changes.added.push(name.clone()),
                Some(then) if then.oid != now.oid => changes.recreated.push(name.clone()),
                Some(_) => {}
            }
        }
        changes.removed = before
            .publications
            .keys()
            .filter(|name| !self.publications.contains_key(*name))
            .cloned()
            .collect();
        // A table is the same when both its name and its OID are.
        let (there_before, there_now) = (before.by_name(), self.by_name());
        let mut under: HashMap<u32, &PublishedTable> = HashMap::new();
        for table in &before.tables {
            under.extend(table.covers.iter().map(|oid| (*oid, table)));
        }
        for table in &self.tables {
            let Some(then) = there_before.get(&table.name).filter(|then| then.oid == table.oid) else {
                changes.joined.push(joined(table, &under));
                continue;
            };
            if then.columns != table.columns || then.generated != table.generated {
                changes.columns.push(table.name.clone());
            }
            if then.filter != table.filter {
                changes.filters.push(table.name.clone());
            }
            if then.actions != table.actions {
                changes.actions.push(table.name.clone());
            }
        }
        changes.left = before
            .tables
            .iter()
            .filter(|table| there_now.get(&table.name).is_none_or(|now| now.oid != table.oid))
            .map(|table| table.name.clone())
            .collect();
        changes
    }
}

fn joined(table: &PublishedTable, under: &HashMap<u32, &PublishedTable>) -> Joined {
    let mut before: Vec<QualifiedName> = Vec::new();
    let mut uncovered = Vec::new();
    for leaf in &table.covers {
        match under.get(leaf) {
            // The same relation under another name was renamed or moved: new, the target may have no table of that name.
            Some(then) if then.oid != table.oid => {
                if !before.contains(&then.name) {
                    before.push(then.name.clone());
                }
            }
            _ => uncovered.push(*leaf),
        }
    }
    Joined { name: table.name.clone(), before, uncovered }
}
