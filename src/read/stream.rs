//! The stream into the topics, and what is looked at beside it.

use std::time::{Duration, Instant};

use kafka::{Announcement, Written};
use pg::{Class, Error, Result, Session};
use pipeline::envelope::Encoder;
use reader::catalog::{self, PublicationState};
use reader::stream::Options;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::capture::Captured;
use super::{Found, Reading, State, snapshot};
use crate::config::{KafkaValues, SnapshotMode};
use crate::http;
use crate::outbox::shared::{self, Followed, Joined};
use crate::run::topics::{ReaderHalf, streamed};

/// How often the publications are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the writer's announcements are.
const ASK: Duration = Duration::from_secs(5);
/// How long what was sent may take to be acknowledged at the end.
const DRAIN: Duration = Duration::from_secs(6);

/// Streams until cancelled, or until other tables are published than at the start.
pub async fn run(reading: &Reading, found: Found, state: &mut State) -> Result<()> {
    if reading.outbox.is_some() && !(reading.capture.is_whole() && reading.settings.kafka.transactions) {
        return Err(Error::usage(
            "outbox.beside goes with all that is published, and capture.* leaves something out",
        )
        .hint("route the outbox in a process of its own: walferry outbox run"));
    }
    let session = reading.session().await?;
    let joined = route(reading, &session, &found).await?;
    let Found {
        options, envelope, admin, mut announcement, publications, mut tables, from, exported, ..
    } = found;
    let (mut start, mut prefixes) = (from, Vec::new());
    if let Some(joined) = &joined {
        tables.retain(|table| !joined.unpublished.contains(&table.name));
        start = start.min(joined.beside.from);
        prefixes.clone_from(&joined.prefixes);
    }
    let (outbox, _watching) = joined.map(Joined::split).unzip();
    let oids: Vec<u32> = tables.iter().map(|spec| spec.oid).collect();
    let types = catalog::types(&session, &oids).await?;
    let tables = reading.capture.tables(tables, &types)?;
    let topics = crate::run::topics::names(&reading.settings);
    let partitions = admin.ensure(&topics, &streamed(&tables)).await?;
    let rows_first = match reading.settings.capture.snapshot {
        SnapshotMode::Never => false,
        SnapshotMode::Initial => !matches!(announcement.snapshot, Some(Written::At(_))),
        SnapshotMode::Always => !state.rows_written,
    };
    if rows_first {
        reading.health.step("snapshot");
        let plain = Encoder::new(envelope.clone());
        let mut encoder = Encoder::new(envelope.clone());
        types.iter().for_each(|types| encoder.describe(types.clone()));
        let carrier =
            snapshot::Carrier { options: &options, encoder, plain, partitions: partitions.clone(), from };
        let rows = match reading.settings.kafka.values {
            KafkaValues::Debezium => snapshot::with_generated(reading, tables.clone(), &types, &publications),
            KafkaValues::Postgres => tables.clone(),
        };
        let writing = snapshot::write(reading, &rows, &mut announcement, exported, carrier);
        tokio::select! {
            written = Box::pin(writing) => written?,
            () = reading.cancel.cancelled() => return Ok(()),
        }
        state.rows_written = true;
    }
    let half = ReaderHalf::open(&options, envelope, admin, types, partitions, &announcement, from, outbox)?;
    let mut stream = Options::new(
        reading.source.clone(),
        &reading.name,
        &announcement.slot,
        announcement.publications.clone(),
        start,
    );
    stream.reporter = reading.reporter.clone();
    stream.gather = reading.settings.stream.gather;
    stream.timeline = announcement.timeline;
    // Servers before 14 have none to give.
    stream.all_messages =
        reading.capture.messages() && prefixes.is_empty() && session.version().major() >= 14;
    stream.message_prefixes = prefixes;
    let position = stream.position.subscribe();
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    if reading.capture.is_whole() {
        task.spawn(half.run(stream, stop.clone()));
    } else {
        let capture = reading.capture.clone();
        task.spawn(half.run_through(|sink| Captured::new(capture, sink), stream, stop.clone()));
    }
    let mut beside = Beside {
        session: Some(session),
        slot: announcement.slot,
        names: announcement.publications,
        publications,
    };
    reading.health.step("live");
    let _looking = http::slot(&reading.health, &reading.source, &beside.slot);
    let (mut said, mut away, began) = (false, false, Instant::now());
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let (mut looked, mut asked) = (Instant::now(), Instant::now());
    let result = loop {
        tokio::select! {
            () = reading.cancel.cancelled() => break Ok(()),
            ended = task.join_next() => return Err(match ended {
                Some(Ok(Err(error))) => error,
                _ => Error::new(Class::Connection, "STREAM_ENDED", "the stream has ended"),
            }),
            _ = tick.tick() => {}
        }
        // On a source where nothing happens there is nothing to receive.
        if position.borrow().received > start || began.elapsed() > LOOK {
            reading.health.flowing();
        }
        if position.borrow().received > start {
            state.backoff.reset();
            state.rival.gone();
            if !said {
                said = true;
                reading.reporter.note(format!(
                    "streams slot {} from {start} into the topics of prefix \"{}\"",
                    beside.slot, options.prefix
                ));
            }
        }
        if asked.elapsed() > ASK {
            let told = tokio::select! {
                () = reading.cancel.cancelled() => break Ok(()),
                told = beside.told_otherwise(&options) => told,
            };
            asked = Instant::now();
            match told {
                Ok(otherwise) => {
                    if std::mem::take(&mut away) {
                        reading.reporter.note("the brokers answer again");
                    }
                    if otherwise && reading.settings.run.publication.is_empty() {
                        reading
                            .reporter
                            .note("the writer follows other publications now: the stream begins anew");
                        break Ok(());
                    }
                }
                Err(error) if error.class() == Class::Connection && !away => {
                    away = true;
                    let hint = format!(
                        "nothing is lost: slot \"{}\" retains what they have not taken (see --max-retained-wal), and the stream goes on by itself",
                        beside.slot
                    );
                    reading.reporter.warning(error.to_string(), Some(hint));
                }
                Err(error) => tracing::debug!("could not look at the topics: {error}"),
            }
        }
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            match beside.look(reading).await {
                Ok(true) => {}
                Ok(false) => {
                    reading.reporter.note("other tables are published now: the stream begins anew");
                    break Ok(());
                }
                Err(error) if error.class() == Class::Refuse => break Err(error),
                Err(error) => {
                    tracing::debug!("could not look at the source: {error}");
                    beside.session = None;
                }
            }
        }
    };
    stop.cancel();
    let ended = tokio::time::timeout(DRAIN, task.join_next()).await;
    result?;
    match ended {
        Ok(Some(Ok(result))) => result,
        _ => Ok(()),
    }
}

