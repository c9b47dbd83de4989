//! Every committed event is in its topic or among the dead letters, whatever dies meanwhile; nothing of what was rolled back is anywhere
//! (check C4).

use std::time::{Duration, Instant};

use super::scene::{How, Rounds, Scene};
use crate::support::options;

#[tokio::test(flavor = "multi_thread")]
async fn c4_whatever_is_killed_every_committed_event_is_there_and_no_other() {
    let mut scene = Scene::start(How::Alone).await;
    scene.load(10).await;
    // A crash at some message, or by kill -9 at any time.
    let rounds = Rounds {
        count: if options::full() { 60 } else { 5 },
        points: &["outbox-event-sent", "outbox-letter-sent"],
        first: 3,
        broker: |round| round % 5 == 1,
        source: |round| round % 5 == 2,
        waits: false,
    };
    scene.rounds(&rounds).await;
    scene.run(None);
    scene.load(10).await;
    scene.settle().await;
    scene.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_while_the_brokers_are_down_the_slot_waits_and_nothing_is_a_dead_letter() {
    let mut scene = Scene::start(How::Alone).await;
    scene.load(5).await;
    scene.settle().await;
    let letters = scene.kafka.records("c4.dlq").len();
    scene.kafka.stop();
    // From here on there is something to wait for; until then the slot may follow what is idle.
    scene.load(1).await;
    let waits = format!(
        "SELECT confirmed_flush_lsn < '{}' FROM pg_replication_slots WHERE slot_name = 'c4'",
        scene.source.wal_position().await
    );
    scene.load(19).await;
    // Longer than the client's own patience with a request; the long variant outlasts its default for a message.
    let limit = if options::full() { 360 } else { 12 };
    let over = Instant::now() + Duration::from_secs(limit);
    while Instant::now() < over {
        assert!(
            scene.source.value::<bool>("app", &waits).await,
            "nothing may be confirmed that Kafka has not acknowledged"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    scene.kafka.restart().await;
    scene.settle().await;
    assert_eq!(scene.check(), 0, "nobody crashed, so nothing came twice");
    let poisonous = (1..=scene.next)
        .filter(|number| number.is_multiple_of(11) && scene.committed.contains(&number.to_string()));
    assert_eq!(scene.kafka.records("c4.dlq").len(), poisonous.count());
    assert!(letters > 0);
}
