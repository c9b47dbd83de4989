//! Values travel in binary where every table can take them so, and as text as soon as one can't.

use std::time::Duration;

use crate::support::{Feed, Way};

const SOON: Duration = Duration::from_secs(60);

/// Does the walsender write binary values?
async fn expect_binary(feed: &Feed, binary: bool) {
    let query = format!(
        "SELECT bool_and((query LIKE '%binary ''true''%') = {binary}) FROM pg_stat_activity
         WHERE backend_type = 'walsender' AND datname = '{}' AND query LIKE 'START_REPLICATION%'",
        feed.database
    );
    feed.source.wait_until("postgres", &query, SOON).await;
}

#[tokio::test]
async fn a_column_that_can_not_travel_in_binary_makes_all_of_it_text() {
    let schema = "CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE TABLE t (id int PRIMARY KEY, m mood, tags text[], at timestamptz, n numeric(8, 2), j jsonb);
        INSERT INTO t SELECT i, 'good', '{a}', now(), i, '{}' FROM generate_series(1, 50) i";
    let mut feed = Feed::of(schema).ways(&[Way::Sets, Way::Default]).start().await;
    expect_binary(&feed, true).await;
    let changes = [
        "INSERT INTO t SELECT i, 'bad', ARRAY['x', NULL, 'y,z'], '-infinity', i / 7.0, jsonb_build_object('i', i) FROM generate_series(51, 250) i",
        "UPDATE t SET m = 'good', tags = tags || tags, n = NULL WHERE id % 3 = 0",
        "DELETE FROM t WHERE id % 5 = 0",
    ];
    feed.together(&changes).await;
    feed.expect_exact().await;
    expect_binary(&feed, true).await;
    feed.source("ALTER TABLE t ADD COLUMN pause interval").await;
    feed.target("ALTER TABLE t ADD COLUMN pause interval").await;
    feed.source("UPDATE t SET pause = id * interval '1 second', tags = '{}' WHERE id % 2 = 0").await;
    feed.expect_exact().await;
    expect_binary(&feed, false).await;
    feed.source("DELETE FROM t WHERE id % 7 = 0; INSERT INTO t (id, pause) VALUES (1000, '1 mon')").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn another_type_on_the_target_is_fed_with_text() {
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, n int)")
        .into("CREATE TABLE t (id bigint PRIMARY KEY, n text, more int DEFAULT 7)")
        .ways(&[Way::Sets, Way::Default])
        .without_events()
        .start()
        .await;
    feed.source("INSERT INTO t SELECT i, i FROM generate_series(1, 100) i").await;
    feed.source("UPDATE t SET n = n + 1 WHERE id > 50; DELETE FROM t WHERE id <= 10").await;
    feed.applied().await;
    expect_binary(&feed, false).await;
    feed.expect_on_targets("SELECT count(*), sum(id), sum(n::int), min(more) FROM t", &["90|4995|5045|7"])
        .await;
    feed.end().await;
}
