//! Cables that are pulled (no reset comes), networks that are slow.

use std::time::{Duration, Instant};

use super::{DB, Scene};
use crate::support::oracle::{self, Events, Invariant};
use crate::support::{Cable, Direction, Network, Postgres, Proxy, Walferry, network, options};

/// Within this a run must be back after a cable was plugged in again: the pauses of the kernel and of the program come first.
const BACK: Duration = Duration::from_secs(120);

async fn scene() -> Scene {
    let builder = || {
        let (name, value) = network::EVERYWHERE;
        Postgres::builder(15).database(DB).setting(name, value).hba(network::LET_IN)
    };
    Scene::with(builder().setting("wal_sender_timeout", "1000"), builder()).await
}

/// The program in the namespace. Its `status` is asked from outside, where no cable is pulled.
fn inside(scene: &Scene, network: &Network) -> Walferry {
    let source = network.uri(Cable::Source, &scene.source, DB);
    let target = network.uri(Cable::Target, &scene.target, DB);
    Walferry::new(&source, &target).under(&["ip", "netns", "exec", network.namespace()]).command("migrate")
}

async fn wait_applied(scene: &Scene, position: pg::Lsn) {
    let applied = format!("SELECT max(end_lsn) >= '{position}' FROM walferry.progress");
    scene.target.wait_until(DB, &applied, BACK).await;
}

#[tokio::test]
async fn row_22_the_source_s_cable_is_pulled_while_streaming() {
    let (scene, network) = (scene().await, Network::new());
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running = inside(&scene, &network).spawn();
    running.wait_for_step("live").await;
    network.pull(Cable::Source);
    let pulled = Instant::now();
    running.wait_for_stderr("has not answered").await;
    let noticed = pulled.elapsed();
    assert!(noticed < Duration::from_secs(60), "noticed after {noticed:?}, with wal_sender_timeout = 1 s");
    network.plug(Cable::Source);
    load.wait_committed(load.committed() + 20).await;
    wait_applied(&scene, oracle::marker(&scene.source, DB).await).await;
    scene.close(running, load, &events).await;
}

/// The copy's session waits for rows, with nothing to send itself: it is TCP's keepalive that notices.
#[tokio::test]
async fn row_22_the_source_s_cable_is_pulled_while_copying() {
    let (scene, network) = (scene().await, Network::new());
    scene.source.sql(DB, "CREATE TABLE wide AS SELECT i AS id, repeat(md5(i::text), 300) AS v FROM generate_series(1, 20000) i; ALTER TABLE wide ADD PRIMARY KEY (id)").await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let quick = "&keepalives_idle=2&keepalives_interval=1&keepalives_count=2";
    let run = Walferry::new(
        &format!("{}{quick}", network.uri(Cable::Source, &scene.source, DB)),
        &network.uri(Cable::Target, &scene.target, DB),
    )
    .under(&["ip", "netns", "exec", network.namespace()])
    .command("migrate")
    .args(&["--jobs", "1"]);
    let mut running = run.spawn();
    let on_its_way = "SELECT coalesce(max(bytes_processed), 0) > 1000000 FROM pg_stat_progress_copy WHERE relid = 'wide'::regclass";
    scene.source.wait_until(DB, on_its_way, Duration::from_secs(60)).await;
    network.pull(Cable::Source);
    // Which error it is is the kernel's choice: silence, or that there is no way to the host.
    running.wait_for_stderr("the run goes on by itself").await;
    network.plug(Cable::Source);
    running.wait_for_step("live").await;
    // The server notices that the clients of the first copy have gone when it sends again, or gives up (tcp_user_timeout);
    // of one that it has nothing to send to, when 25 s of its keepalives went unanswered.
    let gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'walferry (copy)'";
    scene.source.wait_until(DB, gone, Duration::from_secs(60)).await;
    scene.close(running, load, &events).await;
}

