//! The loop that takes one event after the other. Its invariants:
//!
//! 1. The offset of an event is stored after its transaction has committed, or after its dead letter has; and Kafka is only ever told of
//!    stored offsets.
//! 2. An event is handled in the transaction that inserts its id, so whoever else holds the partition waits for the outcome.
//! 3. The loop ends between two events.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use serde::de::DeserializeOwned;
use tokio_postgres::Transaction;
use tokio_util::sync::CancellationToken;

use crate::cleanup::cleanup;
use crate::commit::commit;
use crate::connect::Connect;
use crate::database::Database;
use crate::dead::{Letter, Letters};
use crate::error::{Error, Failure, Kind};
use crate::event::{Typed, typed};
use crate::message::Message;
use crate::options::Options;
use crate::stats::Stats;

/// What is done with an event.
pub trait Handler: Sync {
    /// An enum with one variant for each event type, or one type for all payloads.
    type Event: DeserializeOwned + Send;

    /// Acts on one event with `tx`, which commits together with the event's id. On an error everything done with `tx` is rolled back, and
    /// the event comes again or becomes a dead letter: see [`Failure`]; `?` on a database error chooses by its SQLSTATE. What may fail and
    /// is not returned has to stand behind a `SAVEPOINT`, with `ROLLBACK TO` it: PostgreSQL commits nothing after an error.
    fn handle(
        &self,
        tx: &Transaction<'_>,
        event: Self::Event,
        message: &Message,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// One member of a consumer group.
pub struct Worker<C> {
    pub(crate) options: Options,
    pub(crate) connect: C,
    stats: Arc<Stats>,
}

/// After `stop`, how long an event that is being handled may still take.
const GRACE: Duration = Duration::from_secs(10);
const CLEANUP: Duration = Duration::from_secs(3600);
/// After an error of Kafka that passes.
const PAUSE: Duration = Duration::from_millis(200);
/// Before the group is joined anew.
const REJOIN: Duration = Duration::from_secs(1);

pub(crate) const MARK: &str =
    "INSERT INTO inbox.processed (consumer, topic, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

/// How an event ended.
enum Outcome {
    Handled,
    Duplicate,
    PassedOver,
}

/// The worker was stopped before the event had ended.
struct Stopped;

/// Why no more events are taken from a consumer.
enum Ended {
    Stopped,
    /// Perhaps it would never bring any more: see [`is_of_the_coordinator`].
    Doubtful(KafkaError),
}

impl<C: Connect> Worker<C> {
    pub fn new(options: Options, connect: C) -> Worker<C> {
        Worker { options, connect, stats: Arc::default() }
    }

    /// Counts as long as the worker runs.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Takes events until `stop`. Brokers, topics and a database that are not there yet are waited for.
    ///
    /// # Errors
    /// Options that librdkafka refuses, or an error of Kafka that does not pass (no permission for the group, say).
    pub async fn run<H: Handler>(&self, handler: &H, stop: CancellationToken) -> Result<(), Error> {
        let topics: Vec<&str> = self.options.topics.iter().map(String::as_str).collect();
        let letters = Letters::open(&self.client(), &self.options.dead_letters)?;
        loop {
            let consumer: StreamConsumer = self.consumer().create()?;
            consumer.subscribe(&topics)?;
            let ended = self.take_all(&consumer, &letters, handler, &stop).await;
            // Closing leaves the group, so that others take over at once, and commits what is stored.
            let closed = tokio::task::spawn_blocking(move || {
                if let Err(error) = consumer.commit_consumer_state(CommitMode::Sync) {
                    tracing::debug!(%error, "the last offsets were not committed: those events come again");
                }
            });
            let _ = closed.await;
            match ended? {
                Ended::Stopped => return Ok(()),
                Ended::Doubtful(error) => {
                    tracing::warn!(%error, "Kafka: the group is joined anew");
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(self.options.pause_max.min(REJOIN)) => {}
                    }
                }
            }
        }
    }

    async fn take_all<H: Handler>(
        &self,
        consumer: &StreamConsumer,
        letters: &Letters,
        handler: &H,
        stop: &CancellationToken,
    ) -> Result<Ended, Error> {
        let mut database = Database::default();
        let mut cleaned: Option<Instant> = None;
        loop {
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ended::Stopped),
                received = consumer.recv() => received,
            };
            let record = match received {
                Ok(record) => record,
                Err(error) if is_fatal(&error) => return Err(error.into()),
                Err(error) if is_of_the_coordinator(&error) => return Ok(Ended::Doubtful(error)),
                Err(error) => {
                    // Brokers that are away, a topic that is not made yet: librdkafka goes on by itself.
                    tracing::debug!(%error, "Kafka");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if self.take(&record, &mut database, letters, handler, stop).await.is_err() {
                return Ok(Ended::Stopped);
            }
            fail::fail_point!("inbox-committed", |_| Err(Error::Options("failpoint".to_owned())));
            if let Err(error) = consumer.store_offset_from_message(&record) {
                tracing::debug!(%error, "the partition has gone to another worker");
            }
            if let Some(keep) = self.options.keep
                && cleaned.is_none_or(|at| at.elapsed() > CLEANUP)
                && let Some(client) = database.open()
            {
                cleaned = Some(Instant::now());
                if let Err(error) = cleanup(client, &self.options.group, keep).await {
                    tracing::warn!("old ids were not removed: {}", crate::error::describe(&error));
                }
            }
        }
    }

    /// One event, to its end.
    async fn take<H: Handler>(
        &self,
        record: &BorrowedMessage<'_>,
        database: &mut Database,
        letters: &Letters,
        handler: &H,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let place = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
        let mut tries = Tries::default();
        let message = match Message::parse(record, self.options.payload) {
            Ok(message) => message,
            Err(malformed) => {
                let error = malformed.to_string();
                let letter = Letter { record, id: &place, stage: "parse", error: &error, attempts: 1 };
                return self.bury(letter, &place, database, letters, &mut tries, stop).await;
            }
        };
        loop {
            tries.attempts += 1;
            let attempt = self.attempt(database, handler, &message);
            let failure = match within(attempt, stop).await? {
                Ok(outcome) => {
                    match outcome {
                        Outcome::Handled => self.stats.add_handled(),
                        Outcome::Duplicate => self.stats.add_duplicate(),
                        Outcome::PassedOver => self.stats.add_passed_over(),
                    }
                    return Ok(());
                }
                Err((stage, failure)) => match failure.kind {
                    Kind::Surroundings => failure,
                    Kind::Counted if tries.counted + 1 < self.options.attempts => {
                        tries.counted += 1;
                        failure
                    }
                    Kind::Counted | Kind::Poison => {
                        let (id, error, attempts) = (&message.id, &failure.text, tries.attempts);
                        let letter = Letter { record, id, stage, error, attempts };
                        return self.bury(letter, &place, database, letters, &mut tries, stop).await;
                    }
                },
            };
            self.pause(&mut tries, &failure, &place, stop).await?;
        }
    }

    async fn attempt<H: Handler>(
        &self,
        database: &mut Database,
        handler: &H,
        message: &Message,
    ) -> Result<Outcome, (&'static str, Failure)> {
        let around = |error: tokio_postgres::Error| ("handle", Failure::from(error));
        let client = database.client(&self.connect).await.map_err(|failure| ("handle", failure))?;
        let tx = client.transaction().await.map_err(around)?;
        let marks: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&self.options.group, &message.topic, &message.id];
        if tx.execute(MARK, &marks).await.map_err(around)? == 0 {
            return Ok(Outcome::Duplicate);
        }
        let event = match typed::<H::Event>(message) {
            Ok(Typed::Event(event)) => event,
            Ok(Typed::Unknown) if self.options.unknown_types => return Ok(Outcome::PassedOver),
            Ok(Typed::Unknown) => {
                let event_type = message.event_type.as_deref().unwrap_or_default();
                return Err(("parse", Failure::poison(format!("nobody knows event type \"{event_type}\""))));
            }
            Err(error) => return Err(("parse", Failure::poison(error))),
        };
        handler.handle(&tx, event, message).await.map_err(|failure| ("handle", failure))?;
        commit(tx).await.map_err(|failure| ("handle", failure))?;
        Ok(Outcome::Handled)
    }

