//! One transaction: its events in order, out of the topics of its tables.
//!
//! All of its tables needed: event by event, by the index in the transaction. Only some: of each table the next event is known by its
//! number within the table, and among them the lowest index comes first; so nobody waits for an event of a table that is not needed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use pg::{Lsn, Result};
use pipeline::Event;
use pipeline::envelope::{End, Moved, mangle};

use super::Merge;
use super::truncate::Truncated;

/// A table's part of the transaction.
pub(super) struct Share {
    /// As END calls it.
    pub table: String,
    pub topic: String,
    pub lanes: Vec<usize>,
    events: u64,
}

/// The transaction at hand.
pub(super) struct Open {
    pub commit_lsn: Lsn,
    pub epoch: u64,
    /// Of all tables.
    total: u64,
    pub shares: Vec<Share>,
    /// All of its tables are needed.
    whole: bool,
    /// Events that are at the front of a lane: by share and number within the table or, where it is whole, by index.
    fronts: Vec<HashMap<u64, usize>>,
}

impl Open {
    pub(super) fn note(&mut self, lane: usize, share: usize, index: u64, order: u64) {
        let (share, number) = if self.whole { (0, index) } else { (share, order) };
        self.fronts[share].insert(number, lane);
    }

    pub(super) fn take(&mut self, (share, number): (usize, u64)) -> Option<usize> {
        self.fronts[share].remove(&number)
    }

    /// The shares in which the event of that key can be.
    pub(super) fn shares_of(&self, (share, _): (usize, u64)) -> std::ops::Range<usize> {
        if self.whole { 0..self.shares.len() } else { share..share + 1 }
    }

    /// How many events there are of that kind of key.
    pub(super) fn events(&self, share: usize) -> u64 {
        if self.whole { self.total } else { self.shares[share].events }
    }
}

impl Merge {
    /// Hands on one transaction.
    pub(super) async fn transaction(&mut self, end: &End) -> Result<()> {
        let commit_lsn = end.marker.commit_lsn;
        let end_lsn = end.end_lsn.unwrap_or(commit_lsn);
        let committed_at = end.marker.committed_at;
        let mut open = self.open(end).await?;
        self.push(Event::Begin { commit_lsn, committed_at, xid: end.marker.xid.unwrap_or(0) }).await?;
        for share in 0..open.shares.len() {
            for at in 0..open.shares[share].lanes.len() {
                self.advance(open.shares[share].lanes[at], share, &mut open)?;
            }
        }
        let mut truncated = Truncated::default();
        if open.whole {
            for index in 1..=end.events {
                self.event(&mut open, (0, index), &mut truncated).await?;
            }
        } else {
            self.part(&mut open, &mut truncated).await?;
        }
        if let Some(change) = truncated.finish() {
            self.push(Event::Change(change)).await?;
        }
        self.last = end_lsn;
        let lanes = open.shares.iter().flat_map(|share| &share.lanes);
        let steps = lanes.map(|&lane| {
            let lane = &self.lanes[lane];
            (lane.partition.topic.clone(), lane.partition.id, lane.next())
        });
        let steps = steps.collect();
        // Before the commit can be applied.
        self.read(end_lsn, steps);
        self.push(Event::Commit { commit_lsn, end_lsn, committed_at }).await
    }

    /// The shares of the tables that are needed; topics that are new are assigned.
    async fn open(&mut self, end: &End) -> Result<Open> {
        let commit_lsn = end.marker.commit_lsn;
        let mut shares = Vec::with_capacity(end.collections.len());
        for (collection, events) in &end.collections {
            if !self.of.needs.wants(collection, commit_lsn) {
                continue;
            }
            let topic = mangle(&format!("{}.{collection}", self.options.prefix));
            if !self.by_topic.contains_key(&topic) {
                self.join(&topic).await?;
            }
            let lanes = self.by_topic.get(&topic).cloned().unwrap_or_default();
            shares.push(Share { table: collection.clone(), topic, lanes, events: *events });
        }
        let whole = shares.len() == end.collections.len();
        let fronts = vec![HashMap::new(); if whole { 1 } else { shares.len() }];
        let epoch = end.marker.of.epoch.unwrap_or(0);
        Ok(Open { commit_lsn, epoch, total: end.events, shares, whole, fronts })
    }

    /// The events of some of its tables.
    async fn part(&mut self, open: &mut Open, truncated: &mut Truncated) -> Result<()> {
        // Of each table the next event: its index, the table, its number there.
        let mut due = BinaryHeap::with_capacity(open.shares.len());
        for share in 0..open.shares.len() {
            self.due(open, share, 1, &mut due).await?;
        }
        while let Some(Reverse((_, share, number))) = due.pop() {
            self.event(open, (share, number), truncated).await?;
            self.due(open, share, number + 1, &mut due).await?;
        }
        Ok(())
    }

    /// Waits until the table's next event is in hand.
    async fn due(
        &mut self,
        open: &mut Open,
        share: usize,
        number: u64,
        due: &mut BinaryHeap<Reverse<(u64, usize, u64)>>,
    ) -> Result<()> {
        if number > open.shares[share].events {
            return Ok(());
        }
        let lane = match open.take((share, number)) {
            Some(lane) => lane,
            None => self.find(open, (share, number)).await?,
        };
        let index = self.lanes[lane].front.as_ref().map_or(0, |front| front.index);
        open.fronts[share].insert(number, lane);
        due.push(Reverse((index, share, number)));
        Ok(())
    }

    /// Hands on the event of that key.
    async fn event(&mut self, open: &mut Open, key: (usize, u64), truncated: &mut Truncated) -> Result<()> {
        let lane = match open.take(key) {
            Some(lane) => lane,
            None => self.find(open, key).await?,
        };
        let front = self.lanes[lane].front.take();
        self.advance(lane, if open.whole { 0 } else { key.0 }, open)?;
        let Some(front) = front else { return Ok(()) };
        let Some(event) = front.event else { return Ok(()) };
        if event.moved == Moved::Away {
            // Its other half is the whole change.
            return Ok(());
        }
        for change in
            truncated.take(event.change, front.index, event.truncated_together).into_iter().flatten()
        {
            self.push(Event::Change(change)).await?;
        }
        Ok(())
    }
}
