//! Workers come and go: still in order per key, still once.

use inbox::{Failure, Handler, Message, Transaction};
use serde::Deserialize;
use serde_json::json;

use super::Rig;

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
