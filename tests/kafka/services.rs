//! `read` and `write` as two services, with the broker between them.

use std::time::Duration;

use crate::support::feed::Builder;
use crate::support::kafka::end_past;
use crate::support::{Feed, Kafka, Way};

pub(super) const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT g, 'copied' FROM generate_series(1, 500) g";

pub(super) async fn services(schema: &str) -> Builder {
    let kafka = Kafka::shared().await;
    Feed::of(schema).via(kafka, &Kafka::prefix()).ways(&[Way::Default]).services()
}

#[tokio::test(flavor = "multi_thread")]
async fn either_may_start_first() {
    for reader_first in [true, false] {
        let mut feed = services(TABLE).await.prepare().await;
        let lane = &mut feed.lanes[0];
        if reader_first {
            lane.start_reader();
            lane.reader.as_mut().unwrap().wait_for_stderr("waits for walferry write").await;
            lane.start_writer();
        } else {
            lane.start_writer();
            // The copy and what follows it need no reader.
            lane.running.as_mut().unwrap().wait_for_step("catchup").await;
            feed.source("INSERT INTO t VALUES (1000, 'before the reader')").await;
            feed.lanes[0].start_reader();
        }
        feed.wait_live().await;
        feed.source("INSERT INTO t VALUES (1001, 'live'); UPDATE t SET body = 'u' WHERE id < 10").await;
        feed.expect_exact().await;
        feed.end().await;
    }
}

