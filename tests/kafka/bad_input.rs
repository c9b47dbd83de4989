//! What does not belong into the topics, or what they can't be reached with: an error that says so, nothing skipped, nothing half applied.

use crate::support::kafka::Record;
use crate::support::walferry::Status;
use crate::support::{Feed, Kafka, Postgres, Way};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)";

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_do_not_answer_stop_a_run_before_it_makes_anything() {
    let mut feed = Feed::of(TABLES).via_brokers("127.0.0.1:1", "x").ways(&[Way::Default]).spawn().await;
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await;
    assert_eq!(output.code, 4, "{output:#?}");
    assert!(
        output.stderr.contains("127.0.0.1:1") && output.stderr.contains("check --brokers"),
        "{output:#?}"
    );
    let made = "SELECT count(*) FROM pg_publication, pg_replication_slots s WHERE s.database = current_database() AND s.plugin = 'pgoutput'";
    assert_eq!(feed.source.text(&feed.database, made).await[0][0].as_deref(), Some("0"));
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_another_source_are_refused() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut first = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]).start().await;
    first.source("INSERT INTO a VALUES (1)").await;
    first.expect_exact().await;
    first.end().await;
    let mut feed = Feed::of(TABLES).majors(17, 15).via(kafka, &prefix).ways(&[Way::Default]).spawn().await;
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await;
    assert_eq!(output.code, 4, "{output:#?}");
    assert!(output.stderr.contains("KAFKA_OTHER_"), "{output:#?}");
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_refuses_topics_of_another_source() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]).services().start().await;
    feed.source("INSERT INTO a VALUES (1)").await;
    feed.expect_exact().await;
    feed.lanes[0].kill_reader().await;
    // Another server, with a database, tables, a slot and a publication of the same names.
    let other = Postgres::builder(17).database(&feed.database).start().await;
    let name = feed.lanes[0].walferry.run_name();
    other.sql(&feed.database, TABLES).await;
    other.sql(&feed.database, &format!("CREATE PUBLICATION {name} FOR ALL TABLES")).await;
    other
        .sql(&feed.database, &format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"))
        .await;
    let topic = format!("{prefix}_default.public.a");
    let before = kafka.records(&topic).len();
    other.sql(&feed.database, "INSERT INTO a VALUES (2)").await;
    let command = feed.lanes[0].reader_command.clone().unwrap();
    let output = command.args(&["--source", &other.uri(&feed.database)]).run().await.expect_code(4);
    assert!(output.stderr.contains("KAFKA_OTHER_SOURCE"), "{output:#?}");
    assert_eq!(kafka.records(&topic).len(), before);
    feed.lanes[0].start_reader();
    feed.source("INSERT INTO a VALUES (3)").await;
    feed.expect_exact().await;
    feed.end().await;
}

/// Each record is put before events of a transaction over two tables; of that transaction nothing may be seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_can_not_be_understood_stops_the_writer_before_it() {
    let kafka = Kafka::shared().await;
    for junk in ["malformed", "envelope", "table", "marker"] {
        let prefix = Kafka::prefix();
        let mut feed = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]).start().await;
        let prefix = format!("{prefix}_default");
        feed.source("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)").await;
        feed.expect_exact().await;
        let topic = format!("{prefix}.public.b");
        let plain = |value: &str| Record {
            partition: 0,
            key: None,
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
            timestamp: None,
        };
        match junk {
            "malformed" => kafka.produce(&topic, &plain("{\"before\": nul")).await,
            "envelope" => kafka.produce(&topic, &plain("{\"hello\": \"world\"}")).await,
            "table" => {
                // A real event, of a table that the run does not have.
                let mut record = kafka.records(&topic).remove(0);
                let value = String::from_utf8(record.value.take().unwrap()).unwrap();
                record.value = Some(value.replace("\"table\":\"b\"", "\"table\":\"unknown\"").into_bytes());
                kafka.produce(&topic, &record).await;
            }
            _ => kafka.produce(&format!("{prefix}.transaction"), &plain("{\"status\": \"MAYBE\"}")).await,
        }
        feed.source("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)").await;
        let status = feed.lanes[0].running.as_mut().unwrap().wait_for_error().await;
        assert_eq!(status.error_code(), Some("EVENT_MALFORMED"), "{junk}");
        assert!(
            status.0["error"]["message"].as_str().is_some_and(|text| text.contains(&prefix)),
            "{junk}: {status:?}"
        );
        let hint = status.0["error"]["hint"].as_str().unwrap_or_default();
        let again = if junk == "marker" { "--resync '*'" } else { "--resync TABLE" };
        assert!(hint.contains(again), "{junk}: {hint}");
        // How far it is behind shows nevertheless; a look at topics that have just been made may fail, and is made again.
        let shows = |status: &Status| {
            let topics = status.0["topics"].as_array();
            topics.is_some_and(|topics| topics.iter().any(|known| known["topic"] == topic.as_str()))
        };
        feed.lanes[0].running.as_mut().unwrap().wait_for("the topics' lag", shows).await;
        feed.expect_on_targets("SELECT (SELECT max(id) FROM a), (SELECT max(id) FROM b)", &["1|1"]).await;
        // Nor by the same command again.
        feed.restart().await;
        feed.lanes[0].running.as_mut().unwrap().wait_for_stderr("EVENT_MALFORMED").await;
        feed.expect_on_targets("SELECT (SELECT max(id) FROM a), (SELECT max(id) FROM b)", &["1|1"]).await;
        feed.end().await;
    }
}
