//! What is on its way to Kafka, transaction by transaction, and what that allows: END when every event is there, the slot when END is.

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

    /// The transaction's COMMIT has come. `idle`: `end` is a heartbeat, because it had no events or its END is not wanted.
    pub fn close(&mut self, number: usize, end_lsn: Lsn, end: Waiting, idle: bool) {
        // A later idle position says all that an earlier one would.
        let supersedes = idle && number > self.first && number > self.marking && {
            let before = number - 1 - self.first;
            self.entries.get(before).is_some_and(|entry| entry.idle)
        };
        // Not what has events of its own on their way.
        let supersedes = supersedes && self.entry(number).is_some_and(|entry| entry.outstanding == 0);
        self.bytes += end.bytes();
        if supersedes
            && self.entries.len() == number - self.first + 1
            && let Some(last) = self.entries.pop_back()
        {
            debug_assert!(last.outstanding == 0);
            if let Some(before) = self.entries.back_mut() {
                let earlier = before.end.replace(end);
                before.end_lsn = Some(end_lsn);
                self.bytes -= earlier.map_or(0, |end| end.bytes());
            }
            return;
        }
        if let Some(entry) = self.entry(number) {
            entry.end_lsn = Some(end_lsn);
            entry.end = Some(end);
            entry.idle = idle;
        }
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

    /// The next marker that may be sent now.
    pub fn next_marker(&mut self) -> Option<(Part, Waiting)> {
        self.marking = self.marking.max(self.first);
        let number = self.marking;
        let entry = self.entries.get_mut(number - self.first)?;
        if let Some(begin) = entry.begin.take() {
            return Some((Part::Begin(number), begin));
        }
        if entry.outstanding > 0 {
            return None;
        }
        let end = entry.end.take()?;
        self.marking += 1;
        Some((Part::End(number), end))
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
            reached = self.entries.pop_front().and_then(|entry| entry.end_lsn);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str) -> Waiting {
        Waiting { topic: name.to_owned(), key: None, value: None, headers: Vec::new() }
    }

    fn ledger() -> (Ledger, watch::Receiver<Durable>) {
        let (sender, receiver) = watch::channel(Durable::default());
        (Ledger::new(sender), receiver)
    }

    fn sent(ledger: &mut Ledger) -> Vec<(Part, String)> {
        std::iter::from_fn(|| ledger.next_marker()).map(|(part, message)| (part, message.topic)).collect()
    }

    fn transaction(ledger: &mut Ledger, events: usize, end: u64) -> usize {
        let number = ledger.open();
        ledger.begin(number, message("begin"));
        (0..events).for_each(|_| ledger.sent(number, 300));
        ledger.close(number, Lsn::new(end), message("end"), false);
        number
    }

    #[test]
    fn end_is_sent_after_the_last_event_and_markers_keep_the_order() {
        let (mut ledger, durable) = ledger();
        let one = transaction(&mut ledger, 2, 10);
        let two = transaction(&mut ledger, 1, 20);
        assert_eq!(sent(&mut ledger), [(Part::Begin(one), "begin".to_owned())]);
        // The second one is there before the first one is.
        ledger.acknowledged(Part::Event(two), 300);
        ledger.acknowledged(Part::Event(one), 300);
        assert!(sent(&mut ledger).is_empty());
        ledger.acknowledged(Part::Event(one), 300);
        let names: Vec<String> = sent(&mut ledger).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["end", "begin", "end"]);
        assert_eq!(durable.borrow().flushed, Lsn::ZERO);
        ledger.acknowledged(Part::End(one), 0);
        assert_eq!(durable.borrow().flushed, Lsn::new(10));
        assert!(ledger.settled_before(two) && !ledger.settled_before(two + 1));
        ledger.acknowledged(Part::End(two), 0);
        assert_eq!(durable.borrow().flushed, Lsn::new(20));
        assert!(ledger.is_empty());
    }

    #[test]
    fn an_idle_position_waits_for_what_is_before_it_and_gives_way_to_the_next() {
        let (mut ledger, durable) = ledger();
        let one = transaction(&mut ledger, 1, 10);
        for lsn in [15, 16, 17] {
            let idle = ledger.open();
            ledger.close(idle, Lsn::new(lsn), message("heartbeat"), true);
        }
        ledger.acknowledged(Part::Event(one), 300);
        let names: Vec<_> = sent(&mut ledger);
        assert_eq!(
            names.iter().map(|(_, name)| &name[..]).collect::<Vec<_>>(),
            ["begin", "end", "heartbeat"]
        );
        // The heartbeat overtakes: nothing is durable before the transaction is.
        ledger.acknowledged(names[2].0, 0);
        assert_eq!(durable.borrow().flushed, Lsn::ZERO);
        ledger.acknowledged(Part::End(one), 0);
        assert_eq!(durable.borrow().flushed, Lsn::new(17));
    }

    #[test]
    fn without_markers_a_transaction_counts_when_its_events_and_all_before_it_are_there() {
        let (mut ledger, durable) = ledger();
        let (one, two) = (ledger.open(), ledger.open());
        (0..2).for_each(|_| ledger.sent(one, 300));
        ledger.sent(two, 300);
        ledger.acknowledged(Part::Event(one), 300);
        ledger.finish(one, Lsn::new(10));
        ledger.acknowledged(Part::Event(two), 300);
        ledger.finish(two, Lsn::new(20));
        let empty = ledger.open();
        ledger.finish(empty, Lsn::new(30));
        assert_eq!(durable.borrow().flushed, Lsn::ZERO);
        assert!(sent(&mut ledger).is_empty());
        ledger.acknowledged(Part::Event(one), 300);
        assert_eq!(durable.borrow().flushed, Lsn::new(30));
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_failure_wakes_whoever_waits_and_nothing_more_becomes_durable() {
        let (mut ledger, mut durable) = ledger();
        let one = transaction(&mut ledger, 1, 10);
        ledger.fail(Error::connection("gone"));
        ledger.acknowledged(Part::Event(one), 300);
        sent(&mut ledger);
        ledger.acknowledged(Part::End(one), 0);
        assert_eq!(durable.borrow_and_update().flushed, Lsn::ZERO);
        assert!(durable.has_changed().is_err());
    }

    #[test]
    fn parts_survive_as_numbers() {
        for part in [Part::Event(0), Part::Begin(7), Part::End(usize::MAX >> 2)] {
            assert_eq!(Part::of_opaque(part.to_opaque()), part);
        }
    }
}
