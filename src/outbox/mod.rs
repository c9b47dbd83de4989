//! `walferry outbox`: committed events to Kafka, straight from the source, without a target.
//!
//! ```text
//! plan ─► publication ─► slot (and its record) ─► stream: slot ─► router ─► Kafka ─► slot
//! plan.rs  publication.rs  slot.rs  record.rs      stream.rs
//! ```
//!
//! Where a run stands is the slot's confirmed position and nothing else: a restart goes on from there. What Kafka has of a transaction that
//! is not confirmed is sent again, with the same ids and positions.

pub mod beside;
pub mod check;
pub mod cleanup;
mod connect;
pub mod layout;
mod name;
pub mod plan;
pub mod publication;
pub mod record;
mod retention;
pub mod shared;
mod slot;
mod snapshot;
mod stream;

use std::sync::Arc;

use kafka::outbox::Counters;
use pg::{Params, Result};
use pipeline::Reporter;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::http::Health;
use crate::run::limit::Limit;
use crate::run::retry::Backoff;

pub use connect::{connect, lock};

/// What every step needs.
pub struct Context {
    pub settings: Settings,
    pub name: String,
    pub slot: String,
    pub source: Params,
    pub admin: Params,
    pub reporter: Reporter,
    pub cancel: CancellationToken,
    /// Told how things go.
    pub health: Health,
    pub counters: Arc<Counters>,
    /// Smallest message limit of any topic seen, over all streams of the process.
    pub smallest: Arc<std::sync::atomic::AtomicUsize>,
    trouble: retention::Trouble,
}

impl Context {
    pub fn new(settings: Settings, reporter: Reporter, cancel: CancellationToken) -> Result<Context> {
        Ok(Context {
            name: settings.name().to_owned(),
            slot: settings.slot_name().to_owned(),
            source: settings.source()?,
            admin: settings.source_admin()?,
            settings,
            reporter,
            cancel,
            health: Health::default(),
            counters: Arc::new(Counters::default()),
            smallest: Arc::new(usize::MAX.into()),
            trouble: retention::Trouble::default(),
        })
    }

    /// Where dead letters go.
    pub fn dead_letters(&self) -> String {
        dead_letters(&self.settings)
    }
}

/// The dead-letter topic.
pub fn dead_letters(settings: &Settings) -> String {
    pipeline::envelope::mangle(&format!("{}.dlq", settings.kafka_prefix()))
}

/// Routes until cancelled. Errors that pass, or that somebody has to cure, are tried again meanwhile.
///
/// # Errors
/// Trying again would not help.
pub async fn run(context: &Context) -> Result<()> {
    let retry = &context.settings.retry;
    let mut backoff = Backoff::new(retry.connection_max, retry.blocked_max);
    let mut started = false;
    let again = format!(
        "start over: walferry outbox remove --name {}, then the same command (with --snapshot, the rows that the table still has are \
         published, those that Kafka has again)",
        context.name
    );
    let mut limit = Limit::new(&context.settings.limits, &context.source, &context.slot, again);
    loop {
        let result = Box::pin(attempt(context, &mut started, &mut backoff, &mut limit)).await;
        let error = match result {
            _ if context.cancel.is_cancelled() => return Ok(()),
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if !backoff.wait(error, started, &context.health, &context.reporter, &context.cancel).await? {
            return Ok(());
        }
    }
}

async fn attempt(
    context: &Context,
    started: &mut bool,
    backoff: &mut Backoff,
    limit: &mut Limit<'_>,
) -> Result<()> {
    let session = connect(&context.source, &context.name, "control").await?;
    lock(&session, &context.slot).await?;
    // Also while something else keeps the stream from beginning.
    limit.look(&session, &context.reporter).await?;
    let mut plan = plan::look(&context.settings, &session, *started).await?;
    plan.say(context);
    publication::ensure(context, &session, &mut plan).await?;
    let start = slot::ensure(context, &session, &plan, started).await?;
    stream::run(context, &session, plan, start, backoff, limit).await
}
