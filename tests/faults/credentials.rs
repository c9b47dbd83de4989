//! What lets a run in is changed while it runs: the next connection is answered by a refusal, which is not tried for ever.

use std::time::Duration;

use super::{DB, Scene};
use crate::support::authority::{Authority, HOST};
use crate::support::oracle::{self, Events};
use crate::support::walferry::Running;
use crate::support::{Postgres, Walferry, scratch};

const SOON: Duration = Duration::from_secs(60);
const OLD: &str = "old-c4nary";
const NEW: &str = "new-c4nary";

/// A source that asks for a password, and a target.
async fn guarded() -> Scene {
    let hba = "host all mover all scram-sha-256";
    let scene =
        Scene::small_with(Postgres::builder(15).database(DB).hba(hba), Postgres::builder(15).database(DB))
            .await;
    scene.source.create_role("mover", &format!("SUPERUSER PASSWORD '{OLD}'")).await;
    scene
}

async fn cut_off(server: &Postgres) {
    let end = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE usename = 'mover'";
    server.wait_until("postgres", end, SOON).await;
}

async fn goes_on(scene: &Scene, mut running: Running, events: &Events<'_>) {
    scene.source.sql(DB, "INSERT INTO t (id, v) SELECT 1000 + count(*), 'later' FROM t").await;
    let status = running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
    running.sigterm();
    let ended = running.wait_exit().await.expect_code(143);
    assert!(!ended.said().contains("c4nary"), "{}", ended.said());
}

/// Refused at once, by one attempt for each server and not by a thousand.
async fn refused(running: Running, server: &Postgres, what: &str) {
    let ended = running.wait_exit_within(SOON).await.expect_code(4);
    assert!(ended.stderr.contains(what) && ended.stderr.contains("hint:"), "{}", ended.said());
    assert!(!ended.said().contains("c4nary"), "{}", ended.said());
    let tries = server.log().matches("FATAL:  password authentication failed").count();
    assert!(tries <= 4, "{tries} attempts with a wrong password lock accounts out");
}

#[tokio::test]
async fn row_73_the_password_is_changed_under_a_running_process() {
    let scene = guarded().await;
    let events = Events::record(&scene.source, DB).await;
    let with = |password: &str| {
        Walferry::new(&scene.source.uri_as(&format!("mover:{password}"), DB), &scene.target.uri(DB))
            .command("migrate")
    };
    let mut running = with(OLD).spawn();
    running.wait_for_step("live").await;
    scene.source.sql("postgres", &format!("ALTER ROLE mover PASSWORD '{NEW}'")).await;
    // Who is in stays in.
    scene.source.sql(DB, "INSERT INTO t (id, v) VALUES (100, 'x')").await;
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    cut_off(&scene.source).await;
    refused(running, &scene.source, "28P01").await;
    goes_on(&scene, with(NEW).spawn(), &events).await;
}

/// Where it stands in a file, the next connection reads it there: nobody has to start anything again.
#[tokio::test]
async fn row_73_the_password_is_rotated_in_its_file() {
    let scene = guarded().await;
    let events = Events::record(&scene.source, DB).await;
    let folder = scratch::folder("secrets");
    let file = folder.join("source");
    std::fs::write(&file, OLD).unwrap();
    let run = Walferry::new(&scene.source.uri_as("mover", DB), &scene.target.uri(DB))
        .command("migrate")
        .args(&["--set", &format!("source_password_file={}", file.display())]);
    let mut running = run.spawn();
    running.wait_for_step("live").await;
    scene.source.sql("postgres", &format!("ALTER ROLE mover PASSWORD '{NEW}'")).await;
    std::fs::write(&file, format!("{NEW}\n")).unwrap();
    cut_off(&scene.source).await;
    goes_on(&scene, running, &events).await;
}

#[tokio::test]
async fn row_73_the_line_of_pg_hba_is_removed() {
    let scene = guarded().await;
    let events = Events::record(&scene.source, DB).await;
    let run = || {
        Walferry::new(&scene.source.uri_as(&format!("mover:{OLD}"), DB), &scene.target.uri(DB))
            .command("migrate")
    };
    let mut running = run().spawn();
    running.wait_for_step("live").await;
    let hba = scene.source.data_folder().join("pg_hba.conf");
    let lines = std::fs::read_to_string(&hba).unwrap();
    scene.source.write_file("pg_hba.conf", &format!("host all mover all reject\n{lines}"));
    scene.source.reload().await;
    cut_off(&scene.source).await;
    refused(running, &scene.source, "pg_hba.conf").await;
    scene.source.write_file("pg_hba.conf", &lines);
    scene.source.reload().await;
    goes_on(&scene, run().spawn(), &events).await;
}

#[tokio::test]
async fn row_73_the_server_s_certificate_has_expired_at_the_next_connection() {
    let authority = Authority::new();
    authority.issue("good", "/CN=x", &format!("subjectAltName=DNS:{HOST}"), "30");
    authority.issue("expired", "/CN=x", &format!("subjectAltName=DNS:{HOST}"), "-1");
    let scene = guarded().await;
    authority.show(&scene.source, "good").await;
    let events = Events::record(&scene.source, DB).await;
    // pg_dump may come without TLS: it is not what this is about.
    scene.target.sql(DB, "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v text)").await;
    let run = || {
        let source = format!(
            "host={HOST} hostaddr=127.0.0.1 port={} user=mover password={OLD} dbname={DB} sslmode=verify-full {}",
            scene.source.port(),
            authority.root()
        );
        Walferry::new(&source, &scene.target.uri(DB)).command("migrate").arg("--existing-schema")
    };
    let mut running = run().spawn();
    running.wait_for_step("live").await;
    authority.show(&scene.source, "expired").await;
    cut_off(&scene.source).await;
    refused(running, &scene.source, "renew the server's certificate").await;
    authority.show(&scene.source, "good").await;
    goes_on(&scene, run().spawn(), &events).await;
}
