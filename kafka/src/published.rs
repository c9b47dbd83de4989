//! Counts what Kafka has acknowledged, topic by topic.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use metrics::Counter;
use pipeline::metric;

/// Messages and bytes of each topic. The counters are looked up once: a producer reports hundreds of thousands of messages a second.
#[derive(Default)]
pub(crate) struct Published {
    topics: Mutex<HashMap<String, (Counter, Counter)>>,
}

impl Published {
    pub(crate) fn count(&self, topic: &str, bytes: usize) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if !topics.contains_key(topic) {
            let events = metrics::counter!(metric::EVENTS, "topic" => topic.to_owned());
            let size = metrics::counter!(metric::EVENT_BYTES, "topic" => topic.to_owned());
            topics.insert(topic.to_owned(), (events, size));
        }
        if let Some((events, size)) = topics.get(topic) {
            events.increment(1);
            size.increment(bytes as u64);
        }
    }
}
