//! Ready only while events can flow; the numbers meanwhile.

use crate::support::http::{Http, samples, value};
use crate::support::postgres::Stop;
use crate::support::{Feed, Kafka, Postgres, Walferry, Way};

const ROW: &str = "r0w-c4nary";

/// Row values in messages of the servers, in rows and in keys; the run may not have one of them on a page.
async fn no_canary(http: Http) {
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        let (_, body) = http.get(path).await.expect("it listens");
        assert!(!body.contains("c4nary"), "{path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_while_both_databases_are_there() {
    let hba = "host all app all scram-sha-256";
    let build = |major| Postgres::builder(major).hba(hba).database("app").start();
    let (source, target) = tokio::join!(build(15), build(17));
    for server in [&source, &target] {
        server.create_role("app", "SUPERUSER PASSWORD 'p4ssw0rd-c4nary'").await;
    }
    source.sql("app", "CREATE TABLE t (id int PRIMARY KEY, body text)").await;
    let uri = |server: &Postgres| server.uri_as("app:p4ssw0rd-c4nary", "app");
    let http = Http::free();
    let run = Walferry::new(&uri(&source), &uri(&target))
        .command("replicate")
        .args(&["--http", &http.address(), "--set", "retry.blocked_max=1s"])
        .spawn();
    assert_eq!(http.wait_for("/healthz", |status, _| status == 200).await, "alive\n");
    assert_eq!(http.wait_ready(200).await, "ready\n");
    source.sql("app", &format!("INSERT INTO t SELECT g, '{ROW}' FROM generate_series(1, 10) g")).await;
    source
        .sql("app", "UPDATE t SET body = body || '!' WHERE id <= 3; DELETE FROM t WHERE id = 4; TRUNCATE t")
        .await;
    let page = |line: &'static str| move |_: u16, body: &str| body.lines().any(|found| found == line);
    http.wait_for("/metrics", page("walferry_applied_transactions_total 2")).await;
    let now = http.metrics().await;
    for (kind, count) in [("insert", 10.0), ("update", 3.0), ("delete", 1.0), ("truncate", 1.0)] {
        assert_eq!(value(&now, "walferry_applied_rows_total", kind), Some(count), "{kind}");
    }
    assert_eq!(value(&now, "walferry_ready", ""), Some(1.0));
    assert_eq!(value(&now, "walferry_step", "live"), Some(1.0));
    assert_eq!(value(&now, "walferry_build_info", "replicate"), Some(1.0));
    assert!(value(&now, "walferry_retained_wal_bytes", "").is_some_and(|bytes| bytes >= 0.0), "{now:#?}");
    http.wait_for("/metrics", page("walferry_lag_milliseconds 0")).await;
    // Nothing can be changed from here.
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(http.ask(method, "/readyz").await.unwrap().0, 405);
    }
    assert_eq!(http.get("/elsewhere").await.unwrap().0, 404);

    target.stop(Stop::Immediate).await;
    let reason = http.wait_ready(503).await;
    assert_eq!(reason.lines().count(), 1, "{reason}");
    assert_eq!(http.get("/healthz").await.unwrap().0, 200, "it lives on");
    target.start_again().await;
    http.wait_ready(200).await;

    source.stop(Stop::Fast).await;
    http.wait_ready(503).await;
    source.start_again().await;
    http.wait_ready(200).await;

    // A row that the target refuses: ready again only when it doesn't any more.
    target.sql("app", "ALTER TABLE t ADD CONSTRAINT short CHECK (length(body) < 12)").await;
    source.sql("app", &format!("INSERT INTO t VALUES (1, '{ROW} and more')")).await;
    let reason = http.wait_for("/readyz", |status, body| status == 503 && body.starts_with("23514")).await;
    assert_eq!(reason, "23514: a server refuses; the log has its message\n");
    assert!(value(&http.metrics().await, "walferry_errors_total", "23514").is_some_and(|count| count >= 1.0));
    no_canary(http).await;
    target.sql("app", "ALTER TABLE t DROP CONSTRAINT short").await;
    http.wait_ready(200).await;
    no_canary(http).await;
    run.sigterm();
    run.wait_exit().await.expect_code(143);
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_while_a_broker_answers() {
    let mut kafka = Kafka::start().await;
    let (source, target) = Postgres::pair(15, 15).await;
    source.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY, body text)").await;
    let http = Http::free();
    let run = Walferry::new(&source.uri("postgres"), &target.uri("postgres"))
        .command("replicate")
        .args(&["--via", "kafka", "--brokers", &kafka.brokers(), "--prefix", "h", "--http", &http.address()])
        .spawn();
    http.wait_ready(200).await;
    source.sql("postgres", &format!("INSERT INTO t SELECT g, '{ROW}' FROM generate_series(1, 10) g")).await;
    http.wait_for("/metrics", |_, body| body.contains("walferry_events_total{topic=\"h.public.t\"} 10\n"))
        .await;
    let bytes = value(&http.metrics().await, "walferry_event_bytes_total", "h.public.t");
    assert!(bytes.is_some_and(|bytes| bytes > 1000.0), "{bytes:?}");
    // An error besides, so that each of the metrics that the dashboard asks for is there.
    target.sql("postgres", "ALTER TABLE t ADD CONSTRAINT short CHECK (length(body) < 12)").await;
    source.sql("postgres", &format!("INSERT INTO t VALUES (11, '{ROW} and more')")).await;
    let all =
        |page: &str| pipeline::metric::ALL.iter().all(|metric| page.contains(&format!("\n{}", metric.name)));
    http.wait_for("/metrics", |_, page| all(page)).await;
    target.sql("postgres", "ALTER TABLE t DROP CONSTRAINT short").await;
    http.wait_ready(200).await;
    kafka.kill9();
    assert_eq!(http.wait_ready(503).await, "kafka: no broker answers\n");
    no_canary(http).await;
    kafka.restart().await;
    http.wait_ready(200).await;
    run.sigterm();
    run.wait_exit().await.expect_code(143);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_are_ready_together() {
    let kafka = Kafka::shared().await;
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, body text)")
        .via(kafka, &Kafka::prefix())
        .ways(&[Way::Default])
        .services()
        .prepare()
        .await;
    let (reads, writes) = (Http::free(), Http::free());
    let lane = &mut feed.lanes[0];
    lane.command = lane.command.clone().args(&["--http", &writes.address()]);
    lane.reader_command =
        lane.reader_command.clone().map(|reader| reader.args(&["--http", &reads.address()]));
    lane.start_reader();
    http_says(reads, "step waiting: nothing flows yet").await;
    lane.start_writer();
    reads.wait_ready(200).await;
    writes.wait_ready(200).await;
    feed.source("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 10) g").await;
    writes
        .wait_for("/metrics", |_, body| body.contains("walferry_applied_rows_total{kind=\"insert\"} 10\n"))
        .await;
    reads
        .wait_for("/metrics", |_, page| {
            samples(page).iter().any(|sample| sample.name == "walferry_events_total" && sample.value == 10.0)
        })
        .await;
    let seen = reads.metrics().await;
    let topic = seen.iter().find(|sample| sample.name == "walferry_events_total" && sample.value == 10.0);
    assert!(topic.is_some_and(|topic| topic.labels[0].1.ends_with(".public.t")), "{seen:#?}");
    assert!(value(&seen, "walferry_lag_bytes", "").is_some_and(|bytes| !bytes.is_nan()), "{seen:#?}");
    // Without the reader nothing reaches the writer, which is well itself.
    feed.lanes[0].kill_reader().await;
    http_says(writes, "CONNECTION: nobody reads the slot: is walferry read running?").await;
    feed.lanes[0].start_reader();
    writes.wait_ready(200).await;
    reads.wait_ready(200).await;
    feed.end().await;
}

