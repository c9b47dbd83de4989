//! From changes in WAL order to as few statements as exactness allows. Pure: nothing here talks to a server.
//!
//! Per table and key the piece's changes become one operation, so that sets and COPY can be used: delete, then update, then insert.
//! What can't be coalesced safely keeps its WAL order: keys whose equality is not bytewise, identity FULL, tables with triggers that
//! fire, and tables that a set failed on before (`ordered`, and `careful` where that failed too). Tables don't depend on each other as long as foreign keys and ordinary
//! triggers don't fire; as soon as one with triggers is in the piece, all of it keeps WAL order.

mod group;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pg::QualifiedName;
use pipeline::{Change, OldTuple, Tuple};

use super::key_map::KeyMap;
use super::piece::Piece;
use super::row::Row;
use super::tables::Tables;
use super::target::Target;
use crate::control::{Counters, Skips};
use group::Group;

/// One change of one row, as it will be sent.
#[derive(Debug)]
pub enum RowChange {
    Insert(Row),
    /// `key`: the old key where it changed, or holds values that `new` leaves out.
    Update {
        key: Option<Tuple>,
        new: Row,
    },
    UpdateFull {
        old: Tuple,
        new: Row,
    },
    Delete(Tuple),
    DeleteFull(Tuple),
}

/// What is sent to the server, in this order.
#[derive(Debug)]
pub enum Step {
    Row {
        target: Arc<Target>,
        change: RowChange,
        index: usize,
        careful: bool,
    },
    /// New rows: by COPY when there are many.
    Insert {
        target: Arc<Target>,
        rows: Vec<Row>,
    },
    /// Rows that lack the same columns, each key once.
    Update {
        target: Arc<Target>,
        unchanged: Vec<u16>,
        rows: Vec<Row>,
    },
    /// Keys, each once. `certain`: each row must be there; else it was made in this piece and may not be.
    Delete {
        target: Arc<Target>,
        keys: Vec<Tuple>,
        certain: bool,
    },
    /// `partial`: some tables of the source's list are not ours, so a TRUNCATE could meet their foreign keys, or it has met one: that of a
    /// partitioned table belongs to the root, and only its partitions are in the list.
    Truncate {
        targets: Vec<Arc<Target>>,
        restart_identity: bool,
        partial: bool,
        /// Checks that were put off to the end of the transaction are made first: TRUNCATE refuses a table for which some are pending.
        check_first: bool,
    },
}

/// What a piece does to the target.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Source events; `transactions` counts those with a change for us.
    pub counts: Counters,
    /// It must not be carried out: a value would not be kept whole.
    pub misfit: Option<Misfit>,
}

/// A value that a column of the target would lose a part of.
#[derive(Debug)]
pub struct Misfit {
    pub target: Arc<Target>,
    pub column: usize,
    /// Of the change, in its piece.
    pub index: usize,
}

impl Plan {
    /// Rows that are put in as they are, and nothing whose outcome has to be looked at: the server takes all of it, or refuses all of it.
    pub fn is_only_inserts(&self) -> bool {
        self.steps.iter().all(|step| {
            matches!(
                step,
                Step::Insert { .. } | Step::Row { change: RowChange::Insert(_), careful: false, .. }
            )
        })
    }

    /// The tables that are written to, some more than once.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.steps
            .iter()
            .flat_map(|step| match step {
                Step::Row { target, .. }
                | Step::Insert { target, .. }
                | Step::Update { target, .. }
                | Step::Delete { target, .. } => std::slice::from_ref(target),
                Step::Truncate { targets, .. } => targets,
            })
            .map(Arc::as_ref)
    }
}

/// How to plan.
#[derive(Clone, Debug)]
pub struct PlanOptions<'a> {
    pub coalesce: bool,
    /// Updates and deletes of a table in the order of their keys.
    pub sort: bool,
    /// Ids of tables whose changes keep WAL order.
    pub ordered: &'a HashSet<u32>,
    /// Ids of tables whose changes go row by row, each looked at.
    pub careful: &'a HashSet<u32>,
    /// Everything row by row, each looked at.
    pub all_careful: bool,
    /// The target has refused a TRUNCATE of this piece.
    pub truncate_by_delete: bool,
    /// … because of checks that were put off.
    pub check_before_truncate: bool,
    pub skips: &'a Skips,
}

