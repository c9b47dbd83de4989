//! What the look at the source tells the look at the target: the reader and the writer never see each other, so it travels as plain data.

use pg::QualifiedName;
use serde::{Deserialize, Serialize};

use crate::TableSpec;

/// The source, as far as the target has to fit it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SourceFacts {
    /// `pg_control_system()`; tells two servers apart, and finds out when both sides are one database.
    pub system_id: String,
    /// When the server was started, and its port: a clone of the data folder has the same identifier and is another server, which may have been
    /// started in the same microsecond.
    pub started: String,
    pub database: String,
    pub database_oid: u32,
    /// `server_version_num`.
    pub version: u32,
    /// Name of the database's encoding.
    pub encoding: String,
    /// `datcollate`.
    pub collate: String,
    /// The tables a run would move now.
    pub tables: Vec<TableSpec>,
    /// Every relation that the schema step would create: tables, partition roots, views, sequences.
    pub creates: Vec<QualifiedName>,
    /// Owners and grantees of what would be created.
    pub owners: Vec<String>,
    pub grantees: Vec<String>,
    pub extensions: Vec<ExtensionFacts>,
    /// Collations of PostgreSQL's own schema in use: they come with the operating system, not with a dump.
    pub collations: Vec<String>,
    pub tablespaces: Vec<String>,
    pub languages: Vec<String>,
    pub access_methods: Vec<String>,
    /// The slot of the run's name, if the source has it.
    pub slot: Option<SlotFacts>,
    /// Publications with the names that a run would give its own.
    pub own_publications: Vec<String>,
}

/// An extension that what is moved needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExtensionFacts {
    pub name: String,
    pub version: String,
    pub schema: String,
    /// A dump of the whole database creates it; one of single schemas or tables does not.
    pub dumped: bool,
}

/// A slot on the source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SlotFacts {
    pub name: String,
    pub active_pid: Option<i32>,
}
