//! The producer: idempotent, every copy acknowledged, and a stream that ends at the first message that could not be delivered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pg::{Error, Result};
use pipeline::Durable;
use pipeline::envelope::Message as Envelope;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::util::Timeout;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::failure::classify;
use crate::gate::{Gate, Record};
use crate::ledger::{Ledger, Part, Waiting, weight};
use crate::murmur2::partition;
use crate::options::{Options, made};
use crate::published::Published;
use crate::reach::refusal;

/// What the producer's thread and the sink share.
pub(crate) struct Shared {
    ledger: Mutex<Ledger>,
    /// A marker may be due, or what the gate holds.
    marker: Notify,
    /// Something has left the queue.
    room: Notify,
    gate: Gate,
    message_bytes: usize,
    published: Published,
}

impl Shared {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At once, or when the first message of its partition is there.
    fn send(&self, client: &ThreadedProducer<Reports>, record: Record<'_>) -> Result<()> {
        self.gate.pass(record, |record| produce(client, record))
    }

    fn fail(&self, error: Error) {
        self.ledger().fail(error);
        self.marker.notify_one();
        self.room.notify_one();
    }

    fn too_large(&self, error: Error) -> Error {
        error.hint(format!(
            "a row's event is larger than kafka.message_bytes ({} bytes) or the topic takes: raise kafka.message_bytes, the topic's \
             max.message.bytes, and the brokers' message.max.bytes and replica.fetch.max.bytes together",
            self.message_bytes
        ))
    }
}

/// Takes the delivery reports, on the producer's own thread.
pub(crate) struct Reports(Arc<Shared>);

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "kafka", "{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.0.fail(
                Error::connection(format!("Kafka: the producer can't go on: {reason}")).with_code("KAFKA"),
            );
        } else if let Some(refused) = error.rdkafka_error_code().and_then(|code| refusal(code, reason)) {
            self.0.fail(refused);
        } else {
            tracing::debug!(target: "kafka", "{error}: {reason}");
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let shared = &self.0;
        match result {
            // librdkafka takes what comes before an acknowledged batch for acknowledged too. A broker that knows nothing of the producer (any
            // more) may have refused that and taken the batch behind it.
            Ok(message) if message.offset() < 0 => {
                let (topic, partition) = (message.topic(), message.partition());
                shared.fail(
                    Error::connection(format!(
                        "Kafka: writing to topic \"{topic}\": a message of partition {partition} has no offset, and later ones have"
                    ))
                    .with_code("KAFKA"),
                );
            }
            Ok(message) => {
                let bytes = weight(message.key(), message.payload());
                let part = Part::of_opaque(opaque);
                shared.ledger().acknowledged(part, bytes);
                shared.published.count(message.topic(), bytes);
                if matches!(part, Part::End(_)) {
                    fail::fail_point!("kafka-end-acknowledged");
                }
                let due = shared.gate.acknowledged(message.topic(), message.partition());
                if due || !matches!(part, Part::Begin(_)) {
                    shared.marker.notify_one();
                }
                shared.room.notify_one();
            }
            Err((error, message)) => {
                let error = classify(error, &format!("writing to topic \"{}\"", message.topic()));
                let error =
                    if error.code() == "KAFKA_MESSAGE_TOO_LARGE" { shared.too_large(error) } else { error };
                shared.fail(error);
            }
        }
    }
}

/// One producer of one stream. Ends with the stream: what it has not sent then, the next one does.
pub struct Producer {
    client: Option<Arc<ThreadedProducer<Reports>>>,
    shared: Arc<Shared>,
    _markers: DropGuard,
}

impl Producer {
    pub(crate) fn start(options: &Options, start: Durable) -> Result<(Producer, watch::Receiver<Durable>)> {
        Producer::start_with(&options.producer(), options.message_bytes, start)
    }

    /// With a client of the caller's own settings.
    pub(crate) fn start_with(
        config: &ClientConfig,
        message_bytes: usize,
        start: Durable,
    ) -> Result<(Producer, watch::Receiver<Durable>)> {
        let (sender, durable) = watch::channel(start);
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(sender)),
            marker: Notify::new(),
            room: Notify::new(),
            gate: Gate::default(),
            message_bytes,
            published: Published::default(),
        });
        let client = made(config.create_with_context(Reports(shared.clone())))?;
        let client: Arc<ThreadedProducer<Reports>> = Arc::new(client);
        let stop = CancellationToken::new();
        tokio::spawn(mark(client.clone(), shared.clone(), stop.clone()));
        Ok((Producer { client: Some(client), shared, _markers: stop.drop_guard() }, durable))
    }

    pub(crate) fn handle(&self) -> Result<Handle> {
        let client = self.client.clone().ok_or_else(|| Error::failed("KAFKA", "the producer has ended"))?;
        Ok(Handle { client, shared: self.shared.clone() })
    }

    /// Why the stream can't go on.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        let failure = self.shared.ledger().failure().cloned()?;
        // A producer that may not go on gives its messages up, and says apart why.
        let client = self.client.as_ref().filter(|_| failure.code() == "KAFKA");
        let fatal = client.and_then(|client| client.client().fatal_error());
        Some(match fatal {
            Some((code, reason)) => classify(&KafkaError::Global(code), "writing").detail(reason),
            None => failure,
        })
    }

    /// Gives up what is not sent. When this returns nothing more of this producer reaches Kafka.
    pub async fn close(mut self) {
        let client = self.client.take();
        let Producer { _markers, .. } = self;
        drop(_markers);
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(client) = client {
                client.purge(PurgeConfig::default().queue().inflight());
                let _ = client.flush(Timeout::After(Duration::from_millis(500)));
            }
        });
        let _ = closing.await;
    }
}