async fn http_says(http: Http, line: &str) {
    http.wait_for("/readyz", |status, body| status == 503 && body.trim_end() == line).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_run_is_ready_while_events_can_flow() {
    let mut kafka = Kafka::start().await;
    let source = Postgres::start(15).await;
    source
        .sql(
            "postgres",
            "CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text,
                 aggregateid text NOT NULL, type text NOT NULL, payload jsonb)",
        )
        .await;
    let http = Http::free();
    let mut run = Walferry::new(&source.uri("postgres"), "")
        .command("outbox")
        .args(&["run", "--brokers", &kafka.brokers(), "--http", &http.address()])
        .spawn();
    http.wait_ready(200).await;
    let insert = |route: &str| {
        let row = format!("({route}, '1', 'Placed', '{{\"v\": \"{ROW}\"}}')");
        format!("INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES {row}")
    };
    source.sql("postgres", &insert("'Order'")).await;
    source.sql("postgres", &insert("NULL")).await;
    let line = |line: &'static str| move |_: u16, page: &str| page.lines().any(|found| found == line);
    http.wait_for("/metrics", line("walferry_events_total{topic=\"outbox.event.Order\"} 1")).await;
    http.wait_for("/metrics", line("walferry_dead_letters_total 1")).await;
    http.wait_for("/metrics", line("walferry_oldest_undelivered_milliseconds 0")).await;
    kafka.kill9();
    assert_eq!(http.wait_ready(503).await, "kafka: no broker answers\n");
    source.sql("postgres", &insert("'Order'")).await;
    let waits =
        |page: &str| value(&samples(page), "walferry_oldest_undelivered_milliseconds", "") > Some(1500.0);
    http.wait_for("/metrics", |_, page| waits(page)).await;
    no_canary(http).await;
    kafka.restart().await;
    http.wait_ready(200).await;
    http.wait_for("/metrics", line("walferry_events_total{topic=\"outbox.event.Order\"} 2")).await;
    source.stop(Stop::Immediate).await;
    http.wait_ready(503).await;
    source.start_again().await;
    http.wait_ready(200).await;
    assert!(run.is_running());
    run.sigterm();
    run.wait_exit().await.expect_code(143);
}