struct Planner<'a> {
    plan: Plan,
    groups: Vec<Group>,
    by_id: HashMap<u32, usize>,
    ordered: Vec<Step>,
    /// Id of the last change's table, and the last id under each name.
    last: Option<u32>,
    versions: HashMap<QualifiedName, u32>,
    key: Vec<u8>,
    options: PlanOptions<'a>,
}

/// Plans a piece. Every relation of it must have been learnt.
pub fn plan(piece: &Piece, tables: &mut Tables, options: PlanOptions<'_>) -> Plan {
    let in_order = options.all_careful || !options.coalesce || {
        tables.any_fires()
            && piece.positions().any(|(commit_lsn, change)| match change {
                Change::Insert { relation, .. }
                | Change::Update { relation, .. }
                | Change::Delete { relation, .. } => {
                    tables.target(relation, commit_lsn).is_some_and(|target| target.triggers)
                }
                Change::Truncate { .. } => false,
            })
    };
    let mut planner = Planner {
        plan: Plan::default(),
        groups: Vec::new(),
        by_id: HashMap::new(),
        ordered: Vec::new(),
        last: None,
        versions: HashMap::new(),
        key: Vec::new(),
        options,
    };
    let mut counted = None;
    for (index, (commit_lsn, change)) in piece.positions().enumerate() {
        if planner.options.skips.contains(commit_lsn) {
            planner.skip(change, tables, commit_lsn);
            continue;
        }
        if planner.change(change, index, tables, commit_lsn, in_order)
            && counted.replace(commit_lsn) != Some(commit_lsn)
        {
            planner.plan.counts.transactions += 1;
        }
    }
    planner.flush_all();
    planner.plan
}

