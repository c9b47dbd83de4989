//! The outbox routed within the stream of another run (`outbox.share_slot`), from that run's slot.
//!
//! ```text
//! slot ─► stream ─► KafkaSink ─┬─► topics of the tables ─┐
//!                              └─► topics of the events ─┴─► END, or a heartbeat ─► slot
//! ```
//!
//! # Invariants
//!
//! 1. The slot moves to what Kafka has of both: one producer and one set of books (crate `kafka`, `outbox::Beside`).
//! 2. Where the stream begins is what Kafka has of the events. The tables may be further (`--resync '*'`), never less far.
//! 3. A run that began to route goes on routing: without the setting it is refused ([`left`]), since events would pass unseen.
//! 4. Rows of transactions that began before routing did are never cleaned up: whether they were routed is not known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka::outbox::{Beside, Counters};
use pg::{Class, Error, Lsn, Purpose, QualifiedName, Result, Session};
use pipeline::Reporter;
use reader::catalog::{PublicationState, selected};
use tokio_util::sync::{CancellationToken, DropGuard};
use writer::control::OutboxLive;

use super::plan::{self, Plan, Table};
use super::record::{self, SlotRecord};
use super::retention::{self, Trouble};
use super::{Context, publication, slot, stream};
use crate::config::{Settings, Via};
use crate::http::{self, Health};
use crate::run::selection;

/// Routing in the process of a run, over all its streams.
pub struct Shared {
    settings: Settings,
    reporter: Reporter,
    cancel: CancellationToken,
    counters: Arc<Counters>,
    smallest: Arc<AtomicUsize>,
    trouble: Trouble,
    /// It has routed: what is missing now may come back.
    began: AtomicBool,
}

/// What a stream follows.
pub struct Followed<'a> {
    pub slot: &'a str,
    /// Where the slot began: another slot of its name began elsewhere.
    pub slot_lsn: Lsn,
    pub publications: &'a [String],
    pub published: &'a PublicationState,
    /// Kafka has the events up to here.
    pub from: Lsn,
    /// Rows of the outbox tables are changes of a table as well.
    pub rows: bool,
}

/// Routing in one stream.
pub struct Joined {
    pub beside: Beside,
    /// Of logical messages.
    pub prefixes: Vec<String>,
    /// Outbox tables without a topic of their own.
    pub unpublished: Vec<QualifiedName>,
    watch: Watch,
}

