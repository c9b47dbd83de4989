//! `walferry skip`: leaves out one source transaction, on the record.

use clap::Args;
use pg::{Error, Lsn, Result};
use writer::control::{Progress, ask_to_skip};

use super::options::{Flags, Overrides};
use super::{Context, Exit, target};
use crate::output;

/// Leave out one source transaction, on the record, after an error that nothing else cures.
///
/// `walferry status` names the commit LSN of the transaction that can't be applied. Its rows will be missing on the target: `walferry
/// verify` finds them.
#[derive(Args, Clone, Debug)]
pub struct SkipArgs {
    /// Commit LSN of the transaction, as status and the log name it
    #[arg(value_name = "COMMIT LSN")]
    pub commit_lsn: String,
}

impl Overrides for SkipArgs {
    fn assign(&self, _flags: &mut Flags<'_>) {}
}

pub async fn run(args: SkipArgs, context: Context) -> Result<Exit> {
    let commit_lsn: Lsn = args
        .commit_lsn
        .parse()
        .map_err(|error| Error::usage(format!("{error}")).hint("walferry status names the commit LSN"))?;
    let (session, run) = target::existing_run(&context, "skip").await?;
    if let Some(progress) = Progress::read(&session, &run.name).await?
        && progress.end_lsn > commit_lsn
    {
        return Err(Error::refuse(
            "ALREADY_APPLIED",
            format!("the transaction at {commit_lsn} is already applied"),
        )
        .detail(format!("everything up to {} is", progress.end_lsn))
        .hint("walferry status names the commit LSN of the transaction that stops the run"));
    }
    ask_to_skip(&session, &run.name, commit_lsn).await?;
    output::print(&format!(
        "the transaction committed at {commit_lsn} will be left out by run \"{}\"; walferry verify finds what is missing then",
        run.name
    ))?;
    Ok(Exit::Done)
}
