//! `--resync`: tables are copied once more, each at a new LSN of its own, and the stream goes on from there.
//!
//! ```text
//! ends of their topics noted, state "again" ─► temporary slot: snapshot at S1 ─► DELETE, COPY, "copied at S1" in one transaction ─► stream
//!      H                                                 S1
//! ```
//!
//! Of such a table nothing before S1 is needed, so that what its topic has lost does not matter. An event committed at or after S1 did not
//! exist when H was noted: it is at H or behind it, and reading from there leaves nothing out. When all tables are copied again the same holds
//! for the transaction topic, and progress becomes S1: whatever was lost before it is in the snapshot.

use kafka::{Admin, Position};
use pg::{Error, Lsn, QualifiedName, Result};
use pipeline::envelope;
use writer::control::{Carrier, Progress, Run, RunTable, Step, TableState};

use super::context::Context;
use super::owner::Owner;
use super::shard::{self, matching};
use super::topics;
use crate::config::Via;

/// Marks what was asked for. What is being copied at this time for the first time stays as it is.
///
/// # Errors
/// A pattern that matches none of the run's tables.
pub async fn mark(context: &Context, owner: &mut Owner, run: &Run) -> Result<()> {
    if context.resync.is_empty() || run.step <= Step::Slot || run.cutover.is_some() {
        return Ok(());
    }
    let mut chosen = Vec::new();
    for pattern in &context.resync {
        let found = matching(owner.session(), &run.name, pattern).await?;
        if found.is_empty() {
            return Err(Error::refuse(
                "NO_TABLES",
                format!("--resync {pattern} matches no table of run \"{}\"", run.name),
            )
            .hint(format!("walferry status --name {} lists them", run.name)));
        }
        chosen.extend(found);
    }
    let tables = RunTable::all(owner.session(), &run.name).await?;
    let chosen: Vec<&RunTable> =
        tables.iter().filter(|table| chosen.contains(&table.name) && !table.state.to_copy()).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    if context.settings.run.via == Via::Kafka {
        // Nobody else may apply anything to them from here on.
        shard::hand_over(context, owner, run, tables.clone(), true).await?;
    }
    let names: Vec<QualifiedName> = chosen.iter().map(|table| table.name.clone()).collect();
    let everything = fed(&tables)?.iter().all(|table| table.state.to_copy() || names.contains(&table.name));
    let progress = Progress::read(owner.session(), &run.name).await?;
    let carrier = match context.settings.run.via {
        Via::Direct => None,
        Via::Kafka => Some(ends(context, owner, run, &chosen, everything).await?),
    };
    let epoch = owner.epoch;
    let tx = owner.client().transaction().await?;
    for table in &chosen {
        let again = RunTable { state: TableState::Again, copied_at: None, ..(*table).clone() };
        again.store(&tx, &run.name).await?;
    }
    if let (Some(carrier), Some(mut progress)) = (&carrier, progress) {
        if everything {
            // What of them was not applied may be among what is lost.
            for table in
                tables.iter().filter(|table| table.left_at.is_some_and(|left| left > progress.end_lsn))
            {
                let left = RunTable { left_at: Some(progress.end_lsn), ..table.clone() };
                left.store(&tx, &run.name).await?;
            }
        }
        progress.seq += 1;
        progress.epoch = epoch;
        tx.batch_execute(&progress.insert_sql(&run.name, Carrier::At(Some(carrier)))).await?;
    }
    tx.commit().await?;
    fail::fail_point!("resync-marked");
    context.reporter.note(format!("copied again: {}", pipeline::some_of(&names)));
    Ok(())
}

/// The tables that the stream feeds.
fn fed(tables: &[RunTable]) -> Result<Vec<&RunTable>> {
    let mut fed = Vec::new();
    for table in tables {
        if table.left_at.is_none() && table.spec()?.streamed {
            fed.push(table);
        }
    }
    Ok(fed)
}

/// Is every table to be copied (again)? Then nothing that was lost before is needed.
pub fn everything(tables: &[RunTable]) -> Result<bool> {
    Ok(fed(tables)?.iter().all(|table| table.state.to_copy()))
}

/// Progress is never behind the point from which on the first table is fed: of what is before it nothing would be applied.
pub async fn raise(owner: &Owner, run: &Run, tables: &[RunTable]) -> Result<()> {
    let Some(mut progress) = Progress::read(owner.session(), &run.name).await? else { return Ok(()) };
    let mut first: Option<Lsn> = None;
    for table in fed(tables)? {
        let Some(copied_at) = table.copied_at else { return Ok(()) };
        first = Some(first.map_or(copied_at, |first| first.min(copied_at)));
    }
    let leaving = tables.iter().any(|table| table.left_at.is_some_and(|left| left > progress.end_lsn));
    match first {
        Some(first) if first > progress.end_lsn && !leaving => {
            progress.seq += 1;
            progress.epoch = owner.epoch;
            progress.end_lsn = first;
            progress.append_flushed(owner.session(), &run.name).await
        }
        _ => Ok(()),
    }
}

/// The carrier's position, with the ends of these tables' topics; of all topics, where everything is copied again.
async fn ends(
    context: &Context,
    owner: &Owner,
    run: &Run,
    chosen: &[&RunTable],
    everything: bool,
) -> Result<String> {
    let options = topics::options(&context.settings)?;
    let own = envelope::Topics::new(&options.prefix);
    let mut names = Vec::new();
    for table in chosen {
        if table.spec()?.streamed {
            names.push(table.name.clone());
        }
    }
    let admin = Admin::new(&options)?;
    // One that was deleted begins anew.
    admin.ensure(&own, &names).await?;
    let mut wanted: Vec<String> = names.iter().map(|name| own.table(name)).collect();
    if everything {
        wanted.extend([own.transaction.clone(), own.heartbeat.clone()]);
    }
    let carrier = Progress::carrier(owner.session(), &run.name).await?;
    let mut position = Position::parse(carrier.as_deref())?;
    position.offsets.extend(admin.ends(&wanted).await?);
    position.to_text()
}
