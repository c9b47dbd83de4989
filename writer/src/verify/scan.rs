//! Pass 1: reads everything once on both sides and adds up the buckets.
//!
//! Tables are cut into pieces of pages where the server can read those by themselves (14 and newer), the biggest tables first. Each
//! side has its own queue and its own sessions, so neither waits for the other. A table that fails is left, the others go on.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::try_join_all;
use pg::{Class, Error, Result};
use pipeline::report::TableMeter;

use super::compare::{Comparison, Task};
use super::reading::Reading;
use super::report::Mode;
use super::side::Which;
use super::statement::{Slice, Statements};
use super::sums::{Differing, Sums};

/// A table that has to be read again.
pub struct Again {
    pub task: usize,
    pub differing: Differing,
    pub digest: bool,
}

struct Unit {
    task: usize,
    /// Pieces of an attempt that was given up are dropped.
    attempt: u32,
    from: String,
    slice: Slice,
    bytes: u64,
}

struct State {
    sums: [Option<Sums>; 2],
    left: [usize; 2],
    attempt: u32,
    digest: bool,
    failed: Option<Error>,
    started: Option<Instant>,
    meter: Option<TableMeter>,
    finished: Option<(Differing, [u64; 2], std::time::Duration)>,
}

struct Scan<'a, 't> {
    comparison: &'a Comparison<'a>,
    tasks: &'a [Task<'t>],
    queues: [Mutex<VecDeque<Unit>>; 2],
    states: Mutex<Vec<State>>,
}

