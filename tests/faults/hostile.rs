//! Whoever answers instead of PostgreSQL, and bytes that changed on the way: an end with a message, never a guess, never all the memory.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{DB, Scene};
use crate::support::oracle::{self, Events};
use crate::support::{Direction, Postgres, Proxy, Walferry};

/// What a stranger does with a connection.
#[derive(Clone, Copy, Debug)]
enum Stranger {
    /// An HTTP server.
    Http,
    Noise,
    Silence,
    HangsUp,
    /// The first message says that it is longer than anything, or shorter than its own length.
    Length(u32),
    /// Messages that never end.
    Endless,
    /// Lets everybody in, and answers each query by a row that says it is so long.
    Row(u32),
    /// … by a row with this many columns, which are not there.
    Columns(i16),
    /// … by a value that is longer than its message.
    Value(i32),
}

async fn listen(what: Stranger) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = answer(what, stream).await;
            });
        }
    });
    port
}

async fn answer(what: Stranger, mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    match what {
        Stranger::HangsUp => return Ok(()),
        Stranger::Silence => while stream.read(&mut buffer).await? > 0 {},
        Stranger::Http => {
            let _ = stream.read(&mut buffer).await?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 11\r\n\r\nbad request").await?;
        }
        Stranger::Noise => {
            let mut noise = 0x9e37_79b9_u32;
            for _ in 0..4096 {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                stream.write_all(&noise.to_le_bytes()).await?;
            }
            while stream.read(&mut buffer).await? > 0 {}
        }
        Stranger::Length(length) => {
            let _ = stream.read(&mut buffer).await?;
            stream.write_all(&message(b'R', length, &[0; 64])).await?;
            while stream.read(&mut buffer).await? > 0 {}
        }
        Stranger::Endless => {
            let _ = stream.read(&mut buffer).await?;
            loop {
                stream.write_all(&message(b'N', 1004, &[b'x'; 1000])).await?;
            }
        }
        Stranger::Row(_) | Stranger::Columns(_) | Stranger::Value(_) => {
            let _ = stream.read(&mut buffer).await?;
            let mut hello = message(b'R', 8, &[0, 0, 0, 0]);
            hello.extend(message(b'S', 4 + 20, b"server_version\x0015.1\0"));
            hello.extend(message(b'K', 12, &[0; 8]));
            hello.extend(message(b'Z', 5, b"I"));
            stream.write_all(&hello).await?;
            let mut queries = 0;
            while stream.read(&mut buffer).await? > 0 {
                queries += 1;
                // The settings are taken.
                let mut answer = Vec::new();
                if queries > 1 {
                    match what {
                        Stranger::Row(length) => answer = message(b'D', length, &[0, 1]),
                        Stranger::Columns(count) => answer = message(b'D', 6, &count.to_be_bytes()),
                        Stranger::Value(length) => {
                            let body = [&1_i16.to_be_bytes()[..], &length.to_be_bytes()[..], b"x"].concat();
                            answer = message(b'D', 4 + body.len() as u32, &body);
                        }
                        _ => {}
                    }
                }
                if !matches!(what, Stranger::Row(_)) || queries == 1 {
                    answer.extend(message(b'C', 8, b"SET\0"));
                    answer.extend(message(b'Z', 5, b"I"));
                }
                stream.write_all(&answer).await?;
            }
        }
    }
    Ok(())
}

fn message(tag: u8, length: u32, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend(length.to_be_bytes());
    message.extend(body);
    message
}

#[tokio::test]
async fn a_server_that_is_not_postgresql_is_told_from_one() {
    let target = Postgres::builder(15).database(DB).start().await;
    let strangers = [
        Stranger::Http,
        Stranger::Noise,
        Stranger::Silence,
        Stranger::HangsUp,
        Stranger::Length(0),
        Stranger::Length(3),
        Stranger::Length(1 << 30),
        Stranger::Length(u32::MAX),
        Stranger::Endless,
        Stranger::Row(1 << 30),
        Stranger::Row(u32::MAX),
        Stranger::Columns(-1),
        Stranger::Columns(i16::MAX),
        Stranger::Value(1 << 30),
        Stranger::Value(-2),
    ];
    for stranger in strangers {
        let port = listen(stranger).await;
        let uri = format!(
            "postgresql://walferry:c4nary@127.0.0.1:{port}/{DB}?connect_timeout=2&tcp_user_timeout=5000"
        );
        let began = Instant::now();
        let mut running = Walferry::new(&uri, &target.uri(DB)).command("check").spawn();
        // A row that never comes whole is waited for, as a slow server's would be; nothing is set aside for it.
        let patient = matches!(stranger, Stranger::Row(length) if length == 1 << 30);
        let mut most = 0;
        while running.is_running() && began.elapsed() < Duration::from_secs(if patient { 4 } else { 60 }) {
            most = most.max(running.peak_memory());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(most < 96 << 20, "{stranger:?}: {} MB", most >> 20);
        let ended = if patient && running.is_running() {
            running.sigint();
            running.wait_exit_within(Duration::from_secs(30)).await
        } else {
            running.wait_exit_within(Duration::from_secs(30)).await
        };
        assert!([1, 3, 4, 130].contains(&ended.code), "{stranger:?}: {} {}", ended.code, ended.said());
        assert!(
            !ended.said().contains("panicked") && !ended.said().contains("c4nary"),
            "{stranger:?}: {}",
            ended.said()
        );
        assert!(patient || !ended.said().trim().is_empty(), "{stranger:?}: not a word");
    }
}

/// One byte of the protocol is another one than the server sent: nothing is made of it. (A byte within a value, which TCP's own sum has
/// let through, nobody can tell; TLS does.)
#[tokio::test]
async fn row_75_a_byte_of_the_stream_changed_on_the_way() {
    let scene = Scene::small().await;
    let events = Events::record(&scene.source, DB).await;
    let proxy = Proxy::to(&scene.source).await;
    let run = Walferry::new(&proxy.uri(DB), &scene.target.uri(DB)).command("migrate");
    let mut running = run.spawn();
    running.wait_for_step("live").await;
    // Before the text are its kind (1 byte) and its length (4).
    let changes = [
        ("kind-of-value", -5, b'q'),
        ("length-of-value", -4, 0x7f),
        ("length-by-a-little", -1, 0xff),
        ("kind-of-tuple", -26, b'q'),
    ];
    for (round, (text, offset, byte)) in changes.into_iter().enumerate() {
        proxy.corrupt(Direction::Down, text.as_bytes(), offset, byte);
        // Two values of four bytes are before it, and the kind of the tuple before them.
        scene
            .source
            .sql(DB, &format!("INSERT INTO t VALUES ({}, {}, '{text}')", 1001 + round, 5001 + round))
            .await;
        let ended = running.wait_exit_within(Duration::from_secs(60)).await.expect_code(1);
        assert_eq!(proxy.corrupted(), round as u64 + 1);
        assert!(
            ended.stderr.contains("malformed") && ended.stderr.contains("the same command resumes"),
            "{text}: {}",
            ended.said()
        );
        assert!(!ended.said().contains(text) && !ended.said().contains("panicked"), "{}", ended.said());
        running = run.spawn();
        running.wait_for("the row", |status| status.count("inserted") > round as u64).await;
    }
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    let status = running.wait_for("no error", |status| status.0["error"].is_null()).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
}
