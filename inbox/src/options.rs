//! What a worker is told.

use std::time::Duration;

use crate::message::Payload;

/// Where events go that can't be handled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeadLetters {
    /// `inbox.dead_letters`, in the transaction that marks the event as processed: exactly one letter for each. They can be tried again:
    /// [`Worker::replay`](crate::Worker::replay).
    Table,
    /// A topic, with the original key, value and headers, and headers `walferry.error`, `walferry.error.stage`, `walferry.attempts`,
    /// `walferry.topic`, `walferry.partition`, `walferry.offset`. After a crash a letter may come twice, with the same id.
    Topic(String),
}

/// Options of a worker; [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// Kafka's `group.id`, and the consumer's name in the inbox: each group handles every event once.
    pub group: String,
    /// Topics; one that begins with `^` is a regular expression.
    pub topics: Vec<String>,
    /// Default: topic `<group>.dlq`, which is made when it is not there.
    pub dead_letters: DeadLetters,
    /// How often an event is tried whose error may be its own. Default 5.
    pub attempts: u32,
    /// Pause before the second attempt; each further one is twice as long. Default 100 ms.
    pub pause_min: Duration,
    /// Longest pause. Default 10 s.
    pub pause_max: Duration,
    /// How values hold payloads. Default: told by their form.
    pub payload: Payload,
    /// Event types that the handler's `Event` has no variant for: passed over (true), or dead letters (false). Default: passed over,
    /// because a producer may add types at any time.
    pub unknown_types: bool,
    /// Ids of processed events are kept this long. It must be longer than the topics' retention: an event whose id is forgotten and that
    /// Kafka still has would be handled again if the group's offsets were reset. None: forever. Default 30 days.
    pub keep: Option<Duration>,
    /// Where a group without offsets begins. Default: with the oldest event.
    pub from_beginning: bool,
    /// How often offsets are committed to Kafka. Default 1 s; what was handled since the last commit comes again after a crash, and is
    /// recognised.
    pub commit_interval: Duration,
    /// More settings of librdkafka (`security.protocol`, `sasl.…`, `ssl.…`); they win over the ones above.
    pub kafka: Vec<(String, String)>,
}

impl Options {
    pub fn new<T: Into<String>>(
        brokers: impl Into<String>,
        group: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> Options {
        let group = group.into();
        Options {
            brokers: brokers.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            dead_letters: DeadLetters::Topic(format!("{group}.dlq")),
            group,
            attempts: 5,
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
            payload: Payload::Detect,
            unknown_types: true,
            keep: Some(Duration::from_secs(30 * 86_400)),
            from_beginning: true,
            commit_interval: Duration::from_secs(1),
            kafka: Vec::new(),
        }
    }

    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let doubled = self.pause_min.saturating_mul(1 << attempt.saturating_sub(1).min(20));
        doubled.min(self.pause_max)
    }
}
