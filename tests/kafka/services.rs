//! `read` and `write` as two services, with the broker between them.

use crate::support::feed::Builder;
use crate::support::{Feed, Kafka, Way};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT g, 'copied' FROM generate_series(1, 500) g";

async fn services(schema: &str) -> Builder {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_killed_again_and_again_changes_nothing_in_the_target() {
    let mut feed = services(TABLE).await.ways(&[Way::Sets, Way::Rows]).start().await;
    for round in 0..5 {
        feed.source(&format!(
            "INSERT INTO t SELECT g, 'round' FROM generate_series({0}, {0} + 1999) g",
            10_000 * (round + 1)
        ))
        .await;
        for lane in &mut feed.lanes {
            lane.kill_reader().await;
            lane.start_reader();
        }
        feed.source(&format!("UPDATE t SET body = 'again {round}' WHERE id % 7 = {round}")).await;
    }
    feed.expect_exact().await;
    feed.end().await;
}
