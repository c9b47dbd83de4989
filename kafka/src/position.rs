//! Where to begin to read, as the target keeps it: the offsets behind the last transaction that was applied.

use std::collections::{BTreeMap, VecDeque};

use pg::{Error, Lsn, Result};
use serde::{Deserialize, Serialize};

/// Offsets of the next record to read. Absent: from the first one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// Of the topic to each of its partitions.
    pub offsets: BTreeMap<String, Vec<i64>>,
}

impl Position {
    /// # Errors
    /// Class `Refuse`: the target holds what this version can't read.
    pub fn parse(text: Option<&str>) -> Result<Position> {
        let Some(text) = text else { return Ok(Position::default()) };
        serde_json::from_str(text).map_err(|error| {
            Error::refuse(
                "RUN_UNREADABLE",
                format!("the Kafka offsets in walferry.progress can't be read: {error}"),
            )
        })
    }

    /// As the target keeps it.
    pub fn to_text(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::failed("RECORD", format!("the offsets can't be recorded: {error}")))
    }

    #[must_use]
    pub fn offset(&self, topic: &str, partition: i32) -> i64 {
        let offsets = self.offsets.get(topic);
        usize::try_from(partition).ok().and_then(|at| offsets?.get(at).copied()).unwrap_or(0)
    }

    /// Is there an offset of this partition?
    pub(crate) fn knows(&self, topic: &str, partition: i32) -> bool {
        let at = usize::try_from(partition).ok();
        self.offsets.get(topic).is_some_and(|offsets| at.is_some_and(|at| at < offsets.len()))
    }

    pub(crate) fn set(&mut self, topic: &str, partition: i32, offset: i64) {
        let Ok(at) = usize::try_from(partition) else { return };
        if !self.offsets.contains_key(topic) {
            self.offsets.insert(topic.to_owned(), Vec::new());
        }
        if let Some(offsets) = self.offsets.get_mut(topic) {
            if offsets.len() <= at {
                offsets.resize(at + 1, 0);
            }
            offsets[at] = offset;
        }
    }
}

/// One step of a position.
pub type Step = (std::sync::Arc<str>, i32, i64);

/// Positions that were read and are not applied yet.
#[derive(Debug)]
pub struct Positions {
    applied: Position,
    /// What is behind the transaction, or idle position, that ends there.
    ahead: VecDeque<(Lsn, Vec<Step>)>,
    text: Option<String>,
}

impl Positions {
    pub fn new(applied: Position) -> Positions {
        Positions { applied, ahead: VecDeque::new(), text: None }
    }

    pub fn read(&mut self, end_lsn: Lsn, steps: Vec<Step>) {
        self.ahead.push_back((end_lsn, steps));
    }

    /// The position behind everything that ends at `end_lsn` or before.
    pub fn behind(&mut self, end_lsn: Lsn) -> Option<String> {
        let mut moved = self.text.is_none();
        while self.ahead.front().is_some_and(|(lsn, _)| *lsn <= end_lsn) {
            for (topic, partition, offset) in
                self.ahead.pop_front().map(|(_, steps)| steps).unwrap_or_default()
            {
                self.applied.set(&topic, partition, offset);
                moved = true;
            }
        }
        if moved {
            self.text = serde_json::to_string(&self.applied).ok();
        }
        self.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_covers_what_is_applied_and_nothing_behind_it() {
        let mut positions = Positions::new(Position::default());
        positions.read(Lsn::new(10), vec![("a".into(), 1, 5)]);
        positions.read(Lsn::new(20), vec![("a".into(), 0, 2), ("b".into(), 0, 9)]);
        assert_eq!(positions.behind(Lsn::new(15)).unwrap(), r#"{"offsets":{"a":[0,5]}}"#);
        let text = positions.behind(Lsn::new(20)).unwrap();
        assert_eq!(text, r#"{"offsets":{"a":[2,5],"b":[9]}}"#);
        let read = Position::parse(Some(&text)).unwrap();
        assert_eq!((read.offset("a", 1), read.offset("b", 3), read.offset("c", 0)), (5, 0, 0));
    }
}
