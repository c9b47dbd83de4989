//! A table's name: as it is, as Debezium's lists have it; then folded, as SQL reads it.

use super::rig::{DEBEZIUM, Rig, text};
use crate::support::scratch;

fn insert(table: &str, key: &str) -> String {
    format!(
        "INSERT INTO {table} (aggregatetype, aggregateid, type, payload) VALUES ('Order', '{key}', 't', '{{}}')"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_quotes_is_taken_as_it_is_and_then_folded() {
    let table = |name: &str| DEBEZIUM.replace("outbox", name);
    for (schema, given, found) in [
        (table("\"OutboxEvent\""), "public.OutboxEvent", "\"OutboxEvent\""),
        (table("outboxevent"), "public.OutboxEvent", "outboxevent"),
        (format!("{}; {}", table("box"), table("\"Box\"")), "Box", "\"Box\""),
        (format!("{}; {}", table("box"), table("\"Box\"")), "box", "box"),
        (format!("{}; {}", table("\"Box\""), table("\"a.b\"")), "\"a.b\"", "\"a.b\""),
        (format!("CREATE SCHEMA \"Shop\"; {}", table("\"Shop\".\"Box\"")), "Shop.Box", "\"Shop\".\"Box\""),
    ] {
        let rig = Rig::new(&schema).await.set(&format!("outbox.table={given}")).start().await;
        rig.sql(&insert(found, "found")).await;
        let records = rig.records("Order", 1).await;
        assert_eq!(text(&records[0].key), "found", "{given}");
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_s_list_may_have_names_in_any_case() {
    let rig = Rig::new(&DEBEZIUM.replace("outbox", "\"OutboxEvent\"")).await;
    let file = scratch::folder("names").join("connector.properties");
    let properties = format!(
        "transforms=outbox\ntransforms.outbox.type=io.debezium.transforms.outbox.EventRouter\ntable.include.list=public.OutboxEvent\n\
         slot.name={0}\npublication.name={0}\n",
        rig.walferry.run_name()
    );
    std::fs::write(&file, properties).unwrap();
    let rig = rig.arg("--connector").arg(file.to_str().unwrap()).start().await;
    rig.sql(&insert("\"OutboxEvent\"", "1")).await;
    rig.records("Order", 1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_init_makes_is_found_under_the_same_name() {
    for name in ["Box", "\"Box\"", "Shop.Box", "\"Shop\".\"Box\""] {
        let rig = Rig::new("CREATE SCHEMA \"Shop\"").await;
        let role = format!("role_{}", rig.prefix);
        rig.source.create_role(&role, "REPLICATION").await;
        let init = ["init", "--layout", "debezium", "--table", name, "--run-role", &role];
        rig.walferry.command("outbox").args(&init).run().await.expect_code(0);
        let source = rig.source.uri_as(&role, &rig.database);
        let rig = rig.set(&format!("outbox.table={name}")).arg("--source").arg(&source).start().await;
        let table = if name.contains("Shop") { "\"Shop\".\"Box\"" } else { "\"Box\"" };
        rig.sql(&insert(table, "1")).await;
        rig.records("Order", 1).await;
        rig.end().await;
    }
}
