//! The fixtures do what the tests rely on.

use std::time::Duration;

use crate::support::Postgres;
use crate::support::postgres::Stop;
use crate::support::programs;

#[tokio::test]
async fn a_server_of_every_installed_major_starts_and_answers() {
    for major in programs::majors() {
        let began = std::time::Instant::now();
        let server = Postgres::start(major).await;
        eprintln!("{major} {:?}", began.elapsed());
        let version: String = server.value("postgres", "SHOW server_version_num").await;
        assert_eq!(version.parse::<u32>().unwrap() / 10_000, major);
        assert_eq!(server.value::<String>("postgres", "SHOW wal_level").await, "logical");
    }
}

#[tokio::test]
async fn a_server_comes_back_with_its_data_after_every_kind_of_end() {
    let server = Postgres::builder(15).setting("work_mem", "5MB").database("a \"b").start().await;
    let port = server.port();
    server.sql("a \"b", "CREATE TABLE t (n int)").await;
    server.restart(Stop::Fast).await;
    server.sql("a \"b", "INSERT INTO t VALUES (1)").await;
    server.restart(Stop::Immediate).await;
    server.sql("a \"b", "INSERT INTO t VALUES (2)").await;
    server.kill9();
    assert!(server.try_sql("a \"b", "SELECT 1").await.is_err());
    server.start_again().await;
    assert_eq!(server.value::<i64>("a \"b", "SELECT count(*) FROM t").await, 2);
    assert_eq!(server.value::<String>("postgres", "SHOW work_mem").await, "5MB");
    assert_eq!(server.port(), port);
}

#[tokio::test]
async fn passwords_are_asked_for_where_hba_says_so() {
    let server = Postgres::builder(15).hba("host all app all scram-sha-256").start().await;
    server.create_role("app", "PASSWORD 'secret'").await;
    let wrong = crate::support::postgres::connect(&server.uri_as("app:wrong", "postgres")).await;
    assert_eq!(wrong.err().unwrap().code().unwrap().code(), "28P01");
    crate::support::postgres::connect(&server.uri_as("app:secret", "postgres")).await.unwrap();
}

#[tokio::test]
async fn a_standby_follows_and_can_be_promoted() {
    let primary = Postgres::start(17).await;
    let standby = Postgres::standby_of(&primary, &[]).await;
    primary.sql("postgres", "CREATE TABLE t (n int)").await;
    let there = "SELECT to_regclass('t') IS NOT NULL";
    standby.wait_until("postgres", there, Duration::from_secs(20)).await;
    primary.kill9();
    standby.promote().await;
    standby.sql("postgres", "INSERT INTO t VALUES (1)").await;
}
