//! The reader's half: events in, messages out, END when all of a transaction's are there.
//!
//! With outbox events beside the tables ([`Beside`]) a transaction's messages are of both kinds, and END (or, without a change of a table,
//! the heartbeat in its place) follows when Kafka has all of them: what the topics say was read is where both go on.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pg::{Lsn, QualifiedName, Result};
use pipeline::envelope::{Encoder, Message, Topics};
use pipeline::{Change, ChangeSink, Chunk, Durable, Event, PgTimestamp, Relation, RelationId};
use tokio::sync::watch;

use crate::announcement::{Announcement, now};
use crate::ledger::Waiting;
use crate::options::Options;
use crate::outbox::{Beside, Dispatch, Open, of_tables, producer_config};
use crate::producer::{Handle, Producer};
use crate::topics::Admin;

/// Header of a reader's heartbeat: the end LSN of what was sent before it. Between that and its own position there is nothing.
pub(crate) const AFTER: &str = "walferry.after";

/// Sends the events of one stream to their topics.
pub struct KafkaSink {
    producer: Handle,
    encoder: Encoder,
    topics: Topics,
    admin: Admin,
    /// Partitions of each table's topic.
    partitions: HashMap<String, usize>,
    known: HashSet<QualifiedName>,
    /// The name under which each table was met last.
    names: HashMap<RelationId, QualifiedName>,
    durable: watch::Receiver<Durable>,
    capacity: usize,
    /// The open transaction's entry.
    entry: Option<usize>,
    /// End of what was sent last.
    last: Lsn,
    /// Headers of every heartbeat: where the events come from.
    origin: Vec<(String, Vec<u8>)>,
    outbox: Option<Outbox>,
    /// What the topics, or the target, have of the tables.
    from: Lsn,
    /// The open transaction is before that: only its outbox events are missing.
    before: bool,
    /// It was said what is streamed from here on.
    opened: bool,
}

struct Outbox {
    dispatch: Dispatch,
    rows: bool,
}

/// A logical message of the stream.
struct Logical<'a> {
    transactional: bool,
    lsn: Lsn,
    prefix: &'a str,
    content: &'a Bytes,
}

