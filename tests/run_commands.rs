//! `status`, `skip`, `refresh`, `cutover` and `clean` around a run: exit codes, the JSON object, and what is left behind.

use std::time::Duration;

use crate::support::{Postgres, Walferry};

async fn pair() -> (Postgres, Postgres) {
    let source = Postgres::builder(15).database("app").start().await;
    let target = Postgres::builder(15).database("app").start().await;
    source
        .sql(
            "app",
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'v' FROM generate_series(1, 100) g",
        )
        .await;
    (source, target)
}

fn walferry(source: &Postgres, target: &Postgres) -> Walferry {
    Walferry::new(&source.uri("app"), &target.uri("app"))
}

/// Slots, publications and schemas of ours, on both sides.
async fn leftovers(source: &Postgres, target: &Postgres) -> Vec<String> {
    let mut left = Vec::new();
    for (server, query) in [
        (source, "SELECT 'slot ' || slot_name FROM pg_replication_slots"),
        (source, "SELECT 'publication ' || pubname FROM pg_publication"),
        (source, "SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'walferry%'"),
        (target, "SELECT 'target schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'walferry%'"),
        (target, "SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal"),
    ] {
        for row in server.text("app", query).await {
            left.push(row[0].clone().unwrap());
        }
    }
    left
}

#[tokio::test]
async fn without_a_run_there_is_nothing_to_show_and_nothing_to_clean() {
    let (source, target) = pair().await;
    let walferry = walferry(&source, &target);
    for command in [&["status"][..], &["status", "--json"], &["skip", "0/1"], &["cutover"], &["refresh"]] {
        let output = walferry.command(command[0]).args(&command[1..]).run().await.expect_code(4);
        assert!(output.stderr.contains("NO_SUCH_RUN"), "{output:#?}");
    }
    walferry.command("clean").run().await.expect_code(0);
    assert!(leftovers(&source, &target).await.is_empty());
}

