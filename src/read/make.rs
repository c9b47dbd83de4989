//! `read --create-slot`: slot and publication made by the reader itself, for consumers other than `walferry write`.
//!
//! No target keeps a record: the slot is announced in the topics as soon as it is there. A crash in between leaves a slot that nothing
//! mentions; it is refused by name, and not guessed to be ours. One that was named (`--slot`, a connector's `slot.name`) is taken up where
//! it is confirmed.

use kafka::{Admin, Announcement, Written};
use pg::{Error, Result, quote_literal};
use pipeline::envelope::{Encoder, Topics};
use reader::catalog::{self, PublicationState};
use reader::slot::{self, CreateOptions, ExportedSlot, SlotState};
use writer::control::SourceIdentity;

use super::found::feed_id;
use super::{Reading, publication};
use crate::config::SnapshotMode;
use crate::run::{prepare, topics};

/// Makes what is not there, and announces it. The slot's own snapshot goes along, where it was made here.
///
/// # Errors
/// No table is chosen; tables without a replica identity; a slot of that name that nobody has named, or that somebody reads.
pub async fn make(
    reading: &Reading,
    options: &kafka::Options,
    admin: &Admin,
) -> Result<Option<ExportedSlot>> {
    let (identity, _) = prepare::identify_at(&reading.source, &reading.name).await?;
    let session = reading.session().await?;
    let name = reading.settings.slot_name().to_owned();
    let there = slot::look(&session, &name).await?;
    if let Some(state) = &there {
        may_be_taken_up(reading, state, &identity, &options.prefix)?;
    }
    let publications = publication::ensure(reading, &session).await?;
    // What can be refused is refused before the slot is there.
    let published = PublicationState::read(&session, &publications).await?;
    let tables = catalog::published(&session, &published.tables).await?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    reading.capture.tables(tables, &catalog::types(&session, &oids).await?)?;
    let own = topics::names(&reading.settings);
    admin.ensure(&own, &[]).await?;
    let mut announcement = Announcement::new(name.clone(), publications);
    announcement.feed = true;
    announcement.form = Some(topics::form(&reading.settings));
    announcement.timeline = u32::try_from(identity.timeline).ok();
    let (made, at) = match there {
        Some(state) => {
            let at = state.confirmed_flush().unwrap_or_default();
            reading.reporter.note(format!("takes up slot {name} at {at}, where it is confirmed"));
            announcement.snapshot =
                read_before(reading, admin, &own, &published).await?.then_some(Written::At(at));
            (None, at)
        }
        None => {
            let made = create(reading, &name).await?;
            let at = made.consistent_point;
            (Some(made), at)
        }
    };
    fail::fail_point!("read-slot-created");
    let run_id = feed_id(reading, at);
    let envelope = topics::envelope_of(&reading.settings, &identity.database, &identity.system_id, &run_id);
    announcement.send(options, Encoder::new(envelope), at).await?;
    Ok(made)
}

fn may_be_taken_up(
    reading: &Reading,
    state: &SlotState,
    identity: &SourceIdentity,
    prefix: &str,
) -> Result<()> {
    let name = &state.slot_name;
    if reading.settings.run.slot.is_none() {
        return Err(Error::refuse(
            "SLOT_EXISTS",
            format!("replication slot \"{name}\" exists, and the topics of prefix \"{prefix}\" don't mention it"),
        )
        .hint(format!(
            "leave out --create-slot where walferry write makes it; to go on from it: --slot {name}; if nobody needs it: \
             SELECT pg_drop_replication_slot({}); or give another --name",
            quote_literal(name)
        )));
    }
    state.check_usable(&identity.database)?;
    // Nothing of ours has ever read it: the topics would say so.
    if let Some(pid) = state.active_pid {
        return Err(Error::refuse("OWNED_BY", format!("somebody else streams slot \"{name}\""))
            .detail(format!("backend {pid} on the source"))
            .hint("stop the connector that reads it (DELETE /connectors/NAME, or PUT …/stop), then start this again"));
    }
    Ok(())
}

/// Whoever read the slot before has written the rows, if it was to: the topics hold something.
async fn read_before(
    reading: &Reading,
    admin: &Admin,
    own: &Topics,
    published: &PublicationState,
) -> Result<bool> {
    let taken = published.tables.iter().filter(|table| reading.capture.table(&table.name));
    let names: Vec<String> = taken.map(|table| own.table(&table.name)).collect();
    let ends = admin.ends(&names).await?;
    let some = ends.values().flatten().any(|end| *end > 0);
    if some && reading.settings.capture.snapshot == SnapshotMode::Initial {
        reading.reporter.note(
            "the topics have events: the rows of the tables are not written first (--set capture.snapshot=always writes them)",
        );
    }
    Ok(some)
}

async fn create(reading: &Reading, name: &str) -> Result<ExportedSlot> {
    let create = CreateOptions {
        application_name: reading.name.clone(),
        wait: reading.settings.slot.wait,
        failover: reading.settings.slot.failover,
    };
    let mut told = false;
    slot::create(&reading.source, name, &create, |who| {
        if !told && !who.is_empty() {
            told = true;
            let who: Vec<String> = who.iter().map(ToString::to_string).collect();
            reading.reporter.note(format!(
                "the slot waits for transactions that are open on the source: {}",
                who.join("; ")
            ));
        }
    })
    .await
}
