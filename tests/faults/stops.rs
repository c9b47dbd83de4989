//! Stops: nothing after the transaction in question is applied, the process stays up, says what is wrong and what to do, and goes on by
//! itself once that is done.

use std::time::Duration;

use pg::Lsn;

use super::{DB, Scene};
use crate::support::oracle::{self, Events, Scope};
use crate::support::walferry::{Running, Status, lsn};
use crate::support::{Postgres, Walferry};

/// A value that must not be in any message.
const CANARY: &str = "canary-7d1f";

/// Waits until the run is stopped by `code`; nothing of what comes later on the source may be applied meanwhile.
async fn stopped_by(scene: &Scene, running: &mut Running, code: &str) -> Status {
    scene.source.sql(DB, "INSERT INTO t (id, v) VALUES (777, 'later')").await;
    let status = running.wait_for(code, |status| status.error_code() == Some(code)).await;
    assert!(!running.stderr().contains(CANARY), "a row value is in the log:\n{}", running.stderr());
    assert!(!status.0.to_string().contains(CANARY), "a row value is in {:#}", status.0);
    let later: i64 = scene.target.value(DB, "SELECT count(*) FROM t WHERE id = 777").await;
    assert_eq!(later, 0, "something after the transaction was applied");
    status
}

fn message(status: &Status) -> String {
    format!("{} {}", status.0["error"]["message"], status.0["error"]["hint"])
}

/// The cause is gone: everything is applied, once, and the error is gone from the status.
async fn goes_on(scene: &Scene, mut running: Running, events: &Events<'_>) {
    let marker = oracle::marker(&scene.source, DB).await;
    running.wait_applied(marker).await;
    let status = running.wait_for("no error", |status| status.0["error"].is_null()).await;
    let found =
        oracle::differences(&scene.source.uri(DB), &scene.target.uri(DB), &Scope::default().extra_columns())
            .await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    events.expect_applied(&status).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
}

/// A statement on the target past the protection that `migrate` puts up, as an administrator with the right to would.
async fn by_hand(target: &Postgres, statement: &str) {
    target.sql(DB, &format!("SET session_replication_role = replica; {statement}")).await;
}

async fn live(scene: &Scene) -> (Running, Events<'_>) {
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    (running, events)
}

#[tokio::test]
async fn row_39_another_unique_constraint_is_violated_until_the_row_in_the_way_is_gone() {
    let scene = Scene::small().await;
    let (mut running, events) = live(&scene).await;
    by_hand(&scene.target, &format!("INSERT INTO t VALUES (900, 5000, '{CANARY}')")).await;
    scene.source.sql(DB, &format!("INSERT INTO t VALUES (100, 5000, '{CANARY}')")).await;
    let status = stopped_by(&scene, &mut running, "23505").await;
    let said = message(&status);
    for part in ["public.t", "t_u_key", "walferry skip"] {
        assert!(said.replace(['\\', '"'], "").contains(part), "{part} is not in {said}");
    }
    assert!(commit_lsn(&said) > status.applied(), "{said}");
    by_hand(&scene.target, "DELETE FROM t WHERE id = 900").await;
    goes_on(&scene, running, &events).await;
}

fn commit_lsn(said: &str) -> Lsn {
    let text = said.split("walferry skip ").nth(1).unwrap_or_else(|| panic!("no command in {said}"));
    lsn(text.split_whitespace().next().unwrap())
}

#[tokio::test]
async fn row_39_a_transaction_is_left_out_on_the_record() {
    let scene = Scene::small().await;
    let (mut running, events) = live(&scene).await;
    by_hand(&scene.target, "INSERT INTO t VALUES (900, 5000, 'in the way')").await;
    scene.source.sql(DB, "INSERT INTO t VALUES (100, 5000, 'left out'), (101, 5001, 'left out')").await;
    let status = stopped_by(&scene, &mut running, "23505").await;
    let at = commit_lsn(&message(&status)).to_string();
    scene.run().command("skip").arg(&at).run().await.expect_code(0);
    let marker = oracle::marker(&scene.source, DB).await;
    let status = running.wait_applied(marker).await;
    assert_eq!((status.count("skipped"), status.count("inserted")), (2, 1), "{:#}", status.0);
    let expected = events.expected(&status).await;
    assert_eq!(expected.inserted, status.count("inserted") + status.count("skipped"));
    let there: Vec<i32> = scene
        .target
        .query(DB, "SELECT id FROM t WHERE id > 50 ORDER BY 1")
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(there, [777, 900]);
    // What is applied can't be left out any more.
    let late = scene.run().command("skip").arg(&at).run().await.expect_code(4);
    assert!(late.stderr.contains("ALREADY_APPLIED"), "{}", late.said());
    running.sigterm();
    running.wait_exit().await.expect_code(143);
}

