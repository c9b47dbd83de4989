//! The form of a prefix's events beside their values. It stays what it was when the first of them was written: who reads the topics has
//! set itself up for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a reader announces of its events; JSON in the header [`FORM`](pipeline::envelope::header::FORM).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Form {
    /// Key and value are wrapped with their schema.
    pub schemas: bool,
    /// A delete is followed by a tombstone.
    pub tombstones: bool,
    /// Tables share topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<Routing>,
}

/// How tables share topics, as it was configured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Routing {
    pub regex: String,
    pub replacement: String,
    /// The key's member that names the table's own topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_field: Option<String>,
}

impl fmt::Display for Form {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool| if on { "on" } else { "off" };
        write!(out, "schemas={}, tombstones={}", word(self.schemas), word(self.tombstones))?;
        let Some(Routing { regex, replacement, key_field }) = &self.topics else { return Ok(()) };
        write!(out, ", topics {regex} in {replacement}, key field {}", key_field.as_deref().unwrap_or("none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_it_was_written() {
        let routing = Routing { regex: "schemas=off(.*)".into(), replacement: "$1".into(), key_field: None };
        for topics in [None, Some(routing)] {
            let form = Form { schemas: true, tombstones: false, topics };
            let text = serde_json::to_string(&form).unwrap();
            assert_eq!(serde_json::from_str::<Form>(&text).unwrap(), form, "{text}");
        }
        assert!(serde_json::from_str::<Form>("schemas=on, tombstones=on").is_err());
    }
}