impl Planner<'_> {
    fn skip(&mut self, change: &Change, tables: &mut Tables, commit_lsn: pg::Lsn) {
        self.plan.counts.skipped += match change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. } => i64::from(tables.target(relation, commit_lsn).is_some()),
            Change::Truncate { relations, .. } => {
                relations.iter().filter(|relation| tables.target(relation, commit_lsn).is_some()).count()
                    as i64
            }
        };
    }

    /// True when the change is ours.
    fn change(
        &mut self,
        change: &Change,
        index: usize,
        tables: &mut Tables,
        commit_lsn: pg::Lsn,
        in_order: bool,
    ) -> bool {
        let relation = match change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. } => relation,
            Change::Truncate { relations, restart_identity, .. } => {
                let mut targets: Vec<_> =
                    relations.iter().filter_map(|relation| tables.target(relation, commit_lsn)).collect();
                if targets.is_empty() {
                    return false;
                }
                // One order for every run that writes into this target, so that two of them can't deadlock.
                targets.sort_by(|a, b| a.name.cmp(&b.name));
                self.flush_all();
                self.plan.counts.truncated += targets.len() as i64;
                let partial = self.options.truncate_by_delete || targets.len() < relations.len();
                self.plan.steps.push(Step::Truncate {
                    targets,
                    restart_identity: *restart_identity,
                    partial,
                    check_first: self.options.check_before_truncate,
                });
                return true;
            }
        };
        let Some(target) = tables.target(relation, commit_lsn) else { return false };
        // A new description of a table in the middle of a piece, or another table under its name: what came before goes first.
        if self.last.replace(target.id) != Some(target.id)
            && self.versions.insert(target.name.clone(), target.id).is_some_and(|before| before != target.id)
        {
            self.flush_all();
        }
        if target.looked_at && self.plan.misfit.is_none() {
            let column = tuples(change).find_map(|tuple| target.misfit(tuple));
            self.plan.misfit = column.map(|column| Misfit { target: target.clone(), column, index });
        }
        match change {
            Change::Insert { .. } => self.plan.counts.inserted += 1,
            Change::Update { .. } => self.plan.counts.updated += 1,
            Change::Delete { .. } => self.plan.counts.deleted += 1,
            Change::Truncate { .. } => {}
        }
        let careful = self.options.all_careful || self.options.careful.contains(&target.id);
        let ordered = self.options.ordered.contains(&target.id);
        if in_order || target.in_order || ordered || careful {
            self.push_ordered(target, change, index, careful);
        } else {
            self.coalesce(target, change, index);
        }
        true
    }

    fn push_ordered(&mut self, target: Arc<Target>, change: &Change, index: usize, careful: bool) {
        let change = row_change(&target, change);
        if let (RowChange::Insert(row), false) = (&change, careful) {
            if let Some(Step::Insert { target: last, rows }) = self.ordered.last_mut()
                && last.id == target.id
            {
                rows.push(row.clone());
                return;
            }
            self.ordered.push(Step::Insert { target, rows: vec![row.clone()] });
            return;
        }
        self.ordered.push(Step::Row { target, change, index, careful });
    }

    fn coalesce(&mut self, target: Arc<Target>, change: &Change, index: usize) {
        let at = *self.by_id.entry(target.id).or_insert_with(|| {
            self.groups.push(Group::of(target.clone()));
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        if target.key.is_empty() {
            match change {
                Change::Insert { new, .. } => group.keyless.push(Row::new(new.clone())),
                // The source refuses these without an identity; a table whose identity was just taken away may still send some.
                _ => {
                    self.flush(at);
                    self.plan.steps.push(Step::Row {
                        change: row_change(&target, change),
                        target,
                        index,
                        careful: true,
                    });
                }
            }
            return;
        }
        let tuple = match change {
            Change::Insert { new, .. } | Change::Update { new, .. } => new,
            Change::Delete { old, .. } => old.tuple(),
            Change::Truncate { .. } => return,
        };
        let mut key = std::mem::take(&mut self.key);
        let mut plain = encode_key(&mut key, &target, tuple);
        if let Change::Update { old: Some(old), .. } = change {
            let mut old_key = Vec::new();
            // The old key is sent when it changed, and also when one of its values is large.
            plain &= encode_key(&mut old_key, &target, old.tuple()) && old_key == key;
        }
        if !plain {
            self.flush(at);
            self.plan.steps.push(Step::Row {
                change: row_change(&target, change),
                target,
                index,
                careful: false,
            });
        } else if !group.note(&key, change) {
            self.flush(at);
            self.groups[at].note(&key, change);
        }
        self.key = key;
    }

    fn flush(&mut self, at: usize) {
        self.groups[at].flush(self.options.sort, &mut self.plan.steps);
    }

    fn flush_all(&mut self) {
        for at in 0..self.groups.len() {
            self.flush(at);
        }
        self.plan.steps.append(&mut self.ordered);
    }
}

/// The values that a change of a row brings.
fn tuples(change: &Change) -> impl Iterator<Item = &Tuple> {
    let (old, new) = match change {
        Change::Insert { new, .. } => (None, Some(new)),
        Change::Update { old, new, .. } => (old.as_deref(), Some(new)),
        Change::Delete { old, .. } => (Some(old), None),
        Change::Truncate { .. } => (None, None),
    };
    old.map(OldTuple::tuple).into_iter().chain(new)
}

fn encode_key(out: &mut Vec<u8>, target: &Target, tuple: &Tuple) -> bool {
    KeyMap::encode(
        out,
        tuple.columns().enumerate().filter(|(i, _)| target.key.contains(i)).map(|(_, value)| value),
    )
}

fn row_change(target: &Target, change: &Change) -> RowChange {
    match change {
        Change::Insert { new, .. } => RowChange::Insert(Row::new(new.clone())),
        Change::Update { old, new, .. } => match old.as_deref() {
            Some(OldTuple::Full(old)) if target.full => {
                RowChange::UpdateFull { old: old.clone(), new: Row::new(new.clone()) }
            }
            old => RowChange::Update { key: old.map(|old| old.tuple().clone()), new: Row::new(new.clone()) },
        },
        Change::Delete { old: OldTuple::Full(old), .. } if target.full => RowChange::DeleteFull(old.clone()),
        Change::Delete { old, .. } => RowChange::Delete(old.tuple().clone()),
        Change::Truncate { .. } => unreachable!("a TRUNCATE is a step of its own"),
    }
}
