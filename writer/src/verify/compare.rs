//! The comparison from start to end.

use std::time::{Duration, Instant};

use pg::{Class, Error, Result};
use pipeline::report::Reporter;
use tokio_util::sync::CancellationToken;

use super::hashing::Hashing;
use super::pair::{Pair, VerifyTable, prepare};
use super::reading::{Reading, Running};
use super::report::{Mode, Outcome, Report, SideReport, TableReport};
use super::side::{Side, Which};
use super::{resolve, scan};

/// How to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sessions on each side.
    pub jobs: usize,
    /// Only how many rows there are.
    pub counts: bool,
    /// Differing keys listed per table. Counts are exact whatever it is.
    pub keys: usize,
    /// List the rows of these keys, too.
    pub values: bool,
    /// How long to wait for a table that somebody else has locked.
    pub lock_timeout: Duration,
    /// Both snapshots are of one point of the source's history; only said in the report.
    pub one_instant: bool,
    pub cancel: CancellationToken,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            jobs: 4,
            counts: false,
            keys: 100,
            values: false,
            lock_timeout: Duration::from_secs(60),
            one_instant: false,
            cancel: CancellationToken::new(),
        }
    }
}

/// What all passes share.
pub struct Comparison<'a> {
    pub sides: [&'a Side; 2],
    pub options: &'a Options,
    pub hashing: Hashing,
    pub majors: [u32; 2],
    pub running: Running,
    pub reporter: &'a Reporter,
}

impl Comparison<'_> {
    pub async fn open(&self, which: Which) -> Result<Reading<'_>> {
        Reading::open(which, self.sides[which.index()], self.options.lock_timeout, &self.running).await
    }
}

/// A table on its way through the passes.
pub struct Task<'a> {
    pub table: &'a VerifyTable,
    pub pair: Option<Pair>,
    pub report: TableReport,
    /// Proven, even if it can't be said where.
    pub differs: bool,
}

/// Compares `tables`. An error means that nothing could be compared; what only one table has is in its report.
///
/// When cancelled, the statements that run on the servers are cancelled, too.
pub async fn compare(
    source: Side,
    target: Side,
    tables: &[VerifyTable],
    options: &Options,
    reporter: &Reporter,
) -> Result<Report> {
    let compared = compared(&source, &target, tables, options, reporter).await;
    tokio::join!(source.release(), target.release());
    compared
}

async fn compared(
    source: &Side,
    target: &Side,
    tables: &[VerifyTable],
    options: &Options,
    reporter: &Reporter,
) -> Result<Report> {
    let started = Instant::now();
    let mode = if options.counts { Mode::Counts } else { Mode::Content };
    let side = |side: &Side| SideReport { database: side.params().display(), lsn: side.lsn() };
    let mut report = Report {
        source: side(source),
        target: side(target),
        one_instant: options.one_instant,
        mode,
        tables: Vec::new(),
        duration: Duration::ZERO,
    };
    let running = Running::default();
    let cancelled = || Error::new(Class::Unverifiable, "CANCELLED", "the comparison was cancelled");
    let opening = async {
        tokio::try_join!(
            Reading::open(Which::Source, source, options.lock_timeout, &running),
            Reading::open(Which::Target, target, options.lock_timeout, &running),
        )
    };
    let (ours, theirs) = tokio::select! {
        opened = opening => opened.map_err(unverifiable)?,
        () = options.cancel.cancelled() => return Err(cancelled()),
    };
    let preparing = async {
        tokio::try_join!(ours.begin(), theirs.begin())?;
        let hashing = Hashing::agree(ours.session(), theirs.session()).await?;
        let pairs = prepare(ours.session(), theirs.session(), tables).await?;
        tokio::try_join!(ours.end(), theirs.end())?;
        Ok::<_, Error>((hashing, pairs))
    };
    let prepared = tokio::select! {
        prepared = preparing => prepared.map_err(unverifiable),
        () = options.cancel.cancelled() => Err(cancelled()),
    };
    let (hashing, pairs) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            running.cancel().await;
            return Err(error);
        }
    };
    let majors = [ours.session().version().major(), theirs.session().version().major()];
    drop((ours, theirs));
    let comparison = Comparison { sides: [source, target], options, hashing, majors, running, reporter };
    let mut tasks: Vec<Task<'_>> =
        tables.iter().zip(pairs).map(|(table, pair)| Task::new(table, pair, mode)).collect();
    let passes = async {
        let differing = scan::scan(&comparison, &mut tasks).await?;
        resolve::resolve(&comparison, &mut tasks, differing).await
    };
    let done = tokio::select! {
        done = passes => done.map_err(unverifiable),
        () = options.cancel.cancelled() => Err(cancelled()),
    };
    if let Err(error) = done {
        comparison.running.cancel().await;
        return Err(error);
    }
    report.tables = tasks.into_iter().map(Task::finish).collect();
    report.duration = started.elapsed();
    Ok(report)
}

impl<'a> Task<'a> {
    fn new(table: &'a VerifyTable, pair: Result<Pair>, mode: Mode) -> Task<'a> {
        let mode = if table.keys.is_some() && mode == Mode::Content { Mode::Keys } else { mode };
        let mut report = TableReport::new(table.spec.name.clone(), table.target.clone(), mode);
        let pair = match pair {
            Ok(pair) => {
                report.key.clone_from(&pair.key);
                report.generated_columns.clone_from(&pair.generated_columns);
                Some(pair)
            }
            Err(error) => {
                report = report.unverified(&error);
                None
            }
        };
        Task { table, pair, report, differs: false }
    }

    /// The outcome, from the counts.
    pub fn finish(self) -> TableReport {
        let Task { table, pair, mut report, differs } = self;
        let Some(pair) = pair else { return report };
        if report.reason.is_some() {
            report.outcome = if differs { Outcome::Different } else { Outcome::Unverified };
            return report;
        }
        report.outcome = if differs || report.differing() > 0 { Outcome::Different } else { Outcome::Equal };
        // Equality of all but what the target lacks is no equality.
        if !pair.missing_columns.is_empty() && report.mode != Mode::Counts {
            let names: Vec<String> = pair.missing_columns.iter().map(|name| pg::quote_ident(name)).collect();
            let error = Error::new(
                Class::Unverifiable,
                "COLUMN_MISSING",
                format!(
                    "column {} of {} does not exist on the target; the others were compared",
                    names.join(", "),
                    table.target
                ),
            );
            report.reason = Some((&error).into());
            if report.outcome == Outcome::Equal {
                report.outcome = Outcome::Unverified;
            }
        }
        report
    }

    /// A table's own failure; the comparison goes on.
    pub fn fail(&mut self, error: &Error) {
        if self.report.reason.is_none() {
            self.report.reason = Some(error.into());
        }
    }
}

fn unverifiable(error: Error) -> Error {
    error.with_class(Class::Unverifiable)
}
