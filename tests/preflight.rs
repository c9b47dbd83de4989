//! `walferry check` finds everything at once, says what fixes it, changes nothing, and is believed by `migrate`.

use serde_json::Value;

use crate::support::walferry::Output;
use crate::support::{Postgres, Walferry, oracle, postgres};

const CANARY: &str = "canary-kJ8x-password";

/// The findings of `check --json`.
struct Findings {
    code: i32,
    all: Vec<Value>,
    said: String,
}

async fn check(walferry: &Walferry, arguments: &[&str]) -> Findings {
    let output = walferry.command("check").arg("--json").args(arguments).run().await;
    assert!(matches!(output.code, 0 | 4), "{output:#?}");
    let Value::Array(all) = output.json() else { panic!("no array: {output:#?}") };
    Findings { code: output.code, all, said: output.said() }
}

impl Findings {
    fn get(&self, severity: &str, side: &str, code: &str) -> &Value {
        let found =
            self.all.iter().find(|f| f["severity"] == severity && f["side"] == side && f["code"] == code);
        found.unwrap_or_else(|| panic!("no {severity} {code} of the {side} in {:#?}", self.all))
    }

    fn refused(&self) -> Vec<&str> {
        let refused = self.all.iter().filter(|finding| finding["severity"] == "refuse");
        refused.map(|finding| finding["code"].as_str().unwrap()).collect()
    }

    fn none(&self, code: &str) {
        assert!(self.all.iter().all(|finding| finding["code"] != code), "{:#?}", self.all);
    }
}

fn fix(finding: &Value) -> &str {
    finding["fix"].as_str().unwrap_or_else(|| panic!("no fix: {finding:#?}"))
}

/// Whatever `check` could have changed.
async fn fingerprint(server: &Postgres, database: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    for sql in [
        "SELECT oid, relname, relacl::text, relreplident, relfilenode FROM pg_class WHERE relkind <> 't' ORDER BY oid",
        "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname !~ 'temp' ORDER BY 1",
        "SELECT pubname FROM pg_publication ORDER BY 1",
        "SELECT slot_name, restart_lsn::text FROM pg_replication_slots ORDER BY 1",
        "SELECT rolname FROM pg_roles ORDER BY 1",
        "SELECT name, setting FROM pg_settings WHERE source <> 'session' AND name <> 'application_name' ORDER BY 1",
    ] {
        rows.extend(server.text(database, sql).await);
    }
    rows
}

