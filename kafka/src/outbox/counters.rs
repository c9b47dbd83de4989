//! What was done since the process began, for whoever shows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Events and bytes of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicCount {
    pub events: u64,
    /// Of keys and values.
    pub bytes: u64,
}

/// Shared by the stream and whoever looks. Counts what was handed to the producer.
#[derive(Debug, Default)]
pub struct Counters {
    pub events: AtomicU64,
    pub dead_letters: AtomicU64,
    /// Rows of an outbox table that were updated, deleted, or truncated away: not events.
    pub updates: AtomicU64,
    pub deletes: AtomicU64,
    pub truncates: AtomicU64,
    /// Logical messages outside of a transaction, which are never routed.
    pub not_transactional: AtomicU64,
    topics: Mutex<BTreeMap<String, TopicCount>>,
}

impl Counters {
    pub(super) fn sent(&self, topic: &str, bytes: usize) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match topics.get_mut(topic) {
            Some(count) => count,
            None => topics.entry(topic.to_owned()).or_default(),
        };
        count.events += 1;
        count.bytes += bytes as u64;
    }

    /// Per topic, by name.
    #[must_use]
    pub fn topics(&self) -> BTreeMap<String, TopicCount> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
