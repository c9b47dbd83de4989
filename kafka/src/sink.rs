//! The reader's half: events in, messages out, END when all of a transaction's are there.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pg::{Lsn, QualifiedName, Result};
use pipeline::envelope::{Encoder, Message, Topics};
use pipeline::{Change, ChangeSink, Chunk, Durable, Event, Relation};
use tokio::sync::watch;

use crate::announcement::{Announcement, now};
use crate::ledger::Waiting;
use crate::options::Options;
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
    durable: watch::Receiver<Durable>,
    capacity: usize,
    /// The open transaction's entry.
    entry: Option<usize>,
    /// End of what was sent last.
    last: Lsn,
    /// Headers of every heartbeat: where the events come from.
    origin: Vec<(String, Vec<u8>)>,
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
    /// writes has to be larger than any that the topics have seen.
    pub fn start(
        options: &Options,
        encoder: Encoder,
        admin: Admin,
        partitions: HashMap<String, usize>,
        announcement: &Announcement,
        start: Lsn,
    ) -> Result<(KafkaSink, Producer)> {
        let (producer, durable) = Producer::start(options, Durable { applied: start, flushed: start })?;
        let mut sink = KafkaSink {
            producer: producer.handle()?,
            topics: encoder.topics().clone(),
            encoder,
            admin,
            partitions,
            known: HashSet::new(),
            durable,
            capacity: options.in_flight_bytes,
            entry: None,
            last: start,
            origin: announcement.headers(),
        };
        // Says what is streamed from here on.
        sink.encoder.set_now(now());
        sink.idle(start, None);
        Ok((sink, producer))
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
        Ok(())
    }

    async fn change(&mut self, change: &Change) -> Result<()> {
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

    /// One outside of a transaction is a position of its own.
    async fn message(&mut self, message: Logical<'_>) -> Result<()> {
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

    fn idle(&mut self, lsn: Lsn, entry: Option<usize>) {
        let mut heartbeat = None;
        self.encoder.heartbeat(lsn, &mut |message| heartbeat = Some(Waiting::of(&message)));
        let Some(mut heartbeat) = heartbeat else { return };
        heartbeat.headers.push((AFTER.to_owned(), self.last.to_string().into_bytes()));
        heartbeat.headers.extend(self.origin.iter().cloned());
        let mut ledger = self.producer.shared.ledger();
        let entry = entry.unwrap_or_else(|| ledger.open());
        ledger.close(entry, lsn, heartbeat, true);
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
                    self.encoder.begin(*commit_lsn, *committed_at, *xid);
                }
                Event::Change(change) => self.change(change).await?,
                Event::Commit { end_lsn, .. } => self.commit(*end_lsn),
                Event::Idle { lsn } => self.idle(*lsn, None),
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