#[tokio::test]
async fn everything_is_found_at_once_and_nothing_is_changed() {
    for (from, to) in [(10, 18), (13, 15), (15, 13), (18, 15)] {
        let mut builder = Postgres::builder(from)
            .setting("wal_level", "replica")
            .setting("max_replication_slots", 1)
            .setting("wal_sender_timeout", "5s")
            .setting("password_encryption", "scram-sha-256")
            .hba("host all app all scram-sha-256")
            .database("app");
        if from >= 13 {
            builder = builder.setting("max_slot_wal_keep_size", "1GB");
        }
        let source = builder.start().await;
        let target = Postgres::start(to).await;
        target
            .sql(
                "postgres",
                "CREATE DATABASE app ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
            )
            .await;
        source.create_role("app", &format!("PASSWORD '{CANARY}'")).await;
        source
            .sql(
                "app",
                "CREATE ROLE boss; CREATE ROLE reader; CREATE SCHEMA shop;
                 CREATE TABLE shop.keyed (id serial PRIMARY KEY, t text COLLATE \"C\");
                 CREATE TABLE shop.\"No key\" (t text);
                 CREATE UNLOGGED TABLE shop.cache (id int PRIMARY KEY);
                 CREATE TABLE shop.secret (id int PRIMARY KEY); ALTER TABLE shop.secret ENABLE ROW LEVEL SECURITY;
                 CREATE MATERIALIZED VIEW shop.totals AS SELECT count(*) FROM shop.keyed;
                 CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;
                 CREATE FOREIGN TABLE shop.far (id int) SERVER s;
                 GRANT USAGE ON SCHEMA shop TO app; GRANT SELECT ON shop.keyed, shop.secret TO app;
                 GRANT SELECT ON shop.keyed TO reader; ALTER TABLE shop.keyed OWNER TO boss;
                 SELECT lo_create(0);",
            )
            .await;
        source.sql("app", "SELECT pg_create_physical_replication_slot('standby')").await;
        source
            .sql("app", "BEGIN; INSERT INTO shop.keyed (t) VALUES ('x'); PREPARE TRANSACTION 'left over'")
            .await;
        target
            .sql(
                "app",
                "CREATE SCHEMA shop; CREATE TABLE shop.keyed (id int); CREATE ROLE walferry_target LOGIN",
            )
            .await;
        let before = (fingerprint(&source, "app").await, fingerprint(&target, "app").await);

        let walferry = Walferry::new(
            &source.uri_as(&format!("app:{CANARY}"), "app"),
            &target.uri_as("walferry_target", "app"),
        );
        let found = check(&walferry, &["--table", "shop.*", "--table", "shop.none*"]).await;
        assert_eq!(found.code, 4);
        let wal_level = found.get("refuse", "source", "WAL_LEVEL");
        assert!(fix(wal_level).contains("ALTER SYSTEM SET wal_level = 'logical'"));
        let slots = found.get("refuse", "source", "NO_FREE_SLOT");
        assert!(fix(slots).contains("max_replication_slots"), "{slots}");
        assert!(
            fix(found.get("refuse", "source", "REPLICATION_PRIVILEGE"))
                .contains("ALTER ROLE \"app\" REPLICATION")
        );
        let keyless = found.get("refuse", "source", "NO_IDENTITY");
        assert!(fix(keyless).contains("ALTER TABLE \"shop\".\"No key\" REPLICA IDENTITY FULL"), "{keyless}");
        let select = found.get("refuse", "source", "SELECT_PRIVILEGE");
        assert!(
            fix(select).contains("GRANT SELECT ON TABLE \"shop\".\"No key\", \"shop\".\"cache\" TO \"app\""),
            "{select}"
        );
        assert!(fix(found.get("refuse", "source", "ROW_SECURITY")).contains("BYPASSRLS"));
        let publication = found.get("refuse", "source", "PUBLICATION_PRIVILEGE");
        assert!(
            fix(publication).contains("--source-admin") && fix(publication).contains("CREATE PUBLICATION"),
            "{publication}"
        );
        assert!(
            fix(found.get("warning", "source", "SEQUENCE_PRIVILEGE")).contains("\"shop\".\"keyed_id_seq\"")
        );
        assert!(
            fix(found.get("warning", "source", "PREPARED_TRANSACTIONS"))
                .contains("ROLLBACK PREPARED 'left over'")
        );
        found.get("warning", "source", "WAL_SENDER_TIMEOUT");
        found.get("warning", "source", "PATTERN_UNMATCHED");
        for note in ["UNLOGGED", "FOREIGN_TABLES", "MATERIALIZED_VIEWS", "SIZE"] {
            found.get("note", "source", note);
        }
        if from >= 13 {
            found.get("warning", "source", "SLOT_WAL_LIMIT");
        } else {
            found.get("warning", "source", "TRUNCATE_NOT_DECODED");
        }
        found.get("refuse", "target", "ENCODING");
        let roles = found.get("refuse", "target", "ROLE_MISSING");
        assert!(roles["detail"] == "app, boss, reader", "{roles}");
        let occupied = found.get("refuse", "target", "TARGET_NOT_EMPTY");
        assert!(fix(occupied).contains("DROP TABLE \"shop\".\"keyed\" CASCADE"), "{occupied}");
        assert!(
            fix(found.get("refuse", "target", "CONTROL_SCHEMA"))
                .contains("CREATE SCHEMA walferry AUTHORIZATION")
        );
        assert!(fix(found.get("refuse", "target", "CREATE_PRIVILEGE")).contains("--target-admin"));
        let replica = found.get("warning", "target", "REPLICA_ROLE");
        assert_eq!(to >= 15, fix(replica).contains("GRANT SET ON PARAMETER"));

        // A whole dump sees more, and a run is refused with the same findings.
        let whole = check(&walferry, &[]).await;
        whole.get("warning", "source", "LARGE_OBJECTS");
        let run = walferry.command("migrate").run().await.expect_code(4);
        for code in found.refused() {
            assert!(run.stderr.contains(code), "{code} is missing in {}", run.stderr);
        }
        let text = walferry.command("check").run().await.expect_code(4);
        for said in [&found.said, &run.said(), &text.said()] {
            assert!(!said.contains(CANARY), "{said}");
        }
        assert!(text.stdout.contains("fix: "), "{}", text.stdout);
        let after = (fingerprint(&source, "app").await, fingerprint(&target, "app").await);
        assert_eq!(before, after, "{from} to {to}");
    }
}

#[tokio::test]
async fn a_sound_pair_has_nothing_that_refuses() {
    for (from, to) in [(10, 15), (13, 13), (15, 15), (18, 18)] {
        let (source, target) = (Postgres::start(from).await, Postgres::start(to).await);
        source.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY); CREATE EXTENSION hstore").await;
        let found = check(&Walferry::new(&source.uri("postgres"), &target.uri("postgres")), &[]).await;
        assert_eq!(found.code, 0, "{from} to {to}: {:#?}", found.all);
        found.none("REPLICA_ROLE");
        found.none("MINOR_VERSION");
    }
}

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

