//! Kafka Connect's schemas of events, as its JsonConverter writes them: `{"schema":…,"payload":…}`.
//!
//! ```text
//! column of the row ─► its type's schema ───────────────┐
//! expanded payload ──► Inferred: schema of its JSON ─────┼─► {"schema":…,"payload":…}
//! envelope ──────────► struct of payload and columns ────┘
//! ```
//!
//! What belongs to the table is made once for each of its versions ([`Known`]); what an expanded payload adds, once an event.

mod inferred;
#[cfg(test)]
mod tests;

use crate::envelope::json;

pub(super) use inferred::{Inferred, infer};

/// Without braces: a text that holds JSON.
pub(super) const JSON: &str = r#""type":"string","optional":true,"name":"io.debezium.data.Json","version":1"#;

/// What the schemas of one version of a table have in common.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// All that stands before the key's JSON; none: keys have no schema.
    pub key: Option<Vec<u8>>,
    /// None: values have no schema.
    pub value: Option<Value>,
}

/// Of the values.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// The payload column's, without braces.
    pub payload: String,
    /// The fields of an envelope behind the payload, each with a comma before it.
    pub fields: String,
    /// First part of an envelope's name: the table's topic, as Debezium calls it.
    pub topic: String,
}

/// Appends what stands before the JSON of something with this schema, which has no braces.
pub(super) fn open(out: &mut Vec<u8>, schema: &str) {
    for part in [r#"{"schema":{"#, schema, r#"},"payload":"#] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The same of something without a schema.
pub(super) fn open_without(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"schema":null,"payload":"#);
}

/// Appends what stands behind it.
pub(super) fn close(out: &mut Vec<u8>) {
    out.push(b'}');
}

/// A field of a struct, from a schema without braces.
pub(super) fn field(schema: &str, name: &str) -> String {
    format!("{{{schema},\"field\":{}}}", text(name.as_bytes()))
}

impl Value {
    /// An envelope's schema, without braces. `payload`: the payload's; `routed_by`: the event's route value; `version`: of
    /// `table.field.event.schema.version`, an integer.
    pub(super) fn envelope(&self, payload: &str, routed_by: &[u8], version: Option<&[u8]>) -> String {
        let name = [self.topic.as_bytes(), b".", routed_by, b".Value"].concat();
        let version = version
            .map_or_else(String::new, |version| format!(",\"version\":{}", String::from_utf8_lossy(version)));
        format!(
            r#""type":"struct","fields":[{}{}],"optional":false,"name":{}{version}"#,
            field(payload, "payload"),
            self.fields,
            text(&name)
        )
    }
}

/// As a JSON string.
fn text(text: &[u8]) -> String {
    let mut out = Vec::new();
    json::string(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}
