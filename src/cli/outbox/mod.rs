//! `walferry outbox`: routes outbox events to Kafka.

mod clean;
mod dlq;
mod init;
mod remove;
mod run;

use std::path::Path;

use clap::{Args, Subcommand};
use pg::Result;

use super::options::{Flags, Overrides};
use super::{Context, Exit};
use crate::config::Needs;

/// Publish the events that applications write in their own transactions: from an outbox table, or from logical messages.
#[derive(Args, Clone, Debug)]
pub struct OutboxArgs {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Subcommand, Clone, Debug)]
pub enum What {
    Init(init::InitArgs),
    Run(run::RunArgs),
    Clean(clean::CleanArgs),
    Dlq(dlq::DlqArgs),
    Remove(remove::RemoveArgs),
}

impl OutboxArgs {
    pub fn needs(&self) -> Needs {
        match &self.what {
            What::Dlq(args) => args.needs(),
            What::Init(_) | What::Run(_) | What::Clean(_) | What::Remove(_) => Needs::Source,
        }
    }

    /// A connector's file, and its worker's.
    pub fn connector(&self) -> Vec<&Path> {
        match &self.what {
            What::Run(args) => args.connector.iter().map(AsRef::as_ref).collect(),
            What::Init(_) | What::Clean(_) | What::Dlq(_) | What::Remove(_) => Vec::new(),
        }
    }
}

impl Overrides for OutboxArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        match &self.what {
            What::Init(args) => args.assign(flags),
            What::Run(args) => args.assign(flags),
            What::Clean(args) => args.assign(flags),
            What::Dlq(args) => args.assign(flags),
            What::Remove(args) => args.assign(flags),
        }
    }
}

pub async fn run(args: OutboxArgs, context: Context) -> Result<Exit> {
    match args.what {
        What::Init(args) => Box::pin(init::run(args, context)).await,
        What::Run(args) => Box::pin(run::run(args, context)).await,
        What::Clean(args) => Box::pin(clean::run(args, context)).await,
        What::Dlq(args) => Box::pin(dlq::run(args, context)).await,
        What::Remove(args) => Box::pin(remove::run(args, context)).await,
    }
}
