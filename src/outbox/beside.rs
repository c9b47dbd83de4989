//! The outbox routed in the process of another run (`outbox.beside`), from a slot of its own; from the run's slot: `shared`.

use std::future::Future;
use std::time::Duration;

use pg::Result;
use pipeline::Reporter;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::config::Settings;

/// How long the other one may take to end.
const DRAIN: Duration = Duration::from_secs(8);

/// What is routed beside a run, if its settings say so: slot and publication are named `<name>_outbox`, the topics' prefix is the run's.
pub fn context(
    settings: &Settings,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Result<Option<Context>> {
    if !settings.outbox.beside || settings.outbox.share_slot {
        return Ok(None);
    }
    let mut own = settings.clone();
    own.kafka.prefix = Some(settings.kafka_prefix().to_owned());
    own.databases.name = format!("{}_outbox", settings.name());
    own.run.slot = None;
    own.run.publication = Vec::new();
    let context = Context::new(own, reporter.clone(), cancel.clone())?;
    super::plan::options(&context.settings)?;
    crate::run::topics::options(&context.settings)?;
    Ok(Some(context))
}

/// Runs both until one has ended; then the other one ends too.
pub async fn together<T>(beside: Option<Context>, run: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(context) = beside else { return run.await };
    let (mut run, mut routing) = (std::pin::pin!(run), Box::pin(super::run(&context)));
    tokio::select! {
        ended = &mut run => {
            context.cancel.cancel();
            let _ = tokio::time::timeout(DRAIN, routing).await;
            ended
        }
        routed = &mut routing => match routed {
            Ok(()) => run.await,
            Err(error) => {
                context.cancel.cancel();
                let _ = tokio::time::timeout(DRAIN, run).await;
                Err(error.context("outbox"))
            }
        }
    }
}
