//! Whatever libpq takes as a connection string connects, under settings that nobody can change under us.

use pg::params::Environment;
use pg::{Class, Params, Purpose, Session, Wire};

use crate::support::{Postgres, postgres, programs, scratch};

fn parse(text: &str) -> Params {
    Params::parse_with(text, &Environment::of(&[], None, "nobody")).unwrap()
}

async fn wire(text: &str) -> pg::Result<Wire> {
    Wire::connect(&parse(text), Purpose::Query, "walferry", false).await
}

async fn refusal(text: &str) -> pg::Error {
    match wire(text).await {
        Ok(_) => panic!("{text} was let in"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn by_uri_keywords_socket_and_list() {
    let server = Postgres::builder(15).database("a b").start().await;
    let (port, folder) = (server.port(), server.socket_folder().display().to_string());
    let closed = postgres::free_port();
    for text in [
        format!("postgresql://postgres@127.0.0.1:{port}/a%20b"),
        format!("postgresql:///a%20b?host={folder}&port={port}&user=postgres"),
        format!("host=127.0.0.1 port={port} user=postgres dbname='a b'"),
        format!("host={folder} port={port} user=postgres dbname='a b'"),
        format!("host=no.such.host.invalid hostaddr=127.0.0.1 port={port} user=postgres dbname='a b'"),
        format!("postgresql://postgres@127.0.0.1:{closed},127.0.0.1:{port}/a%20b"),
        format!(
            "postgresql://postgres@no.such.host.invalid:1,127.0.0.1:{port}/a%20b?target_session_attrs=primary&sslmode=prefer"
        ),
        format!("postgresql://postgres@127.0.0.1:{port}/a%20b?target_session_attrs=prefer-standby"),
    ] {
        let mut wire = wire(&text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(
            wire.simple_value("SELECT current_database()").await.unwrap().as_deref(),
            Some("a b"),
            "{text}"
        );
        let session = Session::connect(&parse(&text), Purpose::Query, "walferry").await.unwrap();
        assert_eq!(session.query_one("SELECT 40 + $1::int4", &[&2]).await.unwrap().get::<_, i32>(0), 42);
        assert_eq!(session.version().major(), 15);
    }
    let error =
        refusal(&format!("postgresql://postgres@127.0.0.1:{port}/postgres?target_session_attrs=standby"))
            .await;
    assert_eq!(error.class(), Class::Connection);
    let error = refusal(&format!("postgresql://postgres@127.0.0.1:{closed}/postgres")).await;
    assert_eq!(error.class(), Class::Connection);
    let error = refusal(&format!("postgresql://postgres@127.0.0.1:{port}/nope")).await;
    assert_eq!((error.class(), error.hint_text()), (Class::Refuse, Some("CREATE DATABASE \"nope\"")));
}

#[tokio::test]
async fn passwords_come_from_everywhere_and_are_shown_nowhere() {
    let server = Postgres::builder(15)
        .hba("host all app all scram-sha-256")
        .hba("host all old all md5")
        .hba("host all clear all password")
        .start()
        .await;
    server.create_role("app", "PASSWORD 'c4n4ry:1'").await;
    server.create_role("clear", "PASSWORD 'c4n4ry:1'").await;
    server
        .sql("postgres", "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'c4n4ry:1'")
        .await;
    let port = server.port();
    let at =
        |role: &str, rest: &str| format!("host=127.0.0.1 port={port} user={role} dbname=postgres {rest}");

    wire(&at("app", "password=c4n4ry:1")).await.unwrap();
    let home = scratch::folder("home");
    let private = |name: &str, text: String| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(home.join(name), text).unwrap();
        std::fs::set_permissions(home.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    private(".pgpass", format!("127.0.0.1:{port}:postgres:app:c4n4ry\\:1\n"));
    private(".pg_service.conf", format!("[moved]\nhost=127.0.0.1\nport={port}\nuser=app\ndbname=postgres\n"));
    let environment = Environment::of(&[], Some(&home), "nobody");
    let params = Params::parse_with("service=moved", &environment).unwrap();
    Wire::connect(&params, Purpose::Query, "walferry", false).await.unwrap();
    let environment = Environment::of(&[("PGPASSWORD", "c4n4ry:1")], None, "nobody");
    let params = Params::parse_with(&at("app", ""), &environment).unwrap();
    Wire::connect(&params, Purpose::Query, "walferry", false).await.unwrap();

    for (text, code) in [
        (at("app", "password=c4n4ry:2"), "28P01"),
        (at("app", ""), "PASSWORD"),
        (at("old", "password=c4n4ry:1"), "AUTH"),
        (at("clear", "password=c4n4ry:1"), "AUTH"),
        (at("app", "password=c4n4ry:1 require_auth=none"), "AUTH"),
        (at("postgres", "require_auth=scram-sha-256"), "AUTH"),
        (at("app", "password=c4n4ry:1 channel_binding=require"), "AUTH"),
    ] {
        let error = refusal(&text).await;
        assert_eq!((error.class(), error.code()), (Class::Refuse, code), "{text}: {error}");
        let shown = format!("{error} {error:?} {:?}", error.hint_text());
        assert!(!shown.contains("c4n4ry"), "{shown}");
    }
    wire(&at("old", "password=c4n4ry:1 require_auth=md5")).await.unwrap();
    wire(&at("clear", "password=c4n4ry:1 require_auth=password")).await.unwrap();
}

#[tokio::test]
async fn settings_are_pinned_on_every_major() {
    for major in programs::majors() {
        let server = Postgres::start(major).await;
        server
            .sql(
                "postgres",
                "ALTER ROLE postgres SET datestyle = 'German';
                 ALTER ROLE postgres SET intervalstyle = 'iso_8601';
                 ALTER DATABASE postgres SET timezone = 'Asia/Tokyo';
                 ALTER DATABASE postgres SET bytea_output = 'escape';
                 ALTER ROLE postgres SET extra_float_digits = 0;
                 ALTER ROLE postgres SET search_path = public;
                 ALTER ROLE postgres SET statement_timeout = '1min';
                 ALTER ROLE postgres SET lock_timeout = '1min';
                 ALTER ROLE postgres SET default_transaction_read_only = on;
                 ALTER ROLE postgres SET default_transaction_isolation = 'serializable';
                 ALTER ROLE postgres SET standard_conforming_strings = off",
            )
            .await;
        let uri =
            format!("{}?options=-c%20work_mem%3D7MB%20-c%20datestyle%3DPostgres", server.uri("postgres"));
        for replication in [false, true] {
            let mut wire = Wire::connect(&parse(&uri), Purpose::TargetApply, "walferry (copy)", replication)
                .await
                .unwrap();
            for (setting, value) in [
                ("datestyle", "ISO, MDY"),
                ("intervalstyle", "postgres"),
                ("timezone", "UTC"),
                ("bytea_output", "hex"),
                ("extra_float_digits", "3"),
                ("search_path", "pg_catalog"),
                ("client_encoding", "UTF8"),
                ("lc_monetary", "C"),
                ("row_security", "off"),
                ("xmloption", "content"),
                ("statement_timeout", "0"),
                ("lock_timeout", "0"),
                ("default_transaction_read_only", "off"),
                ("default_transaction_isolation", "read committed"),
                ("standard_conforming_strings", "on"),
                ("array_nulls", "on"),
                ("tcp_keepalives_idle", "10"),
                ("work_mem", "7MB"),
                ("application_name", "walferry (copy)"),
            ] {
                let shown = wire.simple_value(&format!("SHOW {setting}")).await.unwrap();
                // The order of day and month is not ours to set, and only matters for input.
                let shown =
                    shown.map(|shown| if setting == "datestyle" { shown[..3].to_owned() } else { shown });
                let value = if setting == "datestyle" { "ISO" } else { value };
                assert_eq!(shown.as_deref(), Some(value), "{setting} on {major}");
            }
            assert_eq!(wire.version().major(), major);
        }
    }
}

#[tokio::test]
async fn statements_are_cancelled_and_sessions_end() {
    let server = Postgres::start(15).await;
    let session =
        Session::connect(&parse(&server.uri("postgres")), Purpose::Query, "walferry").await.unwrap();
    let canceller = session.canceller();
    let sleeping = "SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(1000)' AND state = 'active'";
    let (slept, ()) = tokio::join!(session.batch_execute("SELECT pg_sleep(1000)"), async {
        server.wait_until("postgres", sleeping, std::time::Duration::from_secs(20)).await;
        canceller.cancel().await.unwrap();
    });
    assert!(pg::Error::from(slept.unwrap_err()).is("57014"));
    let closed = session.closed();
    server.sql("postgres", &format!("SELECT pg_terminate_backend({})", session.backend_pid())).await;
    closed.await;
    let error = pg::Error::from(session.batch_execute("SELECT 1").await.unwrap_err());
    assert_eq!(error.class(), Class::Connection);
}

#[tokio::test]
async fn deep_pipelines_and_copies_pass_through() {
    use pg::wire::{CopyOut, tag};
    use postgres_protocol::IsNull;
    use postgres_protocol::message::frontend;

    let server = Postgres::start(15).await;
    let params = parse(&server.uri("postgres"));
    let mut source = Wire::connect(&params, Purpose::SourceSnapshot, "walferry", false).await.unwrap();
    let mut target = Wire::connect(&params, Purpose::TargetApply, "walferry", false).await.unwrap();

    // More than the sockets of both ends hold, in both directions.
    frontend::parse("s", "SELECT $1::text || repeat('y', 1000)", [], target.out()).unwrap();
    for _ in 0..20_000 {
        let value = |(), out: &mut bytes::BytesMut| {
            out.extend_from_slice(&[b'z'; 1000]);
            Ok(IsNull::No)
        };
        assert!(frontend::bind("", "s", [0], [()], value, [0], target.out()).is_ok());
        frontend::execute("", 0, target.out()).unwrap();
    }
    frontend::sync(target.out());
    target.flush().await.unwrap();
    let mut rows = 0;
    loop {
        let frame = target.recv().await.unwrap().into_result().unwrap();
        match frame.tag {
            tag::DATA_ROW => rows += 1,
            tag::READY_FOR_QUERY => break,
            _ => {}
        }
    }
    assert_eq!(rows, 20_000);

    server.sql("postgres", "CREATE TABLE copied (a int, b text)").await;
    let select = "SELECT i, repeat('x', i % 3000) FROM generate_series(1, 20000) i";
    for format in ["text", "binary"] {
        source.copy_out(&format!("COPY ({select}) TO STDOUT (FORMAT {format})")).await.unwrap();
        target.copy_in(&format!("COPY public.copied FROM STDIN (FORMAT {format})")).await.unwrap();
        let mut frames = 0;
        while let CopyOut::Data(chunk) = source.recv_copy_chunk().await.unwrap() {
            frames += chunk.frames;
            assert_eq!(
                chunk.payloads().map(|payload| payload.len() as u64).sum::<u64>(),
                chunk.payload_bytes()
            );
            target.write_bytes(chunk.bytes).await.unwrap();
        }
        assert!(frames >= 20_000);
        assert_eq!(source.copy_out_end().await.unwrap(), 20_000);
        assert_eq!(target.copy_in_end().await.unwrap(), 20_000);
    }
    let same = format!(
        "SELECT count(*) FROM public.copied c LEFT JOIN ({select}) s(a, b) USING (a, b) WHERE s.a IS NULL"
    );
    assert_eq!(target.simple_value(&same).await.unwrap().as_deref(), Some("0"));

    // An error in the middle leaves both usable.
    target.copy_in("COPY public.copied FROM STDIN").await.unwrap();
    target.write_bytes(bytes::Bytes::from_static(b"d\0\0\0\x0cnonsense")).await.unwrap_or(());
    target.write_bytes(bytes::Bytes::from_static(b"d\0\0\0\x05\n")).await.unwrap();
    assert_eq!(target.copy_in_end().await.unwrap_err().sqlstate(), Some("22P02"));
    let broken = source.copy_out("COPY (SELECT 1 / (i - 5) FROM generate_series(1, 9) i) TO STDOUT").await;
    let broken = match broken {
        Ok(()) => loop {
            match source.recv_copy_chunk().await {
                Ok(CopyOut::Data(_)) => {}
                Ok(CopyOut::Done) => panic!("division by zero went unseen"),
                Err(error) => break error,
            }
        },
        Err(error) => error,
    };
    assert_eq!(broken.sqlstate(), Some("22012"));
    for wire in [&mut source, &mut target] {
        assert_eq!(wire.simple_value("SELECT 1").await.unwrap().as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn a_message_too_long_is_refused_by_its_length() {
    let server = Postgres::start(15).await;
    let mut wire = wire(&server.uri("postgres")).await.unwrap();
    wire.set_message_limit(1 << 20);
    let error = wire.simple("SELECT repeat('x', 2000000)").await.unwrap_err();
    assert_eq!(error.code(), "MESSAGE_TOO_LARGE");
}
