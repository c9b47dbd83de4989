//! A logical message as a message: `pg_logical_emit_message(true, '<prefix>', json)`.
//!
//! The content is a JSON object with the names of an outbox row, in any of the usual spellings: `id`, `aggregate_type`, `aggregate_id`,
//! `event_type`, `payload` (any JSON, and it is the value as it is), `headers` (an object: each member is a header, but for
//! the names that are the event's own: `id`, `walferry.position`). With schemas key and payload have those of their JSON, and what is null in it
//! stays (`optional_bytes`).

use crate::change::PgTimestamp;
use crate::envelope::{Position, header};

use super::event::{DeadLetter, Event, Stage};
use super::json::{self, members};
use super::options::{Format, Nulls, Options};
use super::placement::{ID, is_ours};
use super::route::is_topic;
use super::row::millis;
use super::schema::{self, Inferred};

/// Header with the event's type.
const EVENT_TYPE: &str = "eventType";

/// # Errors
/// The content is no event; the letter holds it as it came.
pub fn route_message(
    options: &mut Options,
    prefix: &str,
    content: &[u8],
    position: Position,
    committed_at: PgTimestamp,
) -> Result<Event, Box<DeadLetter>> {
    let mut id = None;
    route(options, prefix, content, position, committed_at, &mut id).map_err(|(stage, reason)| {
        Box::new(DeadLetter {
            stage,
            reason,
            position,
            id,
            key: None,
            value: Some(content.to_vec()),
            row: None,
            prefix: Some(prefix.to_owned()),
            timestamp: millis(committed_at),
        })
    })
}

fn route(
    options: &mut Options,
    prefix: &str,
    content: &[u8],
    position: Position,
    committed_at: PgTimestamp,
    id: &mut Option<String>,
) -> Result<Event, (Stage, String)> {
    let found = members(content)
        .map_err(|error| (Stage::Message, format!("the content is no JSON object: {error}")))?;
    let member = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| found.iter().find(|(found, _)| *found == name.as_bytes()))
            .map(|(_, value)| *value)
    };
    *id = member(&[&options.id, "id", "event_id", "eventId"])
        .and_then(json::text)
        .map(|id| String::from_utf8_lossy(&id).into_owned());
    let missing = |what: &str| (Stage::Message, format!("the content has no \"{what}\""));
    let route_value = member(&[&options.route_by, "aggregate_type", "aggregatetype", "aggregateType"])
        .and_then(json::text)
        .ok_or_else(|| missing("aggregate_type"))?;
    let topic = options
        .message_topic
        .replace("${prefix}", prefix)
        .replace("${routedByValue}", &String::from_utf8_lossy(&route_value));
    if !is_topic(&topic) {
        return Err((Stage::Route, "the topic's name would be one that Kafka does not allow".to_owned()));
    }
    let key =
        member(&[&options.key, "aggregate_id", "aggregateid", "aggregateId"]).filter(|key| *key != b"null");
    let key = match options.key_format {
        Format::Json if options.key_schemas => key
            .map(|key| with_schema(key, &options.key))
            .transpose()
            .map_err(|why| (Stage::Message, format!("\"aggregate_id\": {why}")))?,
        Format::Json => key.map(<[u8]>::to_vec),
        Format::String | Format::Bytes => key.and_then(json::text),
    };
    let payload = member(&[&options.payload, "payload", "data"]).ok_or_else(|| missing("payload"))?;
    let value = if options.tombstone && payload == b"null" {
        None
    } else if options.value_schemas && options.value_format == Format::Json {
        Some(with_schema(payload, &options.payload).map_err(|why| (Stage::Payload, why))?)
    } else {
        let mut value = Vec::with_capacity(payload.len());
        json::compact(&mut value, payload, false).map_err(|error| (Stage::Payload, error.to_string()))?;
        Some(value)
    };
    let mut headers = vec![(ID.to_owned(), id.as_ref().map(|id| id.clone().into_bytes()))];
    if let Some(event_type) =
        member(&[&options.event_type, "event_type", "type", "eventType"]).and_then(json::text)
    {
        headers.push((EVENT_TYPE.to_owned(), Some(event_type)));
    }
    if let Some(more) = member(&["headers", "metadata"]).filter(|more| *more != b"null") {
        let more = members(more).map_err(|_| (Stage::Message, "\"headers\" is no JSON object".to_owned()))?;
        for (name, value) in more {
            let name = json::text(&[b"\"", name, b"\""].concat()).unwrap_or_default();
            let name = String::from_utf8_lossy(&name).into_owned();
            if is_ours(&name) {
                continue;
            }
            // A text is the header's value as it is, anything else its JSON.
            let value =
                if value == b"null" { None } else { json::text(value).or_else(|| Some(value.to_vec())) };
            headers.push((name, value));
        }
    }
    headers.push((header::POSITION.to_owned(), Some(position.to_string().into_bytes())));
    Ok(Event {
        topic,
        key,
        value,
        headers,
        timestamp: millis(committed_at),
        partition: None,
        position,
        id: id.clone(),
    })
}