#[tokio::test]
async fn row_39_a_row_with_the_key_itself_is_overwritten_and_counted() {
    let scene = Scene::small().await;
    let (mut running, events) = live(&scene).await;
    by_hand(&scene.target, "INSERT INTO t VALUES (100, 5000, 'by hand')").await;
    scene.source.sql(DB, "INSERT INTO t VALUES (100, 5000, 'ours'), (101, 5001, 'ours')").await;
    let marker = oracle::marker(&scene.source, DB).await;
    let status = running.wait_applied(marker).await;
    assert_eq!(status.count("overwritten"), 1, "{:#}", status.0);
    assert!(running.stderr().contains("overwritten"), "{}", running.stderr());
    goes_on(&scene, running, &events).await;
}

/// Whatever is made of all of it together, each row takes a value that another one still has.
#[tokio::test]
async fn row_40_unique_values_swap_in_one_transaction_and_across_transactions() {
    let scene = Scene::small().await;
    scene.source.sql(DB, "INSERT INTO t VALUES (4, 4000, 'v')").await;
    scene.stopped().await;
    let events = Events::record(&scene.source, DB).await;
    // One backlog, so that all of it falls into one batch.
    scene
        .source
        .sql(
            DB,
            "BEGIN; UPDATE t SET u = -1 WHERE id = 1; UPDATE t SET u = 1000 WHERE id = 2; UPDATE t SET u = 2000 WHERE id = 1; COMMIT;
             BEGIN; UPDATE t SET u = -2 WHERE id = 2; COMMIT;
             BEGIN; UPDATE t SET u = 1000 WHERE id = 3; COMMIT;
             BEGIN; UPDATE t SET u = 3000 WHERE id = 2; COMMIT;
             BEGIN; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (5, 4000, 'takes the value over'); COMMIT",
        )
        .await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let marker = oracle::marker(&scene.source, DB).await;
    let status = running.wait_applied(marker).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    assert!(status.0["error"].is_null() && !running.stderr().contains("23505"), "{}", running.stderr());
    assert!(scene.target.log().contains("t_u_key"), "the test made no violation");
    events.expect_applied(&status).await;
    assert_eq!((status.count("missing"), status.count("overwritten"), status.count("updated")), (0, 0, 6));
}

#[tokio::test]
async fn row_42_not_null_and_check_that_only_the_target_has() {
    let scene = Scene::small().await;
    let (mut running, events) = live(&scene).await;
    scene
        .target
        .sql(
            DB,
            "ALTER TABLE t ALTER u SET NOT NULL; ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 30)",
        )
        .await;
    scene.source.sql(DB, "INSERT INTO t VALUES (100, NULL, 'v')").await;
    let status = stopped_by(&scene, &mut running, "23502").await;
    assert!(message(&status).contains("u"), "{}", message(&status));
    scene.target.sql(DB, "ALTER TABLE t ALTER u DROP NOT NULL").await;
    let marker = oracle::marker(&scene.source, DB).await;
    running.wait_applied(marker).await;
    scene.source.sql(DB, &format!("UPDATE t SET v = repeat('{CANARY}', 9) WHERE id = 1")).await;
    let status = running.wait_for("23514", |status| status.error_code() == Some("23514")).await;
    let said = format!("{:#}{}", status.0, running.stderr());
    assert!(said.contains("short") && !said.contains(CANARY), "{said}");
    scene.target.sql(DB, "ALTER TABLE t DROP CONSTRAINT short").await;
    goes_on(&scene, running, &events).await;
}

#[tokio::test]
async fn row_43_rows_deleted_on_the_target_by_hand_are_counted_as_missing() {
    let scene = Scene::small().await;
    let (mut running, events) = live(&scene).await;
    by_hand(&scene.target, "DELETE FROM t WHERE id IN (1, 2)").await;
    scene.source.sql(DB, "UPDATE t SET v = 'changed' WHERE id IN (1, 3); DELETE FROM t WHERE id = 2").await;
    let marker = oracle::marker(&scene.source, DB).await;
    let status = running.wait_applied(marker).await;
    assert_eq!(status.count("missing"), 2, "{:#}", status.0);
    let said = running.stderr();
    assert_eq!(said.matches(": an update or delete found no row").count(), 1, "{said}");
    events.expect_applied(&status).await;
    let found = oracle::differences(&scene.source.uri(DB), &scene.target.uri(DB), &Scope::default()).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("1 rows missing on the target") && found[0].contains("(1)"), "{found:?}");
}