#[tokio::test]
async fn a_run_is_watched_stopped_resumed_and_cleaned() {
    let (source, target) = pair().await;
    let walferry = walferry(&source, &target);
    let waiting = walferry.command("status").args(&["--wait", "live", "--json"]).spawn();
    let mut run = walferry.command("replicate").spawn();
    let status = waiting.wait_exit().await.expect_code(0).json();
    assert_eq!(status["step"], "live");
    for field in [
        "name",
        "step",
        "tables_total",
        "tables_ready",
        "copied_rows",
        "copied_bytes",
        "slot_lsn",
        "applied_lsn",
        "source_lsn",
        "lag_bytes",
        "lag_ms",
        "retained_wal_bytes",
        "inserted",
        "updated",
        "deleted",
        "truncated",
        "transactions",
        "missing",
        "overwritten",
        "skipped",
        "epoch",
        "started_at",
        "error",
        "tables",
    ] {
        assert!(status.get(field).is_some(), "{field} is not in {status:#}");
    }
    assert_eq!(status["tables_total"], 1);
    assert_eq!(status["tables_ready"], 1);
    assert_eq!(status["copied_rows"], 100);
    assert_eq!(status["epoch"], 1);
    assert!(status["error"].is_null());
    let table = &status["tables"][0];
    assert_eq!((table["schema"].as_str(), table["table"].as_str()), (Some("public"), Some("t")));
    assert_eq!(table["copied_at_lsn"], status["slot_lsn"]);

    // A second process on the run, and clean, are refused while it runs.
    let second = walferry.command("replicate").run().await.expect_code(4);
    assert!(second.stderr.contains("OWNED_BY"), "{second:#?}");
    let clean = walferry.command("clean").run().await.expect_code(4);
    assert!(clean.stderr.contains("RUNNING"), "{clean:#?}");

    source.sql("app", "INSERT INTO t VALUES (101, 'new')").await;
    let position = source.wal_position().await;
    walferry.command("status").args(&["--wait", &position]).run().await.expect_code(0);
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM t").await, 101);
    walferry
        .command("status")
        .args(&["--wait", "FFFFFFFF/0", "--timeout", "300ms"])
        .run()
        .await
        .expect_code(1);

    assert!(run.is_running());
    run.sigterm();
    run.wait_exit_within(Duration::from_secs(10)).await.expect_code(143);
    let slot = "SELECT active FROM pg_replication_slots WHERE slot_name = 'walferry'";
    assert!(!source.value::<bool>("app", slot).await, "the slot is released");
    let stopped = walferry.status().await;
    assert_eq!(stopped.step(), "live");
    assert_eq!(stopped.0["running"], false);

    // Nobody answers requests of a run that is not running.
    for command in ["refresh", "cutover"] {
        let output = walferry.command(command).run().await.expect_code(4);
        assert!(output.stderr.contains("NOT_RUNNING"), "{output:#?}");
    }

    let mut run = walferry.command("replicate").spawn();
    run.wait_for("the second start", |status| status.count("epoch") == 2 && status.reached("live")).await;
    run.sigint();
    run.wait_exit_within(Duration::from_secs(10)).await.expect_code(130);

    let clean = walferry.command("clean").run().await.expect_code(0);
    assert!(clean.stdout.contains("replication slot \"walferry\" dropped"), "{clean:#?}");
    assert_eq!(leftovers(&source, &target).await, Vec::<String>::new());
    walferry.command("status").run().await.expect_code(4);
    walferry.command("clean").run().await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_start_gathers_statistics_of_a_table() {
    // A server before 14 does not remember when it analyzed a partitioned table.
    for major in [13, 15] {
        statistics_of_each_table_once(major).await;
    }
}

async fn statistics_of_each_table_once(major: u32) {
    let source = Postgres::builder(15).database("app").start().await;
    let target = Postgres::builder(major).database("app").start().await;
    let tables = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
        CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1);
        CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF root DEFAULT; INSERT INTO root SELECT generate_series(1, 100)";
    source.sql("app", tables).await;
    let walferry = walferry(&source, &target);
    // One after the other: partitioned ones, then by name.
    let start = || walferry.command("replicate").args(&["--set", "index.jobs=1"]).spawn();
    let all = "SELECT count(*) = 3 FROM pg_stat_user_tables WHERE relname IN ('part', 't', 'u') AND last_analyze IS NOT NULL";
    let patience = Duration::from_secs(20);
    let run = start();
    target.wait_until("app", all, patience).await;
    run.sigterm();
    run.wait_exit_within(Duration::from_secs(10)).await.expect_code(143);
    target.sql("app", "SELECT pg_stat_reset_single_table_counters('u'::regclass)").await;
    // Up to 14 statistics are read from a file that may be half a second old.
    let reset = "SELECT last_analyze IS NULL FROM pg_stat_user_tables WHERE relname = 'u'";
    target.wait_until("app", reset, patience).await;
    let run = start();
    target.wait_until("app", all, patience).await;
    let counts =
        "SELECT string_agg(relname || ' ' || analyze_count, ', ' ORDER BY relname) FROM pg_stat_user_tables
                  WHERE relname IN ('part', 't', 'u')";
    assert_eq!(target.value::<String>("app", counts).await, "part 1, t 1, u 1", "on {major}");
    run.sigterm();
    run.wait_exit_within(Duration::from_secs(10)).await.expect_code(143);
}

#[tokio::test]
async fn clean_needs_only_the_target_and_works_when_half_of_it_is_gone() {
    let (source, target) = pair().await;
    let walferry = walferry(&source, &target).name("half");
    let mut run = walferry.command("replicate").spawn();
    run.wait_for_step("live").await;
    run.kill9().await;
    source.sql("app", "DROP PUBLICATION half; DROP TABLE t").await;
    target.sql("app", "DROP TABLE t").await;
    // The source is on the run's record.
    let alone = Walferry::new("", &target.uri("app")).name("half");
    alone.command("clean").run().await.expect_code(0);
    assert_eq!(leftovers(&source, &target).await, Vec::<String>::new());
}

#[tokio::test]
async fn slots_of_others_stay() {
    let (source, target) = pair().await;
    let slot = |name: &str| format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')");
    source.sql("app", &slot("walferry")).await;
    let walferry = walferry(&source, &target);
    // No record mentions it.
    let clean = walferry.command("clean").run().await.expect_code(0);
    assert!(clean.stderr.contains("pg_drop_replication_slot"), "{clean:#?}");
    // Adopted, it is kept.
    source.sql("app", "CREATE PUBLICATION p FOR TABLE t").await;
    let mut run = walferry.command("replicate").args(&["--slot", "walferry", "--publication", "p"]).spawn();
    run.wait_for_step("live").await;
    run.sigterm();
    run.wait_exit().await.expect_code(143);
    walferry.command("clean").run().await.expect_code(0);
    assert_eq!(leftovers(&source, &target).await, ["slot walferry", "publication p"]);
}

