//! What publications hold, now and at the last look.
//!
//! ```text
//! pg_publication, pg_publication_rel, pg_publication_namespace ─► contents ─► resolve ─► PublicationState ─► changes since the last look
//!                                            relations and their ancestors ──────┘
//! ```
//!
//! `pg_publication_tables` is not asked: over several publications it lists a partition beside its root (through 15), and knows neither
//! filters nor lists before 15. What pgoutput will do with a change is what counts, so its own rules are followed in `resolve`.
//! <https://www.postgresql.org/docs/current/logical-replication-publication.html>

mod changes;
mod contents;
mod own;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use pg::{Error, QualifiedName, Result, Session, quote_ident};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use changes::{Joined, PublicationChanges};
pub use own::{KeylessTable, OwnPublication, Without, is_keyless, plan_own};

/// One table as the run's publications publish it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PublishedTable {
    pub name: QualifiedName,
    pub oid: u32,
    /// The column list; None: all columns but generated ones.
    pub columns: Option<Vec<String>>,
    /// All of its publications' row filters, OR-ed; None as soon as one has none.
    pub filter: Option<String>,
    /// A partitioned table whose partitions' changes come under its name.
    #[serde(default)]
    pub root: bool,
    /// What is published of it by any of its publications.
    #[serde(default)]
    pub actions: Actions,
    /// Stored generated columns are published (18 and later).
    #[serde(default)]
    pub generated: bool,
    /// The tables whose rows come under this name: itself, or all leaves of a root.
    #[serde(default)]
    pub covers: Vec<u32>,
}

/// `publish =`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Actions {
    pub insert: bool,
    pub update: bool,
    pub delete: bool,
    pub truncate: bool,
}

impl Actions {
    #[must_use]
    pub fn or(self, other: Actions) -> Actions {
        Actions {
            insert: self.insert || other.insert,
            update: self.update || other.update,
            delete: self.delete || other.delete,
            truncate: self.truncate || other.truncate,
        }
    }
}

/// One publication's own settings.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PublicationSettings {
    /// Another one: it was dropped and made anew.
    pub oid: u32,
    pub actions: Actions,
    pub via_root: bool,
}

/// The member of a stored state that is its digest.
pub const DIGEST: &str = "digest";

/// What the run's publications are, to be stored and compared with the next look.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PublicationState {
    pub publications: BTreeMap<String, PublicationSettings>,
    /// By schema and name.
    pub tables: Vec<PublishedTable>,
}

impl PublicationState {
    /// Looks at the publications named. A missing one is an error: changes would be missing from the stream (through 17 the server says
    /// so, from 18 on it only warns).
    pub async fn read(session: &Session, names: &[String]) -> Result<PublicationState> {
        let contents = contents::read(session, names).await?;
        let missing: Vec<&String> =
            names.iter().filter(|name| !contents.publications.iter().any(|p| p.name == **name)).collect();
        if let Some(first) = missing.first() {
            let quoted: Vec<String> = missing.iter().map(|name| quote_ident(name)).collect();
            return Err(Error::refuse(
                "PUBLICATION_MISSING",
                format!("publication {} does not exist on the source", quoted.join(", ")),
            )
            .hint(format!(
                "CREATE PUBLICATION {} FOR TABLE …; or name another one with --publication",
                quote_ident(first)
            )));
        }
        let publications = contents
            .publications
            .iter()
            .map(|p| {
                (p.name.clone(), PublicationSettings { oid: p.oid, actions: p.actions, via_root: p.via_root })
            })
            .collect();
        Ok(PublicationState { publications, tables: resolve::resolve(&contents)? })
    }

    /// The same for equal states, and in all likelihood for no others: whether anything has changed is then seen without the state of
    /// before, which is large where there are many tables. Another build may give another one, and has to compare the states.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// As it is stored, with its digest.
    pub fn record(&self) -> Result<Value> {
        let failed = |error| Error::failed("RECORD", format!("the publications can't be recorded: {error}"));
        let mut record = serde_json::to_value(self).map_err(failed)?;
        record[DIGEST] = Value::String(self.digest());
        Ok(record)
    }

    #[must_use]
    pub fn table(&self, name: &QualifiedName) -> Option<&PublishedTable> {
        self.tables.iter().find(|table| table.name == *name)
    }
}
