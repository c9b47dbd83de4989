//! `outbox init`: every layout, `walferry.emit`, and the role that runs it.

use super::rig::{PATIENCE, Rig, text};
use crate::support::{Kafka, Postgres, Walferry};

#[tokio::test(flavor = "multi_thread")]
async fn every_layout_is_routed_as_it_is_installed() {
    for (layout, columns) in [
        ("debezium", "aggregatetype, aggregateid, type"),
        ("debezium-timestamp", "aggregatetype, aggregateid, type"),
        ("uuid", "aggregate_type, aggregate_id, event_type"),
        ("text", "aggregate_type, aggregate_id, event_type"),
        ("partitioned", "aggregate_type, aggregate_id, event_type"),
    ] {
        let rig = Rig::new("").await;
        for _ in 0..2 {
            rig.walferry.command("outbox").args(&["init", "--layout", layout]).run().await.expect_code(0);
        }
        let rig = rig.set("table.expand.json.payload=on").start().await;
        rig.sql(&format!(
            "INSERT INTO outbox ({columns}, payload) VALUES ('Order', '12345678-1234-1234-1234-123456789abc', 'Placed', '{{\"a\": 1}}')"
        ))
        .await;
        rig.sql(&format!(
            "INSERT INTO outbox ({columns}, payload) VALUES ('Order', '12345678-1234-1234-1234-123456789abd', 'Placed', '{{\"a\": 2}}')"
        ))
        .await;
        let records = rig.records("Order", 2).await;
        assert_eq!(text(&records[0].key), "12345678-1234-1234-1234-123456789abc", "{layout}");
        assert_eq!(
            (text(&records[0].value), text(&records[1].value)),
            ("{\"a\":1}", "{\"a\":2}"),
            "{layout}"
        );
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn emit_is_part_of_the_caller_s_transaction() {
    let rig = Rig::new("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let messages = format!("outbox.messages={}", rig.prefix);
    let print = rig
        .walferry
        .command("outbox")
        .args(&["init", "--print", "--set", &messages])
        .run()
        .await
        .expect_code(0);
    assert!(print.stdout.contains("CREATE OR REPLACE FUNCTION walferry.emit"), "{print:#?}");
    let there = "SELECT to_regproc('walferry.emit') IS NOT NULL";
    assert!(!rig.source.value::<bool>(&rig.database, there).await, "--print does nothing");
    rig.walferry.command("outbox").args(&["init", "--set", &messages]).run().await.expect_code(0);
    let rig = rig.set(&messages).start().await;
    let emit = "SELECT walferry.emit('Order', 'o-1', 'Placed', '{\"n\": 1.50, \"x\": null}', '{\"trace\": \"abc\"}')";
    rig.sql(&format!("BEGIN; INSERT INTO orders VALUES (1); {emit}; ROLLBACK")).await;
    rig.sql(&format!(
        "BEGIN; INSERT INTO orders VALUES (1); {emit}; SAVEPOINT s; {emit}; ROLLBACK TO s; COMMIT"
    ))
    .await;
    rig.sql("SELECT walferry.emit('Order', 'o-2', 'Placed', NULL)").await;
    let records = rig.records("Order", 2).await;
    rig.delivered().await;
    assert_eq!(rig.records("Order", 2).await.len(), 2, "once, and nothing of what was rolled back");
    assert_eq!((text(&records[0].key), text(&records[0].value)), ("o-1", "{\"n\":1.50,\"x\":null}"));
    assert_eq!(records[0].header("trace").as_deref(), Some("abc"));
    assert_eq!(records[0].header("id").unwrap().len(), 36);
    assert_eq!(text(&records[1].value), "null");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_what_init_grants_and_nothing_else_runs_it() {
    let rig = Rig::new("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let role = format!("role_{}", rig.prefix);
    rig.source.create_role(&role, "REPLICATION").await;
    let init = ["init", "--layout", "debezium-timestamp", "--run-role", &role];
    rig.walferry.command("outbox").args(&init).run().await.expect_code(0);
    let source = rig.source.uri_as(&role, &rig.database);
    let rig = rig.arg("--source").arg(&source).start().await;
    rig.sql(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('Order', '1', 't', '{}')",
    )
    .await;
    rig.records("Order", 1).await;
    assert!(!rig.running.as_ref().unwrap().stderr().contains("could not be recorded"));
    let clean = rig.walferry.command("outbox").args(&["clean", "--retention", "0s", "--source", &source]);
    let output = clean.run().await.expect_code(0);
    assert!(output.stdout.contains("1 rows deleted"), "{output:#?}");
    rig.end().await;
}

/// Before 14 no logical message passes: the function inserts a row.
#[tokio::test(flavor = "multi_thread")]
async fn on_older_sources_emit_inserts_a_row() {
    for (major, layout) in [(10, "text"), (13, "debezium")] {
        let (source, kafka) = tokio::join!(Postgres::builder(major).database("app").start(), Kafka::shared());
        let prefix = Kafka::prefix();
        let walferry = Walferry::new(&source.uri("app"), "").name("emit");
        let refused = walferry.command("outbox").arg("init").run().await.expect_code(4);
        assert!(refused.stderr.contains("OUTBOX_LAYOUT"), "{refused:#?}");
        for _ in 0..2 {
            walferry.command("outbox").args(&["init", "--layout", layout]).run().await.expect_code(0);
        }
        let replacement = format!("route.topic.replacement={prefix}.${{routedByValue}}");
        let run = ["run", "--brokers", &kafka.brokers(), "--prefix", &prefix, "--set", &replacement];
        let mut running = walferry.command("outbox").args(&run).spawn();
        running.wait_for_stderr("live").await;
        let emit = |key: &str| format!("SELECT walferry.emit('Order', '{key}', 'Placed', '{{\"n\": 1}}')");
        source.sql("app", &format!("BEGIN; {}; ROLLBACK", emit("undone"))).await;
        source
            .sql(
                "app",
                &format!("BEGIN; {}; SAVEPOINT s; {}; ROLLBACK TO s; COMMIT", emit("a"), emit("undone")),
            )
            .await;
        source.sql("app", &emit("b")).await;
        let headers = "SELECT walferry.emit('Order', 'c', 'Placed', '{}', '{\"trace\": \"x\"}')";
        let refused = source.connect("app").await.batch_execute(headers).await.unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("no column for headers"));
        let now: String = source.value("app", "SELECT pg_current_wal_insert_lsn()::text").await;
        let confirmed = format!(
            "SELECT confirmed_flush_lsn >= '{now}' FROM pg_replication_slots WHERE slot_name = 'emit'"
        );
        source.wait_until("app", &confirmed, PATIENCE).await;
        let records = kafka.records(&format!("{prefix}.Order"));
        let keys: Vec<&str> = records.iter().map(|record| text(&record.key)).collect();
        assert_eq!(keys, ["a", "b"], "{major}");
        running.sigterm();
        running.wait_exit().await.expect_code(143);
    }
}

/// Schema walferry is where the record of a run stands, too.
#[tokio::test(flavor = "multi_thread")]
async fn emit_outlives_clean_on_both_sides() {
    let rig = Rig::new("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let target = format!("{}_target", rig.database);
    rig.source.create_database(&target).await;
    let init = |database: &str| {
        let source = rig.source.uri(database);
        rig.walferry.command("outbox").args(&["init", "--source", &source])
    };
    init(&rig.database).run().await.expect_code(0);
    let run = |command: &str| rig.walferry.command(command).args(&["--target", &rig.source.uri(&target)]);
    let check = run("check").run().await.expect_code(0);
    assert!(check.said().contains("OUTBOX_EMIT"), "it is not moved: {check:#?}");
    let mut running = run("replicate").spawn();
    running.wait_for_stderr("step live").await;
    init(&target).run().await.expect_code(0);
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    let clean = run("clean").run().await.expect_code(0);
    assert!(
        clean.stdout.contains("schema walferry keeps") && clean.stdout.contains("walferry.emit"),
        "{clean:#?}"
    );
    for database in [&rig.database, &target] {
        rig.source.sql(database, "SELECT walferry.emit('Order', '1', 'Placed', '{}')").await;
    }
    let left = "SELECT to_regclass('walferry.runs') IS NULL";
    assert!(rig.source.value::<bool>(&target, left).await);
    // A run that begins again finds its place beside it.
    let mut running = run("replicate").args(&["--existing-schema", "--no-copy"]).spawn();
    running.wait_for_stderr("step live").await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    run("clean").run().await.expect_code(0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emit_is_everybody_s_until_it_is_revoked_and_init_does_not_give_it_back() {
    let rig = Rig::new("").await;
    let (granted, other) = (format!("granted_{}", rig.prefix), format!("other_{}", rig.prefix));
    for role in [&granted, &other] {
        rig.source.create_role(role, "").await;
    }
    let init = async |more: &[&str]| {
        rig.walferry.command("outbox").arg("init").args(more).run().await.expect_code(0);
    };
    let emits = async |role: &str| {
        let uri = rig.source.uri_as(role, &rig.database);
        let client = crate::support::postgres::connect(&uri).await.unwrap();
        client.batch_execute("SELECT walferry.emit('Order', '1', 'Placed', '{}')").await.is_ok()
    };
    init(&[]).await;
    assert!(emits(&other).await && emits(&granted).await);
    rig.sql("REVOKE EXECUTE ON FUNCTION walferry.emit(text, text, text, jsonb, jsonb) FROM PUBLIC").await;
    init(&["--grant", &granted]).await;
    init(&[]).await;
    assert!(emits(&granted).await, "what was granted stays");
    assert!(!emits(&other).await, "what was revoked stays");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_names_the_rights_only_where_they_are_missing() {
    let rig = Rig::new("").await;
    let role = format!("bare_{}", rig.prefix);
    rig.source.create_role(&role, "").await;
    let bare = ["init", "--source", &rig.source.uri_as(&role, &rig.database)];
    let output = rig.walferry.command("outbox").args(&bare).run().await;
    assert!(output.code != 0 && output.stderr.contains("a role that may create"), "{output:#?}");
    let nowhere = ["init", "--layout", "debezium", "--table", "nowhere.outbox"];
    let output = rig.walferry.command("outbox").args(&nowhere).run().await;
    assert!(output.stderr.contains("schema \"nowhere\" does not exist"), "{output:#?}");
    assert!(!output.stderr.contains("may create") && output.stderr.contains("--print"), "{output:#?}");
    rig.end().await;
}
