//! Two streams of rows in the same order become what differs.
//!
//! Rows are told apart by their key, or without one by their hash. Rows of one key with equal hashes cancel each other out, one for
//! one; of what is left as many as both sides have are changed, the rest is missing or extra. So it is exact also where a key is not
//! unique. Only the rows of one order number are kept, and of those only how many there are of each hash.

use futures_util::{Stream, StreamExt};
use hashbrown::HashMap;
use pg::Result;

use super::report::{Difference, Kind};
use super::side::Which;

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Hash of the key, or of the row without a key.
    pub order: i64,
    pub hash: (i64, i64),
    pub key: Option<Vec<Option<String>>>,
    pub place: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Identity {
    Key(Vec<Option<String>>),
    Hash(i64, i64),
}

#[derive(Default, Debug)]
struct Group {
    /// Rows on the source and on the target, by hash.
    hashes: HashMap<(i64, i64), [u64; 2]>,
    places: [Vec<String>; 2],
}

/// Counts, and the first differences.
#[derive(Debug)]
pub struct Merge {
    limit: usize,
    order: i64,
    groups: HashMap<Identity, Group>,
    pub changed: u64,
    pub missing: u64,
    pub extra: u64,
    pub listed: Vec<Difference>,
}

impl Merge {
    #[must_use]
    pub fn new(limit: usize) -> Merge {
        Merge {
            limit,
            order: 0,
            groups: HashMap::new(),
            changed: 0,
            missing: 0,
            extra: 0,
            listed: Vec::new(),
        }
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.listed.len() >= self.limit
    }

    /// How many differences may still be listed.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.listed.len())
    }

    /// The list, in an order that people expect: short keys first, so that numbers ascend.
    #[must_use]
    pub fn into_listed(self) -> Vec<Difference> {
        let mut listed = self.listed;
        listed.sort_by_cached_key(|difference| {
            let key = difference.key.iter().flatten().map(|column| {
                let text = column.clone().unwrap_or_default();
                (text.len(), text)
            });
            (key.collect::<Vec<_>>(), difference.kind)
        });
        listed
    }

    /// Rows come in ascending order, those of both sides mixed.
    pub fn add(&mut self, which: Which, entry: Entry) {
        if entry.order != self.order {
            self.flush();
            self.order = entry.order;
        }
        let full = self.is_full();
        let identity = match entry.key {
            Some(key) => Identity::Key(key),
            None => Identity::Hash(entry.hash.0, entry.hash.1),
        };
        let group = self.groups.entry(identity).or_default();
        group.hashes.entry(entry.hash).or_default()[which.index()] += 1;
        let places = &mut group.places[which.index()];
        if let Some(place) = entry.place
            && !full
            && places.len() < PLACES
        {
            places.push(place);
        }
    }

    /// After the last row.
    pub fn flush(&mut self) {
        for (identity, group) in std::mem::take(&mut self.groups) {
            let (mut source, mut target) = (0, 0);
            for [ours, theirs] in group.hashes.values() {
                let same = ours.min(theirs);
                source += ours - same;
                target += theirs - same;
            }
            let changed = source.min(target);
            self.changed += changed;
            self.missing += source - changed;
            self.extra += target - changed;
            for (kind, rows) in
                [(Kind::Changed, changed), (Kind::Missing, source - changed), (Kind::Extra, target - changed)]
            {
                if rows > 0 && !self.is_full() {
                    let key = match &identity {
                        Identity::Key(key) => Some(key.clone()),
                        Identity::Hash(..) => None,
                    };
                    let [source_places, target_places] = group.places.clone();
                    self.listed.push(Difference {
                        kind,
                        key,
                        rows,
                        source_places,
                        target_places,
                        values: None,
                    });
                }
            }
        }
    }

    /// A row that only one side can have.
    pub fn lone(&mut self, which: Which, entry: Entry) {
        if self.is_full() {
            return;
        }
        let kind = if which == Which::Source { Kind::Missing } else { Kind::Extra };
        let mut places = [Vec::new(), Vec::new()];
        places[which.index()].extend(entry.place);
        let [source_places, target_places] = places;
        self.listed.push(Difference {
            kind,
            key: entry.key,
            rows: 1,
            source_places,
            target_places,
            values: None,
        });
    }
}

/// Places listed for one difference.
const PLACES: usize = 20;

/// Reads both streams, each in ascending order, to their ends.
pub async fn merge(
    merge: &mut Merge,
    source: impl Stream<Item = Result<Entry>>,
    target: impl Stream<Item = Result<Entry>>,
) -> Result<()> {
    let mut source = std::pin::pin!(source);
    let mut target = std::pin::pin!(target);
    // Both servers begin their sort at once.
    let (ours, theirs) = tokio::join!(source.next(), target.next());
    let (mut ours, mut theirs) = (ours.transpose()?, theirs.transpose()?);
    loop {
        let from_source = match (&ours, &theirs) {
            (None, None) => break,
            (Some(ours), Some(theirs)) => ours.order <= theirs.order,
            (one, _) => one.is_some(),
        };
        if from_source {
            if let Some(entry) = ours.take() {
                merge.add(Which::Source, entry);
            }
            ours = source.next().await.transpose()?;
        } else {
            if let Some(entry) = theirs.take() {
                merge.add(Which::Target, entry);
            }
            theirs = target.next().await.transpose()?;
        }
    }
    merge.flush();
    Ok(())
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
