//! `write --shard`: several processes share the tables of one run.

use std::time::{Duration, Instant};

use crate::support::walferry::Running;
use crate::support::{Feed, Kafka, Way, oracle};

const TABLES: usize = 6;

fn schema() -> String {
    (0..TABLES)
        .map(|n| {
            format!(
                "CREATE TABLE t{n} (id int PRIMARY KEY, body text); INSERT INTO t{n} SELECT g, 'copied' FROM generate_series(1, 200) g;"
            )
        })
        .collect()
}

/// A run that is live, fed by a reader, with one process that leads.
async fn shared() -> Feed {
    shared_under(&Kafka::prefix()).await
}

async fn shared_under(prefix: &str) -> Feed {
    let kafka = Kafka::shared().await;
    let mut feed = Feed::of(&schema()).via(kafka, prefix).ways(&[Way::Default]).services().prepare().await;
    let lane = &mut feed.lanes[0];
    lane.command = lane.command.clone().arg("--shard");
    lane.start_reader();
    lane.start_writer();
    feed.wait_live().await;
    feed
}

fn helper(feed: &Feed, arguments: &[&str]) -> Running {
    feed.lanes[0].command.clone().args(arguments).spawn()
}

/// Transactions over all tables.
async fn write(feed: &Feed, round: usize) {
    let rows: String = (0..TABLES)
        .map(|n| {
            format!(
                "INSERT INTO t{n} SELECT g, 'round' FROM generate_series({0}, {0} + 299) g;",
                1000 * (round + 1)
            )
        })
        .collect();
    feed.source(&rows).await;
    for n in 0..TABLES {
        feed.source(&format!("UPDATE t{n} SET body = 'again {round}' WHERE id % 7 = {}; DELETE FROM t{} WHERE id % 50 = {round}", round % 7, (n + 1) % TABLES)).await;
    }
    feed.source("TRUNCATE t5, t4; INSERT INTO t4 VALUES (1, 'after')").await;
}

