//! How far the writer is behind each topic, for `status`: by a task of its own, so that brokers which do not answer hold up nobody.
//!
//! ```text
//! beside ── the position that the target has ──► task: asks the brokers ── topics, warnings ──► beside ──► walferry.runs.live
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka::{Lag, Position, TopicLag};
use pg::Result;
use pipeline::Reporter;
use pipeline::envelope;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use writer::control::{RunTable, TableState, TopicLive};

use super::context::Context;
use super::topics;
use crate::output;

/// What the brokers said last.
#[derive(Clone, Default)]
pub struct Found {
    pub topics: Vec<TopicLive>,
    pub warnings: Vec<String>,
}

/// Asks again and again.
pub struct LagWatch {
    applied: watch::Sender<Option<String>>,
    found: watch::Receiver<Found>,
    _task: AbortOnDropHandle<()>,
}

/// How often the brokers are asked; rarer where that takes them long.
const PAUSE: Duration = Duration::from_secs(1);

impl LagWatch {
    /// For the topics of these tables. `known`: what was found before this attempt.
    ///
    /// # Errors
    /// Class `Usage`: settings that librdkafka refuses.
    pub fn start(context: &Context, tables: &[RunTable], known: Vec<TopicLive>) -> Result<LagWatch> {
        let options = topics::options(&context.settings)?;
        let lag = Lag::new(&options)?;
        let names = envelope::Topics::new(&options.prefix);
        let tables = tables.iter().filter(|table| table.state != TableState::Left);
        let tables: Vec<String> = tables.map(|table| names.table(&table.name)).collect();
        let (applied, asked) = watch::channel(None);
        let (tell, found) = watch::channel(Found { topics: known, warnings: Vec::new() });
        let ask = Ask {
            lag,
            tables,
            limit: context.settings.kafka.retention_warning as u64,
            reporter: context.reporter.clone(),
            said: BTreeSet::new(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(ask.run(asked, tell)));
        Ok(LagWatch { applied, found, _task: task })
    }

    /// The position that the target has now; answers with what was found last.
    pub fn look(&self, applied: Option<String>) -> Found {
        self.applied.send_replace(applied);
        self.found.borrow().clone()
    }
}

struct Ask {
    lag: Lag,
    tables: Vec<String>,
    /// Percent of the retention.
    limit: u64,
    reporter: Reporter,
    /// Topics that were warned of.
    said: BTreeSet<String>,
}

impl Ask {
    async fn run(mut self, mut asked: watch::Receiver<Option<String>>, tell: watch::Sender<Found>) {
        while asked.changed().await.is_ok() {
            let applied = asked.borrow_and_update().clone();
            let began = Instant::now();
            let mut pause = PAUSE;
            let found = match Position::parse(applied.as_deref()) {
                Ok(position) => self.lag.look(&self.tables, &position).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(topics) => {
                    pause = PAUSE.max(began.elapsed() * 20);
                    let warnings = self.warnings(&topics);
                    tell.send_replace(Found { topics: topics.iter().map(live).collect(), warnings });
                }
                // What was known stays, and its age shows.
                Err(error) => {
                    tell.send_modify(|found| found.warnings = vec![error.to_string()]);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn warnings(&mut self, topics: &[TopicLag]) -> Vec<String> {
        let mut warnings = Vec::new();
        for topic in topics {
            let Some(warning) = warning(topic, self.limit) else {
                self.said.remove(&topic.topic);
                continue;
            };
            if self.said.insert(topic.topic.clone()) {
                self.reporter.warning(warning.clone(), None);
            }
            warnings.push(warning);
        }
        warnings
    }
}

fn warning(topic: &TopicLag, limit: u64) -> Option<String> {
    let name = &topic.topic;
    if topic.lost_events > 0 {
        let lost = output::count(topic.lost_events);
        return Some(format!("topic \"{name}\": retention has removed {lost} records that were not applied"));
    }
    let retention = topic.retention_ms?;
    (topic.lag_ms > 0 && topic.lag_ms.saturating_mul(100) >= retention.saturating_mul(limit)).then(|| {
        let text = |ms: u64| output::duration(Duration::from_millis(ms));
        format!(
            "topic \"{name}\": what is not applied yet is {} old and removed after {}: raise its retention.ms before it is lost",
            text(topic.lag_ms),
            text(retention)
        )
    })
}

fn live(topic: &TopicLag) -> TopicLive {
    TopicLive {
        topic: topic.topic.clone(),
        partitions: topic.partitions as u64,
        lag_events: topic.lag_events,
        lag_ms: topic.lag_ms,
        retention_ms: topic.retention_ms,
        retention_left_ms: topic.retention_left_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_comes_near_retention_is_warned_of() {
        let mut topic = TopicLag {
            topic: "p.s.t".to_owned(),
            partitions: 2,
            lag_events: 7,
            lag_ms: 49_000,
            retention_ms: Some(100_000),
            lost_events: 0,
        };
        assert_eq!(warning(&topic, 50), None);
        topic.lag_ms = 50_000;
        assert!(warning(&topic, 50).unwrap().contains("p.s.t"));
        topic.retention_ms = None;
        assert_eq!(warning(&topic, 50), None, "nothing is removed");
        topic.lost_events = 1;
        assert!(warning(&topic, 50).unwrap().contains("removed 1 record"));
    }
}
