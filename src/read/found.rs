//! What a reader finds: the run in the topics, the source behind it, and where to go on.

use std::time::Duration;

use kafka::{Admin, Announcement, Tail};
use pg::{Error, Lsn, Result, Session};
use pipeline::TableSpec;
use pipeline::envelope;
use reader::catalog::{PublicationState, published};
use reader::slot::{self, ExportedSlot, SlotState};

use super::{Reading, State, make};
use crate::outbox::shared;
use crate::run::{prepare, topics};

/// How often it is looked whether the writer has announced the run.
const LOOK: Duration = Duration::from_secs(1);

/// A run to stream for.
pub struct Found {
    pub options: kafka::Options,
    pub envelope: envelope::Options,
    pub admin: Admin,
    pub announcement: Announcement,
    pub publications: PublicationState,
    pub tables: Vec<TableSpec>,
    /// Everything up to here is in the topics, or in the target.
    pub from: Lsn,
    /// Kafka has the outbox events up to here, if it has been given any: what a reader brought, and what the slot was confirmed to.
    pub events: Lsn,
    /// Where the slot began.
    pub slot_lsn: Lsn,
    /// The slot's own snapshot, where it has just been made.
    pub exported: Option<ExportedSlot>,
}

impl Found {
    /// Waits until somebody has announced the run; none: interrupted.
    ///
    /// # Errors
    /// Topics of another run or source; a slot that is gone, or further than the topics.
    pub async fn wait(reading: &Reading, state: &mut State) -> Result<Option<Found>> {
        let options = topics::options(&reading.settings)?;
        let admin = Admin::new(&options)?;
        let mut exported = None;
        let tail = loop {
            let tail = Tail::read(&options).await?;
            if tail.run_id.is_some() {
                break tail;
            }
            if reading.settings.capture.create_slot {
                exported = make::make(reading, &options, &admin).await?;
                state.started = true;
                continue;
            }
            if !state.waits {
                // Who can't reach the source needs not wait for the writer.
                prepare::identify_at(&reading.source, &reading.name).await?;
                reading.reporter.note(format!(
                    "waits for walferry write --name {} --prefix {} to make the slot and to announce it in the topics",
                    reading.name, options.prefix
                ));
                (state.waits, state.started) = (true, true);
            }
            tokio::select! {
                () = reading.cancel.cancelled() => return Ok(None),
                () = tokio::time::sleep(LOOK) => {}
            }
        };
        let run_id = tail.run_id.clone().unwrap_or_default();
        let (source, _) = prepare::identify_at(&reading.source, &reading.name).await?;
        state.started = true;
        tail.check(&options.prefix, &source.system_id, &run_id)?;
        ours(reading, &options.prefix, &run_id)?;
        alone(reading, &run_id)?;
        let session = reading.session().await?;
        let mut announcement = announced(reading, &session, &tail).await?;
        announcement.take_form(topics::form(&reading.settings), &options.prefix)?;
        let slot = slot::look(&session, &announcement.slot).await?;
        // After the slot (module docs, 1).
        let tail = Tail::read(&options).await?;
        tail.check(&options.prefix, &source.system_id, &run_id)?;
        let from = tail.position().unwrap_or_default();
        let confirmed = slot.as_ref().and_then(SlotState::confirmed_flush);
        let events = tail.read_to().max(confirmed).unwrap_or_default();
        let slot_lsn = shared::slot_lsn(&run_id);
        SlotState::check(slot.as_ref(), &announcement.slot, &source.database, Some(from))
            .map_err(topics::behind_the_slot)?;
        // After the topics: another reader may have written to them until then.
        let (source, wal_position) = prepare::identify_at(&reading.source, &reading.name).await?;
        if wal_position < from {
            return Err(Error::refuse("SOURCE_BEHIND", "the source's WAL ends before what the topics hold")
                .detail(format!("source at {wal_position}, topics up to {from}"))
                .hint("it was restored from a backup, or a standby was promoted that lacked the last changes: start the run over"));
        }
        descends(reading, tail.timeline(), source.timeline, from).await?;
        announcement.timeline = u32::try_from(source.timeline).ok();
        let publications = PublicationState::read(&session, &announcement.publications).await?;
        let tables = published(&session, &publications.tables).await?;
        let mut envelope =
            topics::envelope_of(&reading.settings, &source.database, &source.system_id, &run_id);
        envelope.epoch = topics::epoch_after(&tail);
        Ok(Some(Found {
            options,
            envelope,
            admin,
            announcement,
            publications,
            tables,
            from,
            events,
            slot_lsn,
            exported,
        }))
    }
}