    /// Puts an event aside; as often as it takes. An id that can't be marked (it is too long for an index, say) gives way to the event's `place`.
    async fn bury<'a>(
        &self,
        mut letter: Letter<'a>,
        place: &'a str,
        database: &mut Database,
        letters: &Letters,
        tries: &mut Tries,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        loop {
            let mut marked = true;
            let buried = async {
                let client = database.client(&self.connect).await?;
                let tx = client.transaction().await?;
                let topic = letter.record.topic();
                let mark = tx.execute(MARK, &[&self.options.group, &topic, &letter.id]).await;
                marked = mark.is_ok();
                if mark? == 0 {
                    return Ok(false);
                }
                letters.write(&self.client(), &self.options.group, &letter, &tx).await?;
                tx.commit().await?;
                Ok::<bool, Failure>(true)
            };
            match within(buried, stop).await? {
                Ok(true) => {
                    self.stats.add_dead_letter();
                    // The reason may quote the payload: it stands in the letter.
                    tracing::warn!(
                        topic = letter.record.topic(),
                        id = letter.id,
                        stage = letter.stage,
                        attempts = letter.attempts,
                        "an event became a dead letter"
                    );
                    return Ok(());
                }
                Ok(false) => {
                    self.stats.add_duplicate();
                    return Ok(());
                }
                Err(failure) if !marked && failure.kind != Kind::Surroundings && letter.id != place => {
                    letter.id = place;
                }
                Err(failure) => self.pause(tries, &failure, place, stop).await?,
            }
        }
    }

    async fn pause(
        &self,
        tries: &mut Tries,
        failure: &Failure,
        event: &str,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        self.stats.add_retry();
        tries.pauses += 1;
        let pause = self.options.pause(tries.pauses);
        if failure.kind == Kind::Surroundings && !tries.said {
            tries.said = true;
            tracing::warn!(event, "waiting, and trying again: {}", failure.text);
        } else {
            tracing::debug!(event, ?pause, "tried again: {}", failure.text);
        }
        tokio::select! {
            () = stop.cancelled() => Err(Stopped),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.options.brokers)
            .set("client.id", &self.options.group)
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000");
        for (key, value) in &self.options.kafka {
            config.set(key, value);
        }
        config
    }

    fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", &self.options.group)
            // Stored by us, after the transaction; committed by librdkafka, now and then and when a partition goes away.
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", self.options.commit_interval.as_millis().max(1).to_string())
            .set("auto.offset.reset", if self.options.from_beginning { "earliest" } else { "latest" })
            // A topic that is made later is seen soon.
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("allow.auto.create.topics", "false");
        for (key, value) in &self.options.kafka {
            config.set(key, value);
        }
        config
    }
}

/// How often what was tried.
#[derive(Default)]
struct Tries {
    attempts: u32,
    /// Those that may be the event's own fault.
    counted: u32,
    pauses: u32,
    said: bool,
}

/// To its end, unless that takes longer than the grace after `stop`.
async fn within<T>(work: impl Future<Output = T>, stop: &CancellationToken) -> Result<T, Stopped> {
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        done = work => Ok(done),
        () = patience => Err(Stopped),
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
        )
    )
}

/// The group's coordinator would not answer. librdkafka goes on by itself with nearly all of it, but not with a refusal to tell where the group
/// stands: that is reported once, and the partition is waited for without ever asking again (librdkafka's issue 5586).
fn is_of_the_coordinator(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::RequestTimedOut
        )
    )
}
