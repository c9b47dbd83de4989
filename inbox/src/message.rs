//! One record of Kafka as an event: its id, its type, its payload, in any of the forms in which walferry (or Debezium's event router)
//! publishes them.
//!
//! | form | value |
//! |---|---|
//! | payload as a JSON string (the router's default) | `"{\"order_id\": 7}"` |
//! | expanded JSON (`table.expand.json.payload=true`, logical messages) | `{"order_id":7}` |
//! | envelope placement | `{"payload": …, "eventType": "OrderPlaced"}` |
//! | with schemas | `{"schema": …, "payload": …}` |
//!
//! The forms can be told apart but for one case: an event whose own payload is an object with a member `payload`. [`Payload`] says so.

use std::collections::BTreeMap;

use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Headers};
use serde_json::value::RawValue;

/// The header with the event's id, and where it stands in the stream when there is none.
const ID: &str = "id";
const POSITION: &str = "walferry.position";
/// Names under which the event's type is placed.
const TYPES: [&str; 4] = ["eventType", "type", "event_type", "eventtype"];

/// How the value holds the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Payload {
    /// An object with a member `payload`, and next to it only texts, numbers or a schema, is an envelope; anything else is the payload.
    #[default]
    Detect,
    /// The value is the payload.
    Value,
    /// The value is an object, its member `payload` is the payload.
    Envelope,
}

/// An event.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// The event's own id: the first header `id`, or else its position in the source's WAL. The same event always has the same one.
    pub id: String,
    /// From the header or the envelope, whichever the route places.
    pub event_type: Option<String>,
    /// The aggregate's id, as text.
    pub key: Option<String>,
    /// JSON; None for a tombstone.
    pub payload: Option<Box<RawValue>>,
    /// All headers that are text.
    pub headers: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
}

/// What is wrong with a record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    #[error("the record has neither a header \"id\" nor a header \"walferry.position\"")]
    NoId,
    #[error("the value is not JSON")]
    NotJson,
    #[error("the value is no envelope with a member \"payload\"")]
    NoEnvelope,
}

impl Message {
    /// Reads a record.
    ///
    /// # Errors
    /// It is not an event in any of the forms.
    pub fn parse(record: &BorrowedMessage<'_>, form: Payload) -> Result<Message, Malformed> {
        let headers = record.headers().iter().flat_map(|headers| headers.iter()).collect::<Vec<_>>();
        // Of several the first is the router's, also where it has no value; others may have come along with the event.
        let id = headers.iter().position(|header| header.key == ID);
        let headers = headers
            .iter()
            .enumerate()
            .filter(|(at, header)| header.key != ID || Some(*at) == id)
            .filter_map(|(_, header)| Some((header.key, header.value?)));
        let place = Place { topic: record.topic(), partition: record.partition(), offset: record.offset() };
        let mut message = Message::from_parts(place, record.key(), record.payload(), headers, form)?;
        message.timestamp = record.timestamp().to_millis();
        Ok(message)
    }

    /// An event out of a record's parts, for tests of handlers and for records that come by another way.
    ///
    /// # Errors
    /// As [`Message::parse`].
    pub fn from_parts<'a>(
        place: Place<'_>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        form: Payload,
    ) -> Result<Message, Malformed> {
        let text = |bytes| std::str::from_utf8(bytes).ok().map(unquoted).filter(|text| !text.contains('\0'));
        let mut all = BTreeMap::new();
        for (name, value) in headers {
            let Some(value) = text(value) else { continue };
            // The last of a name counts, but for the event's id.
            if name != ID || !all.contains_key(ID) {
                all.insert(name.replace('\0', ""), value);
            }
        }
        let headers = all;
        let found = Value::read(value, form)?;
        let id = headers.get(ID).or_else(|| headers.get(POSITION)).or(found.placed.get(ID));
        let id = id.filter(|id| !id.is_empty()).cloned().ok_or(Malformed::NoId)?;
        let placed = |name: &&str| headers.get(*name).or_else(|| found.placed.get(*name)).cloned();
        Ok(Message {
            topic: place.topic.to_owned(),
            partition: place.partition,
            offset: place.offset,
            id,
            event_type: TYPES.iter().find_map(placed),
            key: key.map(|key| unquoted(&String::from_utf8_lossy(key))),
            payload: found.payload,
            headers,
            timestamp: None,
        })
    }
}

/// Keys and headers of JSON converters stand in quotes.
fn unquoted(text: &str) -> String {
    if text.starts_with('"')
        && let Ok(inner) = serde_json::from_str::<String>(text)
    {
        return inner;
    }
    text.to_owned()
}

#[derive(Default)]
struct Value {
    payload: Option<Box<RawValue>>,
    /// What stands beside the payload in an envelope.
    placed: BTreeMap<String, String>,
}

