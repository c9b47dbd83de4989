//! One partition of a table's topic, and the event at its front.

use pg::{Error, Result};
use pipeline::Change;
use pipeline::envelope::{Decoded, Decoder, Moved, Place, RowEvent};

use crate::partition::Partition;
use crate::position::Step;

use super::polled;
use super::sequence::{Over, Seen, Sequence};

pub struct Lane {
    partition: Partition,
    front: Option<Front>,
    seen: Seen,
    /// The only one of its topic: all of the table in order.
    alone: bool,
}

struct Front {
    offset: i64,
    /// None: a logical message, which counts and says nothing.
    event: Option<Box<RowEvent>>,
    place: Option<Place>,
    sequence: Option<Sequence>,
}

/// What is at the front of a lane, seen from one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing has arrived.
    Empty,
    /// The event that is looked for.
    This,
    /// An event that was applied: to be dropped.
    Before,
    /// One without a transaction, such as a snapshot's: it goes before.
    Single,
    /// Another one.
    Other,
}

impl Lane {
    pub fn new(partition: Partition, alone: bool) -> Lane {
        Lane { partition, front: None, seen: Seen::default(), alone }
    }

    pub fn topic(&self) -> &str {
        &self.partition.topic
    }

    /// Takes the next event to the front, if it has arrived; false: there is none.
    pub fn fill(&mut self, decoder: &mut Decoder) -> Result<bool> {
        while self.front.is_none() {
            let Some((offset, decoded)) = polled(&mut self.partition, decoder)? else { return Ok(false) };
            self.front = match decoded {
                Decoded::Change(event) => Some(Front {
                    offset,
                    place: event.transaction.clone(),
                    sequence: event.sequence.map(|(after, own)| Sequence { after, own }),
                    event: Some(event),
                }),
                Decoded::Message(message) => {
                    Some(Front { offset, place: message.transaction, sequence: None, event: None })
                }
                _ => None,
            };
        }
        Ok(true)
    }

    /// The event at the front if it has no transaction; within, none if it is to be dropped.
    pub fn take_single(&mut self) -> Option<Option<Box<RowEvent>>> {
        if self.front.as_ref()?.place.is_some() {
            return None;
        }
        let front = self.front.take()?;
        if front.event.as_ref().is_some_and(|event| event.snapshot) {
            self.seen.forget();
            return Some(front.event);
        }
        if self.seen.before(front.sequence) { Some(None) } else { Some(front.event) }
    }

    /// Is event `index` of transaction `xid` here? `over`: transactions that were applied.
    pub fn due(&self, xid: u32, index: u64, over: &Over) -> Due {
        let Some(front) = &self.front else { return Due::Empty };
        let Some(place) = &front.place else { return Due::Single };
        let its = place.id.split(':').next().and_then(|xid| xid.parse().ok());
        let over = its.is_some_and(|its| over.has(its));
        let same = its == Some(xid);
        match place.total_order.cmp(&index) {
            _ if !same => {
                if over {
                    Due::Before
                } else {
                    Due::Other
                }
            }
            std::cmp::Ordering::Less => Due::Before,
            std::cmp::Ordering::Equal => Due::This,
            std::cmp::Ordering::Greater => Due::Other,
        }
    }

    pub fn take(&mut self) -> Option<Box<RowEvent>> {
        self.front.take()?.event
    }

    /// The change to apply; none: its other half is all of it.
    ///
    /// # Errors
    /// A changed key whose halves are in different partitions, and a value that only the old row has.
    pub fn change(&self, event: RowEvent) -> Result<Option<Change>> {
        match (event.moved, self.alone || event.transaction.is_some()) {
            (Moved::No, _) => Ok(Some(event.change)),
            // The UPDATE that follows has the old key.
            (Moved::Away, true) => Ok(None),
            (Moved::Here, true) => Ok(Some(event.change)),
            (Moved::Away, false) => Ok(Some(event.change)),
            (Moved::Here, false) => match event.change {
                Change::Update { relation, new, .. } if new.columns().all(|value| value != pipeline::Column::Unchanged) => {
                    Ok(Some(Change::Insert { relation, new }))
                }
                _ => Err(Error::refuse(
                    "FOREIGN_KEY_CHANGE",
                    format!("topic \"{}\": a row changed its key, and a value that was not sent stayed under the old one", self.topic()),
                )
                .hint(
                    "set provide.transaction.metadata=true on the connector, or give the topic one partition: without either the two halves \
                     of a changed key come in any order",
                )),
            },
        }
    }

    /// Where to go on behind what was taken.
    pub fn step(&self) -> Step {
        let next = self.front.as_ref().map_or(self.partition.next, |front| front.offset);
        (self.partition.topic.clone(), self.partition.id, next)
    }
}
