//! What is on its way to Kafka, transaction by transaction, and what that allows: END when every event is there, the slot when END is.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use pg::{Error, Lsn};
use pipeline::Durable;
use pipeline::envelope::Message;
use tokio::sync::watch;

/// A message that waits for its turn.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Waiting {
    pub fn of(message: &Message<'_>) -> Waiting {
        Waiting {
            topic: message.topic.to_owned(),
            key: message.key.map(<[u8]>::to_vec),
            value: message.value.map(<[u8]>::to_vec),
            headers: message
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect(),
        }
    }

    pub fn bytes(&self) -> usize {
        weight(self.key.as_deref(), self.value.as_deref())
    }
}

/// What a message weighs while it is in flight.
pub fn weight(key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
    /// librdkafka's own share of a message, and its headers.
    const EACH: usize = 256;
    EACH + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)
}

/// A transaction, or an idle position, that is not acknowledged in full.
#[derive(Debug, Default)]
struct Entry {
    begin: Option<Waiting>,
    /// END, or the heartbeat of an idle position.
    end: Option<Waiting>,
    /// Known when the transaction's COMMIT has come.
    end_lsn: Option<Lsn>,
    /// Events that are not acknowledged.
    outstanding: u64,
    acknowledged: bool,
    idle: bool,
    /// No END follows: it is acknowledged when its events are.
    bare: bool,
}

/// Names an entry in delivery reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Event(usize),
    Begin(usize),
    End(usize),
}

impl Part {
    pub fn to_opaque(self) -> usize {
        match self {
            Part::Event(entry) => entry << 2,
            Part::Begin(entry) => entry << 2 | 1,
            Part::End(entry) => entry << 2 | 2,
        }
    }

    pub fn of_opaque(opaque: usize) -> Part {
        match opaque & 3 {
            0 => Part::Event(opaque >> 2),
            1 => Part::Begin(opaque >> 2),
            _ => Part::End(opaque >> 2),
        }
    }
}

/// In order of the stream. Entry numbers only grow.
pub struct Ledger {
    entries: VecDeque<Entry>,
    /// Number of the first entry.
    first: usize,
    /// Number of the entry whose markers are to be sent next.
    marking: usize,
    bytes: usize,
    failed: Option<Error>,
    /// None once the stream has failed: whoever waits for it wakes up.
    durable: Option<watch::Sender<Durable>>,
}

