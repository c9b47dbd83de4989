//! The replication client against the oldest and the newest server: slots, snapshots, every kind of message.

use std::collections::BTreeMap;
use std::time::Duration;

use pg::{Class, Lsn, Params, Purpose, Session};
use pipeline::{Change, Column, Event, OldTuple, ReplicaIdentity, Tuple};
use reader::pgoutput::Decoder;
use reader::replication::{
    ReplicationConnection, ReplicationMessage, ReplicationStream, SlotSnapshot, StandbyStatus, StartOptions,
};

use crate::support::{Postgres, programs};

async fn connect(server: &Postgres) -> ReplicationConnection {
    let params = Params::parse(&server.uri("postgres")).unwrap();
    ReplicationConnection::connect(&params, "walferry").await.unwrap()
}

fn oldest_and_newest() -> [u32; 2] {
    let majors = programs::majors();
    [majors[0], majors[majors.len() - 1]]
}

#[tokio::test]
async fn a_slot_and_its_snapshot_are_of_one_instant() {
    for major in programs::majors() {
        let server = Postgres::start(major).await;
        server
            .sql(
                "postgres",
                "CREATE TABLE t (n int); INSERT INTO t VALUES (1); CREATE PUBLICATION p FOR TABLE t",
            )
            .await;
        let mut connection = connect(&server).await;
        let identity = connection.identify_system().await.unwrap();
        assert_eq!((identity.timeline, identity.database.as_str()), (1, "postgres"));
        let system: String =
            server.value("postgres", "SELECT system_identifier::text FROM pg_control_system()").await;
        assert_eq!(identity.system_id, system);

        let slot = connection.create_slot("s", false, SlotSnapshot::Export, true).await.unwrap();
        server.sql("postgres", "INSERT INTO t VALUES (2)").await;
        let params = Params::parse(&server.uri("postgres")).unwrap();
        let keeper = Session::connect(&params, Purpose::SourceSnapshot, "walferry (keeper)").await.unwrap();
        let import = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'",
            slot.snapshot.unwrap()
        );
        keeper.batch_execute(&import).await.unwrap();
        let seen: i64 = keeper.query_one("SELECT count(*) FROM public.t", &[]).await.unwrap().get(0);
        assert_eq!(seen, 1, "{major}");

        let again = connection.create_slot("s", false, SlotSnapshot::Nothing, false).await.unwrap_err();
        assert_eq!(again.sqlstate(), Some("42710"));
        if major >= 17 {
            let failover = "SELECT failover FROM pg_replication_slots WHERE slot_name = 's'";
            assert!(server.value::<bool>("postgres", failover).await);
        }
        let mut stream = start(connection, slot.consistent_point, false).await;
        let events = until_commits(&mut stream, 1).await;
        assert!(
            matches!(&events[1], Event::Change(Change::Insert { new, .. }) if texts(new) == ["2"]),
            "{major}"
        );
        stream.finish(Duration::from_secs(10)).await;
        let inactive = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 's'";
        assert!(server.value::<bool>("postgres", inactive).await, "the slot is free at once");

        let mut connection = connect(&server).await;
        let temporary = connection.create_slot("t", true, SlotSnapshot::Nothing, false).await.unwrap();
        assert_eq!(temporary.snapshot, None);
        connection.drop_slot("s").await.unwrap();
        assert_eq!(connection.drop_slot("s").await.unwrap_err().sqlstate(), Some("42704"));
        connection.close().await;
        let gone = "SELECT count(*) = 0 FROM pg_replication_slots";
        server.wait_until("postgres", gone, Duration::from_secs(10)).await;
    }
}

#[tokio::test]
async fn waiting_for_old_transactions_is_bounded_by_the_lock_timeout() {
    for major in oldest_and_newest() {
        let server = Postgres::start(major).await;
        let writer = server.connect("postgres").await;
        writer.batch_execute("BEGIN; CREATE TABLE t (n int)").await.unwrap();
        let mut connection = connect(&server).await;
        connection.set_lock_timeout(Duration::from_millis(300)).await.unwrap();
        let error = connection.create_slot("s", false, SlotSnapshot::Export, false).await.unwrap_err();
        assert_eq!((error.sqlstate(), error.class()), (Some("55P03"), Class::Stop), "{major}");
        writer.batch_execute("COMMIT").await.unwrap();
        connection.create_slot("s", false, SlotSnapshot::Export, false).await.unwrap();
    }
}

