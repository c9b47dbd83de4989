//! `walferry migrate`: moves a live database.

use clap::Args;
use pg::{Error, Result};
use writer::control::Mode;

use super::options::{CutoverChoice, Flags, Follow, Http, Overrides, Restore, Resync, Selection};
use super::{Context, Exit};

/// Move a live database: snapshot, load, catch up, live, cutover.
///
/// Stays live until `walferry cutover` is called (or at once with --cutover auto), then ends with 0. Interrupted at any point, the
/// same command goes on from there.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
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
    #[command(flatten)]
    pub cutover: CutoverChoice,
}

impl Overrides for MigrateArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        self.selection.assign(flags);
        self.restore.assign(flags);
        self.follow.assign(flags);
        self.http.assign(flags);
        self.cutover.assign(flags);
    }
}

pub async fn run(args: MigrateArgs, context: Context) -> Result<Exit> {
    let outbox = &context.settings.outbox;
    if outbox.beside || outbox.share_slot {
        return Err(Error::usage("outbox.beside and outbox.share_slot go with read and replicate, not with migrate")
            .detail("a migration ends with its cutover, and the routing would end with it, unseen")
            .hint("route in a process of its own, before the cutover from the source, after it from the target: walferry outbox run"));
    }
    Box::pin(super::sequence::run(context, Mode::Migrate, args.resync.resync)).await
}