/// Outbox events in the same stream, if they are asked for.
async fn route(reading: &Reading, session: &Session, found: &Found) -> Result<Option<Joined>> {
    let Announcement { slot, publications, feed, .. } = &found.announcement;
    let Some(outbox) = &reading.outbox else {
        return shared::left(session, &reading.name, slot, found.slot_lsn).await.map(|()| None);
    };
    let followed = Followed {
        slot,
        slot_lsn: found.slot_lsn,
        publications,
        published: &found.publications,
        from: found.events.min(found.from),
        rows: !feed || reading.settings.outbox.table_events,
    };
    Box::pin(outbox.join(session, &reading.health, &followed)).await.map(Some)
}

struct Beside {
    session: Option<Session>,
    slot: String,
    names: Vec<String>,
    publications: PublicationState,
}

impl Beside {
    /// Has the writer announced other publications?
    ///
    /// # Errors
    /// Brokers that are away don't say.
    async fn told_otherwise(&self, options: &kafka::Options) -> Result<bool> {
        let tail = kafka::Tail::read(options).await?;
        Ok(tail.told.is_some_and(|told| told.slot == self.slot && told.publications != self.names))
    }

    /// False: what is published has changed.
    async fn look(&mut self, reading: &Reading) -> Result<bool> {
        let session = match &self.session {
            Some(session) => session,
            None => self.session.insert(reading.session().await?),
        };
        let work = async {
            let now = PublicationState::read(session, &self.names).await?;
            Ok(now.changes_since(&self.publications).is_empty())
        };
        match tokio::time::timeout(LOOK, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::connection("the source does not answer")),
        }
    }
}
