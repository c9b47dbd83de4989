//! Partitioned tables: fed leaf by leaf or through the root, and cut otherwise on the target.

use crate::support::{Feed, Way};

const SOURCE: &str = "
    CREATE TABLE p (id int, at date NOT NULL, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE p20 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE p21 (v text, gone int, at date NOT NULL, id int NOT NULL); ALTER TABLE p21 DROP gone;
    ALTER TABLE p ATTACH PARTITION p21 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
    CREATE TABLE p22 PARTITION OF p FOR VALUES FROM ('2022-01-01') TO ('2023-01-01') PARTITION BY HASH (id);
    CREATE TABLE p22a PARTITION OF p22 FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE p22b PARTITION OF p22 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO p SELECT i, date '2020-01-01' + i * 30, 'v' || i FROM generate_series(1, 30) i;";
const CHANGES: [&str; 6] = [
    "UPDATE p SET v = v || '!'",
    "UPDATE p SET at = at + 365 WHERE at < '2021-06-01' AND id % 2 = 0",
    "DELETE FROM p WHERE id % 7 = 0; INSERT INTO p SELECT i, '2020-05-05', 'n' FROM generate_series(100, 120) i",
    "UPDATE p SET id = id + 1000 WHERE id > 110; UPDATE p SET at = '2022-03-03', id = id + 1 WHERE id = 105",
    "UPDATE p SET at = '2021-03-03' WHERE id = 101; UPDATE p SET at = '2020-03-03' WHERE id = 101; UPDATE p SET v = NULL WHERE id = 101",
    "ALTER TABLE p DETACH PARTITION p21; ALTER TABLE p ATTACH PARTITION p21 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')",
];

async fn changed(feed: &mut Feed, changes: &[&str]) {
    for change in changes {
        feed.source(change).await;
    }
    feed.expect_exact().await;
    feed.source("DELETE FROM p; INSERT INTO p SELECT i, date '2020-01-01' + i * 30, 'v' || i FROM generate_series(1, 30) i").await;
    feed.together(changes).await;
    feed.expect_exact().await;
}

#[tokio::test]
async fn leaf_by_leaf() {
    let mut feed = Feed::of(SOURCE).start().await;
    changed(&mut feed, &CHANGES).await;
    feed.end().await;
}

#[tokio::test]
async fn leaf_by_leaf_with_identity_full() {
    let full = "ALTER TABLE p20 REPLICA IDENTITY FULL; ALTER TABLE p21 REPLICA IDENTITY FULL; ALTER TABLE p22a REPLICA IDENTITY FULL;";
    let mut feed = Feed::of(&format!("{SOURCE}{full}")).majors(13, 17).ways(&[Way::Sets]).start().await;
    changed(&mut feed, &CHANGES[..5]).await;
    feed.end().await;
}

#[tokio::test]
async fn through_the_root_into_a_plain_table_and_into_other_partitions() {
    let publication = "CREATE PUBLICATION root FOR TABLE p WITH (publish_via_partition_root = true)";
    for target in [
        "CREATE TABLE p (v text, id int, at date, PRIMARY KEY (at, id))",
        "CREATE TABLE p (id int, extra text DEFAULT 'x', at date NOT NULL, v text, PRIMARY KEY (id, at)) PARTITION BY HASH (id);
         CREATE TABLE h0 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 0); CREATE TABLE h1 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 1);
         CREATE TABLE h2 (v text, at date NOT NULL, extra text, id int NOT NULL); ALTER TABLE p ATTACH PARTITION h2 FOR VALUES WITH (MODULUS 3, REMAINDER 2)",
    ] {
        let mut feed = Feed::of(&format!("{SOURCE}{publication}"))
            .into(target)
            .arg("--publication")
            .arg("root")
            .scope(crate::support::oracle::Scope::only(&["public.p"]).extra_columns())
            .start()
            .await;
        changed(&mut feed, &CHANGES[..5]).await;
        // The TRUNCATE of a leaf is nobody's, that of the root is the root's.
        feed.source("TRUNCATE p; INSERT INTO p VALUES (1, '2020-02-02', 'after')").await;
        feed.expect_same_content().await;
        feed.end().await;
    }
}

#[tokio::test]
async fn through_the_root_with_identity_full() {
    let full = "ALTER TABLE p REPLICA IDENTITY FULL; ALTER TABLE p20 REPLICA IDENTITY FULL; ALTER TABLE p21 REPLICA IDENTITY FULL; ALTER TABLE p22a REPLICA IDENTITY FULL;
        ALTER TABLE p22b REPLICA IDENTITY FULL; CREATE PUBLICATION root FOR TABLE p WITH (publish_via_partition_root = true)";
    let mut feed = Feed::of(&format!("{SOURCE}{full}"))
        .into("CREATE TABLE p (id int, at date NOT NULL, v text) PARTITION BY HASH (id);
         CREATE TABLE h0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE h1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1)")
        .arg("--publication")
        .arg("root")
        .start()
        .await;
    changed(&mut feed, &CHANGES[..5]).await;
    feed.end().await;
}

#[tokio::test]
async fn a_leaf_that_is_partitioned_on_the_target() {
    let mut feed = Feed::of("CREATE TABLE l (id int PRIMARY KEY, v text); INSERT INTO l SELECT i, 'v' FROM generate_series(1, 30) i")
        .into("CREATE TABLE l (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE l0 PARTITION OF l FOR VALUES FROM (0) TO (15);
            CREATE TABLE l1 PARTITION OF l DEFAULT")
        .ways(&[Way::Sets, Way::Rows])
        .start()
        .await;
    feed.together(&[
        "UPDATE l SET id = 100 - id WHERE id % 3 = 0",
        "UPDATE l SET v = 'w' WHERE id < 50; DELETE FROM l WHERE id % 5 = 0",
        "TRUNCATE l; INSERT INTO l VALUES (1, 'a'), (20, 'b')",
    ])
    .await;
    feed.expect_exact().await;
    feed.end().await;
}

/// Whoever has truncated them keeps their locks to its commit, and everybody who asks about the partitions then must not need one.
#[tokio::test]
async fn partitions_that_a_large_transaction_has_truncated_are_looked_up_again_in_it() {
    let publication = "CREATE PUBLICATION root FOR TABLE p WITH (publish_via_partition_root = true)";
    let mut feed = Feed::of(&format!("{SOURCE}{publication}"))
        .into(&format!("{SOURCE} TRUNCATE p; ALTER TABLE p ADD COLUMN later text"))
        .arg("--publication")
        .arg("root")
        .scope(crate::support::oracle::Scope::only(&["public.p"]).extra_columns())
        .ways(&[Way::Pieces])
        .start()
        .await;
    let rows = |from: usize| {
        format!(
            "INSERT INTO p (id, at, v) SELECT i, '2020-05-05', repeat('x', 200) FROM generate_series({from}, {from} + 999) i"
        )
    };
    feed.source(&format!("TRUNCATE p; {}; ALTER TABLE p ADD COLUMN later text; {}", rows(1), rows(5001)))
        .await;
    feed.expect_exact().await;
    feed.end().await;
}
