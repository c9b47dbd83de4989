//! What the topics hold already: where a reader that starts goes on, and whose topics they are.

use pg::{Error, Lsn, Result};
use pipeline::envelope::{Topics, header};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::Offset;

use crate::announcement::Announcement;
use crate::aside::Aside;
use crate::covered::{Covered, Unknown};
use crate::failure::classify;
use crate::options::{Options, Quiet, REQUEST, made};
use crate::reach::reach;
use crate::sink::AFTER;

/// Markers at the end of the transaction topic that are looked at first: one of a few is an END.
const LOOK: i64 = 64;

/// Heartbeats: an announcement among them is to be found.
const HEARTBEATS: i64 = 1000;

/// The end of the run's own topics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tail {
    /// End LSN of the last transaction that is whole.
    pub end: Option<Lsn>,
    /// The last idle position before which nothing is missing.
    pub idle: Option<Lsn>,
    /// Where the target was when the run was announced.
    pub announced: Option<Lsn>,
    /// What was announced last.
    pub announcement: Option<Announcement>,
    /// What a reader is to stream, as the writer has said it last.
    pub told: Option<Announcement>,
    /// What a reader streamed last.
    pub streamed: Option<Announcement>,
    /// Largest epoch that wrote here; 0: none did.
    pub epoch: u64,
    /// Source and run that wrote last.
    pub system_identifier: Option<String>,
    pub run_id: Option<String>,
}

impl Tail {
    /// Everything up to here is in the topics, or was in the target when the run was announced.
    #[must_use]
    pub fn position(&self) -> Option<Lsn> {
        self.end.max(self.idle).max(self.announced)
    }

    /// A reader has brought everything up to here into the topics.
    #[must_use]
    pub fn read_to(&self) -> Option<Lsn> {
        self.end.max(self.idle)
    }

    /// Slot and publications to stream: as told last or, where that has aged out of the topic, as streamed.
    #[must_use]
    pub fn origin(&self) -> Option<Announcement> {
        let origin = self.told.as_ref().or(self.announcement.as_ref())?;
        let (snapshot, form) =
            self.announcement.as_ref().map_or((None, None), |last| (last.snapshot, last.form.clone()));
        Some(Announcement { snapshot, form: form.or(origin.form.clone()), ..origin.clone() })
    }

    /// The source's timeline that [`Tail::position`] is on, as whoever said the position has said it.
    #[must_use]
    pub fn timeline(&self) -> Option<u32> {
        let told = self.announced > self.end.max(self.idle);
        let (first, second) = if told { (&self.told, &self.streamed) } else { (&self.streamed, &self.told) };
        first.as_ref().or(second.as_ref())?.timeline
    }

    /// Reads the ends of the topics, as far as they exist.
    pub async fn read(options: &Options) -> Result<Tail> {
        reach(options).await?;
        let options = options.clone();
        tokio::task::spawn_blocking(move || read(&options))
            .await
            .map_err(|error| Error::failed("KAFKA", error.to_string()))?
    }

    /// # Errors
    /// The topics are another run's, or another source's.
    pub fn check(&self, prefix: &str, system_identifier: &str, run_id: &str) -> Result<()> {
        let hint = "give another --prefix; topics that nobody needs any more are removed with kafka-topics.sh --delete";
        if self.system_identifier.as_deref().is_some_and(|system| system != system_identifier) {
            return Err(Error::refuse(
                "KAFKA_OTHER_SOURCE",
                format!("the topics of prefix \"{prefix}\" are another source's"),
            )
            .detail(format!(
                "they were written from system {}, the source is system {system_identifier}",
                self.system_identifier.as_deref().unwrap_or_default()
            ))
            .hint(hint));
        }
        if self.run_id.as_deref().is_some_and(|run| run != run_id) {
            return Err(Error::refuse(
                "KAFKA_OTHER_RUN",
                format!("the topics of prefix \"{prefix}\" are another run's"),
            )
            .detail(format!(
                "they were written by run {}, this is run {run_id}",
                self.run_id.as_deref().unwrap_or_default()
            ))
            .hint(hint));
        }
        Ok(())
    }
}

