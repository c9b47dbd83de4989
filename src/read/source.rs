//! `read --create-slot`: publication and slot made by the reader itself, for consumers other than `walferry write`.
//!
//! No target keeps a record: the slot is announced in the topics as soon as it is there. A crash in between leaves a slot that nothing
//! mentions; it is refused by name, and not guessed to be ours.

use kafka::{Admin, Announcement};
use pg::{Error, Lsn, Result, Session, quote_ident, quote_literal};
use pipeline::envelope::Encoder;
use reader::catalog::{PublicationState, Without, plan_own, selected};
use reader::slot::{self, CreateOptions, ExportedSlot};

use super::Reading;
use crate::config::Keyless;
use crate::run::{prepare, selection, topics};

/// Makes both and announces them.
///
/// # Errors
/// No table is chosen; tables without a replica identity; a slot of that name is there.
pub async fn make(reading: &Reading, options: &kafka::Options, admin: &Admin) -> Result<ExportedSlot> {
    let (identity, _) = prepare::identify_at(&reading.source, &reading.name).await?;
    let session = reading.session().await?;
    let slot = reading.settings.slot_name().to_owned();
    if slot::look(&session, &slot).await?.is_some() {
        return Err(Error::refuse(
            "SLOT_EXISTS",
            format!(
                "replication slot \"{slot}\" exists, and the topics of prefix \"{}\" don't mention it",
                options.prefix
            ),
        )
        .hint(format!(
            "leave out --create-slot where walferry write makes it; if nobody needs it: SELECT pg_drop_replication_slot({}); or give \
             another --name",
            quote_literal(&slot)
        )));
    }
    let publications = publications(reading, &session).await?;
    // What can be refused is refused before the slot is there.
    PublicationState::read(&session, &publications).await?;
    let own = pipeline::envelope::Topics::new(&options.prefix);
    admin.ensure(&own, &[]).await?;
    let create = CreateOptions {
        application_name: reading.name.clone(),
        wait: reading.settings.slot.wait,
        failover: reading.settings.slot.failover,
    };
    let mut told = false;
    let made = slot::create(&reading.source, &slot, &create, |who| {
        if !told && !who.is_empty() {
            told = true;
            let who: Vec<String> = who.iter().map(ToString::to_string).collect();
            reading.reporter.note(format!(
                "the slot waits for transactions that are open on the source: {}",
                who.join("; ")
            ));
        }
    })
    .await?;
    fail::fail_point!("read-slot-created");
    let at: Lsn = made.consistent_point;
    let run_id = format!("{}@{at}/{}", reading.name, topics::values(&reading.settings));
    let envelope = topics::envelope_of(&reading.settings, &identity.database, &identity.system_id, &run_id);
    let announcement = Announcement { feed: true, ..Announcement::new(slot, publications) };
    announcement.send(options, Encoder::new(envelope), at).await?;
    Ok(made)
}

/// Those that were named, or the reader's own, made anew.
async fn publications(reading: &Reading, session: &Session) -> Result<Vec<String>> {
    let settings = &reading.settings;
    if !settings.run.publication.is_empty() {
        return Ok(settings.run.publication.clone());
    }
    let tables = selected(session, &selection(settings)).await?;
    if tables.is_empty() {
        return Err(Error::refuse("NO_TABLES", "the selection matches no table on the source")
            .hint("see --schema and --table"));
    }
    let inserts = settings.run.keyless == Keyless::Inserts;
    let without = if inserts { Without::Inserts } else { Without::Refuse };
    let plan = plan_own(session, &reading.name, &tables, without).await?;
    if !plan.keyless.is_empty() && !inserts {
        let names: Vec<String> = plan.keyless.iter().map(|table| table.name.to_string()).collect();
        return Err(Error::refuse(
            "NO_IDENTITY",
            format!("{} table(s) have no replica identity", names.len()),
        )
        .detail(names.join(", "))
        .hint(
            "give each a primary key, or REPLICA IDENTITY FULL, or take inserts alone: --keyless inserts",
        ));
    }
    let mut sql = String::from("BEGIN;");
    for name in &plan.names {
        sql += &format!("DROP PUBLICATION IF EXISTS {};", quote_ident(name));
    }
    sql += &format!("{}; COMMIT", plan.create.join("; "));
    session.batch_execute(&sql).await.map_err(|error| {
        Error::from(error)
            .context("could not create the publication")
            .hint("use a role that owns the tables and may create in the database, or name existing ones with --publication")
    })?;
    Ok(plan.names)
}
