//! No password and no row value in anything that walferry says or records, at the highest detail, when things go wrong.

use crate::support::{Postgres, Walferry};

const PASSWORD: &str = "p4ssw0rd-c4nary";
const ROW: &str = "r0w-c4nary";

#[tokio::test]
async fn neither_passwords_nor_rows_are_said_or_recorded() {
    let hba = "host all app all scram-sha-256";
    let source = Postgres::builder(15).hba(hba).database("app").start().await;
    let target = Postgres::builder(15).hba(hba).database("app").start().await;
    for server in [&source, &target] {
        server.create_role("app", &format!("SUPERUSER PASSWORD '{PASSWORD}'")).await;
    }
    source
        .sql(
            "app",
            &format!("CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE); INSERT INTO t VALUES (1, '{ROW}')"),
        )
        .await;
    let uri = |server: &Postgres| server.uri_as(&format!("app:{PASSWORD}"), "app");
    let walferry = Walferry::new(&uri(&source), &uri(&target));
    for format in ["text", "json"] {
        let mut run = walferry.command("replicate").args(&["-vvv", "--log-format", format]).spawn();
        run.wait_for_step("live").await;
        // A row that the target refuses, and one that is in the way of another: both messages have a DETAIL with values.
        target.sql("app", "ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 12)").await;
        source.sql("app", &format!("INSERT INTO t VALUES (2, '{ROW} and more')")).await;
        let stopped = run.wait_for_error().await;
        assert!(!stopped.0.to_string().contains("c4nary"), "{:#}", stopped.0);
        run.sigterm();
        let output = run.wait_exit().await.expect_code(143);
        assert!(output.stderr.contains("23514"), "{}", output.stderr);
        assert!(!output.said().contains("c4nary"), "{}", output.said());
        let records = "SELECT (SELECT string_agg(r::text, ',') FROM walferry.runs r)
                           || (SELECT string_agg(t::text, ',') FROM walferry.tables t)";
        let records: String = target.value("app", records).await;
        assert!(!records.contains("c4nary"), "{records}");
        for command in [&["config", "show"][..], &["check", "-vvv"], &["status"], &["clean", "-vvv"]] {
            let output = walferry.command(command[0]).args(&command[1..]).run().await;
            assert!(!output.said().contains("c4nary"), "{output:#?}");
        }
        source.sql("app", "DELETE FROM t WHERE id = 2").await;
        target.sql("app", "DROP TABLE t").await;
    }
    // A wrong password is an answer, and not repeated.
    let wrong = source.uri_as("app:wr0ng-c4nary", "app");
    let output =
        Walferry::new(&wrong, &uri(&target)).command("migrate").arg("-vvv").run().await.expect_code(4);
    assert!(!output.said().contains("c4nary"), "{output:#?}");
}

/// PostgreSQL quotes values in primary messages too, and a trigger says what it likes.
#[tokio::test]
async fn values_in_the_server_s_own_messages_are_left_out() {
    let (source, target) = tokio::join!(
        Postgres::builder(15).database("app").start(),
        Postgres::builder(17).database("app").start()
    );
    source
        .sql("app", "CREATE TABLE t (id int PRIMARY KEY, n text, d text, s int); CREATE TABLE u (id int PRIMARY KEY, v text); CREATE TABLE w (id int PRIMARY KEY, v text)")
        .await;
    target
        .sql(
            "app",
            "CREATE TABLE t (id int PRIMARY KEY, n int, d date, s smallint); CREATE TABLE u (id int PRIMARY KEY, v text);
             CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'row % is not liked', NEW.v USING HINT = 'not ' || NEW.v; END $$;
             CREATE TRIGGER no BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION no(); ALTER TABLE u ENABLE ALWAYS TRIGGER no;
             CREATE TABLE w (id int PRIMARY KEY, v text);
             CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'row % is not liked', NEW.v USING ERRCODE = 'check_violation', HINT = 'not ' || NEW.v; END $$;
             CREATE TRIGGER never BEFORE INSERT ON w FOR EACH ROW EXECUTE FUNCTION never(); ALTER TABLE w ENABLE ALWAYS TRIGGER never",
        )
        .await;
    let walferry = Walferry::new(&source.uri("app"), &target.uri("app"));
    let mut run = walferry.command("replicate").args(&["--existing-schema", "-vvv"]).spawn();
    run.wait_for_step("live").await;
    for (insert, code) in [
        (format!("t VALUES (11, '{ROW}', NULL, NULL)"), "22P02"),
        (format!("t VALUES (12, NULL, '{ROW}', NULL)"), "22007"),
        ("t VALUES (13, NULL, NULL, 70000)".to_owned(), "22003"),
        (format!("u VALUES (1, '{ROW}')"), "P0001"),
        (format!("w VALUES (1, '{ROW}')"), "23514"),
    ] {
        source.sql("app", &format!("INSERT INTO {insert}")).await;
        let stopped = run.wait_for(code, |status| status.error_code() == Some(code)).await;
        let said = format!("{:#}{}", stopped.0, run.stderr());
        assert!(!said.contains("c4nary") && !said.contains("70000"), "{said}");
        let hint = stopped.0["error"]["hint"].as_str().unwrap().to_owned();
        let at = hint.split("walferry skip ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        walferry.command("skip").arg(&at).run().await.expect_code(0);
        run.wait_for("the next", |status| status.error_code() != Some(code)).await;
    }
    // The same while copying.
    run.sigterm();
    run.wait_exit().await.expect_code(143);
    walferry.command("clean").run().await.expect_code(0);
    target.sql("app", "TRUNCATE t, u, w").await;
    let mut run = walferry.command("replicate").args(&["--existing-schema", "-vvv", "--table", "t"]).spawn();
    let stopped = run.wait_for_error().await;
    let said = format!("{:#}{}", stopped.0, run.stderr());
    assert!(!said.contains("c4nary"), "{said}");
}
