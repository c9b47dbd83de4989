//! `walferry write`: the half that writes, with Kafka before it.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use pg::{Error, Result};
use writer::control::Mode;

use super::options::{Flags, Http, Kafka, Origins, Overrides, Restore, Resync, Selection};
use super::{Context, Exit, sequence};
use crate::config::From;
use crate::run;

/// Feed a replica from the topics that `walferry read` fills: snapshot, load, catch up, live.
///
/// Runs the sequence of `replicate`: makes publication and slot, copies, and applies what comes through Kafka. The reader is a process of
/// its own and may start before or after. Ends only by a signal (130, 143) or an error; the same command goes on from there.
#[derive(Args, Clone, Debug)]
pub struct WriteArgs {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub restore: Restore,
    #[command(flatten)]
    pub origin: Origins,
    #[command(flatten)]
    pub kafka: Kafka,
    #[command(flatten)]
    pub http: Http,
    #[command(flatten)]
    pub resync: Resync,
    /// Share the run with other processes that are started with this: each takes some of the tables, those of its --table first. The
    /// target is the source at one commit when idle, and at verify and cutover
    #[arg(long)]
    pub shard: bool,
    /// Whose topics: those of walferry read, or those of a Debezium connector; then neither source nor slot is needed, and the tables
    /// exist on the target [default: walferry]
    #[arg(long, value_name = "WHO", value_parser = PossibleValuesParser::new(From::WORDS))]
    pub from: Option<String>,
    /// With --from debezium: the connector's configuration (JSON or .properties), for its prefix and the form of its values
    #[arg(long, value_name = "FILE")]
    pub connector: Option<PathBuf>,
    /// Keep ordinary writers off the target's tables, as migrate does
    #[arg(long)]
    pub protect: bool,
}

impl Overrides for WriteArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        if self.shard {
            // --table says which of the run's tables this process takes.
            Selection { table: Vec::new(), ..self.selection.clone() }.assign(flags);
        } else {
            self.selection.assign(flags);
        }
        self.restore.assign(flags);
        self.origin.assign(flags);
        self.kafka.assign(flags);
        self.http.assign(flags);
        flags.through_kafka("walferry write");
        flags.text("kafka.from", "--from", &self.from);
        flags.on("run.protect", "--protect", self.protect);
    }
}

impl WriteArgs {
    /// Without a source.
    pub fn is_foreign(&self) -> bool {
        self.from.as_deref() == Some("debezium")
    }
}

pub async fn run(args: WriteArgs, context: Context) -> Result<Exit> {
    if context.settings.kafka.from == From::Debezium {
        let given = [("--resync", !args.resync.resync.is_empty()), ("--shard", args.shard)];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            return Err(Error::usage(format!("{flag} is not for --from debezium: there is no source to copy tables from")).hint(
                "a table is taken anew by a new snapshot of the connector (an incremental one, say), whose events are applied as any others",
            ));
        }
        let run = run::Context::of_topics(context.settings, context.reporter, context.cancel)?;
        return sequence::drive(run, "write").await;
    }
    let run = run::Context::new(context.settings, Mode::Replicate, context.reporter, context.cancel)?;
    let mut run = run.writer_alone().resync(args.resync.resync);
    if args.shard {
        run.share = true;
        run.pinned = args.selection.table;
    }
    sequence::drive(run, "write").await
}