#[tokio::test]
async fn keyless_tables_get_their_identity_back() {
    let (source, target) = pair().await;
    source
        .sql("app", "CREATE TABLE k (v int); CREATE TABLE n (v int); ALTER TABLE n REPLICA IDENTITY NOTHING")
        .await;
    let walferry = walferry(&source, &target);
    let mut run = walferry.command("replicate").args(&["--keyless", "full"]).spawn();
    run.wait_for_step("live").await;
    let identities = "SELECT string_agg(relname || relreplident::text, ' ' ORDER BY relname) FROM pg_class WHERE relname IN ('k', 'n')";
    assert_eq!(source.value::<String>("app", identities).await, "kf nf");
    assert_eq!(target.value::<String>("app", identities).await, "kd nn", "what the source had before");
    // Found by the whole row all the same.
    source
        .sql(
            "app",
            "INSERT INTO k VALUES (1), (1), (2); INSERT INTO n VALUES (1); UPDATE k SET v = 3 WHERE v = 2",
        )
        .await;
    source.sql("app", "DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k); UPDATE n SET v = 4").await;
    let position = source.wal_position().await;
    walferry.command("status").args(&["--wait", &position]).run().await.expect_code(0);
    let rows = "SELECT (SELECT string_agg(v::text, ' ' ORDER BY v) FROM k) || ' ' || (SELECT string_agg(v::text, ' ') FROM n)";
    assert_eq!(target.value::<String>("app", rows).await, "1 3 4");
    run.kill9().await;
    walferry.command("clean").run().await.expect_code(0);
    for server in [&source, &target] {
        assert_eq!(server.value::<String>("app", identities).await, "kd nn");
    }
    assert_eq!(leftovers(&source, &target).await, Vec::<String>::new());
}

