//! Writes that name a parent or a child of a moved table: refused on the target until it is opened, and on the source afterwards.

use crate::support::{Postgres, Walferry};

const WRITES: [&str; 8] = [
    "INSERT INTO readings VALUES ('2026-02-01', 2)",
    "INSERT INTO readings_2026 VALUES ('2026-02-02', 2)",
    "DELETE FROM readings",
    "DELETE FROM readings_2026",
    "TRUNCATE readings",
    "UPDATE animal SET name = 'x'",
    "UPDATE dog SET name = 'x'",
    "DELETE FROM animal",
];

async fn refused(server: &Postgres) {
    for write in WRITES {
        let error = server.try_sql("app", write).await.expect_err(write);
        assert_eq!(error.code().unwrap().code(), "25006", "{write}");
    }
}

#[tokio::test]
async fn neither_a_parent_nor_a_child_is_a_way_around_the_fence() {
    let (source, target) = Postgres::pair(15, 18).await;
    for server in [&source, &target] {
        server.create_database("app").await;
    }
    source
        .sql(
            "app",
            "CREATE TABLE readings (at date PRIMARY KEY, value int) PARTITION BY RANGE (at);
             CREATE TABLE readings_2026 PARTITION OF readings FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
                 PARTITION BY RANGE (at);
             CREATE TABLE readings_january PARTITION OF readings_2026 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
             CREATE TABLE readings_later PARTITION OF readings_2026 DEFAULT;
             INSERT INTO readings VALUES ('2026-01-01', 1), ('2026-03-01', 3);
             CREATE TABLE animal (id int PRIMARY KEY, name text);
             CREATE TABLE dog (PRIMARY KEY (id)) INHERITS (animal);
             INSERT INTO animal VALUES (1, 'cat'); INSERT INTO dog VALUES (2, 'rex')",
        )
        .await;
    let walferry = Walferry::new(&source.uri("app"), &target.uri("app"));
    let mut run = walferry.command("migrate").spawn();
    run.wait_for_step("live").await;
    refused(&target).await;
    walferry.command("cutover").args(&["--verify", "none"]).run().await.expect_code(0);
    run.wait_exit().await.expect_code(0);
    refused(&source).await;
    for write in WRITES {
        target.sql("app", write).await;
    }
}
