//! What a comparison found: for scripts as JSON, for people through `Display` (table.rs).

use std::time::Duration;

use pg::{Error, Lsn, QualifiedName};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// On both sides under the same key, with other content.
    Changed,
    /// Only on the source.
    Missing,
    /// Only on the target.
    Extra,
}

/// One key, or without a key one row's content, that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    pub kind: Kind,
    /// The values of [`TableReport::key`], as text.
    pub key: Option<Vec<Option<String>>>,
    /// How many rows of this key or content.
    pub rows: u64,
    /// `ctid`s of all rows of this content, where there is no key; with the partition in front where there are several.
    pub source_places: Vec<String>,
    pub target_places: Vec<String>,
    /// Only if asked for.
    pub values: Option<Values>,
}

/// The row on each side, column by column; of a changed row only the columns that differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Values {
    pub source: Option<Vec<(String, Option<String>)>>,
    pub target: Option<Vec<(String, Option<String>)>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Equal,
    Different,
    /// It could not be compared: neither equal nor different.
    Unverified,
}

impl Outcome {
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Equal => 0,
            Outcome::Different => 1,
            Outcome::Unverified => 3,
        }
    }
}

/// Why something could not be compared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reason {
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

impl From<&Error> for Reason {
    fn from(error: &Error) -> Reason {
        Reason {
            code: error.code().to_owned(),
            message: error.to_string(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

/// What was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Content,
    Counts,
    /// Only given keys.
    Keys,
}

#[derive(Clone, Debug)]
pub struct TableReport {
    pub table: QualifiedName,
    pub target: QualifiedName,
    pub outcome: Outcome,
    pub mode: Mode,
    /// `None` where it could not be read.
    pub source_rows: Option<u64>,
    pub target_rows: Option<u64>,
    pub changed: u64,
    pub missing: u64,
    pub extra: u64,
    /// Names of the key's columns; empty: rows are told apart by content.
    pub key: Vec<String>,
    /// The first of the differences.
    pub differences: Vec<Difference>,
    pub reason: Option<Reason>,
    /// Columns that were left out, since the target makes their values itself.
    pub generated_columns: Vec<String>,
    pub duration: Duration,
}

impl TableReport {
    #[must_use]
    pub fn new(table: QualifiedName, target: QualifiedName, mode: Mode) -> TableReport {
        TableReport {
            table,
            target,
            outcome: Outcome::Unverified,
            mode,
            source_rows: None,
            target_rows: None,
            changed: 0,
            missing: 0,
            extra: 0,
            key: Vec::new(),
            differences: Vec::new(),
            reason: None,
            generated_columns: Vec::new(),
            duration: Duration::ZERO,
        }
    }

    #[must_use]
    pub fn unverified(mut self, error: &Error) -> TableReport {
        self.outcome = Outcome::Unverified;
        self.reason = Some(error.into());
        self
    }

    /// Rows that differ.
    #[must_use]
    pub fn differing(&self) -> u64 {
        self.changed + self.missing + self.extra
    }
}

/// One side, in short.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SideReport {
    /// `user@host:port/database`
    pub database: String,
    /// Where in the WAL the snapshot was taken.
    #[serde(serialize_with = "lsn_as_text")]
    pub lsn: Option<Lsn>,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub source: SideReport,
    pub target: SideReport,
    /// Both snapshots show the same point of the source's history. Otherwise they do only if nobody wrote meanwhile.
    pub one_instant: bool,
    pub mode: Mode,
    pub tables: Vec<TableReport>,
    pub duration: Duration,
}

impl Report {
    /// A difference that was found counts more than a table that could not be read; nothing compared is not equal.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let any = |outcome| self.tables.iter().any(|table| table.outcome == outcome);
        if any(Outcome::Different) {
            Outcome::Different
        } else if any(Outcome::Unverified) || self.tables.is_empty() {
            Outcome::Unverified
        } else {
            Outcome::Equal
        }
    }

    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.outcome().exit_code()
    }

    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.tables.iter().filter(|table| table.outcome == outcome).count()
    }

    pub(super) fn total(&self, of: impl Fn(&TableReport) -> u64) -> u64 {
        self.tables.iter().map(of).sum()
    }
}