/// Fills in the rows of each report, and says what has to be looked at more closely.
pub async fn scan(comparison: &Comparison<'_>, tasks: &mut [Task<'_>]) -> Result<Vec<Again>> {
    let scan = Scan::new(comparison, tasks);
    let jobs = comparison.options.jobs.max(1);
    loop {
        let workers: Vec<Which> = [Which::Source, Which::Target]
            .into_iter()
            .flat_map(|which| {
                let units = lock(&scan.queues[which.index()]).len();
                std::iter::repeat_n(which, jobs.min(units))
            })
            .collect();
        if workers.is_empty() {
            break;
        }
        // A side that had nothing left to do gets more when the other one has to read a table again.
        try_join_all(workers.into_iter().map(|which| scan.work(which))).await?;
    }
    let states = scan.states.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut again = Vec::new();
    for (task, (state, at)) in states.into_iter().zip(tasks.iter_mut()).enumerate() {
        let (state, task_state) = (state, at);
        if let Some(error) = &state.failed {
            task_state.fail(error);
        }
        let Some((differing, [source, target], duration)) = state.finished else {
            if state.failed.is_none() && state.left != [0, 0] {
                task_state.fail(&Error::new(
                    Class::Unverifiable,
                    "NOT_READ",
                    "not all of it was read on both sides",
                ));
            }
            continue;
        };
        task_state.report.source_rows = Some(source);
        task_state.report.target_rows = Some(target);
        task_state.report.duration = duration;
        if task_state.report.mode == Mode::Counts {
            task_state.report.missing = source.saturating_sub(target);
            task_state.report.extra = target.saturating_sub(source);
        } else if !differing.is_empty() {
            task_state.differs = true;
            again.push(Again { task, differing, digest: state.digest });
        }
    }
    Ok(again)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a, 't> Scan<'a, 't> {
    fn new(comparison: &'a Comparison<'a>, tasks: &'a [Task<'t>]) -> Scan<'a, 't> {
        let states = tasks.iter().map(|_| State {
            sums: [None, None],
            left: [0, 0],
            attempt: 0,
            digest: false,
            failed: None,
            started: None,
            meter: None,
            finished: None,
        });
        let scan = Scan {
            comparison,
            tasks,
            queues: [Mutex::default(), Mutex::default()],
            states: Mutex::new(states.collect()),
        };
        let mut biggest: Vec<usize> = (0..tasks.len()).collect();
        biggest.sort_by_key(|&task| std::cmp::Reverse(tasks[task].pages()));
        let whole = biggest.iter().filter(|&&task| tasks[task].report.mode != Mode::Keys);
        let (mut count, mut bytes) = (0, 0);
        for &task in whole {
            if tasks[task].pair.is_some() {
                scan.enqueue(task);
                count += 1;
                bytes += tasks[task].table.spec.bytes;
            }
        }
        comparison.reporter.planned(count, bytes);
        scan
    }

    /// Puts all pieces of a table into both queues.
    fn enqueue(&self, task: usize) {
        let Some(pair) = &self.tasks[task].pair else { return };
        let mut states = lock(&self.states);
        let state = &mut states[task];
        for which in [Which::Source, Which::Target] {
            let units = self.units(task, which, state.attempt);
            state.left[which.index()] = units.len();
            state.sums[which.index()] = Some(Sums::new(pair.buckets));
            lock(&self.queues[which.index()]).extend(units);
        }
    }

    fn units(&self, task: usize, which: Which, attempt: u32) -> Vec<Unit> {
        let Some(pair) = &self.tasks[task].pair else { return Vec::new() };
        let jobs = self.comparison.options.jobs.max(1) as u64;
        let major = self.comparison.majors[which.index()];
        let relation = &pair.side(which).relation;
        // 32 MB to 1 GB.
        let piece = (relation.pages() / (4 * jobs)).clamp(4096, 131_072);
        let mut units = Vec::new();
        for part in &relation.parts {
            let unit = |slice, pages: u64| Unit {
                task,
                attempt,
                from: part.from.clone(),
                slice,
                bytes: pages * 8192,
            };
            if part.heap && major >= 14 && part.pages > piece {
                let mut from = 0;
                while from < part.pages {
                    let next = from + piece;
                    // The last one is open: the table may have grown since it was measured.
                    let last = next >= part.pages;
                    units
                        .push(unit(Slice::Pages(from, (!last).then_some(next)), next.min(part.pages) - from));
                    from = next;
                }
            } else if part.heap && major < 14 && part.pages > 4096 && jobs > 1 && !pair.key.is_empty() {
                // Every piece reads all pages, but makes the text of its own share only, and that is what costs.
                let shares = if jobs >= 4 { 4 } else { 2 };
                units.extend(
                    (0..shares).map(|n| unit(Slice::Share(n, shares), part.pages / u64::from(shares))),
                );
            } else {
                units.push(unit(Slice::All, part.pages));
            }
        }
        units
    }

    async fn work(&self, which: Which) -> Result<()> {
        let mut reading = self.comparison.open(which).await?;
        loop {
            let unit = lock(&self.queues[which.index()]).pop_front();
            let Some(unit) = unit else { return Ok(()) };
            let digest = {
                let mut states = lock(&self.states);
                let state = &mut states[unit.task];
                if state.failed.is_some() || state.attempt != unit.attempt {
                    continue;
                }
                if state.started.is_none() {
                    let spec = &self.tasks[unit.task].table.spec;
                    state.started = Some(Instant::now());
                    state.meter = Some(self.comparison.reporter.table(&spec.name, None, Some(spec.bytes)));
                }
                state.digest
            };
            match self.read(&reading, which, &unit, digest).await {
                Ok(rows) => self.add(which, &unit, &rows)?,
                Err(error) => {
                    self.failed(which, &unit, error);
                    if reading.session().is_closed() {
                        reading = self.comparison.open(which).await?;
                    } else {
                        reading.end().await?;
                    }
                }
            }
        }
    }

    async fn read(
        &self,
        reading: &Reading<'_>,
        which: Which,
        unit: &Unit,
        digest: bool,
    ) -> Result<Vec<tokio_postgres::Row>> {
        let task = &self.tasks[unit.task];
        let Some(pair) = &task.pair else { return Ok(Vec::new()) };
        let statements = Statements { pair, which, hashing: &self.comparison.hashing, digest };
        let sql = match task.report.mode {
            Mode::Counts => statements.count(&unit.from, unit.slice),
            _ => statements.sums(&unit.from, unit.slice),
        };
        reading.begin().await?;
        let rows = reading.session().query(&sql, &[]).await.map_err(|error| which.blame(error.into()))?;
        fail::fail_point!("verify-read-source", which == Which::Source, |_| {
            Err(Error::server("54000", "the text of a row would be too long"))
        });
        reading.still_the_same(&pair.side(which).relation).await?;
        reading.end().await?;
        Ok(rows)
    }

    fn add(&self, which: Which, unit: &Unit, rows: &[tokio_postgres::Row]) -> Result<()> {
        let mut states = lock(&self.states);
        let state = &mut states[unit.task];
        if state.attempt != unit.attempt || state.failed.is_some() {
            return Ok(());
        }
        let Some(sums) = &mut state.sums[which.index()] else { return Ok(()) };
        let mut total = 0;
        for row in rows {
            total += sums.add(row)?;
        }
        if which == Which::Source
            && let Some(meter) = &state.meter
        {
            meter.add(total, unit.bytes);
        }
        state.left[which.index()] -= 1;
        if state.left == [0, 0]
            && let [Some(source), Some(target)] = &state.sums
        {
            let took = state.started.map_or(std::time::Duration::ZERO, |started| started.elapsed());
            state.finished = Some((source.differing(target), [source.rows(), target.rows()], took));
            state.sums = [None, None];
            if let Some(meter) = &state.meter {
                meter.done();
            }
        }
        Ok(())
    }

    fn failed(&self, which: Which, unit: &Unit, error: Error) {
        {
            let mut states = lock(&self.states);
            let state = &mut states[unit.task];
            if state.attempt != unit.attempt || state.failed.is_some() {
                return;
            }
            let content = self.tasks[unit.task].report.mode == Mode::Content;
            if !(is_too_wide(&error) && content && !state.digest) {
                state.failed = Some(explained(error, which, &self.tasks[unit.task]));
                return;
            }
            state.digest = true;
            state.attempt += 1;
        }
        self.enqueue(unit.task);
    }
}

impl Task<'_> {
    fn pages(&self) -> u64 {
        let Some(pair) = &self.pair else { return 0 };
        pair.sides.iter().map(|side| side.relation.pages()).sum()
    }
}

/// The text of a row can be longer than a text may be: a bytea's is twice as long as its value.
fn is_too_wide(error: &Error) -> bool {
    error.is("54000") || error.is("53200") || (error.is("XX000") && error.primary().contains("memory alloc"))
}

/// Adds what helps.
pub(super) fn explained(error: Error, which: Which, task: &Task<'_>) -> Error {
    let Some(pair) = &task.pair else { return error };
    let name = &pair.side(which).relation.name;
    let hint = match error.sqlstate() {
        Some("42501") => format!("on the {}: GRANT SELECT ON {name} TO the role that verifies", which.name()),
        Some("55P03") => format!("somebody holds a lock on {name} on the {}; compare again", which.name()),
        _ => return error.with_class(Class::Unverifiable),
    };
    error.hint(hint).with_class(Class::Unverifiable)
}