/// Everything is applied, by whoever has it.
async fn applied(feed: &Feed) {
    let marker = oracle::marker(feed.source, &feed.database).await;
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let status = feed.lanes[0].walferry.try_status().await;
        if status.as_ref().is_some_and(|status| status.applied() >= marker) {
            return;
        }
        let running = feed.lanes[0].running.as_ref().map(Running::stderr).unwrap_or_default();
        assert!(Instant::now() < deadline, "not applied up to {marker}: {status:?}\n{running}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn feeds(process: &mut Running) {
    process.wait_for_stderr("feeds ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_30_processes_that_join_leave_and_die_lose_and_double_nothing() {
    let mut feed = shared().await;
    write(&feed, 0).await;
    let mut one = helper(&feed, &[]);
    write(&feed, 1).await;
    feeds(&mut one).await;
    let mut two = helper(&feed, &[]);
    write(&feed, 2).await;
    feeds(&mut two).await;
    // One dies, one leaves, one comes, wherever they are.
    one.kill9().await;
    write(&feed, 3).await;
    two.sigterm();
    let mut three = helper(&feed, &[]);
    two.wait_exit().await.expect_code(143);
    write(&feed, 4).await;
    feeds(&mut three).await;
    // The one that leads dies: another one takes the lead.
    feed.lanes[0].kill_writer().await;
    write(&feed, 5).await;
    feed.lanes[0].running = Some(three);
    applied(&feed).await;
    feed.expect_exact().await;
    // Without the option it has everything again.
    feed.lanes[0].kill_writer().await;
    write(&feed, 6).await;
    feed.lanes[0].start_writer();
    applied(&feed).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_of_a_hand_over_changes_nothing() {
    let mut feed = shared().await;
    for (round, failpoint) in
        ["shard-gathered", "shard-handed-over", "apply-before-commit", "apply-after-commit"]
            .iter()
            .enumerate()
    {
        feed.lanes[0].kill_writer().await;
        write(&feed, round).await;
        let mut one = helper(&feed, &[]);
        let two = feed.lanes[0].command.clone().failpoint(failpoint, "3*off->panic").spawn();
        write(&feed, round + 10).await;
        let deadline = Instant::now() + Duration::from_secs(6);
        while one.is_running() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        one.kill9().await;
        two.kill9().await;
        feed.lanes[0].start_writer();
        applied(&feed).await;
        feed.expect_exact().await;
    }
    feed.end().await;
}

/// Between the look at where everybody stands and the hand-over of the tables nobody gets any further.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_commits_anything_while_tables_are_handed_over() {
    let mut feed = shared().await;
    feed.lanes[0].kill_writer().await;
    feed.lanes[0].running =
        Some(feed.lanes[0].command.clone().failpoint("shard-gathered", "sleep(3000)").spawn());
    feed.lanes[0].running.as_mut().unwrap().wait_for_stderr("shares ").await;
    let mut one = helper(&feed, &["--table", "t0", "--table", "t1"]);
    write(&feed, 0).await;
    feeds(&mut one).await;
    let mut two = helper(&feed, &["--table", "t2"]);
    // Events for the first one all the while.
    let (mut round, deadline) = (1, Instant::now() + Duration::from_secs(90));
    while !two.stderr().contains("feeds ") {
        assert!(two.is_running() && Instant::now() < deadline, "{}", two.stderr());
        feed.source(&format!(
            "INSERT INTO t0 VALUES ({}, 'meanwhile'); UPDATE t1 SET body = 'round {round}' WHERE id = 1",
            900_000 + round
        ))
        .await;
        round += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    applied(&feed).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_and_cutover_of_a_shared_run_have_one_writer() {
    let mut feed = shared().await;
    let mut one = helper(&feed, &["--table", "t0", "--table", "t1"]);
    write(&feed, 0).await;
    feeds(&mut one).await;
    for round in 1..3 {
        write(&feed, round).await;
        feed.lanes[0].walferry.command("verify").run().await.expect_code(0);
    }
    let owners = "SELECT string_agg(name, ' ' ORDER BY name) FROM walferry.shard_tables WHERE shard <> ''";
    let deadline = Instant::now() + Duration::from_secs(60);
    while feed.on_targets(owners).await[0] != ["t0 t1"] {
        assert!(Instant::now() < deadline, "{:?}", feed.on_targets(owners).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    applied(&feed).await;
    feed.expect_exact().await;
    write(&feed, 3).await;
    feed.lanes[0].walferry.command("cutover").run().await.expect_code(0);
    one.wait_exit().await.expect_code(0);
    feed.lanes[0].running.take().unwrap().wait_exit().await.expect_code(0);
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_shared_run_has_lost_is_copied_again_by_the_process_that_leads() {
    let (kafka, prefix) = (Kafka::shared().await, Kafka::prefix());
    let mut feed = shared_under(&prefix).await;
    let mut one = helper(&feed, &["--table", "t0"]);
    write(&feed, 0).await;
    feeds(&mut one).await;
    applied(&feed).await;
    one.kill9().await;
    feed.lanes[0].kill_writer().await;
    // Confirmed to the source, applied by nobody, and then gone.
    write(&feed, 1).await;
    let marker = oracle::marker(feed.source, &feed.database).await;
    let confirmed = format!(
        "SELECT coalesce(bool_and(confirmed_flush_lsn >= '{marker}'), false) FROM pg_replication_slots WHERE slot_name = '{}'",
        feed.lanes[0].walferry.run_name()
    );
    feed.source.wait_until(&feed.database, &confirmed, Duration::from_secs(60)).await;
    kafka.delete_topic(&format!("{prefix}_default.public.t0")).await;
    feed.lanes[0].start_writer();
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await.expect_code(4);
    assert!(
        output.stderr.contains("KAFKA_DATA_LOST") && output.stderr.contains("--resync public.t0"),
        "{output:#?}"
    );
    let lane = &mut feed.lanes[0];
    lane.running = Some(lane.command.clone().args(&["--resync", "public.t0"]).spawn());
    lane.running.as_mut().unwrap().wait_for_stderr("copied again: ").await;
    feed.wait_live().await;
    let mut two = helper(&feed, &["--table", "t0"]);
    write(&feed, 2).await;
    feeds(&mut two).await;
    write(&feed, 3).await;
    applied(&feed).await;
    feed.expect_same_content().await;
    // Who does not lead would copy nothing, and says so.
    let output = helper(&feed, &["--resync", "t1"]).wait_exit().await.expect_code(4);
    assert!(
        output.stderr.contains("OWNED_BY") && output.stderr.contains("--resync is for the one that does"),
        "{output:#?}"
    );
    // One that helped and leads now copies nothing either.
    feed.lanes[0].kill_writer().await;
    write(&feed, 4).await;
    feed.lanes[0].running = Some(two);
    applied(&feed).await;
    feed.expect_same_content().await;
    feed.end().await;
}

/// It has read a change and not begun to apply it when the table is copied anew: the change is older than what was copied.
#[tokio::test(flavor = "multi_thread")]
async fn row_31_a_process_held_up_while_its_table_is_copied_again_writes_nothing_old_over_it() {
    let mut feed = shared().await;
    let late = feed.lanes[0].command.clone().args(&["--table", "t0"]);
    let mut one = late.failpoint("apply-before-begin", "sleep(3000)").spawn();
    feeds(&mut one).await;
    let (target, database) = (feed.target, feed.lanes[0].database.clone());
    let before: String = target.value(&database, "SELECT clock_timestamp()::text").await;
    feed.source("UPDATE t0 SET body = 'old' WHERE id = 1").await;
    // It has looked the table up, which is the last thing before it stands there; nobody else has anything to look up.
    let stands = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
             AND application_name LIKE '%(control)' AND query LIKE '%RECURSIVE base%' AND query_start > '{before}'"
    );
    target.wait_until(&database, &stands, Duration::from_secs(60)).await;
    one.sigstop();
    feed.source("UPDATE t0 SET body = 'new' WHERE id = 1").await;
    feed.lanes[0].kill_writer().await;
    let lane = &mut feed.lanes[0];
    lane.running = Some(lane.command.clone().args(&["--resync", "public.t0"]).spawn());
    lane.running.as_mut().unwrap().wait_for_stderr("copied again: ").await;
    let copied = "SELECT count(*) = 1 FROM t0 WHERE id = 1 AND body = 'new'";
    target.wait_until(&database, copied, Duration::from_secs(60)).await;
    one.sigcont();
    write(&feed, 0).await;
    applied(&feed).await;
    feed.expect_same_content().await;
    feed.end().await;
}

/// A position that nobody moves would be everybody's at the next hand-over, and behind what retention has removed some day.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_handed_no_table_stands_nowhere() {
    let mut feed = shared().await;
    let mut idle = helper(&feed, &["--table", "none_of_them"]);
    feed.lanes[0].running.as_mut().unwrap().wait_for_stderr("with 1 process(es)").await;
    write(&feed, 0).await;
    applied(&feed).await;
    feed.expect_on_targets("SELECT count(*) FROM walferry.progress WHERE run LIKE '%#%'", &["0"]).await;
    let mut one = helper(&feed, &[]);
    feeds(&mut one).await;
    write(&feed, 1).await;
    applied(&feed).await;
    assert!(idle.is_running());
    feed.expect_exact().await;
    feed.end().await;
}
