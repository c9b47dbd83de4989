//! `walferry write`: the half that writes, with Kafka before it.

use clap::Args;
use pg::Result;
use writer::control::Mode;

use super::options::{Flags, Http, Kafka, Origins, Overrides, Restore, Resync, Selection};
use super::{Context, Exit, sequence};
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
        flags.on("run.protect", "--protect", self.protect);
    }
}

pub async fn run(args: WriteArgs, context: Context) -> Result<Exit> {
    let run = run::Context::new(context.settings, Mode::Replicate, context.reporter, context.cancel)?;
    let mut run = run.writer_alone().resync(args.resync.resync);
    if args.shard {
        run.share = true;
        run.pinned = args.selection.table;
    }
    sequence::drive(run, "write").await
}
