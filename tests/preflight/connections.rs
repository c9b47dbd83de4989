//! What is at the other end of the connection string, and whether anybody can read along.

use super::{CANARY, check, fix};
use crate::support::{Postgres, Walferry, postgres};

#[tokio::test]
async fn connections_that_fail_are_findings_of_both_sides() {
    let server = Postgres::builder(15).hba("host all app all scram-sha-256").start().await;
    server.create_role("app", "PASSWORD 'right'").await;
    let closed = postgres::free_port();
    for (source, target, source_code, target_code) in [
        (
            server.uri_as(&format!("app:{CANARY}"), "postgres"),
            server.uri("none"),
            "AUTHENTICATION",
            "NO_SUCH_DATABASE",
        ),
        (
            server.uri("none"),
            format!("postgresql://x:{CANARY}@127.0.0.1:{closed}/postgres"),
            "NO_SUCH_DATABASE",
            "CONNECTION",
        ),
        (
            format!("postgresql://x:{CANARY}@no.such.host.invalid/postgres?connect_timeout=5"),
            server.uri_as(&format!("app:{CANARY}"), "postgres"),
            "CONNECTION",
            "AUTHENTICATION",
        ),
    ] {
        let found = check(&Walferry::new(&source, &target), &[]).await;
        assert_eq!(found.code, 4);
        fix(found.get("refuse", "source", source_code));
        fix(found.get("refuse", "target", target_code));
        assert!(!found.said.contains(CANARY), "{}", found.said);
    }
}

#[tokio::test]
async fn a_standby_and_one_database_twice_are_refused() {
    let primary = Postgres::start(15).await;
    let standby = Postgres::standby_of(&primary, &[]).await;
    primary.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let found = check(&Walferry::new(&standby.uri("postgres"), &primary.uri("postgres")), &[]).await;
    found.get("refuse", "source", "STANDBY");
    let found = check(&Walferry::new(&primary.uri("postgres"), &standby.uri("postgres")), &[]).await;
    found.get("refuse", "target", "STANDBY");
    let found = check(&Walferry::new(&primary.uri("postgres"), &primary.uri("postgres")), &[]).await;
    found.get("refuse", "target", "SAME_DATABASE");
    primary.create_database("other").await;
    let found = check(&Walferry::new(&primary.uri("postgres"), &primary.uri("other")), &[]).await;
    assert_eq!(found.code, 0, "{:#?}", found.all);
}

/// What hands each new connection to the next of several servers.
async fn balancer(ports: Vec<u16>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for turn in 0.. {
            let Ok((mut client, _)) = listener.accept().await else { return };
            let server = ports[turn % ports.len()];
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn two_servers_behind_one_address_are_refused() {
    let (one, two) = (Postgres::start(15).await, Postgres::start(15).await);
    let target = Postgres::start(15).await;
    let port = balancer(vec![one.port(), two.port()]).await;
    let source = format!("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    let found = check(&Walferry::new(&source, &target.uri("postgres")), &[]).await;
    assert!(fix(found.get("refuse", "source", "POOLER")).contains("connect to the server itself"));
}

/// An address of this machine that is not loopback, if it has one.
fn address_of_this_machine() -> Option<std::net::Ipv4Addr> {
    let output = std::process::Command::new("hostname").arg("-I").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().find_map(|address| address.parse().ok())
}

#[tokio::test]
async fn clear_text_to_another_host_is_refused_until_it_is_asked_for() {
    // Without such an address `pg`'s own tests of the parameters are what there is.
    let Some(address) = address_of_this_machine() else { return };
    let open = || Postgres::builder(15).setting("listen_addresses", "*").hba("host all all all trust");
    let (source, target) = tokio::join!(open().start(), open().start());
    source.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let uri = |server: &Postgres, more: &str| {
        format!("postgresql://postgres@{address}:{}/postgres{more}", server.port())
    };
    let found = check(&Walferry::new(&uri(&source, ""), &uri(&target, "")), &[]).await;
    assert_eq!(found.code, 4, "{:#?}", found.all);
    assert!(
        found.said.contains("does not support TLS") && found.said.contains("sslmode=disable"),
        "{}",
        found.said
    );
    let plain = Walferry::new(&uri(&source, "?sslmode=disable"), &uri(&target, "?sslmode=prefer"));
    let found = check(&plain, &[]).await;
    assert_eq!(found.refused(), [""; 0]);
    for side in ["source", "target"] {
        assert!(fix(found.get("warning", side, "TLS")).contains("sslmode=verify-full"));
    }
}
