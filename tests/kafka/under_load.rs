//! Faults while the bank writes: its books balance on the target at every moment (C3), all of it arrives (C1), and exactly once (C2).

use super::full;
use crate::support::feed::Builder;
use crate::support::kafka::Cluster;
use crate::support::load::{Rng, bank};
use crate::support::oracle::Invariant;
use crate::support::{Feed, Kafka, Load, Way};

/// Every transfer is entered in eight more tables, so that one transaction is spread over thirteen topics.
async fn many_tables(feed: &Feed) {
    bank::create(feed.source, &feed.database, 100).await;
    let tables: String = (0..8)
        .map(|n| format!("CREATE TABLE bank.copy{n} (number bigint PRIMARY KEY, amount bigint NOT NULL);"))
        .collect();
    let inserts: String =
        (0..8).map(|n| format!("INSERT INTO bank.copy{n} VALUES (NEW.number, NEW.amount);")).collect();
    feed.source(&format!(
        "{tables}
         CREATE FUNCTION bank.enter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {inserts} RETURN NULL; END $$;
         CREATE TRIGGER enter AFTER INSERT ON bank.entry FOR EACH ROW EXECUTE FUNCTION bank.enter()"
    ))
    .await;
}

/// The bank over thirteen topics of four partitions each, live.
async fn start(builder: Builder) -> Feed {
    let mut feed = builder.ways(&[Way::Default]).arg("--partitions").arg("4").prepare().await;
    many_tables(&feed).await;
    feed.restart().await;
    feed.wait_live().await;
    feed
}

fn load(feed: &Feed, seed: u64) -> Load {
    Load::bank(&feed.source.uri(&feed.database)).workers(2).seed(seed).rate(60).start()
}

fn watch(feed: &Feed) -> Invariant {
    Invariant::watch(&feed.target.uri(&feed.lanes[0].database))
}

async fn more(load: &Load, transactions: u64) {
    load.wait_committed(load.committed() + transactions).await;
}

/// Ends the load; everything is there, once, and was at every moment.
async fn close(mut feed: Feed, load: Load, watch: Invariant) {
    load.stop().await;
    feed.expect_same().await;
    watch.expect_held().await;
    let copies: Vec<String> = (0..8).map(|n| format!("(SELECT count(*) FROM bank.copy{n})")).collect();
    let all = format!("SELECT (SELECT count(*) FROM bank.entry) = ALL (ARRAY[{}])", copies.join(", "));
    feed.expect_on_targets(&all, &["t"]).await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_26_leaders_change_in_a_cluster_of_three() {
    let mut cluster = Cluster::start().await;
    let feed = start(Feed::of("").via_brokers(&cluster.brokers(), "c")).await;
    let (load, watch) = (load(&feed, 26), watch(&feed));
    more(&load, 40).await;
    // Topics are made in three copies, of which two have to have a record.
    for topic in ["c_default.transaction", "c_default.bank.account"] {
        let leader = cluster.leader(topic, 0);
        cluster.nodes[leader].kill9();
        more(&load, 60).await;
        cluster.nodes[leader].restart().await;
        more(&load, 20).await;
    }
    close(feed, load, watch).await;
}

/// Broker and process are killed in turns, at moments that the seed chooses.
#[tokio::test(flavor = "multi_thread")]
async fn row_26_broker_and_run_are_killed_at_random() {
    let mut kafka = Kafka::start().await;
    let (seeds, rounds) = if full() { (5, 20) } else { (1, 5) };
    for seed in 0..seeds {
        let mut rng = Rng::new(1000 + seed);
        let mut feed = start(Feed::of("").via(&kafka, &format!("r{seed}"))).await;
        let (load, watch) = (load(&feed, seed), watch(&feed));
        for round in 0..rounds {
            more(&load, 5 + rng.below(25)).await;
            match rng.below(3) {
                0 => {
                    kafka.kill9();
                    more(&load, rng.below(30)).await;
                    kafka.restart().await;
                }
                1 => feed.restart().await,
                _ => {
                    // Neither is there for a while.
                    kafka.kill9();
                    feed.restart().await;
                    kafka.restart().await;
                }
            }
            eprintln!("seed {seed}, round {round}: {} transactions", load.committed());
        }
        close(feed, load, watch).await;
    }
}
