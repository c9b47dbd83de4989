//! `walferry clean`: removes what walferry made on both sides.
//!
//! ```text
//! the run's lock ─► source: slot, temporary slots, publications, identities, fence (if told) ─► target: triggers, records, schema
//! ```
//!
//! The record goes last: cut short anywhere, the same command goes on. Only what the record says is ours is removed: a slot that no
//! record mentions is somebody else's.

mod source;

use std::time::Duration;

use clap::Args;
use pg::{Error, Purpose, Result, Session};
use tokio::time::{Instant, sleep};
use writer::control::{self, Removed, Run, RunTable, holder, try_lock};
use writer::schema;

use super::options::{Flags, Overrides};
use super::{Context, Exit, target};
use crate::config::{Needs, Settings, Via};
use crate::foreign::is_foreign;
use crate::output;
use crate::run::topics;

/// Remove what walferry made on both sides: slot, its own publication, schema walferry.
///
/// Asks nothing, works when half of it is gone, refuses while the run is running. The fence of a cutover stays.
#[derive(Args, Clone, Debug)]
pub struct CleanArgs {
    /// Leave the slot
    #[arg(long)]
    pub keep_slot: bool,
    /// Leave the topics that the run has written through Kafka
    #[arg(long)]
    pub keep_topics: bool,
    /// Also lift the fence of a cutover: the source takes writes again
    #[arg(long)]
    pub lift_fence: bool,
}

impl Overrides for CleanArgs {
    fn assign(&self, _flags: &mut Flags<'_>) {}
}

/// A process that has just been killed holds its lock until its backend notices.
const PATIENCE: Duration = Duration::from_secs(3);

pub async fn run(args: CleanArgs, context: Context) -> Result<Exit> {
    let mut session = target::connect(&context, "clean").await?;
    let name = context.settings.name().to_owned();
    take(&session, &name).await?;
    let run = Run::read(&session, &name).await?;
    let settings = match &run {
        Some(run) => context.settings_of(run, Needs::Target)?,
        None => context.settings.clone(),
    };
    let mut done = Vec::new();
    // Source and topics of a Debezium connector are its own.
    let foreign = run.as_ref().is_some_and(is_foreign);
    if !foreign {
        source::clean(&args, &settings, run.as_ref(), &context.reporter, &mut done).await?;
    }
    if let Some(run) =
        run.as_ref().filter(|_| !foreign && settings.run.via == Via::Kafka && !args.keep_topics)
    {
        let tables = RunTable::all(&session, &name).await?;
        topics::remove(&settings, run, &tables, &mut done).await.map_err(|error| {
            error.hint("give --brokers, or leave the topics: walferry clean --keep-topics")
        })?;
    }
    clean_target(&settings, &mut session, &name, run.is_some(), &mut done).await?;
    if done.is_empty() {
        done.push(format!("run \"{name}\": nothing of it is left"));
    }
    output::print(&done.join("\n"))?;
    Ok(Exit::Done)
}

/// Takes the run's lock, so that nobody runs it meanwhile.
async fn take(session: &Session, name: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !try_lock(session, name).await? {
        if Instant::now() >= deadline {
            let error = Error::refuse("RUNNING", format!("run \"{name}\" is running"));
            return Err(match holder(session, name).await? {
                Some(holder) => error
                    .detail(format!(
                        "backend {} on the target, connected from {} since {}",
                        holder.pid, holder.client, holder.since
                    ))
                    .hint(format!(
                        "stop that process (SIGTERM); if its host is gone, on the target: SELECT pg_terminate_backend({})",
                        holder.pid
                    )),
                None => error.hint("stop its process (SIGTERM), then try again"),
            });
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn clean_target(
    settings: &Settings,
    session: &mut Session,
    name: &str,
    recorded: bool,
    done: &mut Vec<String>,
) -> Result<()> {
    if !control::exists(session).await? {
        return Ok(());
    }
    if recorded {
        let admin =
            Session::connect(&settings.target_admin()?, Purpose::TargetAdmin, &format!("{name} (admin)"))
                .await
                .map_err(|error| error.context("target"))?;
        schema::open(&admin, name).await?;
        if !schema::drop_protection(&admin, name).await? {
            return Err(Error::stop(
                "PROTECTED",
                "somebody reads the target's tables, so their triggers can't be dropped",
            )
            .hint("end the long transactions on the target, then walferry clean again"));
        }
    }
    match control::remove_if_unused(session, name).await? {
        Removed::Schema => done.push("target: schema walferry removed".to_owned()),
        Removed::Tables => done.push(
            "target: schema walferry keeps what walferry outbox has made (walferry.emit); everything else is removed from it"
                .to_owned(),
        ),
        Removed::Run if recorded => {
            done.push(format!("target: run \"{name}\" removed from schema walferry, which other runs use"));
        }
        Removed::Run => {}
    }
    Ok(())
}