fn lsn_as_text<S: Serializer>(lsn: &Option<Lsn>, serializer: S) -> Result<S::Ok, S::Error> {
    match lsn {
        Some(lsn) => serializer.collect_str(lsn),
        None => serializer.serialize_none(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("outcome", &self.outcome())?;
        map.serialize_entry("equal", &(self.outcome() == Outcome::Equal))?;
        map.serialize_entry("mode", &self.mode)?;
        map.serialize_entry("source", &self.source)?;
        map.serialize_entry("target", &self.target)?;
        map.serialize_entry("one_instant", &self.one_instant)?;
        map.serialize_entry("tables_total", &self.tables.len())?;
        map.serialize_entry("tables_equal", &self.count(Outcome::Equal))?;
        map.serialize_entry("tables_different", &self.count(Outcome::Different))?;
        map.serialize_entry("tables_unverified", &self.count(Outcome::Unverified))?;
        map.serialize_entry("source_rows", &self.total(|t| t.source_rows.unwrap_or(0)))?;
        map.serialize_entry("target_rows", &self.total(|t| t.target_rows.unwrap_or(0)))?;
        map.serialize_entry("changed", &self.total(|t| t.changed))?;
        map.serialize_entry("missing", &self.total(|t| t.missing))?;
        map.serialize_entry("extra", &self.total(|t| t.extra))?;
        map.serialize_entry("duration_ms", &milliseconds(self.duration))?;
        map.serialize_entry("tables", &self.tables)?;
        map.end()
    }
}

impl Serialize for TableReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Listed<'a>(&'a Difference, &'a [String]);
        impl Serialize for Listed<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Listed(difference, names) = self;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("kind", &difference.kind)?;
                match &difference.key {
                    Some(key) => map.serialize_entry("key", &Columns(names.iter().zip(key)))?,
                    None => {
                        map.serialize_entry("source_ctids", &difference.source_places)?;
                        map.serialize_entry("target_ctids", &difference.target_places)?;
                    }
                }
                map.serialize_entry("rows", &difference.rows)?;
                if let Some(values) = &difference.values {
                    let columns = |side: &Option<Vec<(String, Option<String>)>>| {
                        side.clone().map(|columns| Columns(columns.into_iter()))
                    };
                    map.serialize_entry("source", &columns(&values.source))?;
                    map.serialize_entry("target", &columns(&values.target))?;
                }
                map.end()
            }
        }
        let listed: Vec<_> = self.differences.iter().map(|d| Listed(d, &self.key)).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &self.table.schema)?;
        map.serialize_entry("table", &self.table.name)?;
        map.serialize_entry("target_schema", &self.target.schema)?;
        map.serialize_entry("target_table", &self.target.name)?;
        map.serialize_entry("outcome", &self.outcome)?;
        map.serialize_entry("mode", &self.mode)?;
        map.serialize_entry("source_rows", &self.source_rows)?;
        map.serialize_entry("target_rows", &self.target_rows)?;
        map.serialize_entry("changed", &self.changed)?;
        map.serialize_entry("missing", &self.missing)?;
        map.serialize_entry("extra", &self.extra)?;
        map.serialize_entry("key", &self.key)?;
        map.serialize_entry("differences", &listed)?;
        map.serialize_entry("reason", &self.reason)?;
        map.serialize_entry("generated_columns", &self.generated_columns)?;
        map.serialize_entry("duration_ms", &milliseconds(self.duration))?;
        map.end()
    }
}

/// Columns by name, in their order.
struct Columns<I>(I);

impl<I, N, V> Serialize for Columns<I>
where
    I: Iterator<Item = (N, V)> + Clone,
    N: AsRef<str>,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.clone() {
            map.serialize_entry(name.as_ref(), &value)?;
        }
        map.end()
    }
}
