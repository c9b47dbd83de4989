//! Events that can't be handled.

use inbox::{DeadLetters, Worker};
use rdkafka::consumer::Consumer;
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::json;

use super::{NOTES, Notes, PATIENCE, Rig, Sent};

const ROWS: &str = "SELECT count(*) FROM notes";

/// One of each kind, with good ones between them.
async fn send_poison(rig: &Rig<'_>) {
    let typed = |id: &str| vec![("id", id.to_owned()), ("eventType", "Noted".to_owned())];
    rig.event("good 1", "k", "Noted", &json!({"seq": 1})).await;
    rig.send(Sent { key: "k", value: "{not json c4nary", headers: typed("not json") }).await;
    rig.send(Sent { key: "k", value: r#"{"seq":"c4nary"}"#, headers: typed("wrong type") }).await;
    rig.send(Sent { key: "k", value: r#"{"seq":2}"#, headers: vec![("eventType", "Noted".into())] }).await;
    rig.event("refused", "k", "note.refused", &json!({})).await;
    // The table's CHECK: perhaps it passes by itself, so it is tried a few times.
    rig.event("violates", "k", "Noted", &json!({"seq": -1})).await;
    rig.event("good 2", "k", "Noted", &json!({"seq": 3})).await;
}

/// Id, stage and attempts of what is put aside, as lines.
const EXPECTED: [&str; 5] = [
    "- parse 1 {\"seq\":2}",
    "not json parse 1 {not json c4nary",
    "refused handle 1 {}",
    "violates handle 5 {\"seq\":-1}",
    "wrong type parse 1 {\"seq\":\"c4nary\"}",
];

fn letters(rig: &Rig<'_>, topic: &str) -> Vec<String> {
    tokio::task::block_in_place(|| {
        let consumer = rig.kafka.consumer();
        let (low, high) = crate::support::kafka::watermarks(&consumer, topic, 0);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(low)).unwrap();
        consumer.assign(&list).unwrap();
        let mut lines: Vec<String> = (low..high)
            .map(|_| {
                let letter = consumer.poll(PATIENCE).unwrap().unwrap();
                let header = |name: &str| {
                    let found = letter.headers().unwrap().iter().find(|header| header.key == name);
                    found.map_or("-".to_owned(), |header| {
                        String::from_utf8_lossy(header.value.unwrap()).into_owned()
                    })
                };
                assert_eq!(header("walferry.topic"), rig.name);
                assert_eq!(letter.key(), Some(&b"k"[..]));
                assert!(header("walferry.error").len() > 5);
                let value = String::from_utf8_lossy(letter.payload().unwrap()).into_owned();
                [header("id"), header("walferry.error.stage"), header("walferry.attempts"), value].join(" ")
            })
            .collect();
        lines.sort();
        lines
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_topic_with_their_bytes_and_those_behind_them_go_on() {
    let rig = Rig::new(1, NOTES).await;
    send_poison(&rig).await;
    let worker = rig.worker(rig.options(), Notes);
    worker.wait("the last one", |stats| stats.handled() == 2).await;
    assert_eq!(worker.stop().await.dead_letters(), 5);
    assert_eq!(letters(&rig, &format!("{}.dlq", rig.name)), EXPECTED);
    assert_eq!(rig.count(ROWS).await, 2, "nothing of what failed has stayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_table_from_which_they_are_tried_again() {
    let rig = Rig::new(1, NOTES).await;
    send_poison(&rig).await;
    let mut options = rig.options();
    options.dead_letters = DeadLetters::Table;
    let worker = rig.worker(options.clone(), Notes);
    worker.wait("the last one", |stats| stats.handled() == 2).await;
    worker.stop().await;
    let lines = "SELECT string_agg(coalesce(headers->>'id', '-') || ' ' || stage || ' ' || attempts || ' '
                 || convert_from(value, 'UTF8'), E'\\n' ORDER BY coalesce(headers->>'id', '-') COLLATE \"C\")
                 FROM inbox.dead_letters";
    let found: String = rig.server.value(&rig.name, lines).await;
    assert_eq!(found.lines().collect::<Vec<_>>(), EXPECTED);
    // The cause of one is gone; one more has an id now, from the place where it stood.
    rig.server.sql(&rig.name, "ALTER TABLE notes DROP CONSTRAINT notes_seq_check").await;
    let worker = Worker::new(options, inbox::plain(rig.server.uri(&rig.name).parse().unwrap()));
    let replayed = worker.replay(&Notes).await.unwrap();
    assert_eq!((replayed.handled, replayed.failed), (2, 3));
    assert_eq!(rig.count(ROWS).await, 4);
    assert_eq!(rig.count("SELECT sum(attempts) FROM inbox.dead_letters").await, 6, "noted with each letter");
    let replayed = worker.replay(&Notes).await.unwrap();
    assert_eq!((replayed.handled, replayed.failed), (0, 3), "what was handled is not handled again");
    assert_eq!(rig.count(ROWS).await, 4);
}
