//! What is to be loaded next, and what has to be done again.
//!
//! ```text
//! whole table:   Whole ──────────────────────────────► loaded
//! in pieces:     Empty ─► Piece, Piece, … ─► Record ─► loaded
//!                  ▲             │ COMMIT's outcome unknown: nobody can say whether these rows are there
//!                  └─────────────┘ once the table's other pieces have ended
//! ```

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use pg::{Error, Result};
use pipeline::Reporter;
use reader::snapshot::Ticket;
use tokio::sync::{Notify, mpsc};

use super::{Loaded, Options, Work};

/// One thing for a worker to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Job {
    /// The table in one transaction.
    Whole {
        table: usize,
    },
    /// Empties the table and records that it is being loaded in pieces.
    Empty {
        table: usize,
    },
    Piece {
        table: usize,
        piece: usize,
    },
    /// Records that all pieces are there.
    Record {
        table: usize,
    },
}

impl Job {
    pub(super) fn table(self) -> usize {
        match self {
            Job::Whole { table }
            | Job::Empty { table }
            | Job::Piece { table, .. }
            | Job::Record { table } => table,
        }
    }
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Done {
        rows: u64,
        bytes: u64,
    },
    /// Without effect: do it again.
    Lost,
    /// It may have taken effect.
    Unknown,
    /// The table can't be loaded for now.
    Failed,
}

#[derive(Clone, Debug, Default)]
struct State {
    pieces: usize,
    /// Pieces that are not committed.
    missing: usize,
    in_flight: usize,
    /// A piece's outcome is unknown: all of them again.
    redo: bool,
    failed: bool,
    rows: u64,
    bytes: u64,
}

/// Pure: no connection, no clock.
#[derive(Debug)]
pub(super) struct Queue {
    tables: Vec<State>,
    ready: VecDeque<Job>,
    in_flight: usize,
}

impl Queue {
    /// `order`: the tables' indexes; `pieces`: of each table, 0 = whole; `wanted`: tables that can be loaded.
    pub(super) fn new(order: &[usize], pieces: &[usize], wanted: impl Fn(usize) -> bool) -> Queue {
        let tables = pieces.iter().map(|&pieces| State { pieces, ..State::default() }).collect();
        let first =
            |&table: &usize| if pieces[table] == 0 { Job::Whole { table } } else { Job::Empty { table } };
        Queue {
            tables,
            ready: order.iter().filter(|table| wanted(**table)).map(first).collect(),
            in_flight: 0,
        }
    }

    /// An upper bound of the jobs that can run at the same time.
    pub(super) fn jobs(&self) -> usize {
        self.ready.iter().map(|job| self.tables[job.table()].pieces.max(1)).sum()
    }

    /// The next job; `None` while nothing is ready.
    pub(super) fn next(&mut self) -> Option<Job> {
        let job = self.ready.pop_front()?;
        self.in_flight += 1;
        self.tables[job.table()].in_flight += 1;
        Some(job)
    }

    /// Nothing is ready and nothing can become ready.
    pub(super) fn is_over(&self) -> bool {
        self.ready.is_empty() && self.in_flight == 0
    }

    /// A job has ended; rows and bytes of the table if that made it complete.
    pub(super) fn end(&mut self, job: Job, end: End) -> Option<(u64, u64)> {
        self.in_flight -= 1;
        let table = job.table();
        let state = &mut self.tables[table];
        state.in_flight -= 1;
        let mut complete = None;
        match (end, job) {
            (End::Failed, _) => state.failed = true,
            // Emptying and recording can be repeated; a whole table's transaction finds out by itself.
            (End::Lost, _) | (End::Unknown, Job::Whole { .. } | Job::Empty { .. } | Job::Record { .. }) => {
                if !state.failed && !state.redo {
                    self.ready.push_front(job);
                }
            }
            (End::Unknown, Job::Piece { .. }) => state.redo = true,
            (End::Done { .. }, Job::Empty { .. }) => {
                (state.missing, state.rows, state.bytes, state.redo) = (state.pieces, 0, 0, false);
                for piece in (0..state.pieces).rev() {
                    self.ready.push_front(Job::Piece { table, piece });
                }
            }
            (End::Done { rows, bytes }, Job::Piece { .. }) => {
                state.missing -= 1;
                state.rows += rows;
                state.bytes += bytes;
                if state.missing == 0 && !state.failed && !state.redo {
                    self.ready.push_front(Job::Record { table });
                }
            }
            (End::Done { rows, bytes }, Job::Whole { .. }) => complete = Some((rows, bytes)),
            (End::Done { .. }, Job::Record { .. }) => complete = Some((state.rows, state.bytes)),
        }
        let state = &self.tables[table];
        if state.failed || state.redo {
            self.ready.retain(|job| job.table() != table);
            if !state.failed && state.in_flight == 0 {
                self.ready.push_front(Job::Empty { table });
            }
        }
        complete
    }

    /// Rows and bytes of a table's committed pieces.
    pub(super) fn sums(&self, table: usize) -> (u64, u64) {
        (self.tables[table].rows, self.tables[table].bytes)
    }

    pub(super) fn clear(&mut self) {
        self.ready.clear();
    }
}

/// What the workers of one load share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
    pub(super) options: Options,
    works: Vec<Option<Work>>,
    pub(super) ticket: Ticket,
    pub(super) reporter: Reporter,
    loaded: mpsc::UnboundedSender<usize>,
    outcome: Mutex<(Loaded, Option<Error>)>,
}