/// JSON with the schema that it has; without one as a text that holds JSON. `path` names it.
fn with_schema(text: &[u8], path: &str) -> Result<Vec<u8>, String> {
    let inferred =
        schema::infer(text, path, Nulls::OptionalBytes, true).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    match inferred {
        Inferred::Value { schema, value } => {
            schema::open(&mut out, &schema);
            out.extend_from_slice(&value);
        }
        Inferred::Text | Inferred::Empty => {
            schema::open(&mut out, schema::JSON);
            json::string(&mut out, text);
        }
    }
    schema::close(&mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use pg::Lsn;

    use super::*;
    use crate::envelope::{self, Values};

    fn routed(content: &str) -> Result<Event, Box<DeadLetter>> {
        let mut options = Options::new(envelope::Options::new("p", "d", Values::Postgres));
        let position = Position { commit_lsn: Lsn::new(16), index: 2 };
        route_message(&mut options, "shop", content.as_bytes(), position, PgTimestamp(0))
    }

    #[test]
    fn every_spelling_of_the_names() {
        for content in [
            r#"{"id": "7", "aggregate_type": "Order", "aggregate_id": "o-1", "event_type": "Placed", "payload": {"a": null}, "headers": {"t": "x", "n": 1}}"#,
            r#"{"id": 7, "aggregatetype": "Order", "aggregateid": "o-1", "type": "Placed", "payload": {"a":null}, "metadata": {"t": "x", "n": 1}}"#,
            r#"{"eventId": "7", "aggregateType": "Order", "aggregateId": "o-1", "eventType": "Placed", "data": {"a": null}, "headers": {"t": "x", "n": 1}}"#,
        ] {
            let event = routed(content).unwrap();
            assert_eq!((&event.topic[..], event.key.as_deref()), ("shop.Order", Some(&b"o-1"[..])));
            assert_eq!(event.value.as_deref(), Some(&br#"{"a":null}"#[..]));
            let headers: Vec<_> = event
                .headers
                .iter()
                .map(|(name, value)| {
                    format!("{name}={}", String::from_utf8_lossy(value.as_deref().unwrap_or(b"-")))
                })
                .collect();
            assert_eq!(headers, ["id=7", "eventType=Placed", "t=x", "n=1", "walferry.position=0/10,2"]);
        }
    }

    #[test]
    fn a_header_of_its_own_takes_neither_the_id_s_place_nor_the_position_s() {
        let content = r#"{"id": 7, "aggregate_type": "Order", "payload": 1, "headers": {"id": "x", "walferry.position": "y", "i\u0064": 1, "ID": "z"}}"#;
        let headers = routed(content).unwrap().headers;
        let headers = headers.iter().map(|(name, value)| (&name[..], value.as_deref().unwrap_or(b"-")));
        assert_eq!(
            headers.collect::<Vec<_>>(),
            [("id", &b"7"[..]), ("ID", b"z"), ("walferry.position", b"0/10,2")]
        );
    }

    #[test]
    fn with_schemas_a_message_has_those_of_its_json() {
        let mut options = Options::new(envelope::Options::new("p", "d", Values::Postgres));
        (options.key_format, options.key_schemas, options.value_schemas) = (Format::Json, true, true);
        let position = Position { commit_lsn: Lsn::new(16), index: 2 };
        let mut routed = |payload: &str| {
            let content = format!(r#"{{"id":1,"aggregate_type":"A","aggregate_id":7,"payload":{payload}}}"#);
            let event =
                route_message(&mut options, "shop", content.as_bytes(), position, PgTimestamp(0)).unwrap();
            (event.key.unwrap(), event.value.map(|value| String::from_utf8(value).unwrap()))
        };
        let (key, value) = routed(r#"{"a": [1, null], "n": null}"#);
        assert_eq!(key, br#"{"schema":{"type":"int32","optional":true},"payload":7}"#);
        let expected = concat!(
            r#"{"schema":{"type":"struct","fields":[{"type":"array","items":{"type":"int32","optional":true},"optional":true,"field":"a"},"#,
            r#"{"type":"bytes","optional":true,"field":"n"}],"optional":true,"name":"payload"},"payload":{"a":[1,null],"n":null}}"#
        );
        assert_eq!(value.as_deref(), Some(expected));
        for (payload, expected) in [
            (r#""x""#, r#"{"schema":{"type":"string","optional":true},"payload":"x"}"#),
            ("null", r#"{"schema":{"type":"bytes","optional":true},"payload":null}"#),
            (
                r#"[1, "x"]"#,
                r#"{"schema":{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1},"payload":"[1, \"x\"]"}"#,
            ),
        ] {
            assert_eq!(routed(payload).1.as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_event_is_kept_as_it_came() {
        for (content, stage) in [
            ("not json", Stage::Message),
            ("[]", Stage::Message),
            (r#"{"id":"1","payload":1}"#, Stage::Message),
            (r#"{"id":"1","aggregate_type":null,"payload":1}"#, Stage::Message),
            (r#"{"id":"1","aggregate_type":"A"}"#, Stage::Message),
            (r#"{"id":"1","aggregate_type":"a b","payload":1}"#, Stage::Route),
            (r#"{"id":"1","aggregate_type":"A","payload":1,"headers":[]}"#, Stage::Message),
        ] {
            let letter = routed(content).unwrap_err();
            assert_eq!(letter.stage, stage, "{content}: {}", letter.reason);
            assert_eq!(letter.value.as_deref(), Some(content.as_bytes()));
            assert!(letter.id.is_none() || letter.id.as_deref() == Some("1"));
        }
    }
}