fn read(options: &Options) -> Result<Tail> {
    let consumer: BaseConsumer<Quiet> = made(options.consumer(1).create_with_context(Quiet))?;
    let consumer = Aside::new(consumer);
    let topics = Topics::new(&options.prefix);
    let mut tail = Tail::default();
    // Of one that is not there, or that holds no END any more, nothing can be said.
    let mut ends = false;
    for (topic, wanted) in [(&topics.transaction, header::END), (&topics.heartbeat, header::POSITION)] {
        let watermarks = consumer.fetch_watermarks(topic, 0, REQUEST);
        let (low, high) = match watermarks {
            Ok(watermarks) => watermarks,
            Err(error)
                if matches!(
                    error.rdkafka_error_code(),
                    Some(
                        RDKafkaErrorCode::UnknownPartition
                            | RDKafkaErrorCode::UnknownTopicOrPartition
                            | RDKafkaErrorCode::UnknownTopic
                    )
                ) =>
            {
                continue;
            }
            Err(error) => return Err(classify(&error, &format!("looking at topic \"{topic}\""))),
        };
        let mut look = if wanted == header::END { LOOK } else { HEARTBEATS };
        loop {
            let from = low.max(high - look);
            let unknown = match (ends, from == low && low > 0) {
                (false, _) => Unknown::All,
                (true, true) => Unknown::First,
                (true, false) => Unknown::Nothing,
            };
            let mut covered = Covered::new(tail.end, unknown);
            let found = scan(&consumer, topic, (from, high), wanted, &mut covered, &mut tail)?;
            if wanted == header::END {
                ends = options.transactions && (found.is_some() || low == 0);
                tail.end = tail.end.max(found);
            } else {
                tail.idle = tail.idle.max(found);
            }
            if found.is_some() || from == low {
                break;
            }
            look *= 8;
        }
    }
    Ok(tail)
}

/// Reads `from..high`; the largest LSN in header `wanted` that counts.
fn scan(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    (from, high): (i64, i64),
    wanted: &str,
    covered: &mut Covered,
    tail: &mut Tail,
) -> Result<Option<Lsn>> {
    let failed = |error| classify(&error, &format!("reading topic \"{topic}\""));
    let mut found = None;
    if from >= high {
        return Ok(found);
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(from)).map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    let mut next = from;
    while next < high {
        let Some(message) = consumer.poll(REQUEST) else {
            return Err(Error::connection(format!("Kafka: topic \"{topic}\" could not be read in time"))
                .with_code("KAFKA"));
        };
        let message = message.map_err(failed)?;
        next = message.offset() + 1;
        let text = |name: &str| {
            let headers = message.headers()?;
            let value = headers.iter().find(|header| header.key == name)?.value?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        // A position is `<LSN>,<index>`.
        let lsn = text(wanted).and_then(|text| text.split(',').next()?.parse::<Lsn>().ok());
        if wanted == header::POSITION && text(AFTER).is_none() {
            // No reader's: what is before it is not in the topics because of it.
            tail.announced = tail.announced.max(lsn);
            tail.told = Announcement::read(text).or(tail.told.take());
            covered.announced(lsn);
        } else {
            let after = text(AFTER).and_then(|after| after.parse().ok()).unwrap_or_default();
            if wanted == header::END || lsn.is_some_and(|lsn| covered.counts(after, lsn)) {
                found = found.max(lsn);
            }
            tail.streamed = Announcement::read(text).or(tail.streamed.take());
        }
        tail.announcement = Announcement::read(text).or(tail.announcement.take());
        tail.epoch = tail.epoch.max(text(header::EPOCH).and_then(|text| text.parse().ok()).unwrap_or(0));
        if let Some(system) = text(header::SYSTEM) {
            tail.system_identifier = Some(system);
        }
        if let Some(run) = text(header::RUN) {
            tail.run_id = Some(run);
        }
    }
    Ok(found)
}
