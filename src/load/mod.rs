//! Joins the reader's COPY out with the writer's COPY in: tables × ctid ranges, many connections, the table that takes longest first.
//!
//! ```text
//! Keeper ─ ticket ─► worker 1: CopyOut ── CopyData as received ──► CopyIn     ┐
//!                    worker 2: …                                             ├─ queue: what is next, what has to be done again
//!                    worker n: …                                             ┘
//! ```
//!
//! What flows in: tables, and a kept snapshot. What flows out: loaded tables, told one by one so that their indexes can be begun.
//! Invariants: pieces of two snapshots never meet in a table; a lost connection costs its piece, a lost keeper the tables that are not
//! complete; a table that is the target's own is loaded in one transaction or not at all. Memory: a few network buffers a worker.

mod queue;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use pg::{Error, Params, Result};
use pipeline::copy::{ColumnShape, Format, RowCheck};
use pipeline::{ColumnSpec, Reporter, TableMeter, TableSpec};
use reader::snapshot::{ChunkSizes, CopyOut, Keeper, Range, plan};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writer::load::{CopyIn, Ledger, TargetTable};

use queue::{Queue, Shared};
use worker::Worker;

/// One table to be loaded.
#[derive(Clone, Debug)]
pub struct Table {
    pub spec: TableSpec,
    /// Made by walferry: emptied first, may be loaded in pieces.
    pub created: bool,
    /// Copied before: emptied and filled in one transaction.
    pub again: bool,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
    pub source: Params,
    pub target: Params,
    /// The run: `walferry.apply` of the target's sessions.
    pub run: String,
    pub jobs: usize,
    pub chunk_sizes: ChunkSizes,
    pub binary: bool,
    pub freeze: bool,
    pub ledger: Ledger,
    /// Give up when connections have failed for so long; `None`: never while the keeper lives.
    pub give_up_after: Option<Duration>,
    /// Load the other tables before an error of one is returned.
    pub keep_going: bool,
}

/// What was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    pub tables: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// A table with all that its COPY commands say.
struct Work {
    spec: TableSpec,
    target: TargetTable,
    created: bool,
    again: bool,
    format: Format,
    /// Columns of the target may lose a part of a value: they are looked at.
    check: Option<RowCheck>,
    /// Empty: read whole, loaded in one transaction.
    ranges: Vec<Range>,
    meter: TableMeter,
}

/// Loads the tables, all of which the keeper holds. `loaded` gets the index of each table whose rows are committed.
///
/// # Errors
/// `SNAPSHOT_LOST`, `YIELDED_TO_DDL`: take a new snapshot for the tables that were not told. Anything else: the first error of a table;
/// the other tables were loaded (`keep_going`) or not begun.
pub async fn run(
    options: Options,
    tables: Vec<Table>,
    keeper: &Keeper,
    reporter: &Reporter,
    loaded: mpsc::UnboundedSender<usize>,
    cancel: &CancellationToken,
) -> Result<Loaded> {
    let Prepared { works, order, refused, connections } = prepare(&options, tables, keeper, reporter).await?;
    if let Some(error) = &refused {
        reporter.blocked(error);
        if !options.keep_going {
            return Err(error.clone());
        }
    }
    let pieces: Vec<usize> =
        works.iter().map(|work| work.as_ref().map_or(0, |work| work.ranges.len())).collect();
    let queue = Queue::new(&order, &pieces, |table| works[table].is_some());
    let jobs = options.jobs.clamp(1, queue.jobs().max(1));
    let shared = Arc::new(Shared::new(queue, options, works, keeper.ticket(), reporter.clone(), loaded));
    let mut workers = JoinSet::new();
    let mut connections = Some(connections);
    for _ in 0..jobs {
        workers.spawn(Worker::new(shared.clone(), connections.take()).run());
    }
    let ended = keeper.ended();
    tokio::pin!(ended);
    loop {
        let joined = tokio::select! {
            biased;
            error = &mut ended => {
                fail::fail_point!("copy-snapshot-ended");
                return Err(error);
            }
            () = cancel.cancelled() => return Err(cancelled()),
            joined = workers.join_next() => joined,
        };
        match joined {
            Some(Ok(result)) => result?,
            Some(Err(panic)) => {
                return Err(Error::failed("WORKER", format!("a copy worker failed: {panic}")));
            }
            None => break,
        }
    }
    let (summary, first_error) = shared.outcome()?;
    match first_error.or(refused) {
        Some(error) => Err(error),
        None => Ok(summary),
    }
}

/// Code of the error for a load that was told to end.
pub const CANCELLED: &str = "CANCELLED";

fn cancelled() -> Error {
    Error::failed(CANCELLED, "the copy was interrupted")
}

struct Prepared {
    works: Vec<Option<Work>>,
    /// The tables' indexes.
    order: Vec<usize>,
    /// Why a table can't be loaded.
    refused: Option<Error>,
    /// What was asked on them, and they are free.
    connections: (CopyOut, CopyIn),
}

