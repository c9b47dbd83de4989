//! Two servers and a comparison of them, as the program makes it.

use pg::{Params, QualifiedName};
use pipeline::Reporter;
use reader::catalog::{Selection, topmost};
use writer::verify::{Kind, Options, Outcome, Report, Side, TableReport, VerifyTable, compare};

use crate::support::Postgres;

pub struct Rig {
    pub source: Postgres,
    pub target: Postgres,
}

pub fn params(server: &Postgres) -> Params {
    Params::parse(&server.uri("postgres")).unwrap()
}

pub fn options() -> Options {
    Options { jobs: 2, ..Options::default() }
}

impl Rig {
    pub async fn start(source: u32, target: u32) -> Rig {
        let (source, target) = tokio::join!(Postgres::start(source), Postgres::start(target));
        Rig { source, target }
    }

    pub async fn on_both(&self, sql: &str) {
        tokio::join!(self.source.sql("postgres", sql), self.target.sql("postgres", sql));
    }

    pub async fn sides(&self) -> (Side, Side) {
        let source = Side::plain(params(&self.source), "walferry (verify)").await.unwrap();
        let target = Side::plain(params(&self.target), "walferry (verify)").await.unwrap();
        (source, target)
    }

    /// All tables of the source.
    pub async fn tables(&self, source: &Side) -> Vec<VerifyTable> {
        let specs = topmost(&source.open().await.unwrap(), &Selection::default()).await.unwrap();
        specs.into_iter().map(VerifyTable::whole).collect()
    }

    pub async fn compare_with(&self, options: &Options) -> Report {
        let (source, target) = self.sides().await;
        let tables = self.tables(&source).await;
        compare(source, target, &tables, options, &Reporter::silent()).await.unwrap()
    }

    pub async fn compare(&self) -> Report {
        self.compare_with(&options()).await
    }
}

pub fn table<'a>(report: &'a Report, name: &str) -> &'a TableReport {
    report.tables.iter().find(|table| table.table == QualifiedName::new("public", name)).unwrap()
}

/// Kind and key, columns joined by `|`.
pub fn differences(table: &TableReport) -> Vec<(Kind, String)> {
    let mut all: Vec<(Kind, String)> = table
        .differences
        .iter()
        .map(|difference| {
            let key = difference.key.clone().unwrap_or_default();
            (
                difference.kind,
                key.into_iter().map(|c| c.unwrap_or("NULL".into())).collect::<Vec<_>>().join("|"),
            )
        })
        .collect();
    all.sort();
    all
}

pub fn expect(table: &TableReport, changed: &[&str], missing: &[&str], extra: &[&str]) {
    assert_eq!(table.reason, None, "{}", table.table);
    let mut expected: Vec<(Kind, String)> = Vec::new();
    for (kind, keys) in [(Kind::Changed, changed), (Kind::Missing, missing), (Kind::Extra, extra)] {
        expected.extend(keys.iter().map(|key| (kind, (*key).to_owned())));
    }
    expected.sort();
    assert_eq!(differences(table), expected, "{}", table.table);
    let counts = (table.changed, table.missing, table.extra);
    assert_eq!(counts, (changed.len() as u64, missing.len() as u64, extra.len() as u64), "{}", table.table);
    let outcome = if expected.is_empty() { Outcome::Equal } else { Outcome::Different };
    assert_eq!(table.outcome, outcome, "{}", table.table);
}