#[tokio::test]
async fn two_runs_share_a_target_and_the_last_one_takes_the_schema_along() {
    let (source, target) = pair().await;
    source.sql("app", "CREATE TABLE u (id int PRIMARY KEY)").await;
    let (a, b) = (walferry(&source, &target).name("a"), walferry(&source, &target).name("b"));
    for (run, table) in [(&a, "t"), (&b, "u")] {
        let mut running = run.command("replicate").args(&["--table", table]).spawn();
        running.wait_for_step("live").await;
        running.sigterm();
        running.wait_exit().await.expect_code(143);
    }
    a.command("clean").run().await.expect_code(0);
    a.command("status").run().await.expect_code(4);
    b.command("status").run().await.expect_code(0);
    b.command("clean").run().await.expect_code(0);
    assert_eq!(leftovers(&source, &target).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_fence_of_a_cutover_stays_until_it_is_lifted() {
    let (source, target) = pair().await;
    let walferry = walferry(&source, &target);
    let mut run = walferry.command("migrate").spawn();
    run.wait_for_step("live").await;
    assert!(target.try_sql("app", "DELETE FROM t").await.is_err(), "the target is protected");
    let told =
        walferry.command("cutover").args(&["--verify", "none", "--json"]).run().await.expect_code(0).json();
    assert!(told["downtime_ms"].as_f64().unwrap() > 0.0, "{told}");
    run.wait_exit().await.expect_code(0);
    assert_eq!(walferry.status().await.step(), "done");
    let again = walferry.command("cutover").arg("--json").run().await.expect_code(0).json();
    assert_eq!(again["already"], true);
    walferry.command("clean").run().await.expect_code(0);
    let refused = source.try_sql("app", "DELETE FROM t").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
    target.sql("app", "DELETE FROM t WHERE id = 1").await;
    walferry.command("clean").arg("--lift-fence").run().await.expect_code(0);
    source.sql("app", "DELETE FROM t WHERE id = 1").await;
    assert_eq!(leftovers(&source, &target).await, Vec::<String>::new());
}

#[tokio::test]
async fn refresh_lets_tables_join_and_leave() {
    let (source, target) = pair().await;
    source
        .sql(
            "app",
            "CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u SELECT generate_series(1, 10); CREATE PUBLICATION p FOR TABLE t",
        )
        .await;
    target
        .sql("app", "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)")
        .await;
    let walferry = walferry(&source, &target);
    let mut run = walferry.command("replicate").args(&["--publication", "p", "--existing-schema"]).spawn();
    run.wait_for_step("live").await;
    source.sql("app", "ALTER PUBLICATION p ADD TABLE u").await;
    let joined = walferry.command("refresh").arg("--json").run().await.expect_code(0).json();
    assert_eq!(joined["joined"], serde_json::json!(["\"public\".\"u\""]), "{joined}");
    let position = source.wal_position().await;
    walferry.command("status").args(&["--wait", &position]).run().await.expect_code(0);
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM u").await, 10);
    assert_eq!(walferry.status().await.count("tables_total"), 2);
    source.sql("app", "ALTER PUBLICATION p DROP TABLE t").await;
    let left = walferry.command("refresh").run().await.expect_code(0);
    assert!(left.stdout.contains("\"public\".\"t\" left"), "{left:#?}");
    let status = walferry.status().await;
    assert_eq!(status.count("tables_total"), 1);
    assert_eq!(status.step(), "live");
    run.sigterm();
    run.wait_exit().await.expect_code(143);
}

#[tokio::test]
async fn a_transaction_that_nothing_cures_is_skipped_on_the_record() {
    let (source, target) = pair().await;
    let walferry = walferry(&source, &target);
    let mut run = walferry.command("replicate").spawn();
    run.wait_for_step("live").await;
    target.sql("app", "ALTER TABLE t ADD CONSTRAINT no CHECK (v <> 'poison')").await;
    source.sql("app", "INSERT INTO t VALUES (1001, 'poison')").await;
    source.sql("app", "INSERT INTO t VALUES (1002, 'good')").await;
    let stopped = run.wait_for_error().await;
    assert_eq!(stopped.error_code(), Some("23514"), "{:#}", stopped.0);
    let message = stopped.0["error"]["message"].as_str().unwrap();
    assert!(!stopped.0["error"].to_string().contains("poison"), "no values in messages: {message}");
    // The commit LSN stands in the message or in its hint.
    let error = stopped.0["error"].to_string();
    let is_lsn = |word: &&str| word.contains('/') && word.parse::<pg::Lsn>().is_ok();
    let lsn = error.split(|c: char| !c.is_ascii_hexdigit() && c != '/').find(is_lsn);
    let lsn = lsn.unwrap_or_else(|| panic!("no commit LSN in {error}")).to_owned();
    walferry.command("skip").arg(&lsn).run().await.expect_code(0);
    let position = source.wal_position().await.parse().unwrap();
    let status = run.wait_applied(position).await;
    assert_eq!(status.count("skipped"), 1);
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM t WHERE id > 1000").await, 1);
    run.wait_for("no error any more", |status| status.0["error"].is_null()).await;
    // What is applied can't be skipped.
    walferry.command("skip").arg(&lsn).run().await.expect_code(4);
    run.sigterm();
    run.wait_exit().await.expect_code(143);
}

/// One side reads a table again, its rows as digests, when the other one has nothing left to do.
#[tokio::test]
async fn a_table_that_only_one_side_has_to_read_again_is_compared_all_the_same() {
    let (source, target) = pair().await;
    source.sql("app", "INSERT INTO t SELECT g, repeat('v', 100) FROM generate_series(101, 300000) g").await;
    let walferry = walferry(&source, &target);
    let mut run = walferry.command("replicate").spawn();
    run.wait_for_step("live").await;
    run.sigterm();
    run.wait_exit().await.expect_code(143);
    // It has read everything long before the source has.
    target.sql("app", "DELETE FROM t WHERE id > 10").await;
    walferry.command("verify").failpoint("verify-read-source", "1*return->off").run().await.expect_code(1);
}

/// A schema with nothing but sequences is chosen by its name as well.
#[tokio::test]
async fn sequences_of_a_chosen_schema_without_tables_are_set() {
    let (source, target) = pair().await;
    source
        .sql("app", "CREATE SCHEMA app_one; CREATE TABLE app_one.t (id int PRIMARY KEY); CREATE SCHEMA app_two; CREATE SEQUENCE app_two.free; SELECT setval('app_two.free', 70)")
        .await;
    walferry(&source, &target).command("copy").args(&["--schema", "app_*"]).run().await.expect_code(0);
    assert_eq!(target.value::<i64>("app", "SELECT last_value FROM app_two.free").await, 70);
}
