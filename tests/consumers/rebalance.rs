//! Workers come and go: still in order per key, still once.

use inbox::{Failure, Handler, Message, Transaction};
use serde::Deserialize;
use serde_json::json;

use super::{NOTES, Notes, Rig};
use crate::support::{Direction, Kafka};

const KEYS: i64 = 12;
const EVENTS: i64 = 40;

const SCHEMA: &str = "
    CREATE TABLE keys (key text PRIMARY KEY, seq int NOT NULL);
    INSERT INTO keys SELECT 'k' || g, 0 FROM generate_series(1, 12) g;
    CREATE TABLE log (n bigint GENERATED ALWAYS AS IDENTITY, key text, seq int)";

#[derive(Deserialize)]
struct Step {
    seq: i32,
}

/// Takes the next step of a key and no other.
struct Steps;

impl Handler for Steps {
    type Event = Step;

    async fn handle(&self, tx: &Transaction<'_>, step: Step, message: &Message) -> Result<(), Failure> {
        let next = "UPDATE keys SET seq = $2 WHERE key = $1 AND seq = $2 - 1";
        if tx.execute(next, &[&message.key, &step.seq]).await? != 1 {
            return Err(Failure::poison("out of order"));
        }
        tx.execute("INSERT INTO log (key, seq) VALUES ($1, $2)", &[&message.key, &step.seq]).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_keep_the_order_of_each_key() {
    let rig = Rig::new(4, SCHEMA).await;
    let publish = async {
        for seq in 1..=EVENTS {
            for key in 1..=KEYS {
                rig.event(&format!("{key}-{seq}"), &format!("k{key}"), "Step", &json!({"seq": seq})).await;
            }
        }
    };
    let work = async {
        let log = "SELECT count(*) FROM log";
        let reached = async |part: i64| {
            let enough = format!("SELECT ({log}) >= {}", KEYS * EVENTS * part / 5);
            rig.server.wait_until(&rig.name, &enough, super::PATIENCE).await;
        };
        let first = rig.worker(rig.options(), Steps);
        reached(1).await;
        let second = rig.worker(rig.options(), Steps);
        reached(2).await;
        let third = rig.worker(rig.options(), Steps);
        let mut dead = first.stop().await.dead_letters();
        reached(3).await;
        dead += second.stop().await.dead_letters();
        let fourth = rig.worker(rig.options(), Steps);
        reached(4).await;
        rig.wait_count(log, KEYS * EVENTS).await;
        dead += third.stop().await.dead_letters() + fourth.stop().await.dead_letters();
        assert_eq!(dead, 0, "an event came out of order");
    };
    tokio::join!(publish, work);
    let wrong =
        "SELECT count(*) FROM (SELECT seq, row_number() OVER (PARTITION BY key ORDER BY n) AS nth FROM log) l
                 WHERE seq <> nth";
    assert_eq!(rig.count(wrong).await, 0);
    assert_eq!(rig.count("SELECT count(*) FROM log").await, KEYS * EVENTS);
}

/// The coordinator refuses once to say where the group stands; librdkafka takes that for an answer and never asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_offsets_are_refused_once_is_joined_anew() {
    let (kafka, proxy) = Kafka::behind_proxy().await;
    let rig = Rig::on(&kafka, 1, NOTES).await;
    for seq in 1..=3 {
        rig.event(&seq.to_string(), "k", "Noted", &json!({"seq": seq})).await;
    }
    // OffsetFetch's answer (version 9): topic, one partition, number 0, offset -1, epoch -1, then empty metadata, the partition's error
    // (2 bytes), two lists of tags; then the error of the whole: 16 is NOT_COORDINATOR.
    let mut answer = rig.name.clone().into_bytes();
    answer.extend([2, 0, 0, 0, 0]);
    answer.extend([0xff; 12]);
    proxy.corrupt(Direction::Down, &answer, answer.len() as isize + 1 + 2 + 2 + 1, 16);
    let mut options = rig.options();
    options.brokers = proxy.address();
    let worker = rig.worker(options, Notes);
    rig.wait_count("SELECT count(*) FROM notes", 3).await;
    assert_eq!(proxy.corrupted(), 1, "the answer was another one");
    worker.stop().await;
}
