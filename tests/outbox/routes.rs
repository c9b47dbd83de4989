//! From the table, and from logical messages, to the topic.

use super::rig::{DEBEZIUM, Rig, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_row_comes_to_its_topic_and_the_slot_is_confirmed_after_that() {
    let mut rig = Rig::new(DEBEZIUM).await.start().await;
    rig.sql("INSERT INTO outbox VALUES ('406c07f3-26f0-4eea-a50c-109940064b8f', 'Order', '1', 'OrderCreated', '{\"id\": 1}')").await;
    let records = rig.records("Order", 1).await;
    assert_eq!(text(&records[0].key), "1");
    assert_eq!(records[0].json(), serde_json::json!("{\"id\": 1}"));
    assert_eq!(records[0].header("id").as_deref(), Some("406c07f3-26f0-4eea-a50c-109940064b8f"));
    assert!(records[0].header("walferry.position").is_some());
    rig.delivered().await;
    rig.stop().await;
    // What was confirmed does not come again.
    rig.restart().await;
    rig.sql("INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('Order', '2', 'x')").await;
    rig.records("Order", 2).await;
    rig.delivered().await;
    assert_eq!(rig.records("Order", 2).await.len(), 2);
    rig.end().await;
}
