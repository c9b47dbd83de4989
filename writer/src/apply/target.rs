//! A table of the stream, as the target has it: what `lookup` has found.

use std::sync::Arc;

use pg::{Lsn, QualifiedName};
use pipeline::{Column, Fit, Relation, Tuple};

use super::statement::fixed_columns;

/// One column of the stream's relation, as the target has it.
#[derive(Clone, PartialEq, Debug)]
pub struct TargetColumn {
    pub ident: String,
    /// The type as `"schema"."name"`: never with a modifier, so that a value that is too long is an error and not cut.
    pub cast: String,
    /// False for generated columns: they make their own value.
    pub written: bool,
    /// GENERATED ALWAYS AS IDENTITY: takes a value on INSERT (OVERRIDING SYSTEM VALUE) but can't be SET (428C9).
    pub identity_always: bool,
    /// The type, or one that it is made of, has no equality of its own (json, point, xml): its text is compared.
    pub compare_text: bool,
    /// The type's own equality, with its schema: it may be an extension's, and search_path is pinned.
    pub equals: String,
    /// Values that are equal may have different texts (1.0 and 1.00).
    pub loose_equality: bool,
    /// The column's type, on the target.
    pub type_id: u32,
    /// Takes the source's binary values as they are.
    pub takes_binary: bool,
    /// May lose a part of a value in silence: each is looked at.
    pub fit: Option<Fit>,
}

/// The table's row type: many rows travel as one array of it.
#[derive(Clone, PartialEq, Debug)]
pub struct RowType {
    pub type_id: u32,
    /// Type and position in [`Target::columns`] of every column that the table has, in its order.
    pub columns: Vec<(u32, Option<usize>)>,
}

/// A table that changes go to.
#[derive(Clone, PartialEq, Debug)]
pub struct Target {
    /// Tells prepared statements of different tables, and of different versions of one, apart.
    pub id: u32,
    pub relation: Arc<Relation>,
    /// In the target.
    pub oid: u32,
    pub name: QualifiedName,
    /// As SQL, with ONLY where the table is not partitioned.
    pub only: String,
    /// As SQL, without.
    pub sql: String,
    pub partitioned: bool,
    pub columns: Vec<TargetColumn>,
    /// A column has a [`TargetColumn::fit`].
    pub looked_at: bool,
    /// Values come in binary: sets of updates are arrays of this. None: they come as text, or the type can't be received in part.
    pub row_type: Option<RowType>,
    pub binary: bool,
    /// Positions of the key in `columns`; empty without a key, and under identity FULL.
    pub key: Vec<usize>,
    pub full: bool,
    /// Changes are applied in WAL order, never coalesced.
    pub in_order: bool,
    /// ENABLE ALWAYS or REPLICA triggers or rules fire: the whole piece keeps WAL order.
    pub triggers: bool,
    /// GIN indexes with a pending list that the role may merge, those of partitions included.
    pub gin: Vec<u32>,
    pub copied_at: Lsn,
    pub left_at: Option<Lsn>,
}

impl Target {
    /// Is the change that commits at `commit_lsn` ours?
    pub fn wants(&self, commit_lsn: Lsn) -> bool {
        commit_lsn >= self.copied_at && self.left_at.is_none_or(|left| commit_lsn < left)
    }

    /// The row of a change may be there although the change finds none: a BEFORE trigger has returned NULL, or a column that can't
    /// be set holds another value.
    pub fn may_find_none(&self) -> bool {
        self.triggers || !self.key.is_empty() && fixed_columns(self, &[]).next().is_some()
    }

    /// The first column that would not keep its value whole.
    pub fn misfit(&self, tuple: &Tuple) -> Option<usize> {
        if !self.looked_at {
            return None;
        }
        self.columns.iter().zip(tuple.columns()).position(|(column, value)| match (column.fit, value) {
            (Some(fit), Column::Text(text)) => column.written && !fit.holds(text),
            _ => false,
        })
    }

    /// Is what is known of the table the same, found out another time?
    pub fn is_still(&self, found: &Target) -> bool {
        Target { id: self.id, ..found.clone() } == *self
    }

    /// Positions of the columns that an INSERT writes.
    pub fn written(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().enumerate().filter(|(_, column)| column.written).map(|(index, _)| index)
    }
}
