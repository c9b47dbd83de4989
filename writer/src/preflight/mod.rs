//! Everything about the target that would stop or surprise a run, found in one look that changes nothing.
//!
//! ```text
//! SourceFacts ─► connections ─► server ─► run's record ─► tables ─► privileges ─► objects ─► TargetReport
//! ```
//!
//! A check that fails is a finding itself and hides no other.

mod existing;
mod grants;
mod objects;
mod privileges;
mod record;
mod server;

use pg::{Params, Purpose, QualifiedName, Result, Session};
use pipeline::{Finding, Side, SourceFacts};

use crate::control::Run;

pub use grants::target_grants;

/// What the run would do with the target.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    pub name: String,
    /// The role that makes what is to be made (`--target-admin`, or the same again).
    pub admin: Params,
    /// The target's tables are there.
    pub existing_schema: bool,
    pub no_owner: bool,
    pub no_privileges: bool,
    /// `--slot` was given: one that exists is taken over.
    pub adopt_slot: bool,
    /// Changes are streamed and applied; `copy` alone keeps no record.
    pub stream: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct TargetReport {
    pub findings: Vec<Finding>,
    /// The target knows this run: it would go on.
    pub resumes: bool,
}

/// Looks. Never fails: what goes wrong is a finding. `source` is None when there was no connection to it.
pub async fn inspect(params: &Params, options: &TargetOptions, source: Option<&SourceFacts>) -> TargetReport {
    let mut report = TargetReport::default();
    let found = &mut report.findings;
    let name = format!("{} (check)", options.name);
    let session = match Session::connect(params, Purpose::TargetApply, &name).await {
        Ok(session) => session,
        Err(error) => {
            found.push(Finding::unreachable(Side::Target, "--target", &error));
            return report;
        }
    };
    let admin = match Session::connect(&options.admin, Purpose::TargetAdmin, &name).await {
        Ok(admin) => Some(admin),
        Err(error) => {
            found.push(Finding::unreachable(Side::Target, "--target-admin", &error));
            None
        }
    };
    let result = server::check(&session, admin.as_ref(), source, found).await;
    note(found, result);
    fail::fail_point!("preflight-target");
    let run = match Run::read(&session, &options.name).await {
        Ok(run) => run,
        Err(error) => {
            found.push(Finding::from_error(Side::Target, &error));
            None
        }
    };
    report.resumes = run.as_ref().is_some_and(|run| run.slot_lsn.is_some());
    let Some(source) = source else { return report };
    let result = record::check(&session, options, source, run.as_ref(), found).await;
    note(found, result);
    let names: Vec<QualifiedName> = source.tables.iter().map(|table| table.name.clone()).collect();
    if options.existing_schema {
        let result =
            existing::check(&session, params.user(), source, &names, report.resumes, options.stream, found)
                .await;
        note(found, result);
    } else if !report.resumes {
        let result = objects::occupied(&session, source, found).await;
        note(found, result);
        let result = objects::needed(&session, admin.as_ref(), options, source, found).await;
        note(found, result);
    }
    let result =
        privileges::check(&session, admin.as_ref(), params.user(), options, source, &run, found).await;
    note(found, result);
    report
}

/// An error met while looking is a finding, too.
fn note(findings: &mut Vec<Finding>, result: Result<()>) {
    findings.extend(result.err().map(|error| Finding::from_error(Side::Target, &error)));
}
