//! `walferry read`: the half that reads, with Kafka behind it.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use pg::Result;

use super::options::{Flags, Http, Kafka, Overrides, Selection};
use super::{Context, Exit};
use crate::config::OnLimit;
use crate::http;
use crate::outbox::{beside, shared::Shared};
use crate::read::{self, Reading};
use crate::run::topics;

/// Turn the WAL into events: one topic a table, for `walferry write` and for any other consumer.
///
/// Waits until `walferry write` has made the slot and announced it in the topics, then streams; needs no access to the target. Ends only
/// by a signal (130, 143) or an error; the same command goes on from there.
#[derive(Args, Clone, Debug)]
pub struct ReadArgs {
    /// Publications to stream [default: those that the writer has announced]
    #[arg(long, value_name = "NAME[,NAME…]")]
    pub publication: Vec<String>,
    /// Replication slot [default: the one that the writer has announced]
    #[arg(long, value_name = "NAME")]
    pub slot: Option<String>,
    /// WAL that the slot may retain on the source, e.g. 50GB; past it the reader says so [default: no limit of ours]
    #[arg(long, value_name = "SIZE")]
    pub max_retained_wal: Option<String>,
    /// Past that limit: say so, or drop the slot, which saves the source and ends the run for good [default: warn]
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(OnLimit::WORDS))]
    pub on_limit: Option<String>,
    /// First write what the tables hold as events (op "r"), from a snapshot of its own; done once for a run
    #[arg(long)]
    pub snapshot: bool,
    /// Make publication and slot here, for consumers other than walferry write; with --snapshot the stream goes on from exactly there
    #[arg(long)]
    pub create_slot: bool,
    /// With --create-slot, tables without a replica identity: refuse, or publish their inserts only [default: refuse]
    #[arg(long, value_name = "WHAT", value_parser = ["refuse", "inserts"])]
    pub keyless: Option<String>,
    /// A Debezium connector's configuration (JSON or .properties) as it is: the same topics and events, from the slot that it names; again for
    /// the file of its Kafka Connect worker
    #[arg(long, value_name = "FILE")]
    pub connector: Vec<PathBuf>,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub kafka: Kafka,
    #[command(flatten)]
    pub http: Http,
}

impl Overrides for ReadArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.list("run.publication", "--publication", &self.publication);
        flags.text("run.slot", "--slot", &self.slot);
        flags.text("limits.max_retained_wal", "--max-retained-wal", &self.max_retained_wal);
        flags.text("limits.on_limit", "--on-limit", &self.on_limit);
        flags.text("run.keyless", "--keyless", &self.keyless);
        if self.snapshot {
            flags.text("capture.snapshot", "--snapshot", &Some("initial".to_owned()));
        }
        flags.on("capture.create_slot", "--create-slot", self.create_slot);
        flags.on("capture.create_slot", "--connector", !self.connector.is_empty());
        self.selection.assign(flags);
        self.kafka.assign(flags);
        self.http.assign(flags);
        flags.through_kafka("walferry read");
    }
}

pub async fn run(_args: ReadArgs, context: Context) -> Result<Exit> {
    let beside = beside::context(&context.settings, &context.reporter, &context.cancel)?;
    let mut reading = Reading::new(context.settings, context.reporter, context.cancel)?;
    let Reading { settings, name, reporter, cancel, .. } = &reading;
    let health = http::start(&settings.http, "read", name, reporter, cancel).await?;
    let topic = format!("{}.transaction", settings.kafka_prefix());
    http::kafka(&health, &topics::options(settings)?, &topic, cancel.clone());
    reading.outbox = Shared::new(settings, reporter, cancel)?;
    reading.health = health;
    Box::pin(beside::together(beside, Box::pin(read::run(&reading)))).await?;
    Ok(Exit::Interrupted)
}
