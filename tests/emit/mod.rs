//! examples/emit: in every language an event is emitted by the caller's own transaction, and is published if that commits.

#[path = "../../examples/emit/rust/main.rs"]
mod rust;

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::orders::init;
use crate::outbox::rig::Rig;
use crate::support::kafka::Record;
use crate::support::programs;

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/emit").join(file)
}

/// The program of a language, to be given the database.
fn program(language: &str) -> Command {
    let clients = programs::cache().join("clients");
    let mut command;
    match language {
        "psql" => {
            command = Command::new(programs::client("psql"));
            command.args(["-Xq", "-At", "-v", "ON_ERROR_STOP=1", "-f"]).arg(example("psql/emit.sql"));
        }
        "go" => {
            command = Command::new("go");
            // What scripts/setup --clients has put there, and nothing from elsewhere.
            command
                .args(["run", "."])
                .current_dir(example("go"))
                .env("GOCACHE", clients.join("go/build"))
                .env("GOMODCACHE", clients.join("go/modules"))
                .envs([("GOFLAGS", "-mod=readonly"), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
        }
        "python" => {
            command = Command::new("python3");
            command.arg(example("python/emit.py")).env("PYTHONPATH", clients.join("python"));
        }
        "java" => {
            command = Command::new("java");
            command.arg("-XX:TieredStopAtLevel=1").arg("-cp").arg(clients.join("java/postgresql.jar"));
            command.arg(example("java/Emit.java"));
        }
        _ => unreachable!("{language}"),
    }
    command
}

/// Runs an example; the ids of the orders that it committed: one told by a message, one by a row.
async fn emitted(language: &str, rig: &Rig) -> [i64; 2] {
    if language == "rust" {
        return rust::place_orders(&mut rig.source.connect(&rig.database).await).await.unwrap();
    }
    let database = format!(
        "postgresql://127.0.0.1:{}/{}?user=postgres&sslmode=disable",
        rig.source.port(),
        rig.database
    );
    let output = program(language).arg(&database).output().await;
    let output = output.unwrap_or_else(|error| panic!("{language}: {error}: run scripts/setup --clients"));
    assert!(output.status.success(), "{language}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let ids: Vec<i64> = said.lines().map(|line| line.parse().unwrap()).collect();
    ids.try_into().unwrap_or_else(|_| panic!("{language}: {said}"))
}

/// Customer, order, type of each event, in the order of the orders.
fn events(records: &[Record]) -> Vec<(String, i64, String)> {
    let mut events: Vec<_> = records
        .iter()
        .map(|record| {
            let payload = record.json();
            let order = payload["order_id"].as_i64().unwrap();
            assert_eq!(record.key.as_deref(), Some(order.to_string().as_bytes()));
            let customer = payload["customer"].as_str().unwrap().to_owned();
            (customer, order, record.header("eventType").unwrap())
        })
        .collect();
    events.sort_by_key(|(_, order, _)| *order);
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn every_language_emits_in_its_own_transaction() {
    let rig = Rig::new(include_str!("../../examples/orders/orders.sql")).await;
    init(&rig.walferry).await;
    let messages = format!("outbox.message_topic={}.message.${{routedByValue}}", rig.prefix);
    let rig = rig
        .set("table.expand.json.payload=on")
        .set("table.fields.additional.placement=type:header:eventType")
        .set(&messages)
        .start()
        .await;
    let (mut by_message, mut by_row) = (Vec::new(), Vec::new());
    for language in ["psql", "rust", "go", "python", "java"] {
        let [message, row] = emitted(language, &rig).await;
        by_message.push((language.to_owned(), message, "OrderPlaced".to_owned()));
        by_row.push((language.to_owned(), row, "OrderPlaced".to_owned()));
    }
    // Each has rolled one back as well: its number is missing among the orders, and its events in the topics.
    let orders: i64 = rig.source.value(&rig.database, "SELECT max(id) - count(*) FROM orders").await;
    assert!(orders >= 4, "{orders} orders were rolled back");
    rig.delivered().await;
    assert_eq!(events(&rig.records("message.Order", 5).await), by_message);
    assert_eq!(events(&rig.records("Order", 5).await), by_row);
    rig.end().await;
}
