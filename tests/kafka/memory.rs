//! Memory does not grow with the transaction, nor with the distance between two topics.

use super::full;
use crate::support::{Feed, Kafka, Way};

#[tokio::test(flavor = "multi_thread")]
async fn one_large_transaction_with_one_topic_far_behind_the_other() {
    // Events of some 900 bytes: twice the bound in CI, more than 9 GB in full.
    let (rows, bound) = if full() { (5_000_000u64, 500u64 << 20) } else { (150_000, 130 << 20) };
    let kafka = Kafka::start_with(&["log.segment.bytes=134217728"]).await;
    let mut builder = Feed::of(
        "CREATE TABLE a (id int PRIMARY KEY, body text); CREATE TABLE b (id int PRIMARY KEY, body text)",
    )
    .via(&kafka, "m")
    .ways(&[Way::Default]);
    if !full() {
        for setting in [
            "kafka.in_flight_bytes=4MB",
            "kafka.fetch_bytes=4MB",
            "apply.queue_bytes=4MB",
            "apply.batch_bytes=4MB",
        ] {
            builder = builder.set(setting);
        }
    }
    let mut feed = builder.start().await;
    // Everything of b lies behind everything of a: while a is applied, b waits in its topic.
    feed.source(&format!(
        "INSERT INTO a SELECT g, repeat('a', 400) FROM generate_series(1, {rows}) g;
         INSERT INTO b SELECT g, repeat('b', 400) FROM generate_series(1, {rows}) g"
    ))
    .await;
    feed.applied_within(std::time::Duration::from_secs(if full() { 3600 } else { 300 })).await;
    let peak = feed.lanes[0].running.as_ref().unwrap().peak_memory();
    eprintln!("{} rows in one transaction: at most {} MB", 2 * rows, peak >> 20);
    feed.expect_exact().await;
    assert!(peak > 0 && peak < bound, "{} MB, the bound is {} MB", peak >> 20, bound >> 20);
    feed.end().await;
}
