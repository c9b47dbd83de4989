//! A snapshot of the source to copy from: the slot's own at the first start, a temporary slot's later on.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use pg::{Error, Lsn, QualifiedName, Result};
use pipeline::TableSpec;
use reader::slot::{self, Blocker, CreateOptions, ExportedSlot};
use reader::snapshot::{Keeper, KeeperOptions, LOST, REWRITTEN};
use tokio::sync::watch;
use writer::control::{Mode, Run, RunTable};

use super::context::{Context, on_source};
use super::lag::Found;
use super::owner::Owner;
use super::{monitor, publication};

/// How often a table may be rewritten while the snapshot is taken before a person is told.
pub const REWRITES: u32 = 5;

/// A kept snapshot and the position that it shows the source at.
pub struct Snapshot {
    pub keeper: Keeper,
    pub lsn: Lsn,
}

impl Snapshot {
    /// Takes the snapshot over from the slot's connection, and every table in ACCESS SHARE mode.
    pub async fn keep(
        context: &Context,
        owner: &Owner,
        exported: &ExportedSlot,
        tables: &[TableSpec],
    ) -> Result<Snapshot> {
        let (options, blockers) = options(context);
        let opening = Keeper::open(&context.source, &exported.snapshot, tables, &options);
        let keeper = shown(context, owner, blockers, LOCKS_WAIT, Box::pin(opening)).await;
        Ok(Snapshot { keeper: keeper.map_err(on_source)?, lsn: exported.consistent_point })
    }

    /// A snapshot of its own, without a slot.
    pub async fn plain(context: &Context, owner: &Owner, tables: &[TableSpec]) -> Result<Snapshot> {
        let (options, blockers) = options(context);
        let opening = Keeper::of_now(&context.source, tables, &options);
        let keeper = shown(context, owner, blockers, LOCKS_WAIT, Box::pin(opening)).await;
        Ok(Snapshot { keeper: keeper.map_err(on_source)?, lsn: Lsn::ZERO })
    }

    /// The name to import it by.
    pub fn id(&self) -> &str {
        self.keeper.snapshot()
    }
}

/// And where whoever holds up the keeper's locks is told.
fn options(context: &Context) -> (KeeperOptions, watch::Receiver<Vec<String>>) {
    let (blockers, told) = watch::channel(Vec::new());
    let options = KeeperOptions {
        application_name: format!("{} (keeper)", context.name),
        yield_to_ddl: context.settings.copy.yield_to_ddl,
        blockers,
    };
    (options, told)
}

/// Were the tables altered between two looks? Sizes don't matter, and files are compared under the lock.
pub fn same_tables(one: &[TableSpec], other: &[TableSpec]) -> bool {
    let plain = |tables: &[TableSpec]| {
        let mut tables: Vec<_> = tables
            .iter()
            .map(|table| TableSpec { bytes: 0, pages: 0, files: BTreeMap::new(), ..table.clone() })
            .collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        tables
    };
    plain(one) == plain(other)
}