/// A role of its own on the target, so that it can lose a privilege.
async fn as_mover(scene: &Scene) -> Walferry {
    scene.target.create_role("mover", "").await;
    scene
        .target
        .sql(
            DB,
            &format!(
                "GRANT CREATE ON DATABASE {DB} TO mover; GRANT ALL ON SCHEMA public TO mover;
                 GRANT SET ON PARAMETER session_replication_role TO mover"
            ),
        )
        .await;
    Walferry::new(&scene.source.uri(DB), &scene.target.uri_as("mover", DB))
        .command("migrate")
        .arg("--no-owner")
}

#[tokio::test]
async fn row_74_a_privilege_is_revoked_on_the_target() {
    let scene = Scene::small().await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = as_mover(&scene).await.spawn();
    running.wait_for_step("live").await;
    scene.target.sql(DB, "REVOKE INSERT ON t FROM mover").await;
    let status = stopped_by(&scene, &mut running, "42501").await;
    let said = message(&status).replace(['\\', '"'], "");
    assert!(said.contains("GRANT") && said.contains("public.t") && said.contains("TO mover"), "{said}");
    scene.target.sql(DB, "GRANT INSERT ON t TO mover").await;
    goes_on(&scene, running, &events).await;
}

#[tokio::test]
async fn row_74_a_privilege_is_revoked_on_the_source_during_the_copy() {
    let scene = Scene::small().await;
    scene.source.create_role("reader", "REPLICATION").await;
    scene
        .source
        .sql(DB, &format!("GRANT CREATE ON DATABASE {DB} TO reader; ALTER TABLE t OWNER TO reader"))
        .await;
    let events = Events::record(&scene.source, DB).await;
    let run = Walferry::new(&scene.source.uri_as("reader", DB), &scene.target.uri(DB))
        .command("migrate")
        .arg("--no-owner");
    let mut running = run.failpoint("schema-restored", "1*sleep(3000)").spawn();
    let restored = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'walferry (admin)'
                    AND state = 'idle in transaction' AND query LIKE 'UPDATE walferry.runs%'";
    scene.target.wait_until(DB, restored, Duration::from_secs(60)).await;
    scene.source.sql(DB, "REVOKE SELECT ON t FROM reader").await;
    let status = running.wait_for("42501", |status| status.error_code() == Some("42501")).await;
    assert!(message(&status).replace(['\\', '"'], "").contains("GRANT SELECT ON public.t"), "{:#}", status.0);
    scene.source.sql(DB, "GRANT SELECT ON t TO reader").await;
    running.wait_for_step("live").await;
    goes_on(&scene, running, &events).await;
}

#[tokio::test]
async fn row_69_timeouts_of_the_role_and_the_database_count_for_nothing() {
    let scene = Scene::new().await;
    let limits = "ALTER ROLE mover SET statement_timeout = '60ms'; ALTER ROLE mover SET lock_timeout = '1ms';
                  ALTER ROLE mover SET idle_in_transaction_session_timeout = '60ms';
                  ALTER ROLE mover SET default_transaction_read_only = on;
                  ALTER ROLE mover SET default_transaction_isolation = 'serializable'";
    for server in [&scene.source, &scene.target] {
        server.create_role("mover", "SUPERUSER").await;
        server.sql("postgres", limits).await;
        server.sql("postgres", &format!("ALTER DATABASE {DB} SET idle_session_timeout = '500ms'")).await;
    }
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let run = Walferry::new(&scene.source.uri_as("mover", DB), &scene.target.uri_as("mover", DB))
        .command("migrate");
    // Longer than any of the limits, with a transaction open on both sides.
    let mut running = run.failpoint("copy-before-commit", "2*sleep(300)").spawn();
    running.wait_for_step("live").await;
    load.wait_committed(load.committed() + 100).await;
    assert!(!running.stderr().contains("timeout"), "{}", running.stderr());
    scene.close(running, load, &events).await;
}

#[tokio::test]
async fn row_68_an_open_and_a_prepared_transaction_hold_the_slot_up() {
    let scene = Scene::small().await;
    let events_after = async || Events::record(&scene.source, DB).await;
    let open = scene.source.connect(DB).await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (50, 1, 'open')").await.unwrap();
    let pid: i32 = open.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let prepared = "BEGIN; INSERT INTO t VALUES (51, 2, 'prepared'); PREPARE TRANSACTION 'gid-51'";
    scene.source.sql(DB, prepared).await;
    let run = scene.run().args(&["--set", "slot.wait=1s"]);
    let mut running = run.spawn();
    running.wait_for_stderr(&format!("pid {pid}")).await;
    running.wait_for_stderr("gid-51").await;
    let status = running.wait_for("SLOT_BLOCKED", |status| status.error_code() == Some("SLOT_BLOCKED")).await;
    assert!(message(&status).contains(&format!("pg_terminate_backend({pid})")), "{:#}", status.0);
    open.batch_execute("COMMIT").await.unwrap();
    running
        .wait_for("the prepared one named", |status| message(status).contains("COMMIT PREPARED 'gid-51'"))
        .await;
    scene.source.sql(DB, "COMMIT PREPARED 'gid-51'").await;
    running.wait_for_step("live").await;
    let events = events_after().await;
    let marker = oracle::marker(&scene.source, DB).await;
    let status = running.wait_applied(marker).await;
    assert!(status.0["error"].is_null(), "{:#}", status.0);
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    assert_eq!(scene.target.value::<i64>(DB, "SELECT count(*) FROM t WHERE id IN (50, 51)").await, 2);
    events.expect_applied(&status).await;
    running.sigterm();
    running.wait_exit_within(Duration::from_secs(10)).await.expect_code(143);
}

