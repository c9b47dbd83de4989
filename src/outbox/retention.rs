//! What `outbox.retention` does by itself: cleanup once a minute, beside the stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pg::{Error, Result};

use super::Context;
use super::cleanup::{self, CleanOptions};
use super::plan::Table;

/// How often rows that are older than `outbox.retention` are looked for.
const EVERY: Duration = Duration::from_secs(60);

/// How long after one cleanup the next one is due.
pub fn every() -> Duration {
    fail::fail_point!("outbox-clean-often", |_| Duration::from_millis(200));
    EVERY
}

/// What was said of a cleanup that failed. Where it can't work it fails each time, over all attempts to stream, and is said once.
#[derive(Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// False: it was said, and has not worked since.
    fn is_new(&self, error: Option<&Error>) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = error.map(|error| format!("{} {error}", error.code()));
        let new = *said != now;
        *said = now;
        new
    }
}

/// Deletes what is old enough, on a connection of its own; says what stands in the way.
pub async fn clean(context: &Context, tables: &[Table]) {
    let done = all(context, tables).await;
    let new = context.trouble.is_new(done.as_ref().err());
    match done {
        Err(error) if new => context.reporter.blocked(&error),
        Err(error) => tracing::debug!("cleanup fails as before: {error}"),
        Ok(()) => {}
    }
}

async fn all(context: &Context, tables: &[Table]) -> Result<()> {
    let Some(retention) = context.settings.outbox.retention else { return Ok(()) };
    let options = CleanOptions {
        retention,
        batch: context.settings.outbox.retention_batch,
        before_slot: false,
        wait: Duration::from_secs(30),
    };
    let session = super::connect(&context.source, &context.name, "cleanup").await?;
    for table in tables {
        let done = cleanup::clean(context, &session, table, &options).await?;
        if done.rows > 0 || done.partitions > 0 {
            tracing::info!("cleanup of {}: {} rows, {} partitions", table.name, done.rows, done.partitions);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_said_once_until_it_is_over_or_another_one() {
        let (denied, lost) = (Error::server("42501", "permission denied"), Error::connection("gone"));
        let trouble = Trouble::default();
        for (error, new) in
            [(&denied, true), (&denied, false), (&lost, true), (&lost, false), (&denied, true)]
        {
            assert_eq!(trouble.is_new(Some(error)), new, "{error}");
        }
        trouble.is_new(None);
        assert!(trouble.is_new(Some(&denied)), "it worked meanwhile");
    }
}
