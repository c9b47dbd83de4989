//! What could not be compared is never called equal; and nothing stays behind.

use std::time::Duration;

use pg::{Purpose, Session};
use pipeline::Reporter;
use serde_json::Value;
use writer::verify::{Options, Outcome, Side, TableReport, compare, compare_keys};

use crate::support::{Postgres, Walferry};
use crate::verify_rig::{Rig, expect, options, params, table};

fn reason(table: &TableReport) -> &str {
    assert_eq!(table.outcome, Outcome::Unverified, "{}", table.table);
    &table.reason.as_ref().unwrap().code
}

fn walferry(rig: &Rig) -> Walferry {
    Walferry::new(&rig.source.uri("postgres"), &rig.target.uri("postgres"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_locked_forbidden_or_unreadable_is_unverified() {
    let rig = Rig::start(15, 16).await;
    rig.on_both(
        "CREATE TABLE same (id int PRIMARY KEY); CREATE TABLE locked (id int PRIMARY KEY); CREATE TABLE secret (id int PRIMARY KEY);
         CREATE TABLE narrow (id int PRIMARY KEY, v int); CREATE TABLE hidden (id int PRIMARY KEY);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part DEFAULT;
         INSERT INTO same VALUES (1); INSERT INTO narrow VALUES (1, 1); INSERT INTO part VALUES (1), (2)",
    )
    .await;
    rig.source.sql("postgres", "CREATE TABLE gone (id int); CREATE TABLE texts (id int PRIMARY KEY, v text); INSERT INTO texts VALUES (1, 'x')").await;
    rig.target
        .sql("postgres", "ALTER TABLE narrow DROP v; CREATE TABLE texts (id int PRIMARY KEY, v int); INSERT INTO texts VALUES (1, 1)")
        .await;
    rig.target.create_role("reader", "").await;
    rig.target
        .sql(
            "postgres",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader; REVOKE SELECT ON secret, part_1 FROM reader;
             ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON hidden USING (false)",
        )
        .await;
    let source = Side::plain(params(&rig.source), "verify").await.unwrap();
    let target = pg::Params::parse(&rig.target.uri_as("reader", "postgres")).unwrap();
    let target = Side::plain(target, "verify").await.unwrap();
    let tables = rig.tables(&source).await;
    let mut holder = rig.source.connect("postgres").await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE locked").await.unwrap();
    let options = Options { lock_timeout: Duration::from_millis(200), ..options() };
    let report = compare(source, target, &tables, &options, &Reporter::silent()).await.unwrap();
    expect(table(&report, "same"), &[], &[], &[]);
    // Read through the root, since the partition may not be read by itself.
    expect(table(&report, "part"), &[], &[], &[]);
    assert_eq!(reason(table(&report, "gone")), "TABLE_MISSING");
    assert_eq!(reason(table(&report, "locked")), "55P03");
    assert_eq!(reason(table(&report, "secret")), "42501");
    assert_eq!(reason(table(&report, "hidden")), "42501");
    assert_eq!(reason(table(&report, "narrow")), "COLUMN_MISSING");
    assert_eq!(reason(table(&report, "texts")), "22P02");
    assert_eq!((report.outcome(), report.exit_code()), (Outcome::Unverified, 3));
    // A difference that was found is the stronger word.
    lock.rollback().await.unwrap();
    rig.target.sql("postgres", "INSERT INTO same VALUES (2)").await;
    let report = rig.compare().await;
    assert_eq!((report.outcome(), report.exit_code()), (Outcome::Different, 1));
    let text = report.to_string();
    assert!(text.contains("NOT VERIFIED") && text.contains("extra    id=2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_rewritten_after_the_snapshot_is_unverified() {
    let rig = Rig::start(17, 15).await;
    rig.on_both(
        "CREATE TABLE cut (id int PRIMARY KEY); CREATE TABLE altered (id int PRIMARY KEY); CREATE TABLE replaced (id int PRIMARY KEY);
         CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF root DEFAULT;
         CREATE TABLE grown (id int PRIMARY KEY)",
    )
    .await;
    rig.source
        .sql(
            "postgres",
            "INSERT INTO cut VALUES (1); INSERT INTO altered VALUES (1); INSERT INTO root VALUES (1)",
        )
        .await;
    let (source, target) = rig.sides().await;
    let tables = rig.tables(&source).await;
    // All of them now read as empty on the source, as they are on the target.
    rig.source
        .sql(
            "postgres",
            "TRUNCATE cut, root; ALTER TABLE altered ALTER id TYPE int8; DROP TABLE replaced; CREATE TABLE replaced (id int);
             INSERT INTO grown VALUES (1)",
        )
        .await;
    let report = compare(source, target, &tables, &options(), &Reporter::silent()).await.unwrap();
    for name in ["cut", "altered", "replaced", "root"] {
        assert_eq!(reason(table(&report, name)), "TABLE_REWRITTEN", "{name}");
    }
    expect(table(&report, "grown"), &[], &[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_statements_on_both_servers() {
    let rig = Rig::start(15, 18).await;
    rig.on_both(
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN true; END';
         CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
    )
    .await;
    let (source, target) = rig.sides().await;
    let mut tables = rig.tables(&source).await;
    tables[0].spec.filter = Some("public.slow(id)".to_owned());
    let options = options();
    let cancel = options.cancel.clone();
    let running = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let comparison = tokio::spawn(async move {
        compare(source, target, &tables, &options, &Reporter::silent()).await.map(|_| ())
    });
    rig.source.wait_until("postgres", running, Duration::from_secs(20)).await;
    cancel.cancel();
    let error = comparison.await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.class()), ("CANCELLED", pg::Class::Unverifiable));
    let none = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE '%verify%'";
    rig.source.wait_until("postgres", none, Duration::from_secs(10)).await;
    rig.target.wait_until("postgres", none, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_cancelled_by_somebody_else_is_unverified() {
    let rig = Rig::start(15, 15).await;
    rig.on_both(
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN true; END';
         CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE u (id int PRIMARY KEY)",
    )
    .await;
    let (source, target) = rig.sides().await;
    let mut tables = rig.tables(&source).await;
    tables[0].spec.filter = Some("public.slow(id)".to_owned());
    let comparison =
        tokio::spawn(async move { compare(source, target, &tables, &options(), &Reporter::silent()).await });
    let cancelled =
        "SELECT count(pg_cancel_backend(pid)) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    rig.source.wait_until("postgres", cancelled, Duration::from_secs(20)).await;
    let report = comparison.await.unwrap().unwrap();
    assert_eq!(reason(table(&report, "t")), "57014");
    expect(table(&report, "u"), &[], &[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn touched_keys_are_compared_in_the_callers_own_transactions() {
    let rig = Rig::start(13, 17).await;
    rig.on_both(
        "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
         CREATE TABLE t (a citext, b char(4), v int, PRIMARY KEY (a, b)); INSERT INTO t VALUES ('One', 'x', 1), ('two', 'y', 1), ('three', 'z', 1)",
    )
    .await;
    let source = Session::connect(&params(&rig.source), Purpose::Query, "verify").await.unwrap();
    let target = Session::connect(&params(&rig.target), Purpose::Query, "verify").await.unwrap();
    let plain = Side::plain(params(&rig.source), "verify").await.unwrap();
    let tables = rig.tables(&plain).await;
    let keys = |keys: &[[&str; 2]]| {
        keys.iter().map(|key| key.iter().map(|k| Some((*k).to_owned())).collect()).collect::<Vec<Vec<_>>>()
    };
    let all = keys(&[["One", "x"], ["ONE", "x   "], ["two", "y"], ["nowhere", "q"]]);
    expect(&compare_keys(&source, &target, &tables[0], &all, 10).await.unwrap(), &[], &[], &[]);
    target.batch_execute("BEGIN; UPDATE public.t SET v = 2 WHERE a OPERATOR(public.=) 'one'").await.unwrap();
    let report = compare_keys(&source, &target, &tables[0], &all, 10).await.unwrap();
    expect(&report, &["One|x"], &[], &[]);
    // 'three' was not asked for.
    target.batch_execute("UPDATE public.t SET v = 3").await.unwrap();
    let report = compare_keys(&source, &target, &tables[0], &keys(&[["two", "y"]]), 10).await.unwrap();
    expect(&report, &["two|y"], &[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_equal_different_or_neither() {
    let rig = Rig::start(15, 18).await;
    let tables = "CREATE TABLE t (id int PRIMARY KEY, secret text); INSERT INTO t VALUES (1, 'canary-value'), (2, 'b')";
    rig.on_both(tables).await;
    let verify = walferry(&rig).command("verify");
    let output = verify.run().await;
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("1 table equal (2 rows)"), "{}", output.stdout);
    assert!(output.stdout.contains("only if nobody writes"), "{}", output.stdout);

    rig.target.sql("postgres", "UPDATE t SET secret = 'canary-other' WHERE id = 1").await;
    let output = verify.run().await;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stdout.contains("changed  id=1"), "{}", output.stdout);
    assert!(!format!("{output:?}").contains("canary"));
    assert_eq!(verify.clone().arg("--counts").run().await.code, 0);
    let output = verify.clone().arg("--values").run().await;
    assert!(output.stdout.contains("source: secret=canary-value"), "{}", output.stdout);
    let output = verify.clone().arg("--json").run().await;
    let json: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(output.code, 1);
    assert_eq!(json["outcome"], "different");
    assert_eq!(json["one_instant"], false);
    assert_eq!(json["tables"][0]["differences"][0]["key"]["id"], "1");
    assert_eq!(json["tables"][0]["differences"][0]["kind"], "changed");
    assert!(json["source"]["lsn"].as_str().unwrap().contains('/'));

    let output = verify.clone().args(&["--table", "nothing"]).run().await;
    assert_eq!(output.code, 3, "{output:?}");
    rig.target.sql("postgres", "CREATE TABLE only_here (id int)").await;
    let output = verify.clone().args(&["--exclude-table", "t"]).run().await;
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stdout.contains("does not exist on the source"), "{}", output.stdout);
    // Nobody there, and nothing left.
    let away = Walferry::new("postgresql://postgres@127.0.0.1:1/x", &rig.target.uri("postgres"));
    assert_eq!(away.command("verify").run().await.code, 3);
    for server in [&rig.source, &rig.target] {
        left_alone(server).await;
    }
}

async fn left_alone(server: &Postgres) {
    let sql = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'walferry%'";
    server.wait_until("postgres", sql, Duration::from_secs(10)).await;
    let schemas: i64 =
        server.value("postgres", "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'walferry%'").await;
    assert_eq!(schemas, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_command_leaves_no_session_behind() {
    let rig = Rig::start(15, 15).await;
    rig.on_both("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut holder = rig.source.connect("postgres").await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE t").await.unwrap();
    let running = walferry(&rig).command("verify").spawn();
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'walferry%' AND wait_event_type = 'Lock'";
    rig.source.wait_until("postgres", waits, Duration::from_secs(20)).await;
    running.sigint();
    assert_eq!(running.wait_exit().await.code, 130);
    left_alone(&rig.source).await;
    left_alone(&rig.target).await;
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_differences_cannot_be_read_again_is_different_all_the_same() {
    let rig = Rig::start(15, 15).await;
    // The sort of the second pass spills, and the source allows no temporary files; work_mem is ours.
    rig.on_both(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE small (id int PRIMARY KEY, v int); INSERT INTO small VALUES (1, 1)",
    )
    .await;
    rig.source
        .sql(
            "postgres",
            "INSERT INTO t SELECT g, 'a' FROM generate_series(1, 700000) g; UPDATE small SET v = 2",
        )
        .await;
    rig.target.sql("postgres", "INSERT INTO t SELECT g, 'b' FROM generate_series(1, 700000) g").await;
    rig.source.sql("postgres", "ALTER ROLE postgres SET temp_file_limit = '1MB'").await;
    let report = rig.compare().await;
    let found = table(&report, "t");
    assert_eq!(found.outcome, Outcome::Different);
    assert_eq!(found.reason.as_ref().unwrap().code, "53400");
    expect(table(&report, "small"), &["1"], &[], &[]);
}
