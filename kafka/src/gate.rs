//! What follows the first message of a partition waits until Kafka has that one.
//!
//! A broker that knows nothing of a producer in a partition takes whatever sequence number comes first (KIP-360; KAFKA-15591: from Kafka 4.5
//! on not in a partition that was never written to). So if the first batch is refused, because the broker has not heard yet that it
//! leads the partition, and the second one, already on its way, arrives a moment later, the second is written and the first never is:
//! librdkafka takes the answer to the second for an answer to both. Behind one acknowledged batch the broker insists on the order, until it
//! forgets the producer: `producer.id.expiration.ms` after its last message there, a day by default.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use rdkafka::message::OwnedHeaders;

use crate::ledger::Part;

/// After this long every partition has a first message again: the broker may have forgotten the one before.
const RENEW: Duration = Duration::from_secs(600);

/// A message on its way to the client.
#[derive(Debug)]
pub struct Record<'a> {
    pub part: Part,
    pub topic: &'a str,
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: OwnedHeaders,
    /// Milliseconds since 1970; none: when it is handed to the client.
    pub timestamp: Option<i64>,
}

/// One that waits.
#[derive(Debug)]
pub struct Held {
    part: Part,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: OwnedHeaders,
    timestamp: Option<i64>,
}

#[derive(Debug, Default)]
enum Partition {
    #[default]
    Untouched,
    /// Its first message is on its way; these come after it.
    First(Vec<Held>),
    /// The first one is there, and these may go.
    Due(Vec<Held>),
    Open,
}

/// Of one producer. One lock over all partitions: whoever sends holds it while the client takes the message, so that nothing overtakes what
/// was held back.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    /// Partitions whose first message is on its way.
    first: AtomicUsize,
}

#[derive(Debug)]
struct State {
    topics: HashMap<String, Vec<Partition>>,
    due: Vec<(String, i32)>,
    renewed: Instant,
}

impl Default for State {
    fn default() -> State {
        State { topics: HashMap::default(), due: Vec::new(), renewed: Instant::now() }
    }
}

impl State {
    fn renew(&mut self) {
        self.renewed = Instant::now();
        for partition in self.topics.values_mut().flatten() {
            if matches!(partition, Partition::Open) {
                *partition = Partition::Untouched;
            }
        }
    }

    fn at(&mut self, topic: &str, partition: i32) -> &mut Partition {
        let partitions = self.topics.entry_ref(topic).or_default();
        let partition = usize::try_from(partition).unwrap_or_default();
        if partitions.len() <= partition {
            partitions.resize_with(partition + 1, Partition::default);
        }
        &mut partitions[partition]
    }
}

impl Gate {
    /// Sends the message, or keeps it until the first one of its partition is there.
    pub fn pass<E>(
        &self,
        record: Record<'_>,
        send: impl FnOnce(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        if state.renewed.elapsed() > RENEW {
            state.renew();
        }
        match state.at(record.topic, record.partition) {
            Partition::Open => send(record),
            Partition::First(held) | Partition::Due(held) => {
                let Record { part, key, value, headers, timestamp, .. } = record;
                let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
                held.push(Held { part, key, value, headers, timestamp });
                Ok(())
            }
            untouched @ Partition::Untouched => {
                *untouched = Partition::First(Vec::new());
                self.first.fetch_add(1, Ordering::Relaxed);
                send(record)
            }
        }
    }

    /// Kafka has a message of this partition. True: others waited for it, and [`Gate::release`] sends them.
    pub fn acknowledged(&self, topic: &str, partition: i32) -> bool {
        // The message went through `pass` before: its own partition is counted.
        if self.first.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut state = self.lock();
        let found = state.at(topic, partition);
        let Partition::First(held) = found else { return false };
        let held = mem::take(held);
        self.first.fetch_sub(1, Ordering::Relaxed);
        if held.is_empty() {
            *found = Partition::Open;
            return false;
        }
        *found = Partition::Due(held);
        state.due.push((topic.to_owned(), partition));
        true
    }

    /// Sends what is held back no longer.
    pub fn release<E>(&self, mut send: impl FnMut(Record<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut state = self.lock();
        for (topic, partition) in mem::take(&mut state.due) {
            let found = mem::replace(state.at(&topic, partition), Partition::Open);
            let Partition::Due(held) = found else { continue };
            for Held { part, key, value, headers, timestamp } in held {
                let (topic, key, value) = (topic.as_str(), key.as_deref(), value.as_deref());
                send(Record { part, topic, partition, key, value, headers, timestamp })?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize, partition: i32) -> Record<'static> {
        let (part, headers) = (Part::Event(number), OwnedHeaders::new());
        Record { part, topic: "t", partition, key: None, value: None, headers, timestamp: None }
    }

    /// Numbers of what is sent.
    struct Sent(Vec<(Part, i32)>);

    impl Sent {
        fn take(&mut self, record: Record<'_>) -> Result<(), ()> {
            self.0.push((record.part, record.partition));
            Ok(())
        }

        fn numbers(&self) -> Vec<(usize, i32)> {
            let number = |part: &Part| part.to_opaque() >> 2;
            self.0.iter().map(|(part, partition)| (number(part), *partition)).collect()
        }
    }

    #[test]
    fn what_follows_the_first_message_waits_and_stays_in_order() {
        let (gate, mut sent) = (Gate::default(), Sent(Vec::new()));
        for (number, partition) in [(1, 0), (2, 0), (3, 5), (4, 0)] {
            gate.pass(message(number, partition), |record| sent.take(record)).unwrap();
        }
        assert_eq!(sent.numbers(), [(1, 0), (3, 5)]);
        assert!(!gate.acknowledged("t", 5), "nothing waits for it");
        assert!(gate.acknowledged("t", 0));
        // What comes before they are sent goes behind them.
        gate.pass(message(5, 0), |record| sent.take(record)).unwrap();
        assert_eq!(sent.0.len(), 2);
        gate.release(|record| sent.take(record)).unwrap();
        gate.pass(message(6, 0), |record| sent.take(record)).unwrap();
        gate.pass(message(7, 5), |record| sent.take(record)).unwrap();
        assert_eq!(sent.numbers()[2..], [(2, 0), (4, 0), (5, 0), (6, 0), (7, 5)]);
        assert!(!gate.acknowledged("t", 0) && gate.first.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn a_partition_has_a_first_message_again_after_a_while() {
        let (gate, mut sent) = (Gate::default(), Sent(Vec::new()));
        gate.pass(message(1, 0), |record| sent.take(record)).unwrap();
        gate.pass(message(2, 0), |record| sent.take(record)).unwrap();
        gate.lock().renew();
        gate.pass(message(3, 0), |record| sent.take(record)).unwrap();
        assert_eq!(sent.numbers(), [(1, 0)], "what waits goes on waiting");
        assert!(gate.acknowledged("t", 0));
        gate.release(|record| sent.take(record)).unwrap();
        gate.lock().renew();
        gate.pass(message(4, 0), |record| sent.take(record)).unwrap();
        gate.pass(message(5, 0), |record| sent.take(record)).unwrap();
        assert_eq!(sent.numbers(), [(1, 0), (2, 0), (3, 0), (4, 0)]);
        assert!(gate.acknowledged("t", 0));
    }
}
