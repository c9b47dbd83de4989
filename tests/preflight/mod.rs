//! `walferry check` finds everything at once, says what fixes it, changes nothing, and is believed by `migrate`.

mod connections;
mod locks;
mod objects;
mod privileges;

use serde_json::Value;

use crate::support::{Postgres, Walferry};

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
