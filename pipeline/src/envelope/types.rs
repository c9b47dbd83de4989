//! What the catalogue says about a table's columns: Relation messages carry OIDs only, and of a domain, an enum or an extension's type
//! the OID means nothing elsewhere.

use crate::change::ReplicaIdentity;
use pg::QualifiedName;
use serde::{Deserialize, Serialize};

/// One table. `reader::catalog::types` reads it from the source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableTypes {
    pub name: QualifiedName,
    /// Columns of the message key, in the order of their index: the primary key, else the replica identity index, else a unique index over NOT NULL
    /// columns. Empty: none of them.
    pub key: Vec<String>,
    pub identity: ReplicaIdentity,
    /// In attnum order.
    pub columns: Vec<ColumnType>,
}

impl TableTypes {
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnType> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// One column, its domains looked through.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnType {
    pub name: String,
    /// OID of the column's own type: a domain's, an array's.
    pub type_oid: u32,
    pub kind: Kind,
    /// `pg_type.typname` of the base type (for an array, of its element's base type).
    pub base_name: String,
    /// OID of the base type (for an array, of its element's base type).
    pub base_oid: u32,
    /// Modifier of the column, or of the domain that sets one; -1: none.
    pub type_modifier: i32,
    /// An array of `base`; its elements have `type_modifier`.
    pub array: bool,
    pub not_null: bool,
    /// The column's DEFAULT as a value in text form, where it is a constant.
    pub default: Option<String>,
    /// It has a DEFAULT that is computed (`now()`, a sequence).
    pub computed_default: bool,
    /// Labels of an enum, in order.
    pub labels: Vec<String>,
}

/// What kind of type the base type is (`pg_type.typtype`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Base,
    Composite,
    Enum,
    Range,
    Multirange,
    Pseudo,
}