/// What becomes messages of Kafka's.
enum Carried<'a> {
    Change(&'a Change),
    Message(Logical<'a>),
}

impl KafkaSink {
    /// `start`: what the topics hold already. `partitions`: of the topics that [`Admin::ensure`] has made. The epoch that `encoder`
    /// writes has to be larger than any that the topics have seen. `outbox`: events beside them; the stream then begins where the one of the two
    /// begins that has less.
    pub fn start(
        options: &Options,
        encoder: Encoder,
        admin: Admin,
        partitions: HashMap<String, usize>,
        announcement: &Announcement,
        start: Lsn,
        outbox: Option<Beside>,
    ) -> Result<(KafkaSink, Producer)> {
        let there = outbox.as_ref().map_or(start, |outbox| outbox.from.min(start));
        let config =
            outbox.as_ref().map_or_else(|| options.producer(), |outbox| producer_config(&outbox.options));
        let began = Durable { applied: there, flushed: there };
        let (producer, durable) = Producer::start_with(&config, options.message_bytes, began)?;
        let outbox = match outbox {
            Some(Beside { options, rows, .. }) => Some(Outbox { dispatch: Dispatch::new(options)?, rows }),
            None => None,
        };
        let mut sink = KafkaSink {
            producer: producer.handle()?,
            topics: encoder.topics().clone(),
            encoder,
            admin,
            partitions,
            known: HashSet::new(),
            names: HashMap::new(),
            durable,
            capacity: options.in_flight_bytes,
            entry: None,
            last: start,
            origin: announcement.headers(),
            outbox,
            from: start,
            before: false,
            opened: false,
        };
        if there == start {
            sink.open();
        }
        Ok((sink, producer))
    }

    /// Says, once, what is streamed from here on, and that everything before is there.
    fn open(&mut self) {
        if !std::mem::replace(&mut self.opened, true) {
            self.encoder.set_now(now());
            // No later position takes its place: by it those that follow are known to have nothing missing before them.
            self.position(self.from, None, false);
        }
    }

    fn begin(&mut self, commit_lsn: Lsn, committed_at: PgTimestamp, xid: u32) {
        if let Some(outbox) = &mut self.outbox {
            outbox.dispatch.begin(commit_lsn, committed_at);
        }
        self.before = commit_lsn < self.from;
        if !self.before {
            self.open();
            self.encoder.begin(commit_lsn, committed_at, xid);
        }
    }

    /// The table of an event needs a topic: one may have joined since.
    async fn topic_of(&mut self, relation: &Relation) -> Result<()> {
        if self.known.contains(&relation.name) {
            return Ok(());
        }
        if !self.partitions.contains_key(&self.topics.table(&relation.name)) {
            let made = self.admin.ensure(&self.topics, std::slice::from_ref(&relation.name)).await?;
            self.partitions.extend(made);
        }
        self.known.insert(relation.name.clone());
        let before = self.names.insert(relation.id, relation.name.clone());
        if let Some(before) = before.filter(|before| *before != relation.name) {
            // No event says of which table it is but by its name.
            tracing::warn!(
                "table {before} was renamed to {} on the source: its events are in another topic from here on, and a writer that feeds {before} \
                 does not apply them",
                relation.name
            );
        }
        Ok(())
    }

    async fn change(&mut self, change: &Change) -> Result<()> {
        let left = match &mut self.outbox {
            Some(Outbox { dispatch, rows }) => {
                let open = Open { producer: &self.producer, entry: &mut self.entry };
                dispatch.change(change, open).await?;
                of_tables(dispatch, *rows, change)
            }
            None => Some(Cow::Borrowed(change)),
        };
        match left {
            Some(change) if !self.before => self.of_table(&change).await,
            _ => Ok(()),
        }
    }

    async fn of_table(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. } => {
                self.topic_of(relation).await?;
            }
            Change::Truncate { relations, .. } => {
                for relation in relations {
                    self.topic_of(relation).await?;
                }
            }
        }
        let entry = *self.entry.get_or_insert_with(|| self.producer.shared.ledger().open());
        self.carry(entry, Carried::Change(change)).await
    }

    /// An outbox event, where those go beside; else for the topic of messages. One outside of a transaction is a position of its own.
    async fn message(&mut self, message: Logical<'_>) -> Result<()> {
        if let Some(outbox) = &mut self.outbox {
            let open = Open { producer: &self.producer, entry: &mut self.entry };
            let Logical { transactional, prefix, content, .. } = message;
            return outbox.dispatch.message(transactional, prefix, content, open).await;
        }
        let topic = self.topics.message.clone();
        if !self.partitions.contains_key(&topic) {
            let made = self.admin.ensure_named(&[(&topic, 1)]).await?;
            self.partitions.extend(made);
        }
        if message.transactional {
            let entry = *self.entry.get_or_insert_with(|| self.producer.shared.ledger().open());
            return self.carry(entry, Carried::Message(message)).await;
        }
        let (entry, lsn) = (self.producer.shared.ledger().open(), message.lsn);
        self.carry(entry, Carried::Message(message)).await?;
        self.idle(lsn, Some(entry));
        Ok(())
    }

    /// Hands what the encoder makes of it to the producer.
    async fn carry(&mut self, entry: usize, carried: Carried<'_>) -> Result<()> {
        let KafkaSink { encoder, producer, topics, partitions, .. } = self;
        let mut result = Ok(());
        let mut out = |message: Message<'_>| {
            if result.is_err() {
                return;
            }
            if message.topic == topics.transaction {
                producer.shared.ledger().begin(entry, Waiting::of(&message));
                producer.mark();
                return;
            }
            let count = partitions.get(message.topic).copied().unwrap_or(1);
            result = producer.event(entry, &message, count);
        };
        match carried {
            Carried::Change(change) => encoder.change(change, &mut out)?,
            Carried::Message(Logical { transactional, lsn, prefix, content }) => {
                encoder.message(transactional, lsn, prefix, content, &mut out)?;
            }
        }
        fail::fail_point!("kafka-event-sent");
        if result.is_err() {
            self.producer.settle_before(entry).await;
        }
        result
    }

    fn commit(&mut self, end_lsn: Lsn) {
        if let Some(outbox) = &self.outbox {
            outbox.dispatch.committed();
        }
        if std::mem::take(&mut self.before) {
            return self.counts(end_lsn);
        }
        let mut end = None;
        let had_events = self.encoder.commit(end_lsn, &mut |message| end = Some(Waiting::of(&message)));
        match (end, self.entry.take()) {
            (Some(end), Some(entry)) if had_events => {
                self.producer.shared.ledger().close(entry, end_lsn, end, false);
                self.last = end_lsn;
                self.producer.mark();
            }
            // An empty transaction is a position like any other; so is one whose END is not wanted.
            (_, entry) => {
                if had_events {
                    self.last = end_lsn;
                }
                self.idle(end_lsn, entry);
            }
        }
    }

    /// A position of which the topics know already: it counts when the events of its transaction are there.
    fn counts(&mut self, lsn: Lsn) {
        let mut ledger = self.producer.shared.ledger();
        let entry = self.entry.take().unwrap_or_else(|| ledger.open());
        ledger.finish(entry, lsn);
    }

    fn idle(&mut self, lsn: Lsn, entry: Option<usize>) {
        self.position(lsn, entry, true);
    }

    /// A heartbeat. `passing`: a later one may say it as well.
    fn position(&mut self, lsn: Lsn, entry: Option<usize>, passing: bool) {
        let mut heartbeat = None;
        self.encoder.heartbeat(lsn, &mut |message| heartbeat = Some(Waiting::of(&message)));
        let Some(mut heartbeat) = heartbeat else { return };
        heartbeat.headers.push((AFTER.to_owned(), self.last.to_string().into_bytes()));
        heartbeat.headers.extend(self.origin.iter().cloned());
        let mut ledger = self.producer.shared.ledger();
        let entry = entry.unwrap_or_else(|| ledger.open());
        ledger.close(entry, lsn, heartbeat, passing);
        drop(ledger);
        self.producer.mark();
    }
}

impl ChangeSink for KafkaSink {
    /// A call that is cancelled ends the stream: what it has sent of a transaction has no END.
    async fn send(&mut self, chunk: Chunk) -> Result<()> {
        self.encoder.set_now(now());
        for event in &chunk.events {
            self.producer.room(self.capacity).await?;
            match event {
                Event::Begin { commit_lsn, committed_at, xid } => {
                    self.begin(*commit_lsn, *committed_at, *xid);
                }
                Event::Change(change) => self.change(change).await?,
                Event::Commit { end_lsn, .. } => self.commit(*end_lsn),
                Event::Idle { lsn } if *lsn < self.from => self.counts(*lsn),
                Event::Idle { lsn } => {
                    self.open();
                    self.idle(*lsn, None);
                }
                Event::Message { transactional, lsn, prefix, content } => {
                    let message = Logical { transactional: *transactional, lsn: *lsn, prefix, content };
                    self.message(message).await?;
                }
            }
        }
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }
}
