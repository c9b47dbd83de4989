//! A table's changes without the columns that are not taken.

use std::sync::Arc;

use pg::Result;
use pipeline::{Change, Column, OldTuple, Relation, ReplicaIdentity, Tuple};

use super::{Capture, key_is_needed};

/// What becomes of one version of a table.
pub enum View {
    /// It is not taken.
    Nothing,
    Whole,
    Part(Part),
}

/// Some of the columns.
pub struct Part {
    relation: Arc<Relation>,
    places: Vec<usize>,
}

impl View {
    /// # Errors
    /// A column of its identity is left out.
    pub fn of(capture: &Capture, relation: &Relation) -> Result<View> {
        if !capture.table(&relation.name) {
            return Ok(View::Nothing);
        }
        let Some(places) = capture.columns(relation) else { return Ok(View::Whole) };
        let columns = relation.columns.iter().enumerate();
        let mut missing = columns.filter(|(place, column)| column.key && !places.contains(place));
        if relation.identity != ReplicaIdentity::Full
            && let Some((_, column)) = missing.next()
        {
            return Err(key_is_needed(&relation.name, &column.name));
        }
        let kept = places.iter().map(|place| relation.columns[*place].clone()).collect();
        Ok(View::Part(Part { relation: Arc::new(Relation { columns: kept, ..relation.clone() }), places }))
    }
}

impl Part {
    /// The change, of the columns that are left.
    pub fn of(&self, change: Change) -> Change {
        let relation = self.relation.clone();
        match change {
            Change::Insert { new, .. } => Change::Insert { relation, new: self.tuple(&new) },
            Change::Update { old, new, .. } => Change::Update {
                relation,
                old: old.map(|old| Box::new(self.old(&old))),
                new: self.tuple(&new),
            },
            Change::Delete { old, .. } => Change::Delete { relation, old: self.old(&old) },
            truncate @ Change::Truncate { .. } => truncate,
        }
    }

    pub fn relation(&self) -> Arc<Relation> {
        self.relation.clone()
    }

    fn old(&self, old: &OldTuple) -> OldTuple {
        match old {
            OldTuple::Key(tuple) => OldTuple::Key(self.tuple(tuple)),
            OldTuple::Full(tuple) => OldTuple::Full(self.tuple(tuple)),
        }
    }

    fn tuple(&self, tuple: &Tuple) -> Tuple {
        let all: Vec<Column<'_>> = tuple.columns().collect();
        let kept: Vec<Column<'_>> = self.places.iter().filter_map(|place| all.get(*place)).copied().collect();
        Tuple::from_columns(&kept)
    }
}