#[tokio::test]
async fn slots_and_publications_of_others_are_refused() {
    let (source, target) = (Postgres::start(18).await, Postgres::start(15).await);
    source
        .sql("postgres", "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION walferry FOR TABLE t")
        .await;
    source.sql("postgres", "SELECT pg_create_logical_replication_slot('walferry', 'pgoutput')").await;
    source.sql("postgres", "SELECT pg_create_logical_replication_slot('other', 'test_decoding')").await;
    let walferry = Walferry::new(&source.uri("postgres"), &target.uri("postgres"));
    let found = check(&walferry, &[]).await;
    assert!(fix(found.get("refuse", "source", "SLOT_EXISTS")).contains("--slot walferry"));
    assert!(
        fix(found.get("refuse", "source", "PUBLICATION_EXISTS")).contains("DROP PUBLICATION \"walferry\"")
    );
    let found = check(&walferry, &["--publication", "walferry", "--slot", "walferry"]).await;
    assert_eq!(found.code, 0, "{:#?}", found.all);
    let found = check(&walferry, &["--publication", "walferry,gone", "--slot", "other"]).await;
    assert!(
        found.get("refuse", "source", "PUBLICATION_MISSING")["primary"]
            .as_str()
            .unwrap()
            .contains("\"gone\"")
    );
    found.get("refuse", "source", "SLOT_UNUSABLE");
    source
        .sql(
            "postgres",
            "CREATE TABLE u (id int, x int); CREATE PUBLICATION a FOR TABLE u (id); CREATE PUBLICATION b FOR TABLE u (x)",
        )
        .await;
    let found = check(&walferry, &["--publication", "a,b", "--name", "x"]).await;
    assert!(
        found.get("refuse", "source", "COLUMN_LISTS_DIFFER")["primary"].as_str().unwrap().contains("\"u\"")
    );
    // Published by others, a table without identity is the source's affair.
    let found = check(&walferry, &["--publication", "a", "--name", "x"]).await;
    assert!(fix(found.get("warning", "source", "NO_IDENTITY")).contains("\"u\""));
}

