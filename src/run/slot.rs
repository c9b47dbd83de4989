//! Step 2: publication first, then slot, then the keeper that holds the slot's snapshot.
//!
//! ```text
//! record "slot_intent" ─► CREATE_REPLICATION_SLOT ─► keeper: import, lock, check ─► record the slot's LSN and the tables
//! ```
//!
//! A crash anywhere before the last record finds the intention: the slot that it names is dropped and all of it starts over. A
//! publication that didn't exist at a WAL position is an error through 17 and a silent hole from 18 on, hence the order.

use pg::{Error, QualifiedName, Result, Session};
use pipeline::TableSpec;
use reader::slot::{self, CreateOptions, SLOT_BLOCKED, SLOT_EXISTS, SlotState};
use reader::snapshot::REWRITTEN;
use tokio::sync::watch;
use writer::control::{Carrier, Progress, Run, RunTable, Step, TableState};

use super::attach::{self, Snapshot};
use super::context::Context;
use super::owner::Owner;
use super::publication::{self, Published};

/// How long a walsender that is dying may hold a slot that is to be dropped.
const DROP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Does step 2. On return the slot is on the record, and `snapshot` holds what the copy reads.
pub async fn make(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    snapshot: &mut Option<Snapshot>,
) -> Result<()> {
    let source = context.source_session().await?;
    Run::set_step(owner.session(), &run.name, Step::Slot).await?;
    context.reporter.step(Step::Slot.as_str());
    if run.slot_intent {
        slot::drop(&source, &run.slot, DROP_PATIENCE).await?;
        Run::set_slot_intent(owner.session(), &run.name, false).await?;
    }
    let names =
        if run.publication_own { publication::make(context, owner).await? } else { run.publications.clone() };
    fail::fail_point!("publication-made");
    let existing = slot::look(&source, &run.slot).await?;
    if let Some(existing) = existing {
        return adopt(context, owner, run, &source, &names, &existing, snapshot).await;
    }
    for _ in 0..attach::REWRITES {
        if create(context, owner, run, &source, &names, snapshot).await? {
            return Ok(());
        }
        context
            .reporter
            .note("a table was rewritten while the snapshot was taken: starting over with a new one");
    }
    Err(attach::rewritten_again())
}

/// False: a table was rewritten between slot and lock, and reads as empty through the snapshot; the slot is gone again.
async fn create(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    source: &Session,
    names: &[String],
    snapshot: &mut Option<Snapshot>,
) -> Result<bool> {
    let published = publication::look(context, source, names, run.publication_own).await?;
    Run::set_slot_intent(owner.session(), &run.name, true).await?;
    fail::fail_point!("slot-intended");
    let options = CreateOptions {
        application_name: context.name.clone(),
        wait: context.settings.slot.wait,
        failover: context.settings.slot.failover,
    };
    let (tell, blockers) = watch::channel(Vec::new());
    let creating = slot::create(&context.source, &run.slot, &options, |who| attach::told(&tell, who));
    let exported = match attach::shown(context, owner, blockers, attach::SLOT_WAITS, creating).await {
        Ok(exported) => exported,
        Err(error) => {
            // Surely none of ours: the next start would drop whoever's is there by then.
            if [SLOT_EXISTS, SLOT_BLOCKED].contains(&error.code()) {
                Run::set_slot_intent(owner.session(), &run.name, false).await?;
                fail::fail_point!("slot-blocked");
            }
            return Err(error);
        }
    };
    fail::fail_point!("slot-created");
    let made = match Snapshot::keep(context, owner, &exported, &published.tables).await {
        // From here on nobody alters them; before, somebody may have.
        Ok(made) => {
            let now = publication::look(context, source, names, run.publication_own).await?;
            attach::same_tables(&now.tables, &published.tables).then_some(made)
        }
        Err(error) if error.code() == REWRITTEN => None,
        Err(error) => return Err(error),
    };
    let Some(made) = made else {
        drop(exported);
        slot::drop(source, &run.slot, DROP_PATIENCE).await?;
        Run::set_slot_intent(owner.session(), &run.name, false).await?;
        return Ok(false);
    };
    record(context, owner, run, names, &published, exported.consistent_point, false).await?;
    fail::fail_point!("slot-recorded");
    *snapshot = Some(made);
    Ok(true)
}

/// A slot that somebody else made (`--slot`): copy as of a later snapshot, apply from there; it is never dropped.
async fn adopt(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    source: &Session,
    names: &[String],
    existing: &SlotState,
    snapshot: &mut Option<Snapshot>,
) -> Result<()> {
    if context.settings.run.slot.is_none() {
        return Err(Error::refuse("SLOT_EXISTS", format!("replication slot \"{}\" exists, and no record mentions it", run.slot))
            .hint(format!(
                "take it over with --slot {0}, name the run otherwise with --name, or, if nobody needs it: SELECT \
                 pg_drop_replication_slot('{0}')",
                run.slot
            )));
    }
    let database = context.source.dbname();
    existing.check_usable(database)?;
    let Some(start) = existing.confirmed_flush() else {
        return Err(Error::refuse(
            "SLOT_UNUSABLE",
            format!("replication slot \"{}\" has no position", run.slot),
        ));
    };
    let published = publication::look(context, source, names, run.publication_own).await?;
    record(context, owner, run, names, &published, start, true).await?;
    *snapshot = None;
    Ok(())
}

/// The step's record: slot, publications, tables and the first progress row, in one transaction.
async fn record(
    context: &Context,
    owner: &mut Owner,
    run: &Run,
    names: &[String],
    published: &Published,
    start: pg::Lsn,
    adopted: bool,
) -> Result<()> {
    let no_copy = context.settings.run.no_copy;
    let existing_schema = context.settings.run.existing_schema;
    let epoch = owner.epoch;
    let state = published.state.record()?;
    let tx = owner.client().transaction().await?;
    Run::set_slot(&tx, &run.name, start, adopted).await?;
    Run::set_publications(&tx, &run.name, names, &state).await?;
    let table = |spec: &TableSpec| RunTable {
        name: QualifiedName::clone(&spec.name),
        state: if no_copy { TableState::Ready } else { TableState::Pending },
        copied_at: no_copy.then_some(start),
        left_at: None,
        rows: 0,
        bytes: i64::try_from(spec.bytes).unwrap_or(i64::MAX),
        created: !existing_schema,
        spec: Some(spec.clone()),
    };
    let records: Vec<RunTable> = published.tables.iter().map(table).collect();
    RunTable::store_all(&records, &tx, &run.name).await?;
    let progress = Progress { seq: 1, epoch, end_lsn: start, counters: Default::default() };
    tx.batch_execute(&progress.insert_sql(&run.name, Carrier::At(None))).await?;
    tx.execute("UPDATE walferry.runs SET step = 'schema' WHERE name = $1", &[&run.name]).await?;
    tx.commit().await?;
    Ok(())
}
