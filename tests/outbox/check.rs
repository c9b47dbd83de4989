//! `check --outbox`: what stands in the way, and a role that has what it prints and nothing else.

use super::rig::Rig;

const TABLE: &str = "CREATE SCHEMA app; CREATE TABLE app.events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text, aggregateid text, \
                     type text, payload jsonb, created_at timestamptz NOT NULL DEFAULT now())";

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_is_printed_is_enough() {
    let rig = Rig::new(TABLE).await.set("outbox.table=app.events");
    let role = format!("printed_{}", rig.prefix);
    let source = rig.source.uri_as(&role, &rig.database);
    // Asked for by an administrator, for the role of the URI that will run.
    let admin = rig.source.uri_as("postgres", &rig.database);
    let check =
        rig.walferry.command("check").args(&["--outbox", "--grants", "--set", "outbox.table=app.events"]);
    let printed = check.args(&["--source", &admin]).run().await.expect_code(0).stdout;
    let sql = printed.replace("\"postgres\"", &format!("\"{role}\"")).replace(" PASSWORD '…'", "");
    rig.sql(&sql).await;
    let rig = rig.arg("--source").arg(&source);
    let brokers = rig.kafka.brokers();
    let check = rig.walferry.command("check").args(&["--outbox", "--via", "kafka", "--brokers", &brokers]);
    let check = check.args(&["--set", "outbox.table=app.events", "--source", &source]);
    let looked = check.run().await.expect_code(0);
    assert!(looked.stdout.contains("a run would start"), "{looked:#?}");
    let rig = rig.start().await;
    rig.sql(
        "INSERT INTO app.events (aggregatetype, aggregateid, type, payload) VALUES ('Order', '1', 't', '{}')",
    )
    .await;
    rig.records("Order", 1).await;
    let clean = ["clean", "--retention", "0s", "--source", &source, "--set", "outbox.table=app.events"];
    rig.walferry.command("outbox").args(&clean).run().await.expect_code(0);
    assert_eq!(rig.source.value::<i64>(&rig.database, "SELECT count(*) FROM app.events").await, 0);
    let more = format!(
        "SELECT count(*) FROM information_schema.table_privileges WHERE grantee = '{role}' AND NOT (table_name IN ('events', 'outbox_slots'))"
    );
    assert_eq!(rig.source.value::<i64>(&rig.database, &more).await, 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_listed() {
    let rig = Rig::new("CREATE UNLOGGED TABLE outbox (id int)").await;
    let brokers = rig.kafka.brokers();
    let check = rig.walferry.command("check").args(&["--outbox", "--via", "kafka", "--brokers", &brokers]);
    let found = check.clone().run().await.expect_code(4);
    assert!(found.stdout.contains("is unlogged or temporary"), "{found:#?}");
    let found = check.args(&["--brokers", "127.0.0.1:1"]).run().await;
    assert_eq!(found.code, 2, "twice the same option: {found:#?}");
    rig.end().await;
}
