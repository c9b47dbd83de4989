//! `walferry verify`: proves both sides equal.

use std::collections::HashSet;

use clap::Args;
use pg::{Class, Error, QualifiedName, Result};
use pipeline::TableSpec;
use reader::catalog::{Selection as Chosen, topmost};
use tokio_util::sync::CancellationToken;
use writer::control::{Run, Step};
use writer::verify::{Mode, Options, Outcome, Report, Side, TableReport, VerifyTable, compare};

use super::options::{Flags, Overrides, Selection};
use super::{Context, Exit, target};
use crate::config::{Needs, Via};
use crate::foreign::is_foreign;
use crate::output;
use crate::run::hold::slot_is_read;
use crate::run::selection;

/// Prove both sides equal at one LSN while the stream goes on; 0 equal, 1 different, 3 could not verify.
///
/// Works with a stopped run as well, and on two databases without a run (then each side is read in one snapshot of its own, which is
/// one instant only if nobody writes).
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// Compare row counts only
    #[arg(long, conflicts_with = "values")]
    pub counts: bool,
    /// Most differing keys to list for a table [default: 100]
    #[arg(long, value_name = "N")]
    pub keys: Option<String>,
    /// Show the rows of the listed keys too, as both sides have them
    #[arg(long)]
    pub values: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Overrides for VerifyArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        self.selection.assign(flags);
        flags.text("verify.keys", "--keys", &self.keys);
    }
}

pub async fn run(args: VerifyArgs, context: Context) -> Result<Exit> {
    let options = Options {
        jobs: context.settings.verify.jobs.get(),
        counts: args.counts,
        keys: context.settings.verify.keys,
        values: args.values,
        cancel: context.cancel.clone(),
        ..Options::default()
    };
    let report = match feeding(&context).await? {
        Some(run) => Box::pin(with_run(&context, &run, &options)).await?,
        None => Box::pin(two_databases(&context, &options)).await?,
    };
    if args.json {
        let json = serde_json::to_value(&report).map_err(|error| Error::failed("JSON", error.to_string()))?;
        output::print_json(&json)?;
    } else {
        output::print(&report.to_string())?;
    }
    Ok(match report.outcome() {
        Outcome::Equal => Exit::Done,
        Outcome::Different => Exit::Failed,
        Outcome::Unverified => Exit::Unverifiable,
    })
}

/// The run that feeds the target; after a cutover nothing does. What a Debezium connector reads nobody here can hold: both sides are then
/// compared as they are.
async fn feeding(context: &Context) -> Result<Option<Run>> {
    let session = target::connect(context, "verify").await?;
    let run = Run::read(&session, context.settings.name()).await?;
    Ok(run.filter(|run| run.step != Step::Done && !is_foreign(run)))
}

/// Both sides at one point: two plain snapshots would show what is still on its way as a difference.
async fn with_run(context: &Context, run: &Run, options: &Options) -> Result<Report> {
    let settings = context.settings_of(run, Needs::Both)?;
    // Bringing a stopped run forward ends with this token, not with the command.
    let cancel = context.cancel.child_token();
    let mut run_context = crate::run::Context::new(settings, run.mode, context.reporter.clone(), cancel)?;
    if run_context.settings.run.via == Via::Kafka && slot_is_read(&run_context).await? {
        // `walferry read` is at work; a stopped run is brought forward from its topics.
        run_context = run_context.writer_alone();
    }
    Box::pin(crate::compare::of_a_run(&run_context, run, options)).await
}

/// Each side in a snapshot of its own.
async fn two_databases(context: &Context, options: &Options) -> Result<Report> {
    let name = format!("{} (verify)", context.settings.name());
    context.reporter.step("verify");
    let (source, target) = tokio::try_join!(
        async { Side::plain(context.settings.source()?, &name).await.map_err(|e| e.context("source")) },
        async { Side::plain(context.settings.target()?, &name).await.map_err(|e| e.context("target")) },
    )?;
    let selection = selection(&context.settings);
    let on_source = tables_of(&source, &selection, &options.cancel).await.map_err(|e| e.context("source"))?;
    let on_target = tables_of(&target, &selection, &options.cancel).await.map_err(|e| e.context("target"))?;
    let known: HashSet<QualifiedName> = on_source.iter().map(|spec| spec.name.clone()).collect();
    let tables: Vec<VerifyTable> = on_source.into_iter().map(VerifyTable::whole).collect();
    let mode = if options.counts { Mode::Counts } else { Mode::Content };
    let alone = on_target.into_iter().filter(|spec| !known.contains(&spec.name)).map(|spec| {
        let error = Error::new(
            Class::Unverifiable,
            "TABLE_MISSING",
            format!("table {} does not exist on the source", spec.name),
        );
        TableReport::new(spec.name.clone(), spec.name, mode).unverified(&error)
    });
    let alone: Vec<TableReport> = alone.collect();
    if tables.is_empty() && alone.is_empty() {
        return Err(Error::new(
            Class::Unverifiable,
            "NO_TABLES",
            "no table was chosen: nothing was compared",
        )
        .hint("see --schema and --table"));
    }
    let mut report = compare(source, target, &tables, options, &context.reporter).await?;
    report.tables.extend(alone);
    report.tables.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(report)
}

/// A look at the catalog can wait for a lock, so it is cancelled on the server, too.
async fn tables_of(side: &Side, selection: &Chosen, cancel: &CancellationToken) -> Result<Vec<TableSpec>> {
    let session = side.open().await?;
    tokio::select! {
        tables = topmost(&session, selection) => tables,
        () = cancel.cancelled() => {
            // Whoever can't be reached ends with its connection.
            let _ = session.canceller().cancel().await;
            Err(Error::new(Class::Unverifiable, "CANCELLED", "the comparison was cancelled"))
        }
    }
}
