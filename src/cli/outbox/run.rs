//! `walferry outbox run`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use pg::Result;

use crate::cli::options::{Flags, Http, Kafka, Overrides};
use crate::cli::{Context, Exit};
use crate::config::OnLimit;
use crate::http;
use crate::outbox;
use crate::output::count;
use crate::run::topics;

/// Route committed events to their topics, until a signal comes.
///
/// Needs the source and the brokers, no target. The slot and the publication are made at the first start, named like the run; every
/// other start goes on from the slot's confirmed position. An event that can't be delivered goes to topic <prefix>.dlq.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Existing publications that have the outbox table [default: walferry makes one, named like the run]
    #[arg(long, value_name = "NAME[,NAME…]")]
    pub publication: Vec<String>,
    /// Replication slot; one that exists is taken up where it is confirmed [default: named like the run]
    #[arg(long, value_name = "NAME")]
    pub slot: Option<String>,
    /// A Debezium connector's configuration (JSON or .properties) as it is: its event router and its connection; again for the file of its
    /// Kafka Connect worker
    #[arg(long, value_name = "FILE")]
    pub connector: Vec<PathBuf>,
    /// WAL that the slot may retain on the source, e.g. 50GB; past it the run says so [default: no limit of ours]
    #[arg(long, value_name = "SIZE")]
    pub max_retained_wal: Option<String>,
    /// Past that limit: say so, or drop the slot, which saves the source and ends the run for good [default: warn]
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(OnLimit::WORDS))]
    pub on_limit: Option<String>,
    /// At the first start, publish the rows that the outbox tables have already
    #[arg(long)]
    pub snapshot: bool,
    #[command(flatten)]
    pub kafka: Kafka,
    #[command(flatten)]
    pub http: Http,
}

impl Overrides for RunArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        flags.list("run.publication", "--publication", &self.publication);
        flags.text("run.slot", "--slot", &self.slot);
        flags.text("limits.max_retained_wal", "--max-retained-wal", &self.max_retained_wal);
        flags.text("limits.on_limit", "--on-limit", &self.on_limit);
        flags.on("outbox.snapshot", "--snapshot", self.snapshot);
        self.kafka.assign(flags);
        self.http.assign(flags);
    }
}

pub async fn run(_args: RunArgs, context: Context) -> Result<Exit> {
    let mut run = outbox::Context::new(context.settings, context.reporter, context.cancel)?;
    outbox::plan::options(&run.settings)?;
    let brokers = topics::options(&run.settings)?;
    run.health = http::start(&run.settings.http, "outbox run", &run.name, &run.reporter, &run.cancel).await?;
    http::kafka(&run.health, &brokers, &run.dead_letters(), run.cancel.clone());
    outbox::run(&run).await?;
    let mut lines: Vec<(String, String)> = run
        .counters
        .topics()
        .into_iter()
        .map(|(topic, sent)| (topic, format!("{} events", count(sent.events))))
        .collect();
    let dead = run.counters.dead_letters.load(std::sync::atomic::Ordering::Relaxed);
    if dead > 0 {
        lines.push((run.dead_letters(), format!("{} dead letters", count(dead))));
    }
    run.reporter.summary("stopped; the same command goes on from here", lines);
    Ok(Exit::Interrupted)
}