/// Something is always on its way to the target, a COMMIT as a rule; nobody hears of its fate.
#[tokio::test]
async fn row_23_the_target_s_cable_is_pulled_under_load() {
    let (scene, network) = (scene().await, Network::new());
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    // Without it: 30 s, where the kernel's own limit is a quarter of an hour.
    let quick = if options::full() { "" } else { "&tcp_user_timeout=5000" };
    let target = format!("{}{quick}", network.uri(Cable::Target, &scene.target, DB));
    let run = Walferry::new(&network.uri(Cable::Source, &scene.source, DB), &target);
    let mut running = run.under(&["ip", "netns", "exec", network.namespace()]).command("migrate").spawn();
    running.wait_for_step("live").await;
    let watch = Invariant::watch(&scene.target.uri(DB));
    network.pull(Cable::Target);
    let pulled = Instant::now();
    let before = running.stderr().len();
    running.wait_for_stderr_after(before, "target").await;
    let noticed = pulled.elapsed();
    assert!(noticed < Duration::from_secs(90), "noticed after {noticed:?}");
    network.plug(Cable::Target);
    load.wait_committed(load.committed() + 20).await;
    wait_applied(&scene, oracle::marker(&scene.source, DB).await).await;
    watch.expect_held().await;
    scene.close(running, load, &events).await;
}

/// Half a second there and back and 1 Mbit/s each way: it gets slow, and nothing else.
#[tokio::test]
async fn row_24_a_slow_network_makes_it_slow_and_nothing_else() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let (source, target) = (Proxy::to(&scene.source).await, Proxy::to(&scene.target).await);
    let small = ["--set", "apply.batch_bytes=1MB", "--set", "apply.queue_bytes=4MB"];
    let mut running = Walferry::new(&source.uri(DB), &target.uri(DB)).command("migrate").args(&small).spawn();
    running.wait_for_step("live").await;
    let before = running.peak_memory();
    for proxy in [&source, &target] {
        for direction in [Direction::Up, Direction::Down] {
            proxy.latency(direction, Duration::from_millis(250));
            proxy.throttle(direction, Some(1_000_000 / 8));
        }
    }
    let walsender = "SELECT pid FROM pg_stat_replication WHERE application_name = 'walferry'";
    let pid: i32 = scene.source.value("postgres", walsender).await;
    // Two megabytes at once, and small transactions after it: some 20 s on each wire.
    scene.source.sql(DB, "UPDATE big SET v = (SELECT string_agg(md5(id::text || i), '') FROM generate_series(1, 32) i) WHERE id <= 2000").await;
    let client = scene.source.connect(DB).await;
    for id in 1..=50 {
        client.batch_execute(&format!("UPDATE big SET v = 'small' WHERE id = {id}")).await.unwrap();
    }
    let marker = oracle::marker(&scene.source, DB).await;
    running.wait_applied(marker).await;
    // The source is quick again, the target is not: what it can't take stays on the source.
    for direction in [Direction::Up, Direction::Down] {
        source.latency(direction, Duration::ZERO);
        source.throttle(direction, None);
    }
    scene.source.sql(DB, "UPDATE big SET v = (SELECT string_agg(md5(id::text || i), '') FROM generate_series(1, 320) i) WHERE id <= 7000").await;
    let marker = oracle::marker(&scene.source, DB).await;
    let mut came = 0;
    while source.bytes(Direction::Down) > came {
        came = source.bytes(Direction::Down);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for direction in [Direction::Up, Direction::Down] {
        target.latency(direction, Duration::ZERO);
        target.throttle(direction, None);
    }
    let status = running.wait_applied(marker).await;
    let grown = running.peak_memory().saturating_sub(before) >> 20;
    assert!(grown < 48, "{grown} MB more");
    assert_eq!(pid, scene.source.value::<i32>("postgres", walsender).await, "the connection was given up");
    assert!(status.0["error"].is_null() && !running.stderr().contains("lost"), "{}", running.stderr());
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
}
