//! Debezium's `source.sequence`: the LSN of the commit before an event's transaction, and the event's own.

use std::collections::{HashSet, VecDeque};

use pg::Lsn;

/// Orders the events of one partition: a later one is never smaller, one that was sent before is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Sequence {
    pub after: Lsn,
    pub own: Lsn,
}

/// Transactions that were applied, the latest of them: what a connector that was killed sends again is of these.
#[derive(Debug, Default)]
pub struct Over {
    xids: HashSet<u32>,
    order: VecDeque<u32>,
}

/// Far more than a connector sends again.
const KEPT: usize = 100_000;

impl Over {
    pub fn add(&mut self, xid: u32) {
        if self.xids.insert(xid) {
            self.order.push_back(xid);
        }
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.xids.remove(&oldest);
        }
    }

    pub fn has(&self, xid: u32) -> bool {
        self.xids.contains(&xid)
    }
}

/// The events of one partition that were seen.
#[derive(Debug, Default)]
pub struct Seen(Option<Sequence>);

impl Seen {
    /// True: the event was there before. Rows of one command share their LSN, so an equal one is not known to be.
    pub fn before(&mut self, sequence: Option<Sequence>) -> bool {
        let Some(sequence) = sequence else { return false };
        if self.0.is_some_and(|seen| sequence < seen) {
            return true;
        }
        self.0 = Some(sequence);
        false
    }

    /// A snapshot begins anew.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}