/// In the middle of a transaction too: what it has written of it the next one writes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_killed_again_and_again_changes_nothing_in_the_target() {
    const ROWS: i64 = 15_000;
    let (kafka, prefix) = (Kafka::shared().await, Kafka::prefix());
    let builder = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Sets, Way::Rows]).services();
    // A transaction takes several round trips to the broker.
    let mut feed = builder.set("kafka.in_flight_bytes=1MB").start().await;
    let (consumer, topic) = (kafka.consumer(), format!("{prefix}_sets.public.t"));
    let mut met = 0;
    for round in 0..5 {
        let before = end_past(&consumer, &topic, -1);
        let (first, last) = (100_000 * (round + 1), 100_000 * (round + 1) + ROWS - 1);
        let rows =
            format!("INSERT INTO t SELECT g, repeat('round', 50) FROM generate_series({first}, {last}) g");
        feed.source(&rows).await;
        met += i64::from(end_past(&consumer, &topic, before) - before < ROWS);
        for lane in &mut feed.lanes {
            lane.kill_reader().await;
            lane.start_reader();
        }
        feed.source(&format!("UPDATE t SET body = 'again {round}' WHERE id % 7 = {round}")).await;
    }
    assert!(met > 0, "no transaction was met in the middle");
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_moves_the_slot_while_the_writer_copies_and_both_may_be_killed() {
    let mut feed = services("").await.prepare().await;
    feed.source(
        "CREATE TABLE a (id int PRIMARY KEY, body text); INSERT INTO a SELECT g, 'copied' FROM generate_series(1, 3000) g;
         CREATE TABLE b (id int PRIMARY KEY, body text); INSERT INTO b SELECT g, 'copied' FROM generate_series(1, 3000) g;",
    )
    .await;
    let lane = &mut feed.lanes[0];
    lane.start_reader();
    // The first table is there, the second is not; the slot goes on meanwhile.
    lane.running =
        Some(lane.command.clone().args(&["--jobs", "1"]).failpoint("copy-after-commit", "pause").spawn());
    lane.running.as_mut().unwrap().wait_for_step("copy").await;
    let slot = lane.walferry.run_name().to_owned();
    let at_slot =
        lane.running.as_mut().unwrap().wait_for("the slot", |status| status.lsn("slot_lsn").is_some()).await;
    let at_slot = at_slot.lsn("slot_lsn").unwrap();
    feed.source("UPDATE a SET body = 'while copying' WHERE id <= 500; UPDATE b SET body = 'while copying' WHERE id <= 500").await;
    let moved = format!(
        "SELECT coalesce(bool_or(confirmed_flush_lsn > '{at_slot}'), false) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    feed.source.wait_until(&feed.database, &moved, Duration::from_secs(60)).await;
    feed.lanes[0].kill_writer().await;
    feed.source("DELETE FROM a WHERE id % 100 = 0; DELETE FROM b WHERE id % 100 = 0; INSERT INTO b VALUES (5000, 'new')").await;
    feed.lanes[0].kill_reader().await;
    feed.lanes[0].start_writer();
    feed.lanes[0].running.as_mut().unwrap().wait_for_step("catchup").await;
    feed.source("UPDATE b SET body = 'nobody reads' WHERE id = 5000").await;
    feed.lanes[0].start_reader();
    feed.expect_exact().await;
    feed.end().await;
}

/// Nothing more comes to these partitions that would show that something is missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_as_soon_as_a_partition_is_assigned_is_applied() {
    let mut feed = services(TABLE).await.start().await;
    feed.source("INSERT INTO t VALUES (1000, 'x')").await;
    feed.expect_exact().await;
    feed.lanes[0].kill_writer().await;
    feed.source("INSERT INTO t VALUES (1001, 'waits in its topic')").await;
    super::brought(&feed).await;
    feed.lanes[0].kill_reader().await;
    feed.lanes[0].running =
        Some(feed.lanes[0].command.clone().failpoint("kafka-assigned", "sleep(1000)").spawn());
    let there = "SELECT EXISTS (SELECT FROM t WHERE id = 1001)";
    feed.target.wait_until(&feed.lanes[0].database, there, Duration::from_secs(60)).await;
    feed.lanes[0].start_reader();
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_and_cutover_wait_for_what_the_reader_brings() {
    let mut feed = services(TABLE).await.start().await;
    feed.source("INSERT INTO t SELECT g, 'live' FROM generate_series(1001, 3000) g").await;
    feed.lanes[0].walferry.command("verify").run().await.expect_code(0);
    // Stopped, the writer's part is done by verify itself; the reader goes on.
    let writer = feed.lanes[0].running.take().unwrap();
    writer.sigterm();
    writer.wait_exit().await.expect_code(143);
    feed.source("UPDATE t SET body = 'while stopped' WHERE id % 5 = 0").await;
    feed.lanes[0].walferry.command("verify").run().await.expect_code(0);
    feed.lanes[0].start_writer();
    feed.wait_live().await;
    // Without a reader nothing comes: both say so, and the source is as it was.
    let reader = feed.lanes[0].reader.take().unwrap();
    reader.sigterm();
    reader.wait_exit().await.expect_code(143);
    let (verify, cutover) = (
        feed.lanes[0].walferry.command("verify"),
        feed.lanes[0].walferry.command("cutover").args(&["--verify", "none"]),
    );
    let (verify, cutover) = tokio::join!(verify.run(), cutover.run());
    for (output, code) in [(verify, 3), (cutover, 1)] {
        assert_eq!(output.code, code, "{output:#?}");
        assert!(output.stderr.contains("walferry read"), "{output:#?}");
    }
    feed.source("INSERT INTO t VALUES (9999, 'the source takes writes')").await;
    let waiting = feed.lanes[0].running.as_mut().unwrap();
    waiting
        .wait_for("status to say it", |status| status.0.to_string().contains("nobody reads the slot"))
        .await;
    feed.lanes[0].start_reader();
    feed.expect_exact().await;
    feed.lanes[0].walferry.command("cutover").run().await.expect_code(0);
    feed.expect_on_targets("SELECT body FROM t WHERE id = 9999", &["the source takes writes"]).await;
    feed.lanes[0].running.take().unwrap().wait_exit().await.expect_code(0);
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_ends_under_a_cutover_does_not_leave_the_source_fenced() {
    let mut feed = services(TABLE).await.start().await;
    feed.source("INSERT INTO t VALUES (999, 'somebody reads')").await;
    feed.expect_exact().await;
    let mut application = feed.source.connect(&feed.database).await;
    let open = application.transaction().await.unwrap();
    open.execute("INSERT INTO t VALUES (1000, 'in the way of the fence')", &[]).await.unwrap();
    let cutover = feed.lanes[0].walferry.command("cutover");
    let cutover = cutover.args(&["--verify", "none", "--timeout", "10min"]).spawn();
    // The reader was there when that was looked at.
    feed.lanes[0].running.as_mut().unwrap().wait_for_stderr("cutover: waiting for").await;
    feed.lanes[0].kill_reader().await;
    let unread = "SELECT bool_and(NOT active) FROM pg_replication_slots WHERE database = current_database()";
    feed.source.wait_until(&feed.database, unread, Duration::from_secs(30)).await;
    open.commit().await.unwrap();
    let output = cutover.wait_exit_within(Duration::from_secs(60)).await.expect_code(1);
    assert!(
        output.stderr.contains("nobody reads slot") && output.stderr.contains("walferry read"),
        "{output:#?}"
    );
    feed.source("INSERT INTO t VALUES (9999, 'the source takes writes')").await;
    feed.lanes[0].start_reader();
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_brokers_is_said_by_the_reader_and_ends_a_comparison() {
    let mut kafka = Kafka::start().await;
    let mut feed = Feed::of(TABLE).via(&kafka, "f").ways(&[Way::Default]).services().start().await;
    feed.source("INSERT INTO t VALUES (1000, 'before')").await;
    feed.expect_exact().await;
    kafka.kill9();
    feed.source("INSERT INTO t VALUES (1001, 'on its way')").await;
    let verify = feed.lanes[0].walferry.command("verify");
    let output = verify.spawn().wait_exit_within(Duration::from_secs(120)).await.expect_code(3);
    assert!(output.stderr.contains("can't come to the point"), "{output:#?}");
    let reader = feed.lanes[0].reader.as_mut().unwrap();
    reader.wait_for_stderr("retains what they have not taken").await;
    kafka.restart().await;
    feed.lanes[0].reader.as_mut().unwrap().wait_for_stderr("the brokers answer again").await;
    feed.expect_exact().await;
    feed.end().await;
}

/// A writer understands both; others that read the topic do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_keeps_to_the_form_of_events_that_the_topics_have() {
    let mut feed = services(TABLE).await.start().await;
    feed.source("INSERT INTO t VALUES (1000, 'bare')").await;
    feed.expect_exact().await;
    feed.lanes[0].kill_reader().await;
    for flag in ["--schemas", "--no-tombstones"] {
        let reader = feed.lanes[0].reader_command.clone().unwrap().args(&[flag]);
        let output = reader.run().await.expect_code(4);
        assert!(output.stderr.contains("KAFKA_OTHER_RUN") && output.stderr.contains(flag), "{output:#?}");
    }
    // The writer has no say in it: it announces the run anew, and the form stays.
    feed.lanes[0].kill_writer().await;
    feed.lanes[0].start_writer();
    feed.wait_live().await;
    let reader = feed.lanes[0].reader_command.clone().unwrap().args(&["--schemas"]);
    reader.run().await.expect_code(4);
    feed.lanes[0].start_reader();
    feed.source("INSERT INTO t VALUES (1001, 'bare as well')").await;
    feed.expect_exact().await;
    feed.end().await;
}

/// `verify` brings a stopped run forward with what `write` was given, which need not be what `read` was.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_is_verified_in_the_form_that_its_reader_writes() {
    let (kafka, prefix) = (Kafka::shared().await, Kafka::prefix());
    let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).services().prepare().await;
    let lane = &mut feed.lanes[0];
    lane.reader_command =
        lane.reader_command.take().map(|reader| reader.args(&["--schemas", "--no-tombstones"]));
    lane.start_writer();
    lane.start_reader();
    feed.wait_live().await;
    feed.source("INSERT INTO t VALUES (1000, 'wrapped')").await;
    feed.expect_exact().await;
    feed.lanes[0].kill_reader().await;
    feed.lanes[0].kill_writer().await;
    feed.source("INSERT INTO t VALUES (1001, 'brought by verify')").await;
    feed.lanes[0].walferry.command("verify").run().await.expect_code(0);
    feed.lanes[0].start_writer();
    feed.lanes[0].start_reader();
    feed.source("DELETE FROM t WHERE id > 1000").await;
    feed.expect_exact().await;
    let records = kafka.records(&format!("{prefix}_default.public.t"));
    assert_eq!(records.len(), 3, "two rows, and one of them deleted");
    assert!(records.iter().all(|record| record.json()["payload"].is_object()), "one form in the whole topic");
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_reader_gives_way_and_readers_of_something_else_are_refused() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).services().start().await;
    feed.source("INSERT INTO t VALUES (1000, 'x')").await;
    // The first one has the slot.
    feed.expect_same_content().await;
    let command = feed.lanes[0].reader_command.clone().unwrap();
    let second = command.spawn();
    let other = |arguments: &[&str]| command.clone().args(arguments);
    let other_values = other(&["--values", "debezium"]).run().await;
    // A name of another run, a source of another database, and one that is another server altogether (of the same data folder once).
    let other_name = other(&[]).name("somebody_else").run().await;
    let other_slot = other(&["--slot", "no_such_slot"]).run().await;
    // What would keep events from the writer.
    let other_events = other(&["--set", "capture.skipped_operations=t"]).run().await;
    let other_transactions = other(&["--set", "kafka.transactions=off"]).run().await;
    let other_database = other(&["--source", &feed.source.uri("postgres")]).run().await;
    let other_server = other(&["--source", &feed.target.uri("postgres")]).run().await;
    for (output, code) in [
        (&other_values, "KAFKA_OTHER_RUN"),
        (&other_name, "KAFKA_OTHER_RUN"),
        (&other_slot, "SLOT_MISSING"),
        (&other_events, "RUN_HAS_WRITER"),
        (&other_transactions, "RUN_HAS_WRITER"),
        (&other_database, "SLOT_UNUSABLE"),
        (&other_server, "SLOT_MISSING"),
    ] {
        assert_eq!(output.code, 4, "{output:#?}");
        assert!(output.stderr.contains(code), "{code}: {output:#?}");
    }
    let output = second.wait_exit().await.expect_code(4);
    assert!(output.stderr.contains("OWNED_BY"), "{output:#?}");
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_reaches_the_reader_before_what_joins_is_copied() {
    let mut feed =
        services("CREATE TABLE a (id int PRIMARY KEY, body text); CREATE PUBLICATION one FOR TABLE a")
            .await
            .prepare()
            .await;
    let lane = &mut feed.lanes[0];
    lane.command = lane.command.clone().args(&["--publication", "one"]);
    lane.start_writer();
    lane.start_reader();
    feed.wait_live().await;
    let table = "CREATE TABLE b (id int PRIMARY KEY, body text)";
    feed.source(&format!("{table}; INSERT INTO b SELECT g, 'copied' FROM generate_series(1, 100) g; CREATE PUBLICATION two FOR TABLE b")).await;
    feed.target(table).await;
    let walferry = feed.lanes[0].walferry.clone();
    let refresh =
        tokio::spawn(
            async move { walferry.command("refresh").args(&["--publication", "one,two"]).run().await },
        );
    let mut id = 1000;
    while !refresh.is_finished() {
        id += 1;
        feed.source(&format!(
            "INSERT INTO b VALUES ({id}, 'meanwhile'); INSERT INTO a VALUES ({id}, 'meanwhile')"
        ))
        .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refresh.await.unwrap().expect_code(0);
    feed.source("UPDATE b SET body = 'joined' WHERE id % 3 = 0; DELETE FROM a WHERE id % 5 = 0").await;
    feed.expect_same_content().await;
    feed.lanes[0].kill_reader().await;
    feed.source("INSERT INTO b VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET body = 'again'").await;
    feed.lanes[0].start_reader();
    feed.expect_same_content().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_not_removed_while_a_reader_streams() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).services().start().await;
    feed.source("INSERT INTO t VALUES (1000, 'x')").await;
    feed.expect_exact().await;
    let writer = feed.lanes[0].running.take().unwrap();
    writer.sigterm();
    writer.wait_exit().await.expect_code(143);
    let clean = feed.lanes[0].walferry.command("clean");
    let output = clean.run().await.expect_code(4);
    assert!(output.stderr.contains("RUNNING") && output.stderr.contains("walferry read"), "{output:#?}");
    // Nothing is gone: the run goes on.
    feed.source("INSERT INTO t VALUES (1001, 'after the refusal')").await;
    feed.lanes[0].start_writer();
    feed.expect_exact().await;
    feed.lanes[0].kill_reader().await;
    let writer = feed.lanes[0].running.take().unwrap();
    writer.sigterm();
    writer.wait_exit().await.expect_code(143);
    let output = clean.run().await.expect_code(0);
    for part in ["replication slot", "publication", "topics of prefix", "schema walferry removed"] {
        assert!(output.stdout.contains(part), "{part}: {output:#?}");
    }
    kafka.gone(&prefix).await;
}
