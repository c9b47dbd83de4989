//! What the encoder remembers between events.

use std::collections::HashMap;
use std::sync::Arc;

use pg::Lsn;

use super::MESSAGES;
use crate::change::{PgTimestamp, Relation, RelationId};
use crate::envelope::json;
use crate::envelope::source;
use crate::envelope::table::Table;

/// The transaction at hand.
pub(super) struct Transaction {
    pub(super) commit_lsn: Lsn,
    pub(super) committed_at: PgTimestamp,
    pub(super) xid: u32,
    /// `<xid>:<commit lsn>`, both decimal.
    pub(super) id: String,
    pub(super) events: u64,
    pub(super) messages: u64,
}

impl Transaction {
    pub(super) fn new(commit_lsn: Lsn, committed_at: PgTimestamp, xid: u32) -> Transaction {
        let id = format!("{xid}:{}", commit_lsn.as_u64());
        Transaction { commit_lsn, committed_at, xid, id, events: 0, messages: 0 }
    }

    /// Appends the block `transaction` of an event.
    pub(super) fn write(&self, out: &mut Vec<u8>, total: u64, of_collection: u64) {
        out.extend_from_slice(b",\"transaction\":");
        source::transaction(out, &self.id, total, of_collection);
    }
}

/// Used again for every message.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) position: Vec<u8>,
    pub(super) time: Vec<u8>,
    pub(super) names: Vec<u8>,
    pub(super) unchanged: Vec<u16>,
    /// The keys of a key change; not cleared with the others.
    pub(super) old_key: Vec<u8>,
    pub(super) new_key: Vec<u8>,
}

impl Buffers {
    /// A buffer that one huge row has grown goes back to the allocator.
    const KEEP: usize = 1 << 20;

    pub(super) fn clear(&mut self) {
        for buffer in [&mut self.key, &mut self.value, &mut self.position, &mut self.time, &mut self.names] {
            if buffer.capacity() > Self::KEEP {
                *buffer = Vec::new();
            }
            buffer.clear();
        }
        self.unchanged.clear();
    }
}

/// Prepared tables, and how many events each name has in the transaction at hand.
///
/// By the name and not by the table, because that is how an event's topic is found: a table that is renamed on the way has some of its events under
/// either name, and two tables that have one name one after the other share it.
#[derive(Default)]
pub(super) struct Tables {
    slots: Vec<Slot>,
    by_id: HashMap<RelationId, usize>,
    /// The slot asked for last: runs of changes to one table need no lookup.
    last: usize,
    collections: Vec<Collection>,
    by_name: HashMap<String, usize>,
    /// Collections with events in this transaction, in the order of their first.
    touched: Vec<usize>,
}

struct Slot {
    table: Arc<Table>,
    /// Made before the last description.
    stale: bool,
    /// The one of its name.
    collection: usize,
}

/// As END names what it counts.
struct Collection {
    name: String,
    count: u64,
}

impl Tables {
    pub(super) fn get(&mut self, relation: &Arc<Relation>, prepare: impl FnOnce() -> Table) -> Arc<Table> {
        let fits = |slot: &Slot| !slot.stale && Arc::ptr_eq(&slot.table.relation, relation);
        if let Some(slot) = self.slots.get(self.last)
            && fits(slot)
        {
            return slot.table.clone();
        }
        if let Some(&at) = self.by_id.get(&relation.id) {
            self.last = at;
            if !fits(&self.slots[at]) {
                self.slots[at] = self.slot(prepare());
            }
        } else {
            self.last = self.slots.len();
            self.by_id.insert(relation.id, self.last);
            let slot = self.slot(prepare());
            self.slots.push(slot);
        }
        self.slots[self.last].table.clone()
    }

    fn slot(&mut self, table: Table) -> Slot {
        let collection = match self.by_name.get(&table.collection) {
            Some(&at) => at,
            None => {
                let at = self.collections.len();
                self.collections.push(Collection { name: table.collection.clone(), count: 0 });
                self.by_name.insert(table.collection.clone(), at);
                at
            }
        };
        Slot { table: Arc::new(table), stale: false, collection }
    }

    /// Tables are prepared again when they are asked for next.
    pub(super) fn forget(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.stale = true);
    }

    /// A new transaction: no events yet.
    pub(super) fn begin(&mut self) {
        for at in self.touched.drain(..) {
            self.collections[at].count = 0;
        }
    }

    /// Counts an event of `table`, which was asked for; its number among those of its name in the transaction.
    pub(super) fn count(&mut self, table: &Table) -> u64 {
        let at = match self.slots.get(self.last) {
            Some(slot) if slot.table.relation.id == table.relation.id => self.last,
            _ => match self.by_id.get(&table.relation.id) {
                Some(&at) => at,
                None => return 0,
            },
        };
        let at = self.slots[at].collection;
        let collection = &mut self.collections[at];
        collection.count += 1;
        if collection.count == 1 {
            self.touched.push(at);
        }
        collection.count
    }

    /// Appends the elements of `data_collections`.
    pub(super) fn write_counts(&self, out: &mut Vec<u8>, messages: u64) {
        let tables =
            self.touched.iter().map(|&at| (&self.collections[at].name[..], self.collections[at].count));
        let messages = (messages > 0).then_some((MESSAGES, messages));
        for (count, (name, events)) in tables.chain(messages).enumerate() {
            out.extend_from_slice(if count > 0 {
                b",{\"data_collection\":"
            } else {
                b"{\"data_collection\":"
            });
            json::string(out, name.as_bytes());
            json::display(out, format_args!(",\"event_count\":{events}}}"));
        }
    }
}
