//! The stream from slot to carrier: whole transactions, truthful feedback, nothing held up.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pg::{Class, Lsn, Params};
use pipeline::direct::{DirectSource, direct};
use pipeline::{Change, ChangeSource, Column, Durable, Event};
use reader::replication::{ReplicationConnection, SlotSnapshot};
use reader::stream::{self, Options};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::Postgres;
use crate::support::postgres::Stop;

const SOON: Duration = Duration::from_secs(20);

/// A stream, and a far end that notes what arrives and acknowledges it at once.
struct Run {
    cancel: CancellationToken,
    reader: JoinHandle<pg::Result<()>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Run {
    fn new(options: Options) -> Run {
        let (run, source) = Run::unread(options, 1 << 20);
        run.read(source);
        run
    }

    /// One whose far end does not read yet.
    fn unread(options: Options, capacity: usize) -> (Run, DirectSource) {
        let start = Durable { applied: options.start, flushed: options.start };
        let (sink, source) = direct(capacity, start);
        let cancel = CancellationToken::new();
        let reader = tokio::spawn(stream::run(options, sink, cancel.clone()));
        (Run { cancel, reader, events: Arc::default() }, source)
    }

    fn read(&self, mut source: DirectSource) {
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Some(chunk) = source.recv().await {
                for event in chunk.events {
                    let end = match &event {
                        Event::Commit { end_lsn, .. } => Some(*end_lsn),
                        Event::Idle { lsn } => Some(*lsn),
                        _ => None,
                    };
                    events.lock().unwrap().push(event);
                    if let Some(end) = end {
                        source.acknowledge(Durable { applied: end, flushed: end });
                    }
                }
            }
        });
    }

    /// The first values of all rows inserted so far.
    fn inserted(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let rows = events.iter().filter_map(|event| match event {
            Event::Change(Change::Insert { new, .. }) => match new.columns().next() {
                Some(Column::Text(text)) => Some(String::from_utf8_lossy(text).into_owned()),
                other => panic!("{other:?}"),
            },
            _ => None,
        });
        rows.collect()
    }

    fn commits(&self) -> Vec<Lsn> {
        let events = self.events.lock().unwrap();
        let ends = events.iter().filter_map(|event| match event {
            Event::Commit { end_lsn, .. } => Some(*end_lsn),
            _ => None,
        });
        ends.collect()
    }

    async fn wait(&self, what: &str, enough: impl Fn(&Run) -> bool) {
        let deadline = Instant::now() + SOON;
        while !enough(self) {
            assert!(
                !self.reader.is_finished() && Instant::now() < deadline,
                "{what}: {:?}",
                self.events.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.cancel.cancel();
        self.reader.await.unwrap().unwrap();
    }
}

/// Table `t (n int)`, publication `p`, slot `s`.
async fn server(major: u32, settings: &[(&str, &str)]) -> (Postgres, Options) {
    let builder =
        settings.iter().fold(Postgres::builder(major), |builder, (name, value)| builder.setting(name, value));
    let server = builder.database("app").start().await;
    server
        .sql("app", "CREATE TABLE t (n int); CREATE TABLE other (n int); CREATE PUBLICATION p FOR TABLE t")
        .await;
    let params = Params::parse(&server.uri("app")).unwrap();
    let mut connection = ReplicationConnection::connect(&params, "setup").await.unwrap();
    let slot = connection.create_slot("s", false, SlotSnapshot::Nothing, false).await.unwrap();
    connection.close().await;
    let options = Options::new(params, "walferry", "s", vec!["p".into()], slot.consistent_point);
    (server, options)
}

async fn insert(server: &Postgres, from: i32, to: i32) {
    server.sql("app", &format!("INSERT INTO t SELECT generate_series({from}, {to})")).await;
}

fn confirmed(lsn: impl std::fmt::Display) -> String {
    format!("SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = 's'")
}

#[tokio::test]
async fn transactions_arrive_whole_and_what_was_applied_is_skipped() {
    for major in [10, 18] {
        let (server, options) = server(major, &[]).await;
        insert(&server, 1, 2).await;
        insert(&server, 3, 3).await;
        insert(&server, 4, 4).await;
        let (held, _unread) = Run::unread(options.clone(), 1 << 20);
        // Nothing is acknowledged, so all of it comes again.
        tokio::time::timeout(SOON, server.wait_until("app", "SELECT active FROM pg_replication_slots", SOON))
            .await
            .unwrap();
        held.cancel.cancel();
        held.reader.await.unwrap().unwrap();
        let active = "SELECT active FROM pg_replication_slots";
        assert!(!server.value::<bool>("app", active).await, "the slot is free when the stream has ended");

        let run = Run::new(options.clone());
        run.wait("all four rows", |run| run.inserted().len() == 4).await;
        assert_eq!(run.inserted(), ["1", "2", "3", "4"]);
        let ends = run.commits();
        let shape: Vec<char> = run
            .events
            .lock()
            .unwrap()
            .iter()
            .map(|event| match event {
                Event::Begin { .. } => 'B',
                Event::Change(_) => 'i',
                Event::Commit { .. } => 'C',
                Event::Idle { .. } => '.',
                Event::Message { .. } => 'm',
            })
            .filter(|c| *c != '.')
            .collect();
        assert_eq!(shape.into_iter().collect::<String>(), "BiiCBiCBiC");
        run.end().await;

        // The slot of a server that crashed may be behind us: what the target has is dropped.
        let params = options.params.clone();
        let mut connection = ReplicationConnection::connect(&params, "setup").await.unwrap();
        connection.drop_slot("s").await.unwrap();
        let slot = connection.create_slot("s", false, SlotSnapshot::Nothing, false).await.unwrap();
        connection.close().await;
        insert(&server, 5, 5).await;
        insert(&server, 6, 6).await;
        let run = Run::new(Options { start: slot.consistent_point, ..options.clone() });
        run.wait("two rows", |run| run.inserted().len() == 2).await;
        let after_five = run.commits()[0];
        assert!(after_five > ends[2]);
        // Ends without an acknowledgement of ours reaching a checkpoint: the crash brings both back.
        server.kill9();
        assert_eq!(run.reader.await.unwrap().unwrap_err().class(), Class::Connection);
        server.start_again().await;
        let run = Run::new(Options { start: after_five, ..options });
        insert(&server, 7, 7).await;
        run.wait("the last two rows", |run| run.inserted().len() == 2).await;
        assert_eq!(run.inserted(), ["6", "7"]);
        run.end().await;
    }
}

#[tokio::test]
async fn an_idle_slot_follows_the_wal_of_other_databases() {
    for major in [10, 14, 18] {
        let (server, options) = server(major, &[]).await;
        let run = Run::new(options);
        server.wait_until("app", "SELECT active FROM pg_replication_slots", SOON).await;
        for round in 0..3 {
            server
                .sql("postgres", &format!("CREATE TABLE x{round} AS SELECT generate_series(1, 1000)"))
                .await;
            server.sql("app", "INSERT INTO other VALUES (1)").await;
            let position = server.wal_position().await;
            server.wait_until("app", &confirmed(position), Duration::from_secs(5)).await;
        }
        assert!(run.inserted().is_empty());
        run.end().await;
    }
}

#[tokio::test]
async fn feedback_goes_on_while_the_carrier_is_full() {
    let (server, options) = server(15, &[("wal_sender_timeout", "1500ms")]).await;
    let (run, source) = Run::unread(options, 1024);
    insert(&server, 1, 200_000).await;
    let walsender = "SELECT pid FROM pg_stat_replication WHERE application_name = 'walferry'";
    server.wait_until("app", &format!("SELECT EXISTS ({walsender})"), SOON).await;
    let pid: i32 = server.value("app", walsender).await;
    // Three times what the server would wait for.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    assert_eq!(server.value::<i32>("app", walsender).await, pid);
    let start = "SELECT confirmed_flush_lsn < pg_current_wal_lsn() FROM pg_replication_slots";
    assert!(server.value::<bool>("app", start).await, "nothing was applied, nothing is confirmed");
    run.read(source);
    run.wait("all rows", |run| run.inserted().len() == 200_000).await;
    assert_eq!(server.value::<i32>("app", walsender).await, pid);
    server.wait_until("app", &confirmed(server.wal_position().await), SOON).await;
    run.end().await;
}

#[tokio::test]
async fn a_server_that_shuts_down_is_not_held_up() {
    for major in [10, 15, 18] {
        let (server, options) = server(major, &[]).await;
        let run = Run::new(options);
        insert(&server, 1, 10).await;
        run.wait("ten rows", |run| run.inserted().len() == 10).await;
        server.sql("postgres", "CREATE TABLE x AS SELECT generate_series(1, 1000)").await;
        let began = Instant::now();
        server.stop(Stop::Fast).await;
        assert!(began.elapsed() < Duration::from_secs(8), "{major}: {:?}", began.elapsed());
        let events = run.events.clone();
        assert_eq!(run.reader.await.unwrap().unwrap_err().class(), Class::Connection);
        if major >= 17 {
            // Older servers don't save a slot for what was confirmed alone.
            server.start_again().await;
            let end = run_end(&events);
            assert!(server.value::<bool>("app", &confirmed(end)).await, "what was applied was confirmed");
        }
    }
}

fn run_end(events: &Mutex<Vec<Event>>) -> Lsn {
    let events = events.lock().unwrap();
    let ends = events.iter().filter_map(|event| match event {
        Event::Commit { end_lsn, .. } => Some(*end_lsn),
        Event::Idle { lsn } => Some(*lsn),
        _ => None,
    });
    ends.max().unwrap()
}

#[tokio::test]
async fn an_ordered_end_confirms_what_is_durable() {
    let (server, options) = server(15, &[]).await;
    let run = Run::new(options.clone());
    insert(&server, 1, 1).await;
    run.wait("a row", |run| run.inserted().len() == 1).await;
    // A huge transaction is on its way when the end comes.
    insert(&server, 2, 300_000).await;
    run.wait("its first rows", |run| run.inserted().len() > 100).await;
    let began = Instant::now();
    let (events, first) = (run.events.clone(), run.commits()[0]);
    run.end().await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(server.value::<bool>("app", &confirmed(first)).await);
    let whole = events.lock().unwrap().iter().filter(|event| matches!(event, Event::Commit { .. })).count();
    // … and comes again, unless it was through already.
    let run = Run::new(Options { start: if whole == 1 { first } else { options.start }, ..options });
    if whole == 1 {
        run.wait("all rows", |run| run.inserted().len() == 299_999).await;
    }
    run.end().await;
}

#[tokio::test]
async fn a_commit_may_wait_for_us() {
    let (server, options) = server(15, &[]).await;
    let run = Run::new(options);
    server.sql("app", "ALTER SYSTEM SET synchronous_standby_names = 'walferry'").await;
    server.reload().await;
    let state = "SELECT coalesce(bool_or(sync_state = 'sync' AND state = 'streaming'), false) FROM pg_stat_replication";
    server.wait_until("app", state, SOON).await;
    for level in ["on", "remote_write", "remote_apply"] {
        let began = Instant::now();
        server.sql("app", &format!("SET synchronous_commit = {level}; INSERT INTO t VALUES (1)")).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{level}: {:?}", began.elapsed());
    }
    run.wait("three rows", |run| run.inserted().len() == 3).await;
    run.end().await;
}