#[tokio::test]
async fn an_existing_schema_is_compared_by_name() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(15).await);
    source
        .sql(
            "postgres",
            "CREATE TABLE a (id int PRIMARY KEY, \"New one\" numeric(10,2)); CREATE TABLE b (x int NOT NULL, y text[], PRIMARY KEY (x));
             CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE d (id int PRIMARY KEY)",
        )
        .await;
    target
        .sql(
            "postgres",
            "CREATE TABLE a (own int NOT NULL, id int PRIMARY KEY); CREATE VIEW b AS SELECT 1 AS x; CREATE TABLE c (id bigint PRIMARY KEY);
             CREATE TABLE d (id int); ALTER TABLE d ENABLE ROW LEVEL SECURITY; CREATE ROLE w LOGIN;
             CREATE TRIGGER fires BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
             ALTER TABLE c ENABLE ALWAYS TRIGGER fires;
             GRANT CREATE ON DATABASE postgres TO w; GRANT INSERT ON a, d TO w",
        )
        .await;
    let walferry = Walferry::new(&source.uri("postgres"), &target.uri_as("w", "postgres"));
    let found = check(&walferry, &["--existing-schema"]).await;
    let table = found.get("refuse", "target", "TABLE_MISSING");
    let sql = "CREATE TABLE \"public\".\"b\" (\"x\" integer NOT NULL, \"y\" text[], PRIMARY KEY (\"x\"));";
    assert_eq!(fix(table), sql);
    let column = found.get("refuse", "target", "COLUMN_MISSING");
    assert_eq!(fix(column), "ALTER TABLE \"public\".\"a\" ADD COLUMN \"New one\" numeric(10,2);");
    found.get("warning", "target", "COLUMN_NOT_NULL");
    assert!(
        fix(found.get("refuse", "target", "WRITE_PRIVILEGE")).contains("ON TABLE \"public\".\"c\" TO \"w\"")
    );
    found.get("warning", "target", "WRITE_PRIVILEGE");
    assert!(fix(found.get("refuse", "target", "ROW_SECURITY")).contains("BYPASSRLS"));
    found.none("TARGET_NOT_EMPTY");
    assert_eq!(
        fix(found.get("warning", "target", "KEY_INDEX")),
        "CREATE INDEX ON \"public\".\"d\" (\"id\");"
    );
    found.get("note", "target", "TRIGGERS_FIRE");
    // What is said to fix it does.
    target.sql("postgres", "DROP VIEW b").await;
    for sql in [sql, fix(column), "ALTER TABLE a ALTER own DROP NOT NULL", "ALTER ROLE w BYPASSRLS"] {
        target.sql("postgres", sql).await;
    }
    target.sql("postgres", "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON a, b, c, d TO w").await;
    let found = check(&walferry, &["--existing-schema"]).await;
    assert_eq!(found.code, 0, "{:#?}", found.all);
}

#[tokio::test]
async fn the_grants_it_prints_are_enough() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(15).await);
    let tables = "CREATE SCHEMA app; CREATE TABLE app.a (id serial PRIMARY KEY); CREATE TABLE app.\"b\"\"b\" (id int PRIMARY KEY)";
    source.sql("postgres", tables).await;
    target.sql("postgres", tables).await;
    let as_owner = Walferry::new(&source.uri("postgres"), &target.uri("postgres"));
    let script = |output: Output| output.expect_code(0).stdout.replace("PASSWORD '…'", "PASSWORD 'x'");
    let limited = Walferry::new(&source.uri_as("ws", "postgres"), &target.uri_as("wt", "postgres"));
    let printed = script(as_owner.command("check").args(&["--grants", "--existing-schema"]).run().await);
    let (for_source, for_target) = printed.split_once("-- on the target").unwrap();
    // As the owner has run it for the roles to be.
    source
        .sql(
            "postgres",
            &for_source.replace("\"postgres\" LOGIN", "\"ws\" LOGIN").replace("TO \"postgres\"", "TO \"ws\""),
        )
        .await;
    target
        .sql(
            "postgres",
            &for_target
                .replace("\"postgres\" LOGIN", "\"wt\" LOGIN")
                .replace("TO \"postgres\"", "TO \"wt\"")
                .replace("AUTHORIZATION \"postgres\"", "AUTHORIZATION \"wt\""),
        )
        .await;
    let found = check(&limited, &["--existing-schema", "--publication", "walferry"]).await;
    assert_eq!(found.code, 0, "{:#?}", found.all);
    found.none("REPLICA_ROLE");
    found.none("SEQUENCE_PRIVILEGE");
    found.get("warning", "source", "FENCE_PRIVILEGE");
}