/// Makes sure that there is a snapshot to copy what is still missing from.
pub async fn ensure(
    context: &Context,
    owner: &Owner,
    run: &Run,
    snapshot: &mut Option<Snapshot>,
) -> Result<()> {
    if snapshot.as_ref().is_some_and(|snapshot| !snapshot.keeper.is_lost()) {
        return Ok(());
    }
    *snapshot = None;
    if context.mode == Mode::Copy {
        return Err(Error::failed(LOST, "the connection that held the source's snapshot is lost"));
    }
    let options = CreateOptions {
        application_name: context.name.clone(),
        wait: context.settings.slot.wait,
        failover: false,
    };
    let mut last = None;
    for _ in 0..REWRITES {
        let missing = still_missing(context, owner, run).await?;
        let (tell, blockers) = watch::channel(Vec::new());
        let creating = slot::create_temporary(&context.source, &run.name, &options, |who| told(&tell, who));
        let exported = shown(context, owner, blockers, SLOT_WAITS, creating).await?;
        match Snapshot::keep(context, owner, &exported, &missing).await {
            Ok(kept) if same_tables(&missing, &still_missing(context, owner, run).await?) => {
                *snapshot = Some(kept);
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if error.code() == REWRITTEN => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(rewritten_again))
}

/// The source's DDL doesn't let a snapshot be taken.
pub fn rewritten_again() -> Error {
    Error::stop(REWRITTEN, "tables of the source are altered again and again while the snapshot is taken")
        .hint("wait until the DDL on the source is over; the run goes on by itself")
}

/// The tables that are not copied yet, as the source has them now. Those that are gone there are forgotten.
async fn still_missing(context: &Context, owner: &Owner, run: &Run) -> Result<Vec<TableSpec>> {
    let source = context.source_session().await?;
    let published = publication::look(context, &source, &run.publications, run.publication_own).await?;
    let specs: HashMap<&QualifiedName, &TableSpec> =
        published.tables.iter().map(|spec| (&spec.name, spec)).collect();
    let mut missing = Vec::new();
    for table in RunTable::all(owner.session(), &run.name).await? {
        if !table.state.to_copy() {
            continue;
        }
        let recorded = table.spec()?.clone();
        let Some(&now) = specs.get(&table.name) else {
            let there = source
                .query_one("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[&table.name.to_string()])
                .await?
                .try_get(0)?;
            if there {
                missing.push(recorded);
            } else {
                RunTable::forget(owner.session(), &run.name, &table.name).await?;
                context.reporter.note(format!("table {} is gone on the source and is left out", table.name));
            }
            continue;
        };
        if !same_tables(std::slice::from_ref(now), std::slice::from_ref(&recorded)) {
            RunTable { spec: Some(now.clone()), ..table }.store(owner.session(), &run.name).await?;
        }
        missing.push(now.clone());
    }
    Ok(missing)
}

pub const SLOT_WAITS: &str = "the slot waits for transactions that are open on the source";
pub const LOCKS_WAIT: &str = "the snapshot waits for locks on the source";
pub const PUBLICATION_WAITS: &str = "the publication waits for locks on the source";
pub const OTHERS_WAIT: &str = "sessions on the source wait for the copy's locks";

/// Passes on whom the creation of a slot waits for.
pub fn told(tell: &watch::Sender<Vec<Blocker>>, who: &[Blocker]) {
    tell.send_if_modified(|before| {
        // Ages move; who it is doesn't.
        let same = before.iter().map(|b| (b.pid, &b.gid)).eq(who.iter().map(|b| (b.pid, &b.gid)));
        if !same {
            *before = who.to_vec();
        }
        !same
    });
}

/// Does `work`; meanwhile whoever waits, or is waited for, is said once and stands in the run's `status`.
pub async fn shown<T, W: Display>(
    context: &Context,
    owner: &Owner,
    mut who: watch::Receiver<Vec<W>>,
    what: &str,
    work: impl Future<Output = T>,
) -> T {
    let mut showing = false;
    let mut open = true;
    let mut work = std::pin::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            changed = who.changed(), if open => open = changed.is_ok(),
        }
        let now: Vec<String> = who.borrow_and_update().iter().map(ToString::to_string).collect();
        if now.is_empty() && !showing {
            continue;
        }
        showing = !now.is_empty();
        if showing {
            context.reporter.note(format!("{what}: {}", now.join("; ")));
        }
        // Only a display: the next one may succeed.
        let _ = Run::set_live(
            owner.session(),
            &context.name,
            &monitor::live(None, now, Vec::new(), Found::default()),
        )
        .await;
    };
    if showing {
        let _ = Run::set_live(
            owner.session(),
            &context.name,
            &monitor::live(None, Vec::new(), Vec::new(), Found::default()),
        )
        .await;
    }
    result
}
