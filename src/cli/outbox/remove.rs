//! `walferry outbox remove`.

use std::time::Duration;

use clap::Args;
use pg::{Error, Result, quote_ident};
use reader::slot;

use crate::cli::options::{Flags, Overrides};
use crate::cli::{Context, Exit};
use crate::outbox::{self, record};
use crate::output;

/// How long a walsender that has just lost its client may take.
const DYING: Duration = Duration::from_secs(10);

/// Remove what a run has made on the source: its slot, its own publication, and the record of the slot.
///
/// The outbox table, walferry.emit and the topics stay. Refuses while the run is running.
#[derive(Args, Clone, Debug)]
pub struct RemoveArgs {
    /// Replication slot, where it is not named like the run
    #[arg(long, value_name = "NAME")]
    pub slot: Option<String>,
}

impl Overrides for RemoveArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.text("run.slot", "--slot", &self.slot);
    }
}

pub async fn run(_args: RemoveArgs, context: Context) -> Result<Exit> {
    let run = outbox::Context::new(context.settings, context.reporter, context.cancel)?;
    let session = outbox::connect(&run.source, &run.name, "remove").await?;
    outbox::lock(&session, &run.slot).await?;
    let admin = outbox::connect(&run.admin, &run.name, "admin").await?;
    if record::read(&admin, &run.slot).await?.is_some_and(|record| record.shared) {
        record::remove(&admin, &run.slot).await?;
        output::print(&format!(
            "routing from replication slot \"{}\" is forgotten; the slot is a run's that does something else as well, and stays",
            run.slot
        ))?;
        return Ok(Exit::Done);
    }
    let mut done = Vec::new();
    if let Some(state) = slot::look(&session, &run.slot).await? {
        state.check_usable(run.source.dbname()).or_else(|error| match error.code() {
            "SLOT_LOST" => Ok(()),
            _ => Err(error),
        })?;
        slot::drop(&session, &run.slot, DYING).await?;
        done.push(format!("replication slot \"{}\" dropped", run.slot));
    }
    if run.settings.run.publication.is_empty() {
        let there = admin
            .query_opt("SELECT FROM pg_catalog.pg_publication WHERE pubname = $1", &[&run.name])
            .await?
            .is_some();
        if there {
            let sql = format!("DROP PUBLICATION IF EXISTS {}", quote_ident(&run.name));
            admin.batch_execute(&sql).await.map_err(|error| {
                Error::from(error)
                    .context(format!("could not drop publication \"{}\"", run.name))
                    .hint("use the role that made it: --source-admin")
            })?;
            done.push(format!("publication \"{}\" dropped", run.name));
        }
    }
    record::remove(&admin, &run.slot).await?;
    if done.is_empty() {
        done.push(format!("outbox run \"{}\": nothing of it is left", run.name));
    }
    output::print(&done.join("\n"))?;
    Ok(Exit::Done)
}