/// Looks at both sides' tables: formats, pieces, and the order of the load. A table that the target can't take is left out.
async fn prepare(
    options: &Options,
    tables: Vec<Table>,
    keeper: &Keeper,
    reporter: &Reporter,
) -> Result<Prepared> {
    let name = worker::application_name(&options.run);
    let relations = tables
        .iter()
        .map(|table| {
            keeper.relation(&table.spec.name).ok_or_else(|| {
                Error::failed("NOT_HELD", format!("table {} is not held in the snapshot", table.spec.name))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut tables = tables;
    let mut source = CopyOut::join(&options.source, &name, &keeper.ticket()).await?;
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let source_shapes = source.shapes(&oids).await?;
    let mut target = CopyIn::connect(&options.target, &name, &options.run).await?;
    let computed: Vec<Vec<ColumnSpec>> = tables
        .iter_mut()
        .zip(&source_shapes)
        .map(|(table, shape)| take_computed(&mut table.spec, shape))
        .collect();
    let specs: Vec<TableSpec> = tables.iter().map(|table| table.spec.clone()).collect();
    let targets = target.look(&specs).await?;
    for ((table, columns), target) in tables.iter_mut().zip(computed).zip(&targets) {
        if let Ok(target) = target {
            give_computed(&mut table.spec, columns, &target.columns);
        }
    }
    let majors = (keeper.version().major(), target.version().major());
    let sizes: Vec<_> = relations
        .iter()
        .zip(&tables)
        // One transaction can't be fed in pieces.
        .map(|(relation, table)| reader::snapshot::Sizes {
            heap: relation.sizes.heap && table.created && !table.again,
            ..relation.sizes
        })
        .collect();
    let chunks = plan(&sizes, options.jobs, majors.0, options.chunk_sizes);
    let mut order = Vec::new();
    let mut ranges: Vec<Vec<Range>> = vec![Vec::new(); tables.len()];
    for chunk in chunks {
        if order.last() != Some(&chunk.table) {
            order.push(chunk.table);
        }
        ranges[chunk.table].extend(chunk.range);
    }
    reporter.planned(tables.len() as u64, sizes.iter().map(|sizes| sizes.bytes).sum());
    let mut refused = None;
    let works = tables
        .into_iter()
        .zip(source_shapes)
        .zip(targets)
        .zip(ranges)
        .zip(&sizes)
        .map(|((((table, source), target), mut ranges), sizes)| {
            let checked = target.and_then(|target| check_source(&table.spec, &source).map(|()| target));
            let target = match checked {
                Ok(target) => target,
                Err(error) => {
                    refused.get_or_insert(error);
                    return None;
                }
            };
            let Table { spec, created, again } = table;
            let created = created && !again;
            let columns: Vec<String> = spec.columns.iter().map(|column| column.name.clone()).collect();
            let check = RowCheck::of(&columns, &source, &target.columns);
            let format = if options.binary && check.is_none() {
                Format::choose(&columns, &source, &target.columns, majors.0, majors.1)
            } else {
                Format::Text
            };
            if spec.columns.is_empty() {
                ranges.clear();
            }
            let meter = reporter.waiting_table(&spec.name, Some(sizes.bytes));
            Some(Work { spec, target, created, again, format, check, ranges, meter })
        })
        .collect();
    Ok(Prepared { works, order, refused, connections: (source, target) })
}

/// Generated columns that are published (18 and later): the target may have the same, or compute its own.
fn take_computed(spec: &mut TableSpec, source: &[ColumnShape]) -> Vec<ColumnSpec> {
    let computed = |column: &ColumnSpec| source.iter().any(|ours| ours.name == column.name && ours.generated);
    let (taken, kept) = std::mem::take(&mut spec.columns).into_iter().partition(computed);
    spec.columns = kept;
    taken
}

/// Those that the target takes are copied, by a query: COPY of a table itself refuses generated columns.
fn give_computed(spec: &mut TableSpec, columns: Vec<ColumnSpec>, target: &[ColumnShape]) {
    for column in columns {
        if target.iter().any(|ours| ours.name == column.name && !ours.generated) {
            spec.columns.push(column);
            spec.filter.get_or_insert_with(|| "true".to_owned());
        }
    }
}

/// The snapshot has the columns that were recorded.
fn check_source(spec: &TableSpec, source: &[ColumnShape]) -> Result<()> {
    match spec.columns.iter().find(|column| !source.iter().any(|ours| ours.name == column.name)) {
        None => Ok(()),
        Some(column) => Err(Error::stop(
            "COLUMN_CHANGED",
            format!(
                "table {} on the source has no column {} any more",
                spec.name,
                pg::quote_ident(&column.name)
            ),
        )
        .hint("walferry refresh")),
    }
}
