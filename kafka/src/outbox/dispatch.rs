//! Routes the events of a stream and hands them to the producer; whose transaction they belong to is the caller's to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pg::{Error, Lsn, QualifiedName, Result};
use pipeline::envelope::Position;
use pipeline::outbox::{DeadLetter, Event as Routed, InvalidOperation, Router, Stage};
use pipeline::{Change, PgTimestamp, Relation, Reporter, Tuple};
use rdkafka::ClientConfig;

use super::counters::Counters;
use super::letter;
use super::topics::{self, Facts, TopicSettings, Topics, Unusable};
use crate::announcement::now;
use crate::murmur2::partition;
use crate::options::Options;
use crate::producer::{Handle, Outgoing};

/// A dead letter may be this large: what is too large for its own topic has to fit, and a broker takes no larger request by default.
pub(super) const LARGEST_LETTER: usize = 100_000_000;
/// No batch is larger, whatever the topics allow.
const BATCH: usize = 1_000_000;

/// What a stream of outbox events is told.
pub struct OutboxOptions {
    pub kafka: Options,
    /// One router a table.
    pub tables: HashMap<QualifiedName, Router>,
    /// For logical messages, whatever their prefix.
    pub messages: Router,
    /// The dead-letter topic.
    pub dead_letters: String,
    pub topics: TopicSettings,
    pub counters: Arc<Counters>,
    pub reporter: Reporter,
    /// Smallest `max.message.bytes` that was seen, kept from one stream to the next.
    pub smallest: Arc<std::sync::atomic::AtomicUsize>,
}

/// Where the messages of the open transaction go.
pub(crate) struct Open<'a> {
    pub producer: &'a Handle,
    /// The transaction's entry in the books, opened with its first message.
    pub entry: &'a mut Option<usize>,
}

impl Open<'_> {
    fn entry(&mut self) -> usize {
        *self.entry.get_or_insert_with(|| self.producer.shared.ledger().open())
    }
}

/// The events of one stream.
pub(crate) struct Dispatch {
    options: OutboxOptions,
    topics: Topics,
    commit_lsn: Lsn,
    committed_at: PgTimestamp,
    /// Events of the open transaction.
    index: u64,
    warned_update: bool,
    warned_message: bool,
}

/// What an event was made of.
enum Origin<'a> {
    Row(&'a QualifiedName, &'a Arc<Relation>, &'a Tuple),
    Message(&'a str, &'a [u8]),
}

/// The settings of a producer that takes events and dead letters.
pub(crate) fn producer_config(options: &OutboxOptions) -> ClientConfig {
    let largest = Options { message_bytes: LARGEST_LETTER, ..options.kafka.clone() };
    let smallest = options.smallest.load(Ordering::Relaxed);
    let mut config = largest.producer();
    config.set("batch.size", BATCH.min(smallest).max(1).to_string());
    config
}

impl Dispatch {
    /// # Errors
    /// Class `Usage`: a setting that librdkafka refuses. The brokers are not asked yet.
    pub(crate) fn new(options: OutboxOptions) -> Result<Dispatch> {
        Ok(Dispatch {
            topics: topics::open(&options.kafka)?,
            options,
            commit_lsn: Lsn::ZERO,
            committed_at: PgTimestamp::default(),
            index: 0,
            warned_update: false,
            warned_message: false,
        })
    }

    /// A transaction begins.
    pub(crate) fn begin(&mut self, commit_lsn: Lsn, committed_at: PgTimestamp) {
        (self.commit_lsn, self.committed_at, self.index) = (commit_lsn, committed_at, 0);
    }

    /// Its COMMIT has come.
    pub(crate) fn committed(&self) {
        if let Some(smallest) = topics::smallest(&self.topics) {
            self.options.smallest.fetch_min(smallest, Ordering::Relaxed);
        }
    }

    /// Is it an outbox table?
    pub(crate) fn routes(&self, table: &QualifiedName) -> bool {
        self.options.tables.contains_key(table)
    }

