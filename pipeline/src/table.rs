//! A source table as a run moves it: what the copy reads, what the stream brings, what verify compares.

use std::collections::BTreeMap;

use pg::QualifiedName;
use serde::{Deserialize, Serialize};

use crate::change::ReplicaIdentity;

/// One column that is moved. Generated columns are not: the target makes their values itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnSpec {
    pub name: String,
    /// Schema of the type.
    pub type_schema: String,
    /// `pg_type.typname`.
    pub type_name: String,
    /// `format_type` with the modifier: what a column definition says.
    pub formatted: String,
    pub type_oid: u32,
    pub type_modifier: i32,
    pub not_null: bool,
}

/// One table of the source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableSpec {
    pub name: QualifiedName,
    pub oid: u32,
    /// A partitioned table that is read, and streamed, through its root.
    pub root: bool,
    /// `relkind = 'p'`.
    pub partitioned: bool,
    /// Published columns in attnum order.
    pub columns: Vec<ColumnSpec>,
    /// Row filter: an SQL boolean over the table's columns.
    pub filter: Option<String>,
    /// Columns of the replica identity or, without one, of the primary key; empty if there is neither.
    pub key: Vec<String>,
    pub identity: ReplicaIdentity,
    /// Main fork and TOAST.
    pub bytes: u64,
    /// Pages of the main fork.
    pub pages: u64,
    /// False: copied once and not kept fed (unlogged tables).
    pub streamed: bool,
    /// `relfilenode` by OID, of the table and of its partitions: a table that is rewritten gets another one.
    #[serde(default)]
    pub files: BTreeMap<u32, u32>,
    /// `relnatts`: a column with a higher number came later.
    #[serde(default)]
    pub attributes: i16,
}

impl TableSpec {
    /// The table as SQL, with ONLY where rows of inheritance children are not its own.
    #[must_use]
    pub fn from_clause(&self) -> String {
        if self.partitioned { self.name.to_string() } else { format!("ONLY {}", self.name) }
    }
}
