//! The slot: taken up where it was confirmed, or made at the first start.

use pg::{Error, Lsn, Purpose, Result, Session, quote_literal};
use reader::slot::{self, Blocker, CreateOptions, ExportedSlot, SlotState};

use super::connect::connect;
use super::plan::Plan;
use super::record::{self, SlotRecord};
use super::{Context, snapshot, stream};

/// Where the stream begins.
///
/// # Errors
/// A slot that was lost, is another database's, or is gone although it was there.
pub async fn ensure(context: &Context, session: &Session, plan: &Plan, started: &mut bool) -> Result<Lsn> {
    let name = &context.slot;
    if let Some(state) = slot::look(session, name).await? {
        state.check_usable(context.source.dbname())?;
        let first = !std::mem::replace(started, true);
        let confirmed = confirmed(&state)?;
        match record::read(session, name).await? {
            None => adopt(context, plan, confirmed, first).await,
            Some(record) => joined(context, &record, plan).await?,
        }
        return Ok(confirmed);
    }
    if *started || record::read(session, name).await?.is_some() {
        return Err(Error::refuse("SLOT_MISSING", format!("replication slot \"{name}\" does not exist any more"))
            .detail("events that were committed since its last confirmed position did not come through it")
            .hint(format!(
                "start over: walferry outbox remove --name {}, then the same command (with --snapshot, the rows that the table still has are published, \
                 those that Kafka has again)",
                context.name
            )));
    }
    stream::brokers_answer(context).await?;
    make(context, plan).await?;
    *started = true;
    let state = slot::look(session, name)
        .await?
        .ok_or_else(|| Error::refuse("SLOT_MISSING", format!("replication slot \"{name}\" is gone")))?;
    confirmed(&state)
}

fn confirmed(state: &SlotState) -> Result<Lsn> {
    state.confirmed_flush().ok_or_else(|| {
        Error::connection(format!("replication slot \"{}\" is still being made", state.slot_name))
    })
}

/// A slot of which there is no record: another reader's, or recording it failed. Routing goes on without one, so what fails is said, at the first
/// look alone.
async fn adopt(context: &Context, plan: &Plan, confirmed: Lsn, first: bool) {
    match record::adopt(context, confirmed, &plan.tables).await {
        Ok(true) if !plan.tables.is_empty() => context.reporter.note(format!(
            "took up replication slot \"{}\" at {confirmed}: rows that are there now count as from before the slot, and are never cleaned up \
             (outbox clean --before-slot does that, if they all were published)",
            context.slot
        )),
        Ok(_) => {}
        Err(error) if first => record::unrecorded(context, &error),
        Err(error) => tracing::debug!("the slot's beginning could not be recorded: {error}"),
    }
}

/// Tables that were not routed when the slot's stream began: what is in them was not published then.
pub async fn joined(context: &Context, record: &SlotRecord, plan: &Plan) -> Result<()> {
    let new = record::join(context, record, &plan.tables).await?;
    if !new.is_empty() {
        let names: Vec<String> = new.iter().map(|table| table.name.to_string()).collect();
        context.reporter.note(format!(
            "rows of {} are routed from now on: those that are there already are not published, and never cleaned up (outbox clean --before-slot \
             does that, if they all were)",
            names.join(", ")
        ));
    }
    Ok(())
}

async fn make(context: &Context, plan: &Plan) -> Result<()> {
    let options = CreateOptions {
        application_name: context.name.clone(),
        wait: context.settings.slot.wait,
        failover: context.settings.slot.failover,
    };
    let mut told = Vec::new();
    let reporter = context.reporter.clone();
    let waiting = |who: &[Blocker]| {
        let now: Vec<String> = who.iter().map(ToString::to_string).collect();
        if now != told && !now.is_empty() {
            reporter.note(format!("the slot waits for transactions that are open: {}", now.join("; ")));
            told = now;
        }
    };
    let snapshot = context.settings.outbox.snapshot && !plan.tables.is_empty();
    let creating = async {
        if snapshot {
            slot::create_temporary(&context.source, &context.slot, &options, waiting).await
        } else {
            slot::create(&context.source, &context.slot, &options, waiting).await
        }
    };
    let made = tokio::select! {
        made = creating => made?,
        () = context.cancel.cancelled() => return Err(Error::failed("INTERRUPTED", "interrupted")),
    };
    if snapshot {
        return publish(context, plan, &made).await;
    }
    context.reporter.note(format!("made replication slot \"{}\" at {}", made.name, made.consistent_point));
    let session = import(context, &made.snapshot).await?;
    let seen: String =
        session.query_one("SELECT pg_catalog.txid_current_snapshot()::text", &[]).await?.get(0);
    drop(session);
    note_beginning(context, plan, &made, seen).await?;
    if rows_before(context, plan, &made).await? {
        context.reporter.note(
            "the outbox has rows from before the slot: they are not published (outbox run --snapshot does that at the first start), and \
             never cleaned up",
        );
    }
    Ok(())
}

/// Publishes the rows that are there, then makes the slot that goes on behind them.
async fn publish(context: &Context, plan: &Plan, made: &ExportedSlot) -> Result<()> {
    let session = import(context, &made.snapshot).await?;
    let count = snapshot::publish(context, plan, &session, made).await?;
    drop(session);
    let admin = connect(&context.source, &context.name, "slot").await?;
    admin
        .execute(
            "SELECT pg_catalog.pg_copy_logical_replication_slot($1::text::name, $2::text::name, false)",
            &[&made.name, &context.slot],
        )
        .await
        .map_err(|error| {
            Error::from(error)
                .context("could not make the slot")
                .hint("outbox.snapshot needs a source of 12 or later")
        })?;
    context.reporter.note(format!(
        "published {count} rows that were there; made replication slot \"{}\" at {}",
        context.slot, made.consistent_point
    ));
    // Kafka has what was there: nothing is from before the slot.
    note_beginning(context, plan, made, "1:1:".to_owned()).await
}

async fn note_beginning(context: &Context, plan: &Plan, made: &ExportedSlot, snapshot: String) -> Result<()> {
    let record = SlotRecord {
        consistent_point: made.consistent_point,
        tables: record::together(&plan.tables, &snapshot),
        snapshot,
        shared: false,
        adopted: false,
    };
    record::note(context, &record).await
}

/// A session that sees what the slot's snapshot sees; in a transaction.
async fn import(context: &Context, snapshot: &str) -> Result<Session> {
    let name = format!("{} (keeper)", context.name);
    let session = Session::connect(&context.source, Purpose::SourceSnapshot, &name)
        .await
        .map_err(|error| error.context("source"))?;
    session
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(snapshot)
        ))
        .await?;
    Ok(session)
}

/// Has any outbox table a row that the slot will never bring? Unknown without SELECT, which nothing else needs.
async fn rows_before(context: &Context, plan: &Plan, made: &ExportedSlot) -> Result<bool> {
    let session = import(context, &made.snapshot).await?;
    for table in &plan.tables {
        let found = session.query_opt(&format!("SELECT FROM {} LIMIT 1", table.name), &[]).await;
        match found.map_err(Error::from) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(true),
            Err(error) if error.is(pg::sqlstate::INSUFFICIENT_PRIVILEGE) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