    fn position(&mut self) -> Position {
        self.index += 1;
        Position { commit_lsn: self.commit_lsn, index: self.index }
    }

    /// A row change, of whatever table.
    pub(crate) async fn change(&mut self, change: &Change, open: Open<'_>) -> Result<()> {
        match change {
            Change::Insert { relation, new } if self.options.tables.contains_key(&relation.name) => {
                let (position, at) = (self.position(), self.committed_at);
                let Some(router) = self.options.tables.get_mut(&relation.name) else { return Ok(()) };
                let routed = router.row(relation, new, position, at)?;
                self.deliver(routed, position, Origin::Row(&relation.name, relation, new), open).await
            }
            Change::Update { relation, .. } => match self.options.tables.get(&relation.name) {
                Some(router) => {
                    let invalid = router.options().invalid;
                    self.updated(&relation.name, invalid)
                }
                None => Ok(()),
            },
            Change::Delete { relation, .. } if self.options.tables.contains_key(&relation.name) => {
                self.options.counters.deletes.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Change::Truncate { relations, .. } => {
                for relation in relations.iter().filter(|one| self.options.tables.contains_key(&one.name)) {
                    self.options.counters.truncates.fetch_add(1, Ordering::Relaxed);
                    self.options.reporter.warning(
                        format!(
                            "outbox table {} was truncated; the events that were committed are delivered",
                            relation.name
                        ),
                        None,
                    );
                }
                Ok(())
            }
            Change::Insert { .. } | Change::Delete { .. } => Ok(()),
        }
    }

    fn updated(&mut self, table: &QualifiedName, invalid: InvalidOperation) -> Result<()> {
        let count = self.options.counters.updates.fetch_add(1, Ordering::Relaxed) + 1;
        let what = format!("a row of outbox table {table} was updated, which makes no event");
        match invalid {
            InvalidOperation::Fatal => {
                return Err(Error::failed("OUTBOX_UPDATE", what)
                    .detail("table.op.invalid.behavior is fatal")
                    .hint("give --set table.op.invalid.behavior=warn, or don't update the outbox table"));
            }
            InvalidOperation::Error => tracing::error!("{what} ({count} so far)"),
            InvalidOperation::Warn => {}
        }
        if !self.warned_update {
            self.warned_update = true;
            self.options.reporter.warning(what, None);
        }
        Ok(())
    }

    /// A logical message.
    pub(crate) async fn message(
        &mut self,
        transactional: bool,
        prefix: &str,
        content: &[u8],
        open: Open<'_>,
    ) -> Result<()> {
        if !transactional {
            self.options.counters.not_transactional.fetch_add(1, Ordering::Relaxed);
            if !self.warned_message {
                self.warned_message = true;
                self.options.reporter.warning(
                    format!(
                        "a logical message with prefix \"{prefix}\" was not transactional and is left out"
                    ),
                    Some(
                        "emit with pg_logical_emit_message(true, …): others repeat, and come out of order"
                            .to_owned(),
                    ),
                );
            }
            return Ok(());
        }
        let (position, at) = (self.position(), self.committed_at);
        let routed = self.options.messages.message(prefix, content, position, at);
        self.deliver(routed, position, Origin::Message(prefix, content), open).await
    }

    async fn deliver(
        &mut self,
        routed: std::result::Result<Routed, Box<DeadLetter>>,
        position: Position,
        origin: Origin<'_>,
        mut open: Open<'_>,
    ) -> Result<()> {
        open.producer.room(self.options.kafka.in_flight_bytes).await?;
        let event = match routed {
            Ok(event) => event,
            Err(letter) => return self.bury(&letter, &origin, open).await,
        };
        let facts = match self.topics.facts(&event.topic, &self.options.topics).await {
            Ok(facts) => facts,
            Err(Unusable::Error(error)) => return Err(error),
            Err(Unusable::Name(reason)) => {
                let letter = self.letter(Stage::Route, reason, position, event.id, &origin);
                return self.bury(&letter, &origin, open).await;
            }
        };
        if let Some(reason) = undeliverable(&event, facts, self.options.kafka.message_bytes) {
            let letter = self.letter(Stage::Produce, reason, position, event.id, &origin);
            return self.bury(&letter, &origin, open).await;
        }
        let entry = open.entry();
        let chosen = event.partition.unwrap_or_else(|| partition(event.key.as_deref(), facts.partitions));
        open.producer.record(
            entry,
            &Outgoing {
                topic: &event.topic,
                partition: chosen,
                key: event.key.as_deref(),
                value: event.value.as_deref(),
                headers: &event.headers,
                timestamp: event.timestamp,
            },
        )?;
        let bytes = event.key.as_ref().map_or(0, Vec::len) + event.value.as_ref().map_or(0, Vec::len);
        self.options.counters.sent(&event.topic, bytes);
        fail::fail_point!("outbox-event-sent");
        Ok(())
    }

    fn letter(
        &self,
        stage: Stage,
        reason: String,
        position: Position,
        id: Option<String>,
        origin: &Origin<'_>,
    ) -> DeadLetter {
        match origin {
            Origin::Row(name, relation, tuple) => match self.options.tables.get(*name) {
                Some(router) => router.letter(stage, reason, relation, tuple, position, self.committed_at),
                None => DeadLetter::of_message(stage, reason, position, id, "", b"", self.committed_at),
            },
            Origin::Message(prefix, content) => {
                DeadLetter::of_message(stage, reason, position, id, prefix, content, self.committed_at)
            }
        }
    }

    /// Sends a letter to the dead-letter topic. That it can't be sent there is no fault of the event's: the stream ends.
    async fn bury(&mut self, letter: &DeadLetter, origin: &Origin<'_>, mut open: Open<'_>) -> Result<()> {
        let settings =
            TopicSettings { message_bytes: LARGEST_LETTER, partitions: 1, ..self.options.topics.clone() };
        let topic = self.options.dead_letters.clone();
        match self.topics.facts(&topic, &settings).await {
            Ok(_) => {}
            Err(Unusable::Error(error)) => return Err(error),
            Err(Unusable::Name(reason)) => {
                return Err(Error::refuse(
                    "KAFKA_TOPIC_NAME",
                    format!("dead-letter topic \"{topic}\": {reason}"),
                )
                .hint("give another --prefix"));
            }
        }
        let entry = open.entry();
        let table = match origin {
            Origin::Row(name, ..) => Some(format!("{}.{}", name.schema, name.name)),
            Origin::Message(..) => None,
        };
        let headers = letter::headers(letter, table.as_deref());
        open.producer.record(
            entry,
            &Outgoing {
                topic: &topic,
                partition: 0,
                key: letter.key.as_deref(),
                value: letter.value.as_deref(),
                headers: &headers,
                timestamp: letter.timestamp,
            },
        )?;
        let count = self.options.counters.dead_letters.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 1 {
            self.options.reporter.warning(
                format!("event {} went to dead-letter topic \"{topic}\": {}", letter.position, letter.reason),
                Some(
                    "walferry outbox dlq list shows them; walferry outbox dlq replay routes them again"
                        .to_owned(),
                ),
            );
        }
        fail::fail_point!("outbox-letter-sent");
        Ok(())
    }
}

/// Why Kafka would not take this message, however often it were sent.
pub(super) fn undeliverable(event: &Routed, facts: Facts, message_bytes: usize) -> Option<String> {
    if let Some(chosen) = event.partition
        && usize::try_from(chosen).map_or(true, |chosen| chosen >= facts.partitions)
    {
        return Some(format!("partition {chosen} of a topic with {} partitions", facts.partitions));
    }
    facts.takes.refuses(event, message_bytes, now() / 1_000_000)
}
