//! `walferry outbox remove`.

use std::time::Duration;

use clap::Args;
use pg::{Error, Result, Session, quote_ident, quote_literal};
use reader::slot;

use crate::cli::options::{Flags, Overrides};
use crate::cli::{Context, Exit};
use crate::outbox::publication::{self, Own};
use crate::outbox::{self, record};
use crate::output;

/// How long a walsender that has just lost its client may take.
const DYING: Duration = Duration::from_secs(10);

/// Remove what a run has made on the source: its slot, its own publication, and the record of the slot.
///
/// The outbox table, walferry.emit and the topics stay, and so does a slot that was there before the run took it up. Refuses while the run is
/// running, and where no record says that the slot is the outbox's.
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
    let done = match record::read(&admin, &run.slot).await? {
        None => return unknown(&run, &session).await,
        Some(record) if record.shared => vec![format!(
            "routing from replication slot \"{}\" is forgotten; the slot is a run's that does something else as well, and stays",
            run.slot
        )],
        // Who had the slot before had its publication too.
        Some(record) if record.adopted => vec![format!(
            "routing from replication slot \"{0}\" is forgotten; the slot was there before and stays, with its publication: SELECT \
             pg_drop_replication_slot({1}) drops it",
            run.slot,
            quote_literal(&run.slot)
        )],
        Some(_) => own(&run, &session, &admin).await?,
    };
    record::remove(&admin, &run.slot).await?;
    output::print(&done.join("\n"))?;
    Ok(Exit::Done)
}

/// Nothing says that this command's run made them: a migration may have, whose default name is the same.
async fn unknown(run: &outbox::Context, session: &Session) -> Result<Exit> {
    let mut sql = Vec::new();
    if slot::look(session, &run.slot).await?.is_some() {
        sql.push(format!("SELECT pg_drop_replication_slot({})", quote_literal(&run.slot)));
    }
    if run.settings.run.publication.is_empty()
        && !matches!(publication::own(&run.settings, session).await?, Own::Missing)
    {
        sql.push(format!("DROP PUBLICATION {}", quote_ident(&run.name)));
    }
    if sql.is_empty() {
        output::print(&format!("outbox run \"{}\": nothing of it is left", run.name))?;
        return Ok(Exit::Done);
    }
    Err(Error::refuse("NO_RECORD", format!("no record on the source says that outbox run made slot or publication \"{}\"", run.slot))
        .detail("they may be another run's; a record is missing too where the run's role had no right to write it, and where this one may not read it")
        .hint(format!(
            "walferry clean removes what migrate, replicate or read made; if nothing needs them, on the source: {}",
            sql.join("; ")
        )))
}

/// The slot that the run made, and the publication if it is the one that the run makes.
async fn own(run: &outbox::Context, session: &Session, admin: &Session) -> Result<Vec<String>> {
    let mut done = Vec::new();
    if let Some(state) = slot::look(session, &run.slot).await? {
        state.check_usable(run.source.dbname()).or_else(|error| match error.code() {
            "SLOT_LOST" => Ok(()),
            _ => Err(error),
        })?;
        slot::drop(session, &run.slot, DYING).await?;
        done.push(format!("replication slot \"{}\" dropped", run.slot));
    }
    if run.settings.run.publication.is_empty() {
        let drop = format!("DROP PUBLICATION {}", quote_ident(&run.name));
        match publication::own(&run.settings, session).await? {
            Own::Missing => {}
            Own::Others(tables) => done.push(format!(
                "publication \"{}\" stays: it publishes what is no outbox ({tables}); {drop} drops it",
                run.name
            )),
            Own::Outbox => {
                admin.batch_execute(&drop).await.map_err(|error| {
                    Error::from(error)
                        .context(format!("could not drop publication \"{}\"", run.name))
                        .hint("use the role that made it: --source-admin")
                })?;
                done.push(format!("publication \"{}\" dropped", run.name));
            }
        }
    }
    if done.is_empty() {
        done.push(format!("outbox run \"{}\": nothing of it is left", run.name));
    }
    Ok(done)
}
