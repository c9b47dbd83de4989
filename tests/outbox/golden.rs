//! What Debezium's event router makes of given rows, and what `outbox run` makes of them with the same configuration file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::rig::Rig;
use crate::support::scratch;

/// The table that `ob.sql` writes to.
const TABLE: &str = "CREATE TABLE outbox (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL, \
                     type varchar(255) NOT NULL, payload jsonb, ts timestamp DEFAULT '2024-01-02 03:04:05.678901', trace text)";

/// Headers but walferry's own; the run's id is masked.
type Headers = BTreeMap<String, Option<String>>;

#[derive(Clone, PartialEq, Debug)]
struct Record {
    key: Value,
    value: Value,
    headers: Headers,
}

/// Topic, without its first part, to records.
type Topics = BTreeMap<String, Vec<Record>>;

const RUN_ID: &str = "__debezium.context.runId";

/// As Debezium wrote them.
fn theirs(lines: &str) -> Topics {
    let mut topics = Topics::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_str(line).unwrap();
        let header = |(name, value): (&String, &Value)| {
            let text = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            (name.clone(), if name == RUN_ID { None } else { text })
        };
        let headers = record["headers"].as_object().unwrap().iter().map(header).collect();
        let topic = record["topic"].as_str().unwrap().strip_prefix("outbox.event.").unwrap().to_owned();
        let record = Record { key: record["key"].clone(), value: record["value"].clone(), headers };
        topics.entry(topic).or_default().push(record);
    }
    topics
}

/// Ours, of a run with this configuration.
async fn ours(properties: &str) -> (Topics, usize) {
    // Events have the times that their rows say, which are years ago.
    let rig = Rig::new(TABLE).await.set("kafka.retention=3600d");
    let folder = scratch::folder("connector");
    let file = folder.join("connector.properties");
    let own = |line: &str| match line.split_once('=') {
        Some(("database.port", _)) => format!("database.port={}", rig.source.port()),
        Some(("database.dbname", _)) => format!("database.dbname={}", rig.database),
        Some((name @ ("slot.name" | "publication.name"), _)) => format!("{name}=g_{}", rig.prefix),
        _ => line.to_owned(),
    };
    std::fs::write(&file, properties.lines().map(own).collect::<Vec<_>>().join("\n")).unwrap();
    let rig = rig.file(&file).await;
    for statement in include_str!("../golden/ob.sql").lines() {
        rig.sql(statement).await;
    }
    rig.delivered_of(&format!("g_{}", rig.prefix)).await;
    let mut topics = Topics::new();
    let first = format!("{}.", rig.prefix);
    for (topic, _) in rig.kafka.topics(&first) {
        let Some(name) = topic.strip_prefix(&first) else { continue };
        let records = rig.kafka.records(&topic).into_iter().map(|record| {
            let json = |bytes: &Option<Vec<u8>>| {
                bytes.as_ref().map_or(Value::Null, |bytes| serde_json::from_slice(bytes).expect("JSON"))
            };
            let headers = record.headers.iter().filter(|(name, _)| !name.starts_with("walferry."));
            // The broker is shared, so the prefix is another one.
            let named = |text: String| if text == rig.prefix { "srv".to_owned() } else { text };
            let text =
                |value: &Option<Vec<u8>>| value.clone().map(|value| named(String::from_utf8(value).unwrap()));
            Record {
                key: json(&record.key),
                value: json(&record.value),
                headers: headers
                    .map(|(name, value)| (name.clone(), if name == RUN_ID { None } else { text(value) }))
                    .collect(),
            }
        });
        topics.insert(name.to_owned(), records.collect());
    }
    let letters = topics.remove("dlq").map_or(0, |letters| letters.len());
    rig.end().await;
    (topics, letters)
}

/// Debezium writes to a topic that Kafka refuses, and would stop there: a dead letter of ours.
fn without_weird_topic(topics: &mut Topics) {
    topics.remove("Weird type!").expect("it is in the capture");
}

fn event<'t>(topics: &'t mut Topics, topic: &str, id_ends: &str) -> &'t mut Record {
    let records = topics.get_mut(topic).unwrap();
    records.iter_mut().find(|record| record.headers["id"].as_ref().unwrap().ends_with(id_ends)).unwrap()
}

/// What Debezium loses or invents when it expands a payload, and we do not.
fn expanded(topics: &mut Topics, envelope: bool, nulls: bool) {
    let mut put = |id: &str, value: Value| {
        let topic = if id == "8f" { "Order" } else { "Customer" };
        let record = event(topics, topic, id);
        if envelope { record.value["payload"] = value } else { record.value = value }
    };
    // An empty array is left out, and the elements of an array are given each other's members.
    let items = if nulls {
        json!([{"id": 1, "p": 39.98}, {"id": 2, "q": null}])
    } else {
        json!([{"id": 1, "p": 39.98}, {"id": 2}])
    };
    let mut order =
        json!({"id": 1, "lineItems": items, "e": [], "big": 12_345_678_901_i64, "f": 1.5, "b": true});
    if nulls {
        order["n"] = Value::Null;
    }
    put("8f", order);
    // A scalar, and an array of several types, stay a string of JSON.
    put("91", json!("str"));
    put("94", json!({"a": [1, "x"]}));
    // An array at the top is lost.
    let customers = topics.get_mut("Customer").unwrap();
    let mut array = customers[0].clone();
    *array.headers.get_mut("id").unwrap() = Some("406c07f3-26f0-4eea-a50c-109940064b92".to_owned());
    if envelope {
        array.value = json!({"payload": [1, 2], "eventType": "Arr", "aggregateid": "3"});
    } else {
        array.value = json!([1, 2]);
        *array.headers.get_mut("eventType").unwrap() = Some("Arr".to_owned());
    }
    customers.insert(1, array);
}

fn assert_same(ours: &Topics, theirs: &Topics) {
    for (topic, records) in theirs {
        let found = ours.get(topic).unwrap_or_else(|| panic!("no topic {topic:?} among {:?}", ours.keys()));
        for (our, their) in found.iter().zip(records) {
            assert_eq!(our, their, "topic {topic:?}");
        }
        assert_eq!(found.len(), records.len(), "topic {topic:?}");
    }
    assert_eq!(ours.len(), theirs.len(), "{:?}", ours.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_default_router_are_debezium_s() {
    let (ours, letters) = ours(include_str!("../golden/ob_default.properties")).await;
    let mut theirs = theirs(include_str!("../golden/ob_default.jsonl"));
    without_weird_topic(&mut theirs);
    assert_same(&ours, &theirs);
    assert_eq!(letters, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_router_that_expands_are_debezium_s_but_for_what_it_loses() {
    let (ours, letters) = ours(include_str!("../golden/ob_expand.properties")).await;
    let mut theirs = theirs(include_str!("../golden/ob_expand.jsonl"));
    without_weird_topic(&mut theirs);
    expanded(&mut theirs, false, false);
    // NULL is NULL, also where the column has a default.
    *event(&mut theirs, "", "99").headers.get_mut("ts").unwrap() = None;
    assert_same(&ours, &theirs);
    assert_eq!(letters, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_router_with_an_envelope_are_debezium_s_but_for_what_it_loses() {
    let (ours, letters) = ours(include_str!("../golden/ob_env.properties")).await;
    let mut theirs = theirs(include_str!("../golden/ob_env.jsonl"));
    without_weird_topic(&mut theirs);
    expanded(&mut theirs, true, true);
    assert_same(&ours, &theirs);
    assert_eq!(letters, 1);
}
