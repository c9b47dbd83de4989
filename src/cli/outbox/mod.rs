//! `walferry outbox`: routes outbox events to Kafka.

mod remove;
mod run;

use clap::{Args, Subcommand};
use pg::Result;

use super::options::{Flags, Overrides};
use super::{Context, Exit};

/// Publish the events that applications write in their own transactions: from an outbox table, or from logical messages.
#[derive(Args, Clone, Debug)]
pub struct OutboxArgs {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Subcommand, Clone, Debug)]
pub enum What {
    Run(run::RunArgs),
    Remove(remove::RemoveArgs),
}

impl Overrides for OutboxArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        match &self.what {
            What::Run(args) => args.assign(flags),
            What::Remove(args) => args.assign(flags),
        }
    }
}

pub async fn run(args: OutboxArgs, context: Context) -> Result<Exit> {
    match args.what {
        What::Run(args) => Box::pin(run::run(args, context)).await,
        What::Remove(args) => Box::pin(remove::run(args, context)).await,
    }
}
