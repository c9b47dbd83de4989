//! A table as the stream describes it (Relation message).
//!
//! Names and types only: no defaults, no NOT NULL, no renames, and no event for a rewrite. The last message wins.

use pg::QualifiedName;

/// The source's OID of a relation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelationId(pub u32);

/// How the source names old rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// None: only INSERT and TRUNCATE arrive.
    Nothing,
    /// Every column.
    Full,
    /// A unique index chosen with REPLICA IDENTITY USING INDEX.
    Index,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelationColumn {
    pub name: String,
    /// The source's type OID.
    pub type_id: u32,
    pub type_modifier: i32,
    /// Part of the replica identity (every column under FULL).
    pub key: bool,
}

/// One version of a table's description. Shared by `Arc`: a new version is a new allocation, so pointer equality tells versions apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relation {
    pub id: RelationId,
    pub name: QualifiedName,
    pub identity: ReplicaIdentity,
    /// In the order of the tuples' values.
    pub columns: Vec<RelationColumn>,
}