#[tokio::test]
async fn every_kind_of_message_arrives() {
    for major in oldest_and_newest() {
        let server = Postgres::start(major).await;
        server
            .sql(
                "postgres",
                r#"CREATE SCHEMA "S"".1";
                   CREATE TABLE "S"".1"."t $1" (id int PRIMARY KEY, "b ""c" text);
                   CREATE TYPE mood AS ENUM ('sad', 'ok');
                   CREATE TABLE f (a int, m mood);
                   ALTER TABLE f REPLICA IDENTITY FULL;
                   CREATE TABLE i (a int, b int NOT NULL);
                   CREATE UNIQUE INDEX i_b ON i (b);
                   ALTER TABLE i REPLICA IDENTITY USING INDEX i_b;
                   CREATE TABLE nothing ();
                   CREATE PUBLICATION "p'1, x" FOR ALL TABLES"#,
            )
            .await;
        let mut connection = connect(&server).await;
        let slot = connection.create_slot("s", false, SlotSnapshot::Nothing, false).await.unwrap();
        let client = server.connect("postgres").await;
        for statement in [
            r#"INSERT INTO "S"".1"."t $1" VALUES (1, NULL), (2, repeat(md5('x'), 20000))"#,
            r#"ALTER TABLE "S"".1"."t $1" ALTER "b ""c" SET STORAGE EXTERNAL"#,
            r#"UPDATE "S"".1"."t $1" SET "b ""c" = repeat('long', 20000) WHERE id = 2"#,
            r#"UPDATE "S"".1"."t $1" SET id = 3 WHERE id = 2"#,
            r#"DELETE FROM "S"".1"."t $1" WHERE id = 1"#,
            "INSERT INTO f VALUES (1, 'ok'); UPDATE f SET a = 2; DELETE FROM f",
            "INSERT INTO i VALUES (1, 1); UPDATE i SET b = 2; DELETE FROM i",
            "INSERT INTO nothing DEFAULT VALUES",
            "BEGIN; SAVEPOINT a; INSERT INTO i VALUES (7, 7); ROLLBACK TO a; INSERT INTO i VALUES (8, 8); COMMIT",
        ] {
            client.batch_execute(statement).await.unwrap();
        }
        let mut commits = 8;
        if major >= 11 {
            client.batch_execute("TRUNCATE i, f RESTART IDENTITY").await.unwrap();
            commits += 1;
        }
        if major >= 14 {
            client.batch_execute("SELECT pg_logical_emit_message(true, 'walferry', 'here')").await.unwrap();
            client.batch_execute("SELECT pg_logical_emit_message(false, 'walferry', 'there')").await.unwrap();
            commits += 1;
        }
        let options = StartOptions { publications: vec!["p'1, x".into()], messages: true, binary: false };
        let mut stream = connection.start("s", slot.consistent_point, &options).await.unwrap();
        // The ALTER TABLE's transaction is empty: it arrives before 15 and does not later.
        let events = until(&mut stream, |events| {
            let ends =
                events.iter().filter(|event| matches!(event, Event::Change(_) | Event::Message { .. }));
            ends.count()
                >= if major >= 14 {
                    16
                } else if major >= 11 {
                    14
                } else {
                    13
                }
                && events.iter().filter(|event| matches!(event, Event::Commit { .. })).count() >= commits
        })
        .await;
        let changes: Vec<&Change> = events
            .iter()
            .filter_map(|event| match event {
                Event::Change(change) => Some(change),
                _ => None,
            })
            .collect();
        let shown: Vec<String> = changes.iter().map(|change| show(change)).collect();
        let mut expected = vec![
            r#"insert "S"".1"."t $1" 1 NULL"#.to_owned(),
            r#"insert "S"".1"."t $1" 2 #640000"#.to_owned(),
            r#"update "S"".1"."t $1" 2 #80000"#.to_owned(),
            r#"update "S"".1"."t $1" key 2 NULL => 3 unchanged"#.to_owned(),
            r#"delete "S"".1"."t $1" key 1 NULL"#.to_owned(),
            r#"insert "public"."f" 1 ok"#.to_owned(),
            r#"update "public"."f" full 1 ok => 2 ok"#.to_owned(),
            r#"delete "public"."f" full 2 ok"#.to_owned(),
            r#"insert "public"."i" 1 1"#.to_owned(),
            r#"update "public"."i" key NULL 1 => 1 2"#.to_owned(),
            r#"delete "public"."i" key NULL 2"#.to_owned(),
            r#"insert "public"."nothing""#.to_owned(),
            r#"insert "public"."i" 8 8"#.to_owned(),
        ];
        if major >= 11 {
            expected.push(r#"truncate "public"."f" "public"."i" restart"#.to_owned());
        }
        assert_eq!(shown, expected, "{major}");
        if major >= 14 {
            let messages: BTreeMap<bool, &[u8]> = events
                .iter()
                .filter_map(|event| match event {
                    Event::Message { transactional, content, .. } => Some((*transactional, &content[..])),
                    _ => None,
                })
                .collect();
            assert_eq!(messages, BTreeMap::from([(false, &b"there"[..]), (true, b"here")]));
        }
        let Change::Update { relation, .. } = changes[9] else { panic!() };
        assert_eq!(relation.identity, ReplicaIdentity::Index);
        assert_eq!(relation.columns.iter().map(|column| column.key).collect::<Vec<_>>(), [false, true]);
    }
}

#[tokio::test]
async fn binary_values_are_told_from_text() {
    let server = Postgres::start(17).await;
    server.sql("postgres", "CREATE TABLE t (n int, x xml, f float8); CREATE PUBLICATION p FOR TABLE t").await;
    let mut connection = connect(&server).await;
    let slot = connection.create_slot("s", false, SlotSnapshot::Nothing, false).await.unwrap();
    server.sql("postgres", "INSERT INTO t VALUES (258, NULL, 'NaN')").await;
    let mut stream = start(connection, slot.consistent_point, true).await;
    let events = until_commits(&mut stream, 1).await;
    let Event::Change(Change::Insert { new, .. }) = &events[1] else { panic!("{events:?}") };
    let values: Vec<Column<'_>> = new.columns().collect();
    assert_eq!(values[..2], [Column::Binary(&[0, 0, 1, 2]), Column::Null]);
    assert!(matches!(values[2], Column::Binary(bytes) if bytes.len() == 8));
}

#[tokio::test]
async fn what_is_confirmed_moves_the_slot() {
    let server = Postgres::start(15).await;
    server.sql("postgres", "CREATE TABLE t (n int); CREATE PUBLICATION p FOR TABLE t").await;
    let mut connection = connect(&server).await;
    let slot = connection.create_slot("s", false, SlotSnapshot::Nothing, false).await.unwrap();
    let mut stream = start(connection, slot.consistent_point, false).await;
    server.sql("postgres", "INSERT INTO t VALUES (1)").await;
    let events = until_commits(&mut stream, 1).await;
    let Some(Event::Commit { end_lsn, .. }) = events.last() else { panic!("{events:?}") };
    let positions = |written: Lsn, flushed: Lsn, applied: Lsn| {
        format!(
            "SELECT coalesce(bool_and(write_lsn = '{written}' AND flush_lsn = '{flushed}' AND replay_lsn = '{applied}'), false) \
             FROM pg_stat_replication WHERE application_name = 'walferry'"
        )
    };
    let start = slot.consistent_point;
    let status = StandbyStatus { written: *end_lsn, flushed: start, applied: *end_lsn };
    stream.standby_status_update(status, false).await.unwrap();
    server.wait_until("postgres", &positions(*end_lsn, start, *end_lsn), Duration::from_secs(10)).await;
    let status = StandbyStatus { flushed: *end_lsn, ..status };
    stream.standby_status_update(status, false).await.unwrap();
    let confirmed = format!("SELECT confirmed_flush_lsn = '{end_lsn}' FROM pg_replication_slots");
    server.wait_until("postgres", &confirmed, Duration::from_secs(10)).await;
}

async fn start(connection: ReplicationConnection, from: Lsn, binary: bool) -> ReplicationStream {
    let options = StartOptions { publications: vec!["p".into()], messages: false, binary };
    connection.start("s", from, &options).await.unwrap()
}

async fn until_commits(stream: &mut ReplicationStream, commits: usize) -> Vec<Event> {
    until(stream, |events| {
        events.iter().filter(|event| matches!(event, Event::Commit { .. })).count() >= commits
    })
    .await
}

async fn until(stream: &mut ReplicationStream, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let all = async {
        while !enough(&events) {
            match stream.recv().await.unwrap() {
                Some(ReplicationMessage::XLogData(body)) => events.extend(decoder.decode(body.data).unwrap()),
                Some(ReplicationMessage::Keepalive { .. }) => {}
                None => panic!("the stream ended"),
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), all).await.is_ok();
    assert!(in_time, "not all arrived: {events:#?}");
    events
}

fn texts(tuple: &Tuple) -> Vec<String> {
    tuple
        .columns()
        .map(|column| match column {
            Column::Null => "NULL".to_owned(),
            Column::Unchanged => "unchanged".to_owned(),
            Column::Text(text) if text.len() > 100 => format!("#{}", text.len()),
            Column::Text(text) | Column::Binary(text) => String::from_utf8_lossy(text).into_owned(),
        })
        .collect()
}

fn show(change: &Change) -> String {
    let old = |old: &OldTuple| match old {
        OldTuple::Key(tuple) => format!("key {}", texts(tuple).join(" ")),
        OldTuple::Full(tuple) => format!("full {}", texts(tuple).join(" ")),
    };
    match change {
        Change::Insert { relation, new } => format!("insert {} {}", relation.name, texts(new).join(" ")),
        Change::Update { relation, old: before, new } => {
            let before = before.as_ref().map(|before| format!("{} => ", old(before))).unwrap_or_default();
            format!("update {} {before}{}", relation.name, texts(new).join(" "))
        }
        Change::Delete { relation, old: before } => format!("delete {} {}", relation.name, old(before)),
        Change::Truncate { relations, restart_identity, .. } => {
            let mut names: Vec<String> = relations.iter().map(|relation| relation.name.to_string()).collect();
            names.sort();
            format!("truncate {}{}", names.join(" "), if *restart_identity { " restart" } else { "" })
        }
    }
    .trim_end()
    .to_owned()
}