impl Ledger {
    pub fn new(durable: watch::Sender<Durable>) -> Ledger {
        Ledger {
            entries: VecDeque::new(),
            first: 0,
            marking: 0,
            bytes: 0,
            failed: None,
            durable: Some(durable),
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Is everything acknowledged that came before this entry?
    pub fn settled_before(&self, entry: usize) -> bool {
        self.first >= entry
    }

    pub fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A transaction begins.
    pub fn open(&mut self) -> usize {
        self.entries.push_back(Entry::default());
        self.first + self.entries.len() - 1
    }

    /// BEGIN waits for the transactions before it.
    pub fn begin(&mut self, entry: usize, begin: Waiting) {
        self.bytes += begin.bytes();
        if let Some(entry) = self.entry(entry) {
            entry.begin = Some(begin);
        }
    }

    /// An event is handed to the producer.
    pub fn sent(&mut self, entry: usize, bytes: usize) {
        self.bytes += bytes;
        if let Some(entry) = self.entry(entry) {
            entry.outstanding += 1;
        }
    }

    /// The transaction's COMMIT has come. `idle`: `end` is a heartbeat, because it had no events of tables or its END is not wanted.
    pub fn close(&mut self, number: usize, end_lsn: Lsn, end: Waiting, idle: bool) {
        self.bytes += end.bytes();
        if idle && number > self.first && number > self.marking {
            match self.supersede(number, end_lsn, end) {
                Ok(()) => return,
                Err(kept) => {
                    self.closed(number, end_lsn, kept, idle);
                    return self.settle();
                }
            }
        }
        self.closed(number, end_lsn, end, idle);
    }

    fn closed(&mut self, number: usize, end_lsn: Lsn, end: Waiting, idle: bool) {
        if let Some(entry) = self.entry(number) {
            entry.end_lsn = Some(end_lsn);
            entry.end = Some(end);
            entry.idle = idle;
        }
    }

    /// A later idle position says all that the one right before it would, unless that was sent. Gives the heartbeat back where the entry
    /// itself has to say it: messages of its own are on their way.
    fn supersede(&mut self, number: usize, end_lsn: Lsn, end: Waiting) -> std::result::Result<(), Waiting> {
        let (at, last) = (number - self.first, self.entries.len() - 1);
        if !self.entries[at - 1].idle {
            return Err(end);
        }
        let merged = at == last && self.entries[at].outstanding == 0;
        if merged {
            self.entries.pop_back();
        }
        let before = &mut self.entries[at - 1];
        let (earlier, kept) = if merged {
            before.end_lsn = Some(end_lsn);
            (before.end.replace(end), Ok(()))
        } else {
            // It counts with the position behind it.
            before.end_lsn = None;
            before.idle = false;
            before.bare = true;
            before.acknowledged = before.outstanding == 0;
            (before.end.take(), Err(end))
        };
        self.bytes -= earlier.map_or(0, |end| end.bytes());
        kept
    }

    /// The transaction's COMMIT has come and no marker follows it.
    pub fn finish(&mut self, number: usize, end_lsn: Lsn) {
        if let Some(entry) = self.entry(number) {
            entry.end_lsn = Some(end_lsn);
            entry.bare = true;
            entry.acknowledged = entry.outstanding == 0;
        }
        self.settle();
    }

    /// The next marker that may be sent now. A heartbeat is in another topic than the ENDs before it, and whoever starts anew takes it for
    /// all that is before: it waits until they are acknowledged.
    pub fn next_marker(&mut self) -> Option<(Part, Waiting)> {
        loop {
            self.marking = self.marking.max(self.first);
            let number = self.marking;
            let entry = self.entries.get_mut(number - self.first)?;
            if let Some(begin) = entry.begin.take() {
                return Some((Part::Begin(number), begin));
            }
            if entry.outstanding > 0 {
                return None;
            }
            if entry.bare {
                self.marking += 1;
                continue;
            }
            if entry.idle && number > self.first {
                if self.gives_way(number) {
                    continue;
                }
                return None;
            }
            let end = entry.end.take()?;
            self.marking += 1;
            return Some((Part::End(number), end));
        }
    }

    /// A heartbeat that has to wait is not sent where a whole transaction stands behind it: that one's END says as much, and need not wait.
    fn gives_way(&mut self, number: usize) -> bool {
        let at = number - self.first;
        if self.entries.get(at + 1).is_none_or(|next| next.idle || next.end_lsn.is_none()) {
            return false;
        }
        let entry = &mut self.entries[at];
        let heartbeat = entry.end.take();
        (entry.idle, entry.bare, entry.end_lsn, entry.acknowledged) = (false, true, None, true);
        self.bytes -= heartbeat.map_or(0, |heartbeat| heartbeat.bytes());
        true
    }

    /// Kafka has it. True: somebody may have waited for this.
    pub fn acknowledged(&mut self, part: Part, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        match part {
            Part::Begin(_) => true,
            Part::Event(number) => {
                let Some(entry) = self.entry(number) else { return true };
                entry.outstanding -= 1;
                if entry.bare && entry.outstanding == 0 {
                    entry.acknowledged = true;
                    self.settle();
                }
                true
            }
            Part::End(number) => {
                if let Some(entry) = self.entry(number) {
                    entry.acknowledged = true;
                }
                self.settle();
                true
            }
        }
    }

    fn settle(&mut self) {
        let mut reached = None;
        while self.entries.front().is_some_and(|entry| entry.acknowledged) {
            reached = self.entries.pop_front().and_then(|entry| entry.end_lsn).or(reached);
            self.first += 1;
        }
        if let (Some(lsn), Some(durable)) = (reached, &self.durable) {
            durable.send_modify(|now| {
                now.applied = now.applied.max(lsn);
                now.flushed = now.flushed.max(lsn);
            });
        }
    }

    /// Nothing behind a message that was not delivered may count: the stream ends here, and begins again from the slot.
    pub fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
        self.durable = None;
    }

    fn entry(&mut self, number: usize) -> Option<&mut Entry> {
        self.entries.get_mut(number.checked_sub(self.first)?)
    }
}
