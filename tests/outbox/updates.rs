//! UPDATE of an outbox row is no event: what `table.op.invalid.behavior` makes of it.

use super::rig::{DEBEZIUM, Rig, text};

const UPDATE: &str = "UPDATE outbox SET payload = '\"another\"'";
const SAID: &str = "a row of outbox table \"public\".\"outbox\" was updated, which makes no event";

fn insert(key: u32) -> String {
    format!(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('Order', '{key}', 't', '{{}}')"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn error_logs_every_update_as_one_and_goes_on() {
    let mut rig = Rig::new(DEBEZIUM).await.set("table.op.invalid.behavior=error").start().await;
    rig.sql(&insert(1)).await;
    rig.sql(UPDATE).await;
    rig.sql(UPDATE).await;
    rig.sql(&insert(2)).await;
    rig.running.as_mut().unwrap().wait_for_stderr(&format!("{SAID} (2 so far)")).await;
    rig.delivered().await;
    let keys: Vec<String> =
        rig.records("Order", 2).await.iter().map(|record| text(&record.key).to_owned()).collect();
    assert_eq!(keys, ["1", "2"], "and no event of an update");
    let errors = rig.stop().await.stderr;
    assert_eq!(errors.lines().filter(|line| line.contains("ERROR") && line.contains(SAID)).count(), 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fatal_ends_the_run_where_it_is_and_another_choice_goes_on_from_there() {
    let mut rig = Rig::new(DEBEZIUM).await.start().await;
    rig.sql(&insert(1)).await;
    rig.delivered().await;
    rig.stop().await;
    rig.sql(UPDATE).await;
    rig.sql(&insert(2)).await;
    for _ in 0..2 {
        let output = rig.command(&["run"]).args(&["--set", "table.op.invalid.behavior=fatal"]).run().await;
        let output = output.expect_code(1);
        assert!(output.stderr.contains(SAID) && output.stderr.contains("OUTBOX_UPDATE"), "{output:#?}");
        assert!(output.stderr.contains("table.op.invalid.behavior=warn"), "{output:#?}");
    }
    assert_eq!(rig.records("Order", 1).await.len(), 1, "what came behind it waits");
    rig.restart().await;
    rig.running.as_mut().unwrap().wait_for_stderr(SAID).await;
    assert_eq!(rig.records("Order", 2).await.len(), 2);
    rig.end().await;
}
