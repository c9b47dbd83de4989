//! Captured records, read and masked as `tests/golden/README.md` says. Values stay text: their bytes are what is compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::IgnoredAny;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub topic: String,
    /// `null`: no key.
    pub key: String,
    /// `null`: a tombstone.
    pub value: String,
    /// Value as JSON.
    pub headers: BTreeMap<String, String>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {:?}", self.topic, self.key, self.value, self.headers)
    }
}

/// The records but heartbeats, masked.
pub fn read(lines: &str) -> Vec<Record> {
    comparable(lines.lines().map(|text| line(text).masked()).collect())
}

/// Without heartbeats, whose number is chance, and what now() made.
pub fn comparable(mut records: Vec<Record>) -> Vec<Record> {
    records.retain(|record| !record.topic.starts_with("__debezium-heartbeat."));
    for record in records.iter_mut().filter(|record| record.topic == "srv.public.t_def") {
        record.value = mask(&record.value, "\"e\":");
    }
    records
}

/// One captured line, as it was.
pub fn line(line: &str) -> Record {
    let mut rest = line;
    let mut member = |name: &str| {
        let start = format!("\"{name}\":");
        rest = &rest[rest.find(&start).unwrap_or_else(|| panic!("no {name} in {rest:.80}")) + start.len()..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        values.next().unwrap().unwrap();
        let (value, after) = rest.split_at(values.byte_offset());
        rest = after;
        value.to_owned()
    };
    let topic: String = serde_json::from_str(&member("topic")).unwrap();
    let (key, value) = (member("key"), member("value"));
    let headers: BTreeMap<String, serde_json::Value> = serde_json::from_str(&member("headers")).unwrap();
    let headers = headers.into_iter().map(|(name, value)| (name, value.to_string())).collect();
    Record { topic, key, value, headers }
}

impl Record {
    /// Without what differs from run to run.
    pub fn masked(mut self) -> Record {
        for name in ["ts_ms", "ts_us", "ts_ns", "lsn", "txId", "sequence", "db", "version"] {
            self.value = mask(&self.value, &format!("\"{name}\":"));
        }
        self.value = mask(&self.value, "\"transaction\":{\"id\":");
        if self.topic.ends_with(".transaction") {
            self.key = mask(&self.key, "\"id\":");
            self.value = mask(&self.value, "\"id\":");
        }
        self.headers.retain(|name, _| !name.starts_with("walferry."));
        if let Some(run) = self.headers.get_mut("__debezium.context.runId") {
            "\"_\"".clone_into(run);
        }
        self
    }
}

/// Puts `_` in place of each string or number that follows `before`; null stays.
pub fn mask(text: &str, before: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(before) {
        out.push_str(&rest[..at + before.len()]);
        rest = &rest[at + before.len()..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        let value = values.next().unwrap().unwrap();
        if value.is_string() || value.is_number() {
            // A number's end is where its digits end: the deserializer looks one byte further.
            let length = if value.is_string() {
                values.byte_offset()
            } else {
                rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len())
            };
            out.push('_');
            rest = &rest[length..];
        }
    }
    out + rest
}
