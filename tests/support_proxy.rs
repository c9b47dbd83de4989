//! The fault proxy does to a session what its names say.

use std::time::{Duration, Instant};

use crate::support::postgres::connect;
use crate::support::{Direction, Postgres, Proxy};

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn cut_ends_open_connections_and_refuse_keeps_new_ones_out() {
    let server = Postgres::start(15).await;
    let proxy = Proxy::to(&server).await;
    let session = connect(&proxy.uri("postgres")).await.unwrap();
    session.simple_query("SELECT 1").await.unwrap();
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));

    proxy.refuse(true).await;
    assert!(connect(&proxy.uri("postgres")).await.is_err());
    session.simple_query("SELECT 1").await.unwrap();

    proxy.cut();
    assert!(session.simple_query("SELECT 1").await.is_err());
    proxy.refuse(false).await;
    connect(&proxy.uri("postgres")).await.unwrap().simple_query("SELECT 1").await.unwrap();
    server.restart(crate::support::postgres::Stop::Immediate).await;
    connect(&proxy.uri("postgres")).await.unwrap().simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_stalled_lane_holds_bytes_and_a_dropping_one_loses_them() {
    let server = Postgres::start(15).await;
    let proxy = Proxy::to(&server).await;
    let session = connect(&proxy.uri("postgres")).await.unwrap();
    proxy.stall(Direction::Down, true);
    let mut query = Box::pin(session.simple_query("SELECT 1"));
    assert!(tokio::time::timeout(SHORT, &mut query).await.is_err());
    proxy.stall(Direction::Down, false);
    tokio::time::timeout(LONG, query).await.unwrap().unwrap();

    proxy.drop_bytes(Direction::Up, true);
    let mut query = Box::pin(session.simple_query("SELECT 1"));
    assert!(tokio::time::timeout(SHORT, &mut query).await.is_err());
    proxy.cut();
    assert!(tokio::time::timeout(LONG, query).await.unwrap().is_err());
}

#[tokio::test]
async fn latency_delays_and_throttle_slows() {
    let server = Postgres::start(15).await;
    let proxy = Proxy::to(&server).await;
    let session = connect(&proxy.uri("postgres")).await.unwrap();
    proxy.latency(Direction::Up, SHORT);
    proxy.latency(Direction::Down, SHORT);
    let began = Instant::now();
    session.simple_query("SELECT 1").await.unwrap();
    assert!(began.elapsed() >= 2 * SHORT);

    proxy.latency(Direction::Up, Duration::ZERO);
    proxy.latency(Direction::Down, Duration::ZERO);
    proxy.throttle(Direction::Down, Some(100_000));
    let before = proxy.bytes(Direction::Down);
    let began = Instant::now();
    session.simple_query("SELECT repeat('x', 50000)").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    assert!(proxy.bytes(Direction::Down) - before >= 50_000);
}

#[tokio::test]
async fn the_server_commits_although_its_reply_is_lost() {
    let server = Postgres::start(15).await;
    server.sql("postgres", "CREATE TABLE t (n int)").await;
    let proxy = Proxy::to(&server).await;
    let session = connect(&proxy.uri("postgres")).await.unwrap();
    proxy.lose_reply_after(b"COMMIT", 1);
    session.batch_execute("BEGIN; INSERT INTO t VALUES (1); COMMIT").await.unwrap();
    session.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    assert!(session.batch_execute("COMMIT").await.is_err());
    proxy.wait_until("the lost reply", LONG, |proxy| proxy.lost_replies() == 1).await;
    assert_eq!(server.value::<i64>("postgres", "SELECT count(*) FROM t").await, 2);

    let session = connect(&proxy.uri("postgres")).await.unwrap();
    session.batch_execute("BEGIN; INSERT INTO t VALUES (3); COMMIT").await.unwrap();
}
