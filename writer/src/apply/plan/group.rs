//! Per key, the changes of a table become one operation.

use std::sync::Arc;

use pipeline::{Change, Tuple};

use super::Step;
use crate::apply::key_map::KeyMap;
use crate::apply::row::Row;
use crate::apply::target::Target;

/// What became of the row with one key.
enum State {
    Insert(Row),
    Update(Row),
    Delete(Tuple),
    /// Deleted and inserted anew. Apart: every state takes the room of the largest.
    Replace(Box<(Tuple, Row)>),
    /// Inserted and deleted: deleted all the same, so that a row that was there by mistake goes.
    Gone(Tuple),
}

/// The changes of one table since it was flushed last.
pub struct Group {
    target: Arc<Target>,
    keys: KeyMap,
    states: Vec<State>,
    /// Rows of a table without a key: they are only ever inserted.
    pub keyless: Vec<Row>,
}

impl Group {
    pub fn of(target: Arc<Target>) -> Group {
        Group { target, keys: KeyMap::default(), states: Vec::new(), keyless: Vec::new() }
    }

    /// Merges the change into what is known of its key; false when the two can't be one operation.
    pub fn note(&mut self, key: &[u8], change: &Change) -> bool {
        let (index, fresh) = self.keys.entry(key);
        if fresh {
            self.states.push(match change {
                Change::Insert { new, .. } => State::Insert(Row::new(new.clone())),
                Change::Update { new, .. } => State::Update(Row::new(new.clone())),
                Change::Delete { old, .. } => State::Delete(old.tuple().clone()),
                Change::Truncate { .. } => return false,
            });
            return true;
        }
        let slot = &mut self.states[index];
        let mergeable = matches!(
            (&*slot, change),
            (
                State::Insert(_) | State::Update(_) | State::Replace(_),
                Change::Update { .. } | Change::Delete { .. }
            ) | (State::Delete(_) | State::Gone(_), Change::Insert { .. })
        );
        if !mergeable {
            return false;
        }
        let before = std::mem::replace(slot, State::Gone(tuple_of(change).clone()));
        *slot = match (before, change) {
            (State::Insert(row), Change::Update { new, .. }) => State::Insert(row.merged(new.clone())),
            (State::Update(row), Change::Update { new, .. }) => State::Update(row.merged(new.clone())),
            (State::Replace(both), Change::Update { new, .. }) => {
                let (old, row) = *both;
                State::Replace(Box::new((old, row.merged(new.clone()))))
            }
            (State::Update(_), Change::Delete { old, .. }) => State::Delete(old.tuple().clone()),
            (State::Replace(both), Change::Delete { .. }) => State::Delete(both.0),
            (State::Delete(old), Change::Insert { new, .. }) => {
                State::Replace(Box::new((old, Row::new(new.clone()))))
            }
            (State::Gone(_), Change::Insert { new, .. }) => State::Insert(Row::new(new.clone())),
            // (Insert, Delete), and what `mergeable` has ruled out.
            (_, change) => State::Gone(tuple_of(change).clone()),
        };
        true
    }

    /// Appends the steps that bring about what was noted, and forgets it. `sort`: updates and deletes in the order of their keys.
    pub fn flush(&mut self, sort: bool, steps: &mut Vec<Step>) {
        let target = &self.target;
        let mut deletes = Vec::new();
        let mut gone = Vec::new();
        let mut inserts = std::mem::take(&mut self.keyless);
        let mut updates: Vec<(Vec<u16>, Vec<Row>)> = Vec::new();
        let sort = sort && self.states.len() > 1;
        let mut others: Vec<(u32, State)> = Vec::new();
        inserts.reserve_exact(self.states.iter().filter(|state| matches!(state, State::Insert(_))).count());
        for (number, state) in (0u32..).zip(self.states.drain(..)) {
            match state {
                // Rows come out as they went in: their order on disk is worth something to whoever reads them.
                State::Insert(row) => inserts.push(row),
                state => others.push((number, state)),
            }
        }
        if sort {
            // Neighbours in the index lie in the same pages.
            others.sort_unstable_by(|(a, _), (b, _)| self.keys.key(*a).cmp(self.keys.key(*b)));
        }
        for (_, state) in others {
            match state {
                State::Insert(row) => inserts.push(row),
                State::Delete(key) => deletes.push(key),
                State::Gone(key) => gone.push(key),
                State::Replace(both) => {
                    let (key, row) = *both;
                    deletes.push(key);
                    inserts.push(row);
                }
                State::Update(row) => {
                    let unchanged = row.unchanged();
                    match updates.iter_mut().find(|(mask, _)| *mask == unchanged) {
                        Some((_, rows)) => rows.push(row),
                        None => updates.push((unchanged, vec![row])),
                    }
                }
            }
        }
        self.keys.clear();
        if !deletes.is_empty() {
            steps.push(Step::Delete { target: target.clone(), keys: deletes, certain: true });
        }
        if !gone.is_empty() {
            steps.push(Step::Delete { target: target.clone(), keys: gone, certain: false });
        }
        for (unchanged, rows) in updates {
            steps.push(Step::Update { target: target.clone(), unchanged, rows });
        }
        if !inserts.is_empty() {
            steps.push(Step::Insert { target: target.clone(), rows: inserts });
        }
    }
}

fn tuple_of(change: &Change) -> &Tuple {
    match change {
        Change::Insert { new, .. } | Change::Update { new, .. } => new,
        Change::Delete { old, .. } => old.tuple(),
        Change::Truncate { .. } => unreachable!("a TRUNCATE has no row"),
    }
}
