//! The roles of both sides.

use super::check;
use crate::support::walferry::Output;
use crate::support::{Postgres, Walferry};

#[tokio::test]
async fn the_grants_it_prints_are_enough() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(15).await);
    let tables = "CREATE SCHEMA app; CREATE TABLE app.a (id serial PRIMARY KEY); CREATE TABLE app.\"b\"\"b\" (id int PRIMARY KEY)";
    source.sql("postgres", tables).await;
    target.sql("postgres", tables).await;
    let as_owner = Walferry::new(&source.uri("postgres"), &target.uri("postgres"));
    let script = |output: Output| output.expect_code(0).stdout.replace("PASSWORD '…'", "PASSWORD 'x'");
    let limited = Walferry::new(&source.uri_as("ws", "postgres"), &target.uri_as("wt", "postgres"));
    let printed = script(as_owner.command("check").args(&["--grants", "--existing-schema"]).run().await);
    let (for_source, for_target) = printed.split_once("-- on the target").unwrap();
    // As the owner has run it for the roles to be.
    source
        .sql(
            "postgres",
            &for_source.replace("\"postgres\" LOGIN", "\"ws\" LOGIN").replace("TO \"postgres\"", "TO \"ws\""),
        )
        .await;
    target
        .sql(
            "postgres",
            &for_target
                .replace("\"postgres\" LOGIN", "\"wt\" LOGIN")
                .replace("TO \"postgres\"", "TO \"wt\"")
                .replace("AUTHORIZATION \"postgres\"", "AUTHORIZATION \"wt\""),
        )
        .await;
    let found = check(&limited, &["--existing-schema", "--publication", "walferry"]).await;
    assert_eq!(found.code, 0, "{:#?}", found.all);
    found.none("REPLICA_ROLE");
    found.none("SEQUENCE_PRIVILEGE");
    found.get("warning", "source", "FENCE_PRIVILEGE");
}
