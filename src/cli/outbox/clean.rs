//! `walferry outbox clean`.

use std::time::Duration;

use clap::Args;
use pg::{Error, Result};

use crate::cli::options::{Flags, Overrides};
use crate::cli::{Context, Exit};
use crate::config::Value;
use crate::outbox::{self, cleanup, cleanup::CleanOptions};
use crate::output;

/// Delete rows whose event Kafka has acknowledged and that are older than outbox.retention.
///
/// What Kafka has is known from the slot's confirmed position, so outbox run has to be running, or the events wait. In small batches; of a
/// partitioned table whole partitions are dropped. Ends with 1 when events that are old enough are not delivered yet.
#[derive(Args, Clone, Debug)]
pub struct CleanArgs {
    /// Older than this [default: outbox.retention]
    #[arg(long, value_name = "DURATION")]
    pub retention: Option<String>,
    /// Replication slot, where it is not named like the run
    #[arg(long, value_name = "NAME")]
    pub slot: Option<String>,
    /// Rows from before the slot too: they were all published by something else
    #[arg(long)]
    pub before_slot: bool,
    /// How long to wait until Kafka has what is committed now
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub wait: String,
}

impl Overrides for CleanArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.text("outbox.retention", "--retention", &self.retention);
        flags.text("run.slot", "--slot", &self.slot);
    }
}

pub async fn run(args: CleanArgs, context: Context) -> Result<Exit> {
    let wait = Duration::read(&args.wait).map_err(|expected| Error::usage(format!("--wait: {expected}")))?;
    let run = outbox::Context::new(context.settings, context.reporter, context.cancel)?;
    let retention = run.settings.outbox.retention.ok_or_else(|| {
        Error::usage(
            "no retention: give --retention 7d or outbox.retention; without it nothing is ever deleted",
        )
    })?;
    let options = CleanOptions {
        retention,
        batch: run.settings.outbox.retention_batch,
        before_slot: args.before_slot,
        wait,
    };
    let session = outbox::connect(&run.source, &run.name, "cleanup").await?;
    let base = outbox::plan::options(&run.settings)?;
    let tables = outbox::plan::tables(&run.settings, &session, &base).await?;
    let mut lines = Vec::new();
    let mut undelivered = false;
    for table in &tables {
        let done = cleanup::clean(&run, &session, table, &options).await?;
        let mut line = format!("{}: {} rows deleted", table.name, done.rows);
        if done.partitions > 0 {
            line += &format!(", {} partitions dropped", done.partitions);
        }
        if done.before_slot > 0 {
            line += &format!(
                ", {} rows from before the slot kept (--before-slot, if they were published)",
                done.before_slot
            );
        }
        if done.undelivered {
            line += ", more are old enough but not delivered yet: is outbox run running?";
            undelivered = true;
        }
        lines.push(line);
    }
    if lines.is_empty() {
        lines.push("there is no outbox table: logical messages leave nothing to clean".to_owned());
    }
    output::print(&lines.join("\n"))?;
    Ok(if undelivered { Exit::Failed } else { Exit::Done })
}
