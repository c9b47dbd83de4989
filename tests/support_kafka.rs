//! The broker fixture does what the tests rely on.

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use crate::support::Kafka;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_keeps_its_topics_over_a_kill() {
    let mut kafka = Kafka::start().await;
    let topic = NewTopic::new("kept", 3, TopicReplication::Fixed(1));
    let made = kafka.admin().create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    kafka.kill9();
    kafka.restart().await;
    assert_eq!(kafka.topics("kept"), [("kept".to_owned(), 3)]);
}