impl Shared {
    pub(super) fn new(
        queue: Queue,
        options: Options,
        works: Vec<Option<Work>>,
        ticket: Ticket,
        reporter: Reporter,
        loaded: mpsc::UnboundedSender<usize>,
    ) -> Shared {
        Shared {
            queue: Mutex::new(queue),
            changed: Notify::new(),
            options,
            works,
            ticket,
            reporter,
            loaded,
            outcome: Mutex::new((Loaded::default(), None)),
        }
    }

    /// The next job and its table; waits while others may bring one about. `None`: all is done.
    pub(super) async fn next(&self) -> Option<(Job, &Work)> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(job) = queue.next() {
                    match self.works[job.table()].as_ref() {
                        Some(work) => return Some((job, work)),
                        None => {
                            queue.end(job, End::Failed);
                            continue;
                        }
                    }
                }
                if queue.is_over() {
                    return None;
                }
            }
            changed.await;
        }
    }

    pub(super) fn sums(&self, table: usize) -> (u64, u64) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).sums(table)
    }

    /// Takes a job's end in, and tells who waits for the table.
    pub(super) fn end(&self, job: Job, work: &Work, end: End) {
        let complete = self.queue.lock().unwrap_or_else(PoisonError::into_inner).end(job, end);
        if let Some((rows, bytes)) = complete {
            work.meter.done_with(rows, bytes);
            let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            outcome.0.tables += 1;
            outcome.0.rows += rows;
            outcome.0.bytes += bytes;
            drop(outcome);
            // Nobody has to listen.
            let _ = self.loaded.send(job.table());
        }
        self.changed.notify_waiters();
    }

    /// A table failed.
    pub(super) fn failed(&self, error: Error) {
        self.reporter.blocked(&error);
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).1.get_or_insert(error);
        if !self.options.keep_going {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    pub(super) fn outcome(&self) -> Result<(Loaded, Option<Error>)> {
        Ok(self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DONE: End = End::Done { rows: 1, bytes: 10 };

    #[test]
    fn a_table_in_pieces_is_emptied_first_and_recorded_last() {
        let mut queue = Queue::new(&[1, 0], &[0, 2], |_| true);
        let empty = queue.next().unwrap();
        assert_eq!(empty, Job::Empty { table: 1 });
        assert_eq!(queue.next(), Some(Job::Whole { table: 0 }));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.end(empty, DONE), None);
        let (a, b) = (queue.next().unwrap(), queue.next().unwrap());
        assert_eq!((a, b), (Job::Piece { table: 1, piece: 0 }, Job::Piece { table: 1, piece: 1 }));
        assert_eq!(queue.end(a, End::Lost), None);
        assert_eq!(queue.next(), Some(a));
        assert_eq!(queue.end(a, DONE), None);
        assert_eq!(queue.end(b, DONE), None);
        let record = queue.next().unwrap();
        assert_eq!(record, Job::Record { table: 1 });
        assert_eq!(queue.end(record, DONE), Some((2, 20)));
        assert_eq!(queue.end(Job::Whole { table: 0 }, DONE), Some((1, 10)));
        assert!(queue.is_over());
    }

    #[test]
    fn an_unknown_outcome_waits_for_the_others_and_starts_the_table_over() {
        let mut queue = Queue::new(&[0], &[3], |_| true);
        let empty = queue.next().unwrap();
        queue.end(empty, DONE);
        let (a, b) = (queue.next().unwrap(), queue.next().unwrap());
        queue.end(a, End::Unknown);
        assert_eq!(queue.next(), None);
        queue.end(b, DONE);
        assert_eq!(queue.next(), Some(empty));
        queue.end(empty, DONE);
        assert_eq!(queue.ready.len(), 3);
        assert_eq!(queue.sums(0), (0, 0));
    }

    proptest! {
        /// Whatever is lost on the way, the rows that are told are the rows that are there.
        #[test]
        fn what_is_reported_is_what_is_committed(
            pieces in proptest::collection::vec(0usize..5, 1..6),
            choices in proptest::collection::vec((0usize..4, 0u8..10), 1..400),
        ) {
            let order: Vec<usize> = (0..pieces.len()).collect();
            let mut queue = Queue::new(&order, &pieces, |_| true);
            let mut running: Vec<Job> = Vec::new();
            // What the target holds: a set of pieces that survive until the next Empty.
            let mut target: Vec<Vec<usize>> = vec![Vec::new(); pieces.len()];
            let mut told = vec![false; pieces.len()];
            let mut choices = choices.into_iter().chain(std::iter::repeat((0, 9)));
            while !queue.is_over() {
                while running.len() < 4 {
                    let Some(job) = queue.next() else { break };
                    running.push(job);
                }
                prop_assert!(!running.is_empty(), "stuck");
                let (which, fate) = choices.next().unwrap();
                let job = running.remove(which % running.len());
                let end = match fate { 0 => End::Lost, 1 | 2 => End::Unknown, _ => DONE };
                let took = fate > 1; // of the unknown, every other one
                match job {
                    Job::Empty { table } if took => target[table].clear(),
                    Job::Piece { table, piece } if took => target[table].push(piece),
                    Job::Whole { table } if took => target[table] = vec![0],
                    _ => {}
                }
                if queue.end(job, end).is_some() {
                    let table = job.table();
                    prop_assert!(!told[table]);
                    told[table] = true;
                    let mut there = target[table].clone();
                    there.sort_unstable();
                    let all: Vec<usize> = (0..pieces[table].max(1)).collect();
                    prop_assert_eq!(there, all);
                }
            }
            prop_assert!(told.iter().all(|told| *told));
        }
    }
}
