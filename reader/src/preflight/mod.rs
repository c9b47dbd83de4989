//! Everything about the source that would stop or surprise a run, found in one look that changes nothing.
//!
//! ```text
//! connections ─► server ─► tables ─► privileges ─► waits ─► objects ─► SourceReport { findings, facts }
//! ```
//!
//! A check that fails is a finding itself and hides no other. `facts` go on to the look at the target.

mod connections;
mod floors;
mod grants;
mod objects;
mod privileges;
mod server;
mod tables;
mod waits;

use pg::{Params, Result, Session};
use pipeline::{Finding, Side, SourceFacts};

use crate::catalog::{Selection, Without};

pub use grants::source_grants;

/// What the run would do with the source.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The run's name: its publication, and sessions, are named like it.
    pub name: String,
    pub slot: String,
    /// `--slot` was given: one that exists is taken over.
    pub adopt_slot: bool,
    /// Publications to follow; empty: the run makes its own.
    pub publications: Vec<String>,
    pub selection: Selection,
    pub keyless: Without,
    /// The role that owns the tables (`--source-admin`, or the same again).
    pub admin: Params,
    /// Changes are to be streamed; `copy` alone needs no slot that stays.
    pub stream: bool,
    /// The schema of the source is restored: owners, grantees, extensions and so on are asked for.
    pub schema: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    pub findings: Vec<Finding>,
    /// None: there was no connection.
    pub facts: Option<SourceFacts>,
}

/// Looks. Never fails: what goes wrong is a finding.
pub async fn inspect(params: &Params, options: &SourceOptions) -> SourceReport {
    let mut report = SourceReport::default();
    let found = &mut report.findings;
    let Some(session) = connections::open(params, options, found).await else { return report };
    let mut facts = SourceFacts::default();
    let result = server::check(&session, options, &mut facts, found).await;
    note(found, result);
    fail::fail_point!("preflight-source");
    let result = tables::check(&session, options, &mut facts, found).await;
    note(found, result);
    let result = privileges::check(&session, params.user(), options, &facts, found).await;
    note(found, result);
    let result = waits::check(&session, &facts, found).await;
    note(found, result);
    if options.schema {
        let result = objects::check(&session, options, &mut facts, found).await;
        note(found, result);
    }
    report.facts = Some(facts);
    report
}

/// An error met while looking is a finding, too.
fn note(findings: &mut Vec<Finding>, result: Result<()>) {
    findings.extend(result.err().map(|error| Finding::from_error(Side::Source, &error)));
}

/// Rows of one column of text.
async fn texts(
    session: &Session,
    sql: &str,
    params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<String>> {
    let rows = session.query(sql, params).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