/// Is it the run that was asked for, and are its values written as we would?
fn ours(reading: &Reading, prefix: &str, run_id: &str) -> Result<()> {
    let name = &reading.name;
    if !run_id.starts_with(&format!("{name}@")) {
        return Err(Error::refuse(
            "KAFKA_OTHER_RUN",
            format!("the topics of prefix \"{prefix}\" are another run's"),
        )
        .detail(format!("they belong to run {run_id}, this is run \"{name}\""))
        .hint("give the --name and the --prefix that walferry write was given"));
    }
    let values = topics::values(&reading.settings);
    if !run_id.ends_with(&format!("/{values}")) {
        return Err(Error::refuse(
            "KAFKA_OTHER_RUN",
            format!("the topics of prefix \"{prefix}\" hold values of another form"),
        )
        .detail(format!("they belong to run {run_id}, and --values is {values}"))
        .hint("give the --values that walferry write was given"));
    }
    Ok(())
}

/// Is what the topics hold in the source's history? A promoted standby, or a backup, may lack some of it and have other WAL in its place.
async fn descends(reading: &Reading, then: Option<u32>, now: i64, from: Lsn) -> Result<()> {
    let Some(then) = then.map(i64::from).filter(|then| *then != now) else { return Ok(()) };
    match prepare::parted(&reading.source, &reading.name, then, now, from).await? {
        Some(parted) => Err(prepare::lacks(
            parted,
            "what the topics hold did not happen there: start the run over (walferry clean, or other topics for a feed)",
        )),
        None => {
            reading.reporter.note(prepare::follows(now, from));
            Ok(())
        }
    }
}

/// In the id of a run that a reader has made.
const FEED: &str = "/feed/";

/// Names a feed that a reader makes for consumers other than `walferry write`.
pub fn feed_id(reading: &Reading, at: Lsn) -> String {
    format!("{}@{at}{FEED}{}", reading.name, topics::values(&reading.settings))
}

/// A writer needs every event, and their transactions.
fn alone(reading: &Reading, run_id: &str) -> Result<()> {
    let settings = &reading.settings;
    if (reading.capture.is_whole() && settings.kafka.transactions) || run_id.contains(FEED) {
        return Ok(());
    }
    let what = if settings.kafka.transactions { "capture.*" } else { "kafka.transactions=off" };
    Err(Error::refuse("RUN_HAS_WRITER", format!("the run has a writer, and {what} would keep events from it"))
        .detail(format!("the topics of prefix \"{}\" were announced by walferry write", settings.kafka_prefix()))
        .hint("leave the filters out (a connector's file has some), or give another --prefix and --name for a feed of its own"))
}

/// Slot and publications: as given, as announced, or named like the run where the announcement has aged out of the topics.
async fn announced(reading: &Reading, session: &Session, tail: &Tail) -> Result<Announcement> {
    let run = &reading.settings.run;
    let mut found = match tail.origin() {
        Some(announcement) => announcement,
        None => {
            let own = [reading.name.clone(), format!("{}_inserts", reading.name)];
            let rows = session
                .query("SELECT pubname::text FROM pg_catalog.pg_publication WHERE pubname::text = ANY ($1) ORDER BY 1", &[
                    &own.as_slice(),
                ])
                .await?;
            let publications = rows.iter().map(|row| row.get(0)).collect();
            Announcement::new(&reading.name, publications)
        }
    };
    if let Some(slot) = &run.slot {
        found.slot.clone_from(slot);
    }
    // What was made beside a named one for tables without an identity belongs to it.
    let beside = found.publications.strip_prefix(run.publication.as_slice());
    let own = beside.is_some_and(|rest| rest.iter().all(|name| name.ends_with("_inserts")));
    if !run.publication.is_empty() && !own {
        found.publications.clone_from(&run.publication);
    }
    Ok(found)
}
