//! The configuration files of docs/outbox.md load, and route what the systems that they replace emit.

use std::path::{Path, PathBuf};

use super::rig::{Rig, text};
use crate::support::scratch;

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/outbox").join(file)
}

/// The file as it is, but for where the database is, and slot, publication and topics that no other test has.
fn localized(rig: &Rig, file: &str) -> PathBuf {
    let text = std::fs::read_to_string(example(file)).unwrap();
    let mut out = Vec::new();
    for line in text.lines() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let name = rest.trim_start_matches('"').split(['"', '=', ' ']).next().unwrap_or_default();
        let value = match name {
            "database.hostname" => "127.0.0.1".to_owned(),
            "database.port" => rig.source.port().to_string(),
            "database.user" => "postgres".to_owned(),
            "database.password" => "none".to_owned(),
            "database.dbname" => rig.database.clone(),
            "slot.name" | "publication.name" => format!("x_{}", rig.prefix),
            _ => {
                out.push(line.to_owned());
                continue;
            }
        };
        out.push(if rest.starts_with('"') {
            format!("{indent}\"{name}\": \"{value}\",")
        } else {
            format!("{name}={value}")
        });
    }
    let path = scratch::folder("example").join(file);
    std::fs::write(&path, out.join("\n")).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_loads() {
    let rig = Rig::new("").await;
    for file in ["own-service.toml", "messages.toml"] {
        let path = example(file);
        rig.walferry
            .command("config")
            .args(&["show", "--config", path.to_str().unwrap()])
            .run()
            .await
            .expect_code(0);
    }
    for file in ["order-connector.json", "task-connector.properties"] {
        let path = example(file);
        let show = ["show", "--connector", path.to_str().unwrap()];
        let run = rig
            .walferry
            .command("config")
            .args(&show)
            .env("ORDER_DB_PASSWORD", "x")
            .env("TASK_DB_PASSWORD", "x");
        let shown = run.run().await.expect_code(0);
        assert!(
            shown.stdout.contains("outbox.table") && shown.stdout.contains("public.outbox"),
            "{shown:#?}"
        );
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_one_s_own_is_replaced() {
    let rig = Rig::new("").await;
    rig.walferry.command("outbox").args(&["init", "--layout", "uuid"]).run().await.expect_code(0);
    let rig = rig.arg("--config").arg(example("own-service.toml").to_str().unwrap()).start().await;
    rig.sql(
        "INSERT INTO outbox (aggregate_id, aggregate_type, event_type, payload) VALUES
           ('12345678-1234-1234-1234-123456789abc', 'Order', 'OrderPlaced', '{\"total\": 10.50, \"note\": null}')",
    )
    .await;
    let records = rig.records("Order", 1).await;
    assert_eq!(text(&records[0].key), "12345678-1234-1234-1234-123456789abc");
    assert_eq!(text(&records[0].value), "{\"note\":null,\"total\":10.50}");
    assert_eq!(records[0].header("eventType").as_deref(), Some("OrderPlaced"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logical_messages_with_a_prefix_are_routed_as_before() {
    let rig = Rig::new("").await;
    let topic = format!("outbox.message_topic={}.${{prefix}}.${{routedByValue}}", rig.prefix);
    let rig = rig.arg("--config").arg(example("messages.toml").to_str().unwrap()).set(&topic).start().await;
    rig.sql(
        "SELECT pg_logical_emit_message(true, 'user-service', '{\"id\": \"1\", \"aggregate_type\": \"user\", \"aggregate_id\": \"7\", \
         \"event_type\": \"user.created\", \"payload\": {\"name\": \"a\"}, \"metadata\": {\"source\": \"web\"}}')",
    )
    .await;
    let records = rig.records("user-service.user", 1).await;
    assert_eq!((text(&records[0].key), text(&records[0].value)), ("7", "{\"name\":\"a\"}"));
    assert_eq!(records[0].header("source").as_deref(), Some("web"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_are_taken_as_they_are() {
    // The second one says nothing about converters: Kafka Connect's are JSON, with schemas.
    let schemas = (
        r#"{"schema":{"type":"string","optional":false},"payload":"k"}"#,
        concat!(
            r#"{"schema":{"type":"struct","fields":[{"type":"array","items":{"type":"int32","optional":true},"optional":true,"field":"a"}],"#,
            r#""optional":true,"name":"payload"},"payload":{"a":[1,2]}}"#
        ),
    );
    for (file, layout, columns, (key, value)) in [
        (
            "order-connector.json",
            "debezium-timestamp",
            "aggregatetype, aggregateid, type",
            ("k", "{\"a\":[1,2]}"),
        ),
        ("task-connector.properties", "text", "aggregate_type, aggregate_id, event_type", schemas),
    ] {
        let rig = Rig::new("").await;
        rig.walferry.command("outbox").args(&["init", "--layout", layout]).run().await.expect_code(0);
        let path = localized(&rig, file);
        let rig = rig.file(&path).await;
        rig.sql(&format!(
            "INSERT INTO outbox ({columns}, payload) VALUES ('Task', 'k', 'TaskCreated', '{{\"a\": [1, 2]}}')"
        ))
        .await;
        let records = rig.records("Task", 1).await;
        assert_eq!((text(&records[0].key), text(&records[0].value)), (key, value), "{file}");
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_property_that_the_router_has_not_got_is_named() {
    let rig = Rig::new("").await;
    let path = scratch::folder("example").join("mistyped.properties");
    let text = std::fs::read_to_string(example("task-connector.properties")).unwrap();
    std::fs::write(&path, format!("{text}\ntransforms.outbox.route.by.feild=kind\n")).unwrap();
    let run = rig.command(&["run", "--connector", path.to_str().unwrap()]).env("TASK_DB_PASSWORD", "x");
    let output = run.run().await.expect_code(2);
    let said = "\"transforms.outbox.route.by.feild\": refused: the event router has no property of this name";
    assert!(output.stderr.contains(said) && !output.stderr.contains("walferry read"), "{output:#?}");
    rig.end().await;
}
