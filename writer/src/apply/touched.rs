//! Which keys changes touched, for the last check of a cutover: only those rows are compared under the fence.

use std::collections::{HashMap, HashSet};

use pg::QualifiedName;
use pipeline::{Change, Column, Tuple};

use super::execute::key_values;
use super::piece::Piece;
use super::tables::Tables;
use super::target::Target;

/// Keys noted per table before the whole table counts as touched.
const LIMIT: usize = 50_000;

/// The keys of one table; texts in the order of the key's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TouchedKeys {
    Keys {
        columns: Vec<String>,
        keys: HashSet<Vec<String>>,
    },
    /// Too many, without a key, or truncated: compare all of it.
    Whole,
}

/// What was touched, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched(pub HashMap<QualifiedName, TouchedKeys>);

/// Notes what is touched while it is told to.
#[derive(Default)]
pub struct Recorder {
    touched: Option<Touched>,
    overwritten: HashSet<QualifiedName>,
}

impl Recorder {
    pub fn set(&mut self, on: bool) {
        self.touched = on.then(Touched::default);
    }

    pub fn take(&mut self) -> Touched {
        self.touched.replace(Touched::default()).unwrap_or_default()
    }

    /// Is this the first row of the table that was overwritten?
    pub fn first_overwrite(&mut self, table: &QualifiedName) -> bool {
        self.overwritten.insert(table.clone())
    }

    pub fn note(&mut self, piece: &Piece, tables: &mut Tables) {
        let Some(touched) = &mut self.touched else { return };
        for (index, change) in piece.changes.iter().enumerate() {
            let commit_lsn = piece.commit_lsn(index);
            match change {
                Change::Insert { relation, new } => {
                    if let Some(target) = tables.target(relation, commit_lsn) {
                        touched.note(&target, new);
                    }
                }
                Change::Update { relation, old, new } => {
                    if let Some(target) = tables.target(relation, commit_lsn) {
                        touched.note(&target, new);
                        if let Some(old) = old {
                            touched.note(&target, old.tuple());
                        }
                    }
                }
                Change::Delete { relation, old } => {
                    if let Some(target) = tables.target(relation, commit_lsn) {
                        touched.note(&target, old.tuple());
                    }
                }
                Change::Truncate { relations, .. } => {
                    for relation in relations {
                        if let Some(target) = tables.target(relation, commit_lsn) {
                            touched.0.insert(target.name.clone(), TouchedKeys::Whole);
                        }
                    }
                }
            }
        }
    }
}

impl Touched {
    fn note(&mut self, target: &Target, tuple: &Tuple) {
        let entry = self.0.entry(target.name.clone()).or_insert_with(|| TouchedKeys::Keys {
            columns: target.key.iter().map(|&index| target.relation.columns[index].name.clone()).collect(),
            keys: HashSet::new(),
        });
        let TouchedKeys::Keys { keys, .. } = entry else { return };
        let key: Option<Vec<String>> = key_values(target, tuple.columns())
            .into_iter()
            .map(|value| match value {
                Column::Text(bytes) => String::from_utf8(bytes.to_vec()).ok(),
                _ => None,
            })
            .collect();
        match key {
            Some(key) if !key.is_empty() && keys.len() < LIMIT => {
                keys.insert(key);
            }
            _ => *entry = TouchedKeys::Whole,
        }
    }
}
