//! `walferry copy`: the snapshot part alone.

use std::time::{Duration, Instant};

use clap::Args;
use pg::Result;
use writer::control::{Mode, Step};

use super::options::{Flags, Overrides, Restore, Selection};
use super::{Context, Exit};
use crate::output::{bytes, count, duration};
use crate::run;

/// Copy one consistent snapshot: a parallel dump and restore of a database in use.
///
/// Leaves no slot and no schema walferry. Can't resume: when it fails it empties what it made and ends with 1.
#[derive(Args, Clone, Debug)]
pub struct CopyArgs {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub restore: Restore,
    /// Give the copy up when DDL on the source waits for it
    #[arg(long)]
    pub yield_to_ddl: bool,
}

impl Overrides for CopyArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        self.selection.assign(flags);
        self.restore.assign(flags);
        flags.on("copy.yield_to_ddl", "--yield-to-ddl", self.yield_to_ddl);
    }
}

pub async fn run(_args: CopyArgs, context: Context) -> Result<Exit> {
    let run = run::Context::new(context.settings, Mode::Copy, context.reporter, context.cancel)?;
    let began = Instant::now();
    let copied = run::copy(&run).await?;
    let mut lines: Vec<(String, String)> = copied
        .steps
        .iter()
        .filter(|step| step.step < Step::Catchup)
        .map(|step| (step.step.to_string(), duration(Duration::from_secs_f64(step.seconds.max(0.0)))))
        .collect();
    lines.push(("in all".to_owned(), duration(began.elapsed())));
    let (tables, rows, size) = (count(copied.tables), count(copied.rows), bytes(copied.bytes));
    lines.push(("copied".to_owned(), format!("{tables} tables, {rows} rows, {size}")));
    run.reporter.summary(format!("{} is copied to {}", run.source.display(), run.target.display()), lines);
    Ok(Exit::Done)
}
