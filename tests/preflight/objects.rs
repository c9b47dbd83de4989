//! Slots, publications, tables and what they need, of which something is there already or is missing.

use super::{check, fix};
use crate::support::{Postgres, Walferry};

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
async fn malformed_patterns_are_bad_usage() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(15).await);
    let walferry = Walferry::new(&source.uri("postgres"), &target.uri("postgres"));
    walferry.command("check").args(&["--table", "a.b.c"]).run().await.expect_code(2);
    source.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let found = check(&walferry, &["--table", "nothing"]).await;
    assert_eq!(found.refused(), ["NO_TABLES"]);
}

#[tokio::test]
async fn identity_columns_that_no_update_can_set_are_named() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(15).await);
    source
        .sql("postgres", "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE o (k int PRIMARY KEY, n int); INSERT INTO o VALUES (1, 7)")
        .await;
    target
        .sql(
            "postgres",
            "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int);
             CREATE TABLE o (k int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY)",
        )
        .await;
    let walferry = Walferry::new(&source.uri("postgres"), &target.uri("postgres"));
    let found = check(&walferry, &["--existing-schema"]).await;
    let statement = |table, column| {
        format!("ALTER TABLE \"public\".\"{table}\" ALTER COLUMN \"{column}\" SET GENERATED BY DEFAULT;")
    };
    let both = [statement("o", "n"), statement("t", "id")];
    assert_eq!(fix(found.get("warning", "target", "IDENTITY_ALWAYS")), both.join("\n"));
    // A copy alone updates nothing.
    walferry.command("copy").args(&["--existing-schema"]).run().await.expect_code(0);
    assert_eq!(target.value::<i32>("postgres", "SELECT n FROM o").await, 7);
    for sql in &both {
        target.sql("postgres", sql).await;
    }
    let found = check(&walferry, &["--existing-schema"]).await;
    assert_eq!(found.code, 0, "{:#?}", found.all);
    found.none("IDENTITY_ALWAYS");
}

#[tokio::test]
async fn databases_without_an_encoding_are_warned_of_and_no_byte_is_changed() {
    let (source, target) = Postgres::pair(15, 17).await;
    for server in [&source, &target] {
        server
            .sql(
                "postgres",
                "CREATE DATABASE plain ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
            )
            .await;
    }
    source
        .sql(
            "plain",
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'caf' || chr(233))",
        )
        .await;
    let walferry = Walferry::new(&source.uri("plain"), &target.uri("plain"));
    let found = check(&walferry, &[]).await;
    assert_eq!(found.code, 0, "{:#?}", found.all);
    assert!(fix(found.get("warning", "target", "ENCODING")).contains("pg_dump --encoding=UTF8"));
    let copied = walferry.command("copy").run().await.expect_code(1);
    assert!(copied.said().contains("invalid byte sequence"), "{}", copied.said());
    assert_eq!(target.text("plain", "SELECT count(*)::text FROM t").await, [[Some("0".to_owned())]]);
}