impl Value {
    fn read(value: Option<&[u8]>, form: Payload) -> Result<Value, Malformed> {
        let Some(value) = value else { return Ok(Value::default()) };
        let raw: Box<RawValue> = serde_json::from_slice(value).map_err(|_| Malformed::NotJson)?;
        let members = match form {
            Payload::Value => None,
            Payload::Detect | Payload::Envelope => members(&raw),
        };
        match members {
            Some(mut members) if form == Payload::Envelope || is_envelope(&members) => {
                let payload = members.remove("payload").ok_or(Malformed::NoEnvelope)?;
                let schema = members.remove("schema").is_some();
                let inner = if schema { self::members(&payload).filter(is_envelope) } else { None };
                // Schemas and an envelope placement: one inside the other.
                let (payload, beside) = match inner {
                    Some(mut inner) => (inner.remove("payload").ok_or(Malformed::NoEnvelope)?, inner),
                    None => (payload, members),
                };
                let beside = beside.iter().filter(|(_, raw)| raw.get() != "null");
                let placed = beside.map(|(name, raw)| (name.clone(), unquoted(raw.get()))).collect();
                Ok(Value { payload: expanded(payload), placed })
            }
            _ if form == Payload::Envelope => Err(Malformed::NoEnvelope),
            _ => Ok(Value { payload: expanded(raw), placed: BTreeMap::new() }),
        }
    }
}

fn members(raw: &RawValue) -> Option<BTreeMap<String, Box<RawValue>>> {
    if raw.get().starts_with('{') { serde_json::from_str(raw.get()).ok() } else { None }
}

fn is_envelope(members: &BTreeMap<String, Box<RawValue>>) -> bool {
    let flat = |raw: &RawValue| !raw.get().starts_with(['{', '[']);
    members.contains_key("payload")
        && members.iter().all(|(name, raw)| matches!(name.as_str(), "payload" | "schema") || flat(raw))
}

/// A text whose content is JSON is that JSON.
fn expanded(raw: Box<RawValue>) -> Option<Box<RawValue>> {
    match serde_json::from_str::<Option<String>>(raw.get()) {
        Ok(None) => None,
        Ok(Some(text)) => Some(RawValue::from_string(text).unwrap_or(raw)),
        Err(_) => Some(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str, form: Payload) -> Result<(Option<String>, Vec<String>), Malformed> {
        let value = Value::read(Some(value.as_bytes()), form)?;
        let placed = value.placed.iter().map(|(name, value)| format!("{name}={value}"));
        Ok((value.payload.map(|raw| raw.get().to_owned()), placed.collect()))
    }

    #[test]
    fn every_form_of_the_payload() {
        let seven = Some(r#"{"a":7}"#.to_owned());
        let read = |value| read(value, Payload::Detect);
        assert_eq!(read(r#"{"a":7}"#), Ok((seven.clone(), vec![])));
        assert_eq!(read(r#""{\"a\":7}""#), Ok((seven.clone(), vec![])));
        assert_eq!(
            read(r#"{"payload":{"a":7},"eventType":"Placed","n":1,"gone":null}"#),
            Ok((seven.clone(), vec!["eventType=Placed".to_owned(), "n=1".to_owned()]))
        );
        assert_eq!(read(r#"{"payload":"{\"a\":7}","type":"P"}"#), Ok((seven.clone(), vec!["type=P".into()])));
        assert_eq!(
            read(r#"{"schema":{"type":"string"},"payload":"{\"a\":7}"}"#),
            Ok((seven.clone(), vec![]))
        );
        assert_eq!(
            read(r#"{"schema":{},"payload":{"payload":"{\"a\":7}","type":"P"}}"#),
            Ok((seven, vec!["type=P".into()]))
        );
        for (value, payload) in [("[1,\"a\"]", "[1,\"a\"]"), ("\"no json\"", "\"no json\""), ("12", "12")] {
            assert_eq!(read(value), Ok((Some(payload.to_owned()), vec![])));
        }
        assert_eq!(read("null"), Ok((None, vec![])));
        assert_eq!(read(r#"{"payload":null,"type":"P"}"#), Ok((None, vec!["type=P".into()])));
        assert_eq!(read("{"), Err(Malformed::NotJson));
    }

    #[test]
    fn a_payload_with_a_member_payload() {
        let own = r#"{"payload":{"a":7},"lines":[1]}"#;
        assert_eq!(read(own, Payload::Detect).unwrap().0.as_deref(), Some(own));
        let like = r#"{"payload":{"a":7},"n":1}"#;
        assert_eq!(read(like, Payload::Value).unwrap().0.as_deref(), Some(like));
        assert_eq!(read("[]", Payload::Envelope), Err(Malformed::NoEnvelope));
    }

    #[test]
    fn the_first_id_is_the_events() {
        let place = Place { topic: "t", partition: 0, offset: 0 };
        let headers = [("id", &b"1"[..]), ("id", b"x"), ("a", b"1"), ("a", b"2")];
        let message = Message::from_parts(place, None, None, headers, Payload::Detect).unwrap();
        assert_eq!((&message.id[..], &message.headers["id"][..], &message.headers["a"][..]), ("1", "1", "2"));
    }

    #[test]
    fn no_value_is_a_tombstone() {
        assert!(Value::read(None, Payload::Detect).unwrap().payload.is_none());
    }
}