/// Cleanup and numbers, for as long as it lives.
pub struct Watching(#[allow(dead_code)] DropGuard);

struct Watch {
    context: Context,
    tables: Vec<Table>,
}

impl Shared {
    /// If the settings ask for it.
    ///
    /// # Errors
    /// Class `Usage`: settings that don't go together.
    pub fn new(
        settings: &Settings,
        reporter: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<Option<Shared>> {
        let outbox = &settings.outbox;
        if !outbox.share_slot {
            return Ok(None);
        }
        if !outbox.beside {
            return Err(Error::usage(
                "outbox.share_slot says from which slot outbox.beside routes: turn that on",
            ));
        }
        if settings.run.via != Via::Kafka {
            return Err(Error::usage("outbox.share_slot needs --via kafka")
                .detail("otherwise the slot moves by what the target has, whatever Kafka has")
                .hint("route from a slot of its own: leave outbox.share_slot out"));
        }
        if outbox.snapshot {
            return Err(Error::usage("outbox.snapshot needs a slot of its own: leave outbox.share_slot out"));
        }
        plan::options(settings)?;
        Ok(Some(Shared {
            settings: settings.clone(),
            reporter: reporter.clone(),
            cancel: cancel.clone(),
            counters: Arc::default(),
            smallest: Arc::new(usize::MAX.into()),
            trouble: Trouble::default(),
            began: AtomicBool::new(false),
        }))
    }

    /// What was routed since the process began.
    pub fn counted(&self) -> OutboxLive {
        let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        OutboxLive { events: count(&self.counters.events), dead_letters: count(&self.counters.dead_letters) }
    }

    /// Would it be refused? Asked before a run begins; a source that is away doesn't say.
    ///
    /// # Errors
    /// Class `Refuse`: outbox tables that are missing, don't fit the options, or won't be published.
    pub async fn preflight(&self) -> Result<()> {
        let looked = async {
            let name = format!("{} (check)", self.settings.name());
            let session = Session::connect(&self.settings.source()?, Purpose::Query, &name).await?;
            let plan = plan::look(&self.settings, &session, false).await?;
            let named = &self.settings.run.publication;
            if !named.is_empty() {
                let state = PublicationState::read(&session, named).await?;
                return publication::published(&plan.tables, named, &state);
            }
            let chosen = selected(&session, &selection(&self.settings)).await?;
            match plan.tables.iter().find(|table| !chosen.iter().any(|one| one.name == table.name)) {
                None => Ok(()),
                Some(table) => Err(Error::refuse(
                    "OUTBOX_NOT_PUBLISHED",
                    format!("the selection leaves out outbox table {}", table.name),
                )
                .hint("take it in, or route from a slot of its own: leave outbox.share_slot out")),
            }
        };
        match looked.await {
            Err(error) if matches!(error.class(), Class::Refuse | Class::Usage) => Err(error),
            _ => Ok(()),
        }
    }

    /// Prepares routing for one stream; puts on record, once, that it begins.
    ///
    /// # Errors
    /// As [`plan::look`]; tables that are not published.
    pub async fn join(&self, session: &Session, health: &Health, followed: &Followed<'_>) -> Result<Joined> {
        let mut settings = self.settings.clone();
        settings.run.slot = Some(followed.slot.to_owned());
        settings.run.publication = followed.publications.to_vec();
        let began = self.began.load(Ordering::Relaxed);
        let plan = plan::look(&settings, session, began).await?;
        publication::published(&plan.tables, followed.publications, followed.published)?;
        let mut context = Context::new(settings, self.reporter.clone(), self.cancel.clone())?;
        context.health = health.clone();
        context.counters = self.counters.clone();
        context.smallest = self.smallest.clone();
        context.trouble = self.trouble.clone();
        if !began {
            plan.say(&context);
        }
        begins(&context, session, followed.slot_lsn, &plan).await?;
        self.began.store(true, Ordering::Relaxed);
        let beside = Beside {
            options: stream::sink_options(&context, &plan)?,
            rows: followed.rows,
            from: followed.from,
        };
        let names = plan.tables.iter().map(|table| table.name.clone());
        let unpublished = if followed.rows { Vec::new() } else { names.collect() };
        let Plan { tables, prefixes, .. } = plan;
        Ok(Joined { beside, prefixes, unpublished, watch: Watch { context, tables } })
    }
}

impl Joined {
    /// The sink's part, and what is looked after beside the stream.
    pub fn split(self) -> (Beside, Watching) {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        tokio::spawn(async move {
            let _ = stop.run_until_cancelled(Box::pin(self.watch.run())).await;
        });
        (self.beside, Watching(cancel.drop_guard()))
    }
}

impl Watch {
    async fn run(self) {
        let mut cleaned = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            http::dead_letters(self.context.counters.dead_letters.load(Ordering::Relaxed));
            if self.context.settings.outbox.retention.is_none() || cleaned.elapsed() < retention::every() {
                continue;
            }
            cleaned = Instant::now();
            retention::clean(&self.context, &self.tables).await;
        }
    }
}

/// Puts on record, for cleanup, which rows were there before. Whoever had a transaction number then may have committed before the stream's
/// beginning: each of them counts as there.
async fn begins(context: &Context, session: &Session, slot_lsn: Lsn, plan: &Plan) -> Result<()> {
    let known = record::read(session, &context.slot).await?;
    if let Some(record) = known.filter(|record| record.shared && record.consistent_point == slot_lsn) {
        return slot::joined(context, &record, plan).await;
    }
    let next: i64 = session
        .query_one("SELECT pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())", &[])
        .await?
        .get(0);
    let snapshot = format!("{next}:{next}:");
    let record = SlotRecord {
        consistent_point: slot_lsn,
        tables: record::together(&plan.tables, &snapshot),
        snapshot,
        shared: true,
        adopted: false,
    };
    record::note(context, &record).await
}

/// A stream without routing begins from a slot that events were routed from.
///
/// # Errors
/// `OUTBOX_LEFT`: what is committed from now on would not be routed, nor found missing.
pub async fn left(session: &Session, name: &str, slot: &str, slot_lsn: Lsn) -> Result<()> {
    let record = record::read(session, slot).await?;
    if !record.is_some_and(|record| record.shared && record.consistent_point == slot_lsn) {
        return Ok(());
    }
    Err(Error::refuse("OUTBOX_LEFT", format!("outbox events were routed from slot \"{slot}\", and outbox.share_slot is off now"))
        .detail("events that are committed from now on would reach no topic")
        .hint(format!(
            "give outbox.beside and outbox.share_slot as before; if something else routes them now: walferry outbox remove --name {name} \
             forgets it, and leaves the slot"
        )))
}

/// The position in a run's id, `<name>@<LSN>/<form of the values>`.
pub fn slot_lsn(run_id: &str) -> Lsn {
    let lsn = run_id.rsplit_once('@').map_or("", |(_, rest)| rest);
    let end = lsn.match_indices('/').nth(1).map_or(lsn.len(), |(at, _)| at);
    lsn[..end].parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_says_where_its_slot_began() {
        assert_eq!(slot_lsn("shop@0/16B3748/postgres"), Lsn::new(0x16B_3748));
        assert_eq!(slot_lsn("shop@1/0/debezium decimal=string"), Lsn::new(1 << 32));
        assert_eq!(slot_lsn("shop"), Lsn::ZERO);
    }
}