/// The slot could not be made, and surely is not there: one that somebody makes meanwhile is theirs.
#[tokio::test]
async fn row_68_a_slot_that_somebody_makes_while_ours_is_held_up_stays() {
    let scene = Scene::small().await;
    let open = scene.source.connect(DB).await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (50, 1, 'open')").await.unwrap();
    let running =
        scene.run().args(&["--set", "slot.wait=1s"]).failpoint("slot-blocked", "sleep(4000)").spawn();
    let making = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%' AND state = 'active')";
    scene.source.wait_until(DB, making, Duration::from_secs(60)).await;
    scene
        .source
        .wait_until(DB, &making.replace("SELECT EXISTS", "SELECT NOT EXISTS"), Duration::from_secs(60))
        .await;
    let theirs = "SELECT pg_create_logical_replication_slot('walferry', 'test_decoding')";
    open.batch_execute("COMMIT").await.unwrap();
    scene.source.sql(DB, theirs).await;
    let output = running.wait_exit_within(Duration::from_secs(60)).await.expect_code(4);
    assert!(output.said().contains("SLOT_EXISTS"), "{}", output.said());
    let plugin: String = scene
        .source
        .value(DB, "SELECT plugin::text FROM pg_replication_slots WHERE slot_name = 'walferry'")
        .await;
    assert_eq!(plugin, "test_decoding");
}

/// Names that would do harm if they were not quoted, through the whole run.
#[tokio::test]
async fn row_78_names_that_need_quotes() {
    let scene = Scene::small().await;
    let sixty_three = "x".repeat(63);
    scene
        .source
        .sql(
            DB,
            &format!(
                r#"CREATE SCHEMA "a""b; --"; CREATE TYPE "a""b; --"."kind'of" AS ENUM ('o''ne', 'two');
                   CREATE TABLE "a""b; --"."drop table t;--" ("select" int PRIMARY KEY, "a""b" text, "$1" text, "ctid-like" text,
                        "new
line" text, "kind" "a""b; --"."kind'of");
                   CREATE TABLE "{sixty_three}" ("{sixty_three}" serial PRIMARY KEY, "Ünïcödé 表" text DEFAULT '\');
                   CREATE TABLE "a""b; --"."walferry.progress" ("where" int, "table" text, PRIMARY KEY ("where", "table"));
                   CREATE UNIQUE INDEX "i; DROP TABLE t" ON "a""b; --"."drop table t;--" ("a""b", "$1");
                   INSERT INTO "a""b; --"."drop table t;--" SELECT i, 'a' || i, '$1', '\.', E'\n\t\\', 'o''ne' FROM generate_series(1, 50) i;
                   INSERT INTO "{sixty_three}" ("Ünïcödé 表") SELECT '''; DROP TABLE t' FROM generate_series(1, 50)"#
            ),
        )
        .await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    scene
        .source
        .sql(
            DB,
            &format!(
                r#"UPDATE "a""b; --"."drop table t;--" SET "a""b" = '"', "select" = "select" + 100, "$1" = "select"::text WHERE "select" % 2 = 0;
                   DELETE FROM "a""b; --"."drop table t;--" WHERE "select" % 5 = 0;
                   INSERT INTO "a""b; --"."walferry.progress" SELECT i, 'x''y' FROM generate_series(1, 20) i;
                   UPDATE "a""b; --"."walferry.progress" SET "where" = -"where";
                   UPDATE "{sixty_three}" SET "Ünïcödé 表" = NULL WHERE "{sixty_three}" < 9;
                   INSERT INTO "{sixty_three}" DEFAULT VALUES"#
            ),
        )
        .await;
    let marker = oracle::marker(&scene.source, DB).await;
    let status = running.wait_applied(marker).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
    let cutover = scene.run().command("cutover").args(&["--verify", "none"]).run().await;
    cutover.expect_code(0);
    running.wait_exit().await.expect_code(0);
    oracle::expect_same_sequences(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    let refused = scene
        .source
        .try_sql(DB, &format!(r#"INSERT INTO "{sixty_three}" DEFAULT VALUES"#))
        .await
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
}
