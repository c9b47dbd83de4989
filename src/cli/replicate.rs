//! `walferry replicate`: a continuous replica feed.

use clap::Args;
use pg::Result;
use writer::control::Mode;

use crate::outbox::beside;

use super::options::{Flags, Follow, Http, Overrides, Restore, Resync, Selection};
use super::{Context, Exit};

/// Feed a replica without an end: snapshot, load, catch up, live.
///
/// Ends only by a signal (130, 143) or an error; the same command goes on from there.
#[derive(Args, Clone, Debug)]
pub struct ReplicateArgs {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub restore: Restore,
    #[command(flatten)]
    pub follow: Follow,
    #[command(flatten)]
    pub http: Http,
    #[command(flatten)]
    pub resync: Resync,
    /// Keep ordinary writers off the target's tables, as migrate does
    #[arg(long)]
    pub protect: bool,
}

impl Overrides for ReplicateArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        self.selection.assign(flags);
        self.restore.assign(flags);
        self.follow.assign(flags);
        self.http.assign(flags);
        flags.on("run.protect", "--protect", self.protect);
    }
}

pub async fn run(args: ReplicateArgs, context: Context) -> Result<Exit> {
    let beside = beside::context(&context.settings, &context.reporter, &context.cancel)?;
    let run = Box::pin(super::sequence::run(context, Mode::Replicate, args.resync.resync));
    Box::pin(beside::together(beside, run)).await
}
