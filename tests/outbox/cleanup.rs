//! Cleanup deletes what Kafka has, and nothing that it has not.

use super::rig::{PATIENCE, Rig};
use crate::support::walferry::Output;
use crate::support::{Kafka, Postgres};

const TABLE: &str = "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, aggregatetype text NOT NULL, \
                     aggregateid text NOT NULL, type text NOT NULL, payload jsonb, created_at timestamptz NOT NULL DEFAULT now())";
const INSERT: &str = "INSERT INTO outbox (aggregatetype, aggregateid, type, payload, created_at) \
                      SELECT 'Order', g::text, 't', '{}', now() - interval '8 days' FROM generate_series(1, 1000) g";

async fn clean(rig: &Rig, more: &[&str]) -> Output {
    rig.walferry.command("outbox").args(&["clean", "--retention", "7d"]).args(more).run().await
}

async fn rows(rig: &Rig) -> i64 {
    rig.source.value(&rig.database, "SELECT count(*) FROM outbox").await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_old_rows_that_kafka_has_are_deleted() {
    let mut rig = Rig::new(TABLE).await.start().await;
    rig.sql(INSERT).await;
    rig.sql("INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('Order', 'young', 't')").await;
    clean(&rig, &[]).await.expect_code(0);
    assert_eq!(rows(&rig).await, 1, "the young one stays");
    // While nothing is confirmed, nothing is deleted, however old it says it is.
    rig.stop().await;
    rig.sql(INSERT).await;
    let output = clean(&rig, &["--wait", "1s"]).await.expect_code(1);
    assert!(output.stdout.contains("not delivered yet"), "{output:#?}");
    assert_eq!(rows(&rig).await, 1001);
    rig.restart().await;
    clean(&rig, &[]).await.expect_code(0);
    assert_eq!(rows(&rig).await, 1);
    assert_eq!(rig.records("Order", 2001).await.len(), 2001);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_inserted_long_ago_and_is_committed_late_stays_until_kafka_has_it() {
    let rig = Rig::new(TABLE).await.start().await;
    let late = rig.source.connect(&rig.database).await;
    // Under a savepoint, whose own transaction number is in no list of running ones.
    late.batch_execute(&format!("BEGIN; SELECT txid_current(); SAVEPOINT s; {INSERT}; RELEASE s"))
        .await
        .unwrap();
    rig.sql(INSERT).await;
    clean(&rig, &[]).await.expect_code(0);
    assert_eq!(rows(&rig).await, 0);
    let mut rig = rig;
    rig.stop().await;
    late.batch_execute("COMMIT").await.unwrap();
    clean(&rig, &["--wait", "1s"]).await.expect_code(1);
    assert_eq!(rows(&rig).await, 1000, "committed, and not delivered");
    rig.restart().await;
    clean(&rig, &[]).await.expect_code(0);
    assert_eq!(rows(&rig).await, 0);
    assert_eq!(rig.records("Order", 2000).await.len(), 2000);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_from_before_the_slot_stay_unless_they_are_published_too() {
    let rig = Rig::new(&format!("{TABLE}; {INSERT}")).await.start().await;
    rig.sql(INSERT).await;
    let output = clean(&rig, &[]).await.expect_code(0);
    assert!(output.stdout.contains("1000 rows deleted, 1000 rows from before the slot kept"), "{output:#?}");
    assert_eq!(rig.records("Order", 1000).await.len(), 1000, "they never came through the slot");
    clean(&rig, &["--before-slot"]).await.expect_code(0);
    assert_eq!(rows(&rig).await, 0);
    rig.end().await;

    let rig = Rig::new(&format!("{TABLE}; {INSERT}")).await.arg("--snapshot").start().await;
    rig.sql(INSERT).await;
    assert_eq!(rig.records("Order", 2000).await.len(), 2000, "each once");
    clean(&rig, &[]).await.expect_code(0);
    assert_eq!(rows(&rig).await, 0);
    rig.end().await;
}

/// What a slot was made for by somebody else: the publication, the slot, and rows from before it and behind it.
async fn adopted() -> Rig {
    let rig = Rig::new(&format!("{TABLE}; {INSERT}")).await;
    let slot = rig.walferry.run_name().to_owned();
    rig.sql(&format!("CREATE PUBLICATION {slot} FOR TABLE outbox")).await;
    rig.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    rig.sql(INSERT).await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_slot_that_was_there_already_what_is_committed_later_is_deleted() {
    let rig = adopted().await;
    let late = rig.source.connect(&rig.database).await;
    late.batch_execute(&format!("BEGIN; SELECT txid_current(); SAVEPOINT s; {INSERT}; RELEASE s"))
        .await
        .unwrap();
    let mut rig = rig.start().await;
    rig.running
        .as_mut()
        .unwrap()
        .wait_for_stderr("rows that are there now count as from before the slot")
        .await;
    rig.sql(INSERT).await;
    let kept =
        |output: &Output| output.stdout.contains("1000 rows deleted, 2000 rows from before the slot kept");
    let output = clean(&rig, &[]).await.expect_code(0);
    assert!(kept(&output), "{output:#?}");
    // What was open then is one of the stream's: kept until Kafka has it, then deleted.
    rig.stop().await;
    late.batch_execute("COMMIT").await.unwrap();
    clean(&rig, &["--wait", "1s"]).await.expect_code(1);
    assert_eq!(rows(&rig).await, 3000, "committed, and not delivered");
    rig.restart().await;
    let output = clean(&rig, &[]).await.expect_code(0);
    assert!(kept(&output), "{output:#?}");
    assert!(!rig.running.as_ref().unwrap().stderr().contains("count as from before"), "it is on record");
    assert_eq!(rig.records("Order", 3000).await.len(), 3000);
    clean(&rig, &["--before-slot"]).await.expect_code(0);
    assert_eq!(rows(&rig).await, 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_record_a_slot_it_is_said_once_and_made_good_for_later() {
    let rig = adopted().await;
    let role = format!("bare_{}", rig.prefix);
    rig.source.create_role(&role, "REPLICATION").await;
    rig.sql(&format!("GRANT SELECT, DELETE ON outbox TO {role}")).await;
    let source = rig.source.uri_as(&role, &rig.database);
    let mut rig = rig.arg("--source").arg(&source).set("outbox.retention=7d").arg("-vv");
    rig.restart_with(&[("FAILPOINTS", "outbox-clean-often=return")]).await;
    let said = |rig: &Rig, what: &str| rig.running.as_ref().unwrap().stderr().matches(what).count();
    rig.running.as_mut().unwrap().wait_for_stderr("cleanup fails as before").await;
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}' AND backend_type = 'walsender'"
    );
    rig.source.query(&rig.database, &cut).await;
    let running = rig.running.as_mut().unwrap();
    running.wait_for_stderr("the slot's beginning could not be recorded: ").await;
    running.wait_for_stderr_after(running.stderr().len(), "cleanup fails as before").await;
    assert_eq!(said(&rig, "could not be recorded on the source"), 1, "at the first look");
    assert_eq!(said(&rig, "error: it is not known which rows"), 1, "of many attempts");
    // With the rights the next connection makes it good.
    rig.walferry.command("outbox").args(&["init", "--run-role", &role]).run().await.expect_code(0);
    rig.source.query(&rig.database, &cut).await;
    rig.running.as_mut().unwrap().wait_for_stderr("rows that are there now count as").await;
    rig.sql(INSERT).await;
    let gone = "SELECT count(*) = 2000 FROM outbox";
    rig.source.wait_until(&rig.database, gone, PATIENCE).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_does_not_say_how_old_a_row_is_is_refused_at_the_start() {
    let rig = Rig::new(TABLE).await;
    for column in ["nowhere", "payload"] {
        let column = format!("outbox.retention_column={column}");
        let run = rig.command(&["run"]).args(&["--set", "outbox.retention=7d", "--set", &column]);
        let output = run.run().await.expect_code(4);
        assert!(output.stderr.contains("OUTBOX_RETENTION"), "{output:#?}");
        assert!(output.stderr.contains("has no timestamp or timestamptz column"), "{output:#?}");
    }
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE database = '{}'", rig.database);
    assert_eq!(rig.source.value::<i64>("postgres", &slots).await, 0, "nothing was made");
    rig.end().await;
}

/// A `timestamp` is in the zone of whoever wrote it, behind UTC or before it.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_deleted_early_whatever_time_zone_it_was_written_in() {
    for zone in ["America/Los_Angeles", "Asia/Tokyo"] {
        let rig = Rig::new(&TABLE.replace("timestamptz", "timestamp")).await;
        rig.sql(&format!("ALTER DATABASE {} SET timezone = '{zone}'", rig.database)).await;
        let rig = rig.start().await;
        rig.sql("INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('Order', 'young', 't')").await;
        rig.sql(INSERT).await;
        let clean = async |retention: &str| {
            let clean = rig.walferry.command("outbox").args(&["clean", "--retention", retention]);
            clean.run().await.expect_code(0);
            rows(&rig).await
        };
        assert_eq!(clean("7d").await, 1, "{zone}: the old ones go");
        assert_eq!(clean("1s").await, 1, "{zone}: the young one stays");
        assert_eq!(clean("0s").await, 0, "{zone}: all that Kafka has");
        assert_eq!(rig.records("Order", 1001).await.len(), 1001);
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_init_makes_holds_times_that_do_not_depend_on_the_session_s_zone() {
    for (layout, column, margin) in [("text", "created_at", 0), ("debezium-timestamp", "\"timestamp\"", 12)] {
        let rig = Rig::new("").await;
        rig.sql(&format!("ALTER DATABASE {} SET timezone = 'America/Los_Angeles'", rig.database)).await;
        rig.walferry.command("outbox").args(&["init", "--layout", layout]).run().await.expect_code(0);
        let columns = if margin == 0 {
            "aggregate_type, aggregate_id, event_type"
        } else {
            "aggregatetype, aggregateid, type"
        };
        let rig = rig.start().await;
        let insert = format!("INSERT INTO outbox ({columns}, payload) VALUES ('Order', '1', 't', '{{}}')");
        rig.sql(&format!("{insert}; {insert}; UPDATE outbox SET {column} = {column} - interval '{margin} hours 1 minute' WHERE ctid = '(0,1)'"))
            .await;
        let clean = ["clean", "--retention", "30s"];
        rig.walferry.command("outbox").args(&clean).run().await.expect_code(0);
        assert_eq!(rows(&rig).await, 1, "{layout}");
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_does_not_grow_with_what_was_deleted() {
    // A server of its own: while a slot is made, its snapshot holds back what VACUUM may take, in every database of a server.
    let source: &'static Postgres = Box::leak(Box::new(Postgres::start(15).await));
    let rig =
        Rig::on(source, Kafka::shared().await, TABLE).await.set("outbox.retention_batch=300").start().await;
    let mut sizes: Vec<i64> = Vec::new();
    for _ in 0..4 {
        rig.sql(INSERT).await;
        clean(&rig, &[]).await.expect_code(0);
        assert_eq!(rows(&rig).await, 0);
        rig.sql("VACUUM outbox").await;
        sizes.push(rig.source.value(&rig.database, "SELECT pg_total_relation_size('outbox')").await);
    }
    assert!(sizes[3] <= sizes[0] * 2, "{sizes:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_partitioned_outbox_whole_days_are_dropped() {
    let rig = Rig::new("").await;
    rig.walferry.command("outbox").args(&["init", "--layout", "partitioned"]).run().await.expect_code(0);
    rig.sql(
        "CREATE TABLE outbox_old PARTITION OF outbox FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00');
         CREATE TABLE outbox_held PARTITION OF outbox FOR VALUES FROM ('2020-01-02 00:00+00') TO ('2020-01-03 00:00+00');
         CREATE TABLE outbox_empty PARTITION OF outbox FOR VALUES FROM ('2020-01-03 00:00+00') TO ('2020-01-04 00:00+00')",
    )
    .await;
    let rig = rig.start().await;
    let insert = |day: &str| {
        format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, created_at) SELECT 'Order', g::text, 't', '{{}}', \
                 '{day} 12:00+00' FROM generate_series(1, 100) g"
        )
    };
    let writer = rig.source.connect(&rig.database).await;
    writer.batch_execute(&format!("BEGIN; {}", insert("2020-01-02"))).await.unwrap();
    rig.sql(&insert("2020-01-01")).await;
    rig.sql(&insert("2019-12-31")).await;
    // Nobody is made to wait for the sake of a partition: while somebody writes, rows are deleted one by one.
    let output = clean(&rig, &[]).await.expect_code(0);
    assert!(output.stdout.contains("200 rows deleted"), "{output:#?}");
    let partition = |name: &str| format!("SELECT to_regclass('{name}') IS NOT NULL");
    let there = async |name: &str| rig.source.value::<bool>(&rig.database, &partition(name)).await;
    assert!(there("outbox_held").await);
    writer.batch_execute("COMMIT").await.unwrap();
    rig.records("Order", 300).await;
    let output = clean(&rig, &[]).await.expect_code(0);
    assert!(output.stdout.contains("0 rows deleted, 3 partitions dropped"), "{output:#?}");
    assert!(!there("outbox_held").await && !there("outbox_old").await && !there("outbox_empty").await);
    assert_eq!(rows(&rig).await, 0);
    rig.source
        .wait_until(
            &rig.database,
            "SELECT count(*) = 5 FROM pg_inherits WHERE inhparent = 'outbox'::regclass",
            PATIENCE,
        )
        .await;
    rig.end().await;
}

/// A second outbox table joins a slot that is there: what was in it was never published, however young the slot's own record calls it.
#[tokio::test(flavor = "multi_thread")]
async fn rows_from_before_their_table_was_routed_stay() {
    let mut rig = Rig::new(TABLE).await.start().await;
    rig.sql(INSERT).await;
    assert_eq!(rig.records("Order", 1000).await.len(), 1000);
    rig.stop().await;
    rig.sql(&TABLE.replace("outbox", "second")).await;
    rig.sql(&INSERT.replace("outbox", "second")).await;
    let mut rig = rig.arg("--set").arg("outbox.table=outbox,second");
    rig.restart().await;
    rig.running.as_mut().unwrap().wait_for_stderr("\"second\" are routed from now on").await;
    rig.sql(&INSERT.replace("outbox", "second").replace("1000", "500")).await;
    assert_eq!(rig.records("Order", 1500).await.len(), 1500, "those that were there first never come");
    let output = clean(&rig, &["--set", "outbox.table=outbox,second"]).await.expect_code(0);
    assert!(output.stdout.contains("1000 rows from before"), "{output:#?}");
    assert_eq!(rows(&rig).await, 0);
    let left: i64 = rig.source.value(&rig.database, "SELECT count(*) FROM second").await;
    assert_eq!(left, 1000, "not published, and deleted");
    rig.end().await;
}
