//! DDL in the middle of a stream that gives columns other types. Above all with `values = debezium`, where a row's JSON depends on types and
//! modifiers: neither half has looked at a catalogue where the other one did, nor where the row was written.

use super::{brought, feed};
use crate::support::{Feed, Kafka, Way};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamp(3), n numeric(10,2), d date, note text);
     INSERT INTO t SELECT g, '2024-02-29 12:00:00.123', g + 0.25, '2024-02-29', 'copied' FROM generate_series(1, 100) g";

/// Other modifiers, another type, and columns that no description has.
const DDL: [&str; 4] = [
    "ALTER TABLE t ALTER at TYPE timestamp(6)",
    "ALTER TABLE t ALTER n TYPE numeric(10,4)",
    "ALTER TABLE t ALTER d TYPE timestamp",
    "ALTER TABLE t ADD b bytea, ADD m numeric(8,3), ADD dd date, ADD t3 timestamp(3), ADD t6 timestamp(6), ADD a int[], ADD na numeric(6,2)[],
         ADD w bit(12), ADD p point, ADD tz timestamptz, ADD j jsonb",
];

/// Alone, because text that is base64 is a bytea as well: nothing but the comparison tells them apart.
const BYTES: &str = "UPDATE t SET b = '\\x00ff10' WHERE id % 5 = 0";

/// What the new columns can hold; updates and deletes by a key; a key that changes.
const FILL: &str = "UPDATE t SET b = '\\x00ff10', m = id + 0.125, dd = '1999-12-31', t3 = '1999-12-31 23:59:59.999',
         t6 = '1999-12-31 23:59:59.999999', a = ARRAY[id, NULL, -1], na = '{1.50,NULL}', w = B'000000000101', p = '(1.5,-2)',
         tz = '2024-06-01 12:00:00.000001+02', j = '{\"a\": [1, 2.50]}' WHERE id % 3 = 0;
     UPDATE t SET id = -id, note = 'moved' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0";

/// Rows with all that the columns can hold by then.
fn rows(from: u32) -> String {
    format!(
        "INSERT INTO t (id, at, n, d, note)
         SELECT g, timestamp '2024-02-29 12:00:00.123456' + g * interval '1.001003 s', g + 0.1234, timestamp '2024-02-29 23:59:59.5', 'AQI='
         FROM generate_series({from}, {}) g",
        from + 19
    )
}

/// On the target first: what it lacks would stop the run.
async fn alter(feed: &Feed, statement: &str) {
    feed.target(statement).await;
    feed.source(statement).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_change_under_load_change_with_the_rows() {
    for services in [false, true] {
        let one_process = feed(TABLE).await.arg("--values=debezium");
        let builder = if services { one_process.services() } else { one_process };
        let mut feed = builder.start().await;
        let load = async {
            for round in 0..40 {
                feed.source(&rows(1000 + 20 * round)).await;
            }
        };
        let ddl = async {
            for (at, statement) in (0..).zip(DDL) {
                feed.source(&rows(10_000 + 100 * at)).await;
                alter(&feed, statement).await;
                feed.source(&rows(20_000 + 100 * at)).await;
            }
            feed.source(BYTES).await;
            feed.source(FILL).await;
        };
        tokio::join!(load, ddl);
        feed.source(&rows(30_000)).await;
        feed.expect_exact().await;
        feed.end().await;
    }
}

/// The same names, the same JSON: what the writer knows of the target's columns is old all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_can_hold_more_loses_nothing() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, f real, c char(3), at timestamp, note varchar(9));
         INSERT INTO t SELECT g, 0.5, 'a', '2024-02-29 12:00:00', 'copied' FROM generate_series(1, 20) g";
    let update = "UPDATE t SET f = f * 0.6, c = 'b ', at = at + interval '1 hour', note = 'x' WHERE id";
    for values in ["postgres", "debezium"] {
        let mut feed = feed(schema).await.arg(&format!("--values={values}")).start().await;
        // The statement is prepared.
        for id in [1, 2] {
            feed.source(&format!("{update} = {id}")).await;
            feed.applied().await;
        }
        alter(&feed, "ALTER TABLE t ALTER f TYPE float8, ALTER c TYPE text, ALTER at TYPE timestamptz, ALTER note TYPE text").await;
        feed.source(&format!("{update} > 10")).await;
        feed.source("INSERT INTO t VALUES (100, 0.3, 'c  ', '2024-02-29 12:00+01', 'longer than nine')")
            .await;
        feed.expect_exact().await;
        feed.end().await;
    }
}

/// Events of both forms wait in the topic, and one half alone has looked at the catalogue in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_starts_after_the_ddl_understands_the_other() {
    let kafka = Kafka::shared().await;
    for reader_anew in [true, false] {
        let prefix = Kafka::prefix();
        let builder = Feed::of(TABLE).via(kafka, &prefix).services().ways(&[Way::Default]);
        let mut feed = builder.arg("--values=debezium").start().await;
        feed.source(&rows(1000)).await;
        feed.applied().await;
        // Every statement on the target before the writer stands still.
        for statement in DDL {
            feed.target(statement).await;
        }
        let lane = &mut feed.lanes[0];
        match reader_anew {
            true => lane.running.as_ref().unwrap().sigstop(),
            false => lane.kill_writer().await,
        }
        feed.source(&rows(2000)).await;
        for statement in DDL {
            feed.source(statement).await;
        }
        feed.source(&rows(3000)).await;
        brought(&feed).await;
        if reader_anew {
            feed.lanes[0].kill_reader().await;
            feed.lanes[0].start_reader();
        }
        feed.source(BYTES).await;
        feed.source(FILL).await;
        feed.source(&rows(4000)).await;
        brought(&feed).await;
        let records = kafka.records(&format!("{prefix}_default.public.t"));
        let says = |encoding: &str| {
            let headers = records.iter().map(|record| record.header("walferry.types").unwrap_or_default());
            headers.filter(|header| header.contains(encoding)).count()
        };
        assert!(says(r#""at":"timestamp(ms)""#) >= 40 && says(r#""at":"timestamp(us)""#) >= 40);
        let lane = &mut feed.lanes[0];
        match reader_anew {
            true => lane.running.as_ref().unwrap().sigcont(),
            false => lane.start_writer(),
        }
        feed.expect_exact().await;
        feed.end().await;
    }
}
