//! Dead letters: an event that can't be handled is put aside with its original bytes, and those behind it go on.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use tokio::sync::OnceCell;
use tokio_postgres::Transaction;

use crate::error::Failure;
use crate::options::DeadLetters;

/// What is written about an event.
pub(crate) struct Letter<'a> {
    pub record: &'a BorrowedMessage<'a>,
    /// Of a record without an id, or with one that can't be kept: where it stands.
    pub id: &'a str,
    /// `parse`: it is no event of the handler's type; `handle`: the handler refused it.
    pub stage: &'static str,
    pub error: &'a str,
    pub attempts: u32,
}

pub(crate) enum Letters {
    Table,
    Topic(Box<Topic>),
}

pub(crate) struct Topic {
    name: String,
    producer: FutureProducer,
    /// It was looked after.
    made: OnceCell<()>,
}

const REQUEST: Duration = Duration::from_secs(10);
/// A letter is as large as its event, and a little larger: whatever the topic of the event took has to fit.
const LARGEST: &str = "104857600";

const INSERT: &str = "
    INSERT INTO inbox.dead_letters
        (consumer, topic, id, key, value, headers, stage, error, attempts, partition, position)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (consumer, topic, id) DO UPDATE SET
        error = excluded.error, stage = excluded.stage, attempts = excluded.attempts, dead_at = now()";

impl Letters {
    pub(crate) fn open(config: &ClientConfig, to: &DeadLetters) -> Result<Letters, KafkaError> {
        let DeadLetters::Topic(topic) = to else { return Ok(Letters::Table) };
        let mut config = config.clone();
        config
            .set("enable.idempotence", "true")
            // A broker takes any first sequence number of a producer it does not know: with two letters on their way, one that it refuses
            // for a moment would pass for written when it takes the other (KAFKA-15591).
            .set("max.in.flight.requests.per.connection", "1")
            .set("message.max.bytes", LARGEST)
            .set("message.timeout.ms", "30000");
        let topic = Topic { name: topic.clone(), producer: config.create()?, made: OnceCell::new() };
        Ok(Letters::Topic(Box::new(topic)))
    }

    /// In the transaction that marks the event as processed.
    pub(crate) async fn write(
        &self,
        config: &ClientConfig,
        consumer: &str,
        letter: &Letter<'_>,
        tx: &Transaction<'_>,
    ) -> Result<(), Failure> {
        match self {
            Letters::Table => row(consumer, letter, tx).await,
            Letters::Topic(topic) => topic.write(config, letter).await,
        }
    }
}

impl Topic {
    async fn write(&self, config: &ClientConfig, letter: &Letter<'_>) -> Result<(), Failure> {
        // Not left to the first letter: a producer waits for a topic that is not there until its message has timed out.
        self.made.get_or_try_init(|| make(config, &self.name)).await.map_err(Failure::wait)?;
        let send = || self.producer.send(record(&self.name, letter), Timeout::After(REQUEST));
        let mut sent = send().await.map_err(|(error, _)| error);
        if sent.as_ref().is_err_and(|error| {
            matches!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
            )
        }) {
            make(config, &self.name).await.map_err(Failure::wait)?;
            sent = send().await.map_err(|(error, _)| error);
        }
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                Err(Failure::wait(format!(
                    "topic \"{}\" takes no letter of {} bytes: raise its max.message.bytes",
                    self.name,
                    letter.record.payload_len()
                )))
            }
            Err(error) => Err(Failure::wait(error)),
        }
    }
}

fn record<'a>(topic: &'a str, letter: &'a Letter<'a>) -> FutureRecord<'a, [u8], [u8]> {
    let from = letter.record;
    let mut headers = from.headers().map_or_else(OwnedHeaders::new, |headers| headers.detach());
    let (partition, offset) = (from.partition().to_string(), from.offset().to_string());
    let attempts = letter.attempts.to_string();
    for (key, value) in [
        ("walferry.error", letter.error),
        ("walferry.error.stage", letter.stage),
        ("walferry.attempts", attempts.as_str()),
        ("walferry.topic", from.topic()),
        ("walferry.partition", partition.as_str()),
        ("walferry.offset", offset.as_str()),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut record = FutureRecord::to(topic).headers(headers);
    record.key = from.key();
    record.payload = from.payload();
    record
}

async fn row(consumer: &str, letter: &Letter<'_>, tx: &Transaction<'_>) -> Result<(), Failure> {
    let from = letter.record;
    let headers: serde_json::Map<String, serde_json::Value> = from
        .headers()
        .iter()
        .flat_map(|headers| headers.iter())
        .filter_map(|header| Some((header.key, std::str::from_utf8(header.value?).ok()?)))
        // jsonb can't hold it.
        .filter(|(name, value)| !name.contains('\0') && !value.contains('\0'))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    tx.execute(
        INSERT,
        &[
            &consumer,
            &from.topic(),
            &letter.id,
            &from.key(),
            &from.payload(),
            &serde_json::Value::Object(headers),
            &letter.stage,
            &letter.error.replace('\0', ""),
            &i32::try_from(letter.attempts).unwrap_or(i32::MAX),
            &from.partition(),
            &from.offset(),
        ],
    )
    .await?;
    Ok(())
}

/// One partition, and no end to how long letters stay. One that is there is taken as it is.
async fn make(config: &ClientConfig, topic: &str) -> Result<(), KafkaError> {
    let admin: Arc<AdminClient<DefaultClientContext>> = Arc::new(config.create()?);
    let (asked, name) = (admin.clone(), topic.to_owned());
    let there = tokio::task::spawn_blocking(move || {
        let metadata = asked.inner().fetch_metadata(Some(&name), REQUEST)?;
        Ok::<bool, KafkaError>(
            metadata.topics().iter().any(|topic| topic.error().is_none() && !topic.partitions().is_empty()),
        )
    });
    if there.await.unwrap_or(Ok(false))? {
        return Ok(());
    }
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1))
        .set("retention.ms", "-1")
        .set("max.message.bytes", LARGEST);
    let options = AdminOptions::new().operation_timeout(Some(REQUEST));
    for result in admin.create_topics([&new], &options).await? {
        match result {
            Ok(_) => tracing::info!(topic, "made the topic for dead letters"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
    Ok(())
}