const SETTLE: Duration = Duration::from_secs(5);

/// A message that says itself where and when it belongs.
pub(crate) struct Outgoing<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(String, Option<Vec<u8>>)],
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// For whoever sends.
#[derive(Clone)]
pub(crate) struct Handle {
    client: Arc<ThreadedProducer<Reports>>,
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Waits until less than `capacity` bytes are in flight.
    pub(crate) async fn room(&self, capacity: usize) -> Result<()> {
        loop {
            {
                let ledger = self.shared.ledger();
                if let Some(error) = ledger.failure() {
                    return Err(error.clone());
                }
                if ledger.bytes() < capacity {
                    return Ok(());
                }
            }
            self.shared.room.notified().await;
        }
    }

    /// Waits until Kafka has everything that came before `entry`, for at most [`SETTLE`]: what can't be sent must not keep back what could be.
    pub(crate) async fn settle_before(&self, entry: usize) {
        let settled = async {
            loop {
                {
                    let ledger = self.shared.ledger();
                    if ledger.failure().is_some() || ledger.settled_before(entry) {
                        return;
                    }
                }
                self.shared.room.notified().await;
            }
        };
        if tokio::time::timeout(SETTLE, settled).await.is_err() {
            tracing::debug!("what came before the event that could not be sent is not acknowledged yet");
        }
    }

    /// Hands an event of `entry` to the producer.
    pub(crate) fn event(&self, entry: usize, message: &Envelope<'_>, partitions: usize) -> Result<()> {
        // A client that carries dead letters as well takes larger ones.
        if message.key.map_or(0, <[u8]>::len) + message.value.map_or(0, <[u8]>::len)
            > self.shared.message_bytes
        {
            let refused = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
            let error = classify(&refused, &format!("writing to topic \"{}\"", message.topic));
            return Err(self.shared.too_large(error));
        }
        self.shared.ledger().sent(entry, weight(message.key, message.value));
        let record = Record {
            part: Part::Event(entry),
            topic: message.topic,
            partition: partition(message.key, partitions),
            key: message.key,
            value: message.value,
            headers: owned(message.headers.iter().map(|(name, value)| (*name, Some(*value)))),
            timestamp: None,
        };
        self.shared.send(&self.client, record).map_err(|error| {
            if error.code() == "KAFKA_MESSAGE_TOO_LARGE" { self.shared.too_large(error) } else { error }
        })
    }

    /// Hands a message with a partition and a time of its own to the producer.
    pub(crate) fn record(&self, entry: usize, record: &Outgoing<'_>) -> Result<()> {
        self.shared.ledger().sent(entry, weight(record.key, record.value));
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        self.shared.send(
            &self.client,
            Record {
                part: Part::Event(entry),
                topic: record.topic,
                partition: record.partition,
                key: record.key,
                value: record.value,
                headers: owned(headers),
                timestamp: Some(record.timestamp),
            },
        )
    }

    /// Markers may be due.
    pub(crate) fn mark(&self) {
        self.shared.marker.notify_one();
    }
}

fn owned<'a>(headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>) -> OwnedHeaders {
    let mut owned = OwnedHeaders::new_with_capacity(headers.len());
    for (key, value) in headers {
        owned = owned.insert(Header { key, value });
    }
    owned
}

/// Hands it to the client, which keeps what it can't send yet.
fn produce(client: &ThreadedProducer<Reports>, record: Record<'_>) -> Result<()> {
    let Record { part, topic, partition, key, value, headers, timestamp } = record;
    let mut base: BaseRecord<'_, [u8], [u8], usize> =
        BaseRecord::with_opaque_to(topic, part.to_opaque()).partition(partition).headers(headers);
    (base.key, base.payload, base.timestamp) = (key, value, timestamp);
    client.send(base).map_err(|(error, _)| classify(&error, &format!("writing to topic \"{topic}\"")))
}

/// Sends the markers as they become due, and what waited for the first message of a partition.
async fn mark(client: Arc<ThreadedProducer<Reports>>, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.marker.notified() => {}
        }
        if let Err(error) = shared.gate.release(|record| produce(&client, record)) {
            shared.fail(error);
            return;
        }
        loop {
            let due = {
                let mut ledger = shared.ledger();
                if ledger.failure().is_some() {
                    return;
                }
                ledger.next_marker()
            };
            let Some((part, Waiting { topic, key, value, headers })) = due else { break };
            if matches!(part, Part::End(_)) {
                fail::fail_point!("kafka-before-end");
            }
            let headers = headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_slice())));
            let record = Record {
                part,
                topic: &topic,
                partition: 0,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: owned(headers),
                timestamp: None,
            };
            if let Err(error) = shared.send(&client, record) {
                shared.fail(error);
                return;
            }
        }
    }
}
