//! Addresses that are not taken.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::Walferry;
use crate::support::http::Http;

fn walferry() -> Walferry {
    // Nothing is asked of either database before the port is there.
    Walferry::new("postgresql://nobody@127.0.0.1:1/none", "postgresql://nobody@127.0.0.1:1/none")
}

#[tokio::test]
async fn a_port_in_use_is_bad_usage() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = walferry().command("replicate").args(&["--http", &address]).run().await.expect_code(2);
    assert!(output.stderr.contains(&format!("can't listen on {address}: the port is in use")), "{output:#?}");
    assert!(output.stderr.contains("hint: give another port"), "{output:#?}");
}

#[tokio::test]
async fn an_address_that_others_reach_has_to_be_asked_for() {
    let open = format!("0.0.0.0:{}", Http::free().0);
    let command = walferry().command("migrate").args(&["--http", &open]);
    let output = command.run().await.expect_code(2);
    assert!(output.stderr.contains("http.expose=on"), "{output:#?}");
    // Asked for, it warns; the run then ends because there is no database.
    let output = command.args(&["--set", "http.expose=on"]).run().await;
    assert_ne!(output.code, 2, "{output:#?}");
    assert!(output.stderr.contains("warning: health and metrics can be read by everybody"), "{output:#?}");
}

#[tokio::test]
async fn what_is_no_address_is_refused() {
    for address in ["here", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000"] {
        let output = walferry().command("replicate").args(&["--http", address]).run().await.expect_code(2);
        assert!(output.stderr.contains("--http: expected an address"), "{output:#?}");
    }
}

#[tokio::test]
async fn connections_that_say_nothing_are_ended() {
    let http = Http::free();
    // Waits for its source: the pages are there meanwhile.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = format!("postgresql://nobody@{}/none?connect_timeout=90", silent.local_addr().unwrap());
    let run = Walferry::new(&source, &source).command("replicate").args(&["--http", &http.address()]).spawn();
    http.wait_for("/healthz", |status, _| status == 200).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(("127.0.0.1", http.0)).await.unwrap());
    }
    assert_eq!(http.wait_for("/healthz", |status, _| status == 200).await, "alive\n");
    for stream in &mut idle {
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut [0; 16])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
    run.kill9().await;
}