#[tokio::test]
async fn what_the_target_lacks_is_named_before_the_dump_fails() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(18).await);
    let folder = source.data_folder().join("elsewhere");
    source.sql("postgres", &format!("COPY (SELECT 1) TO PROGRAM 'mkdir {}'", folder.display())).await;
    source.sql("postgres", &format!("CREATE TABLESPACE \"fast disk\" LOCATION '{}'", folder.display())).await;
    source
        .sql(
            "postgres",
            "CREATE TABLE t (id int PRIMARY KEY, x text) TABLESPACE \"fast disk\";
             CREATE COLLATION pg_catalog.elvish FROM \"C\"; CREATE TABLE u (id int PRIMARY KEY, x text COLLATE elvish);
             CREATE EXTENSION citext; UPDATE pg_extension SET extname = 'no_such_thing' WHERE extname = 'citext'",
        )
        .await;
    let found = check(&Walferry::new(&source.uri("postgres"), &target.uri("postgres")), &[]).await;
    assert!(
        fix(found.get("refuse", "target", "TABLESPACE_MISSING")).contains("CREATE TABLESPACE \"fast disk\"")
    );
    assert_eq!(found.get("refuse", "target", "COLLATION_MISSING")["detail"], "elvish");
    assert!(
        found.get("refuse", "target", "EXTENSION_MISSING")["detail"]
            .as_str()
            .unwrap()
            .contains("no_such_thing")
    );
}

#[tokio::test]
async fn a_long_transaction_is_named_with_its_age() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(15).await);
    source.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let writer = source.connect("postgres").await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1); SELECT pg_sleep(5.2)").await.unwrap();
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let found = check(&Walferry::new(&source.uri("postgres"), &target.uri("postgres")), &[]).await;
    let long = found.get("warning", "source", "LONG_TRANSACTIONS");
    assert!(long["detail"].as_str().unwrap().contains(&format!("pid {pid}")), "{long}");
    assert!(fix(long).contains(&format!("pg_terminate_backend({pid})")));
    assert_eq!(found.code, 0);
}

#[tokio::test]
async fn a_table_that_is_locked_is_named_with_its_holder_and_waited_for() {
    for major in [10, 18] {
        let (source, target) = tokio::join!(Postgres::start(major), Postgres::start(15));
        source.sql("postgres", "CREATE TABLE free (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
        let holder = source.connect("postgres").await;
        holder.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
        let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let walferry = Walferry::new(&source.uri("postgres"), &target.uri("postgres"));
        let found = check(&walferry, &[]).await;
        let locked = found.get("warning", "source", "TABLES_LOCKED");
        let detail = locked["detail"].as_str().unwrap();
        assert!(detail.contains("public.t") && detail.contains(&format!("pid {pid}")), "{locked}");
        assert!(!detail.contains("free"), "{locked}");
        assert!(fix(locked).contains(&format!("pg_terminate_backend({pid})")));
        assert_eq!(found.code, 0);
        // A run says who is in the way, and goes on when the way is free.
        let mut running = walferry.command("migrate").spawn();
        running.wait_for_stderr("1 table(s) are locked").await;
        let who = format!("pid {pid}");
        running.wait_for("who is in the way", |status| status.0["waiting"].to_string().contains(&who)).await;
        running.wait_for_stderr(&format!("the publication waits for locks on the source: {who}")).await;
        holder.batch_execute("COMMIT").await.unwrap();
        running.wait_for_step("live").await;
        running.sigterm();
        running.wait_exit().await.expect_code(143);
        oracle::expect_same(&source.uri("postgres"), &target.uri("postgres")).await;
    }
}

#[tokio::test]
async fn malformed_patterns_are_bad_usage() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(15).await);
    let walferry = Walferry::new(&source.uri("postgres"), &target.uri("postgres"));
    walferry.command("check").args(&["--table", "a.b.c"]).run().await.expect_code(2);
    source.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let found = check(&walferry, &["--table", "nothing"]).await;
    assert_eq!(found.refused(), ["NO_TABLES"]);
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

#[tokio::test]
async fn lock_tables_that_are_too_small_are_named() {
    let small = |major| {
        let builder = Postgres::builder(major).setting("max_locks_per_transaction", 10);
        builder.setting("max_connections", 20).setting("max_prepared_transactions", 0)
    };
    let (source, target) = (small(15).start().await, small(15).start().await);
    let tables: String = (0..60).map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY);")).collect();
    source.sql("postgres", &tables).await;
    let found = check(&Walferry::new(&source.uri("postgres"), &target.uri("postgres")), &[]).await;
    for side in ["source", "target"] {
        assert!(fix(found.get("refuse", side, "LOCK_TABLE")).contains("max_locks_per_transaction"));
    }
}
