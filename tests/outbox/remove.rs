//! `outbox remove` drops what `outbox run` has made, and nothing that somebody else needs.

use super::rig::{DEBEZIUM, Rig};
use crate::support::Walferry;

async fn count(rig: &Rig, catalog: &str, column: &str, name: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {catalog} WHERE {column} = '{name}'");
    rig.source.value(&rig.database, &sql).await
}

/// Are the slot and the publication of the rig's name there?
async fn there(rig: &Rig) -> (bool, bool) {
    let name = rig.walferry.run_name();
    (
        count(rig, "pg_replication_slots", "slot_name", name).await == 1,
        count(rig, "pg_publication", "pubname", name).await == 1,
    )
}

fn remove(rig: &Rig) -> Walferry {
    rig.walferry.command("outbox").arg("remove")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_run_of_the_same_name_made_is_refused_and_stays() {
    let rig = Rig::new("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let target = format!("{}_target", rig.database);
    rig.source.create_database(&target).await;
    let mut running = rig.walferry.command("migrate").args(&["--target", &rig.source.uri(&target)]).spawn();
    running.wait_for_stderr("step live").await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    assert_eq!(there(&rig).await, (true, true));
    let output = remove(&rig).run().await.expect_code(4);
    let name = rig.walferry.run_name();
    for said in [
        "NO_RECORD",
        &format!("SELECT pg_drop_replication_slot('{name}')"),
        &format!("DROP PUBLICATION \"{name}\""),
    ] {
        assert!(output.stderr.contains(said), "{said}: {output:#?}");
    }
    assert_eq!(there(&rig).await, (true, true));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_taken_up_stays_with_its_publication() {
    let mut rig = Rig::new(DEBEZIUM).await;
    let name = rig.walferry.run_name().to_owned();
    rig.sql(&format!("CREATE PUBLICATION {name} FOR TABLE outbox")).await;
    rig.sql(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")).await;
    rig.restart().await;
    rig.stop().await;
    let output = remove(&rig).run().await.expect_code(0);
    assert!(output.stdout.contains("was there before and stays"), "{output:#?}");
    assert_eq!(there(&rig).await, (true, true));
    // It is forgotten: what is left is nobody's.
    remove(&rig).run().await.expect_code(4);
    rig.sql(&format!("SELECT pg_drop_replication_slot('{name}')")).await;
    rig.sql(&format!("DROP PUBLICATION {name}")).await;
    assert!(remove(&rig).run().await.expect_code(0).stdout.contains("nothing of it is left"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_s_own_slot_and_publication_are_dropped() {
    let mut rig = Rig::new(DEBEZIUM).await.start().await;
    rig.stop().await;
    assert_eq!(there(&rig).await, (true, true));
    let output = remove(&rig).run().await.expect_code(0);
    assert!(output.stdout.contains("slot") && output.stdout.contains("publication"), "{output:#?}");
    assert_eq!(there(&rig).await, (false, false));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_has_more_than_the_outbox_stays() {
    let mut rig =
        Rig::new(&format!("{DEBEZIUM}; CREATE TABLE orders (id int PRIMARY KEY)")).await.start().await;
    rig.stop().await;
    rig.sql(&format!("ALTER PUBLICATION {} ADD TABLE orders", rig.walferry.run_name())).await;
    let output = remove(&rig).run().await.expect_code(0);
    assert!(output.stdout.contains("publishes what is no outbox (\"public\".\"orders\")"), "{output:#?}");
    assert_eq!(there(&rig).await, (false, true));
    rig.end().await;
}

/// A table of records that a version without the column has made: its slots may be anybody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_say_whose_the_slot_is_keeps_it() {
    let mut rig = Rig::new(DEBEZIUM).await.start().await;
    rig.stop().await;
    rig.sql("ALTER TABLE walferry.outbox_slots DROP COLUMN adopted").await;
    remove(&rig).run().await.expect_code(0);
    assert_eq!(there(&rig).await, (true, true));
    // The next start takes the slot up, and makes the column for its record.
    rig.restart().await;
    rig.stop().await;
    let adopted = "SELECT adopted FROM walferry.outbox_slots";
    assert!(rig.source.value::<bool>(&rig.database, adopted).await);
    rig.end().await;
}
