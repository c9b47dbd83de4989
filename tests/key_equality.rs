//! Key equality is the target column's: values that are equal may have different texts, and keys of any type are found.

use crate::support::{Feed, Way};

/// Tables (`$t` stands for the name) and two of their keys.
type Keys<'a> = (&'a str, &'a str, &'a str);

/// The same key, written otherwise, within one batch.
fn spellings(table: &str, one: &str, two: &str) -> Vec<String> {
    let statements = [
        "INSERT INTO $t VALUES ($1, 1)",
        "UPDATE $t SET k = $2",
        "UPDATE $t SET v = v + 1",
        "DELETE FROM $t",
        "INSERT INTO $t VALUES ($2, 2); UPDATE $t SET k = $1, v = 7; UPDATE $t SET v = 8; DELETE FROM $t; INSERT INTO $t VALUES ($1, 9)",
        "DELETE FROM $t; INSERT INTO $t VALUES ($2, 3)",
        "DELETE FROM $t",
    ];
    statements.iter().map(|s| s.replace("$t", table).replace("$1", one).replace("$2", two)).collect()
}

fn schema(tables: &[Keys<'_>]) -> String {
    tables.iter().enumerate().map(|(n, (schema, ..))| schema.replace("$t", &format!("t{n}")) + ";").collect()
}

async fn spelled(tables: &[Keys<'_>]) {
    let mut feed = Feed::of(&schema(tables)).ways(&[Way::Sets, Way::Rows, Way::Default]).start().await;
    for (n, (_, one, two)) in tables.iter().enumerate() {
        let changes = spellings(&format!("t{n}"), one, two);
        for change in &changes {
            feed.source(change).await;
        }
        together(&feed, &changes).await;
    }
    feed.expect_exact().await;
    feed.end().await;
}

/// As transactions that reach the writers together, and as one transaction.
async fn together(feed: &Feed, changes: &[String]) {
    feed.together(&changes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    feed.source(&changes.join(";")).await;
}

#[tokio::test]
async fn numeric_keys() {
    spelled(&[("CREATE TABLE $t (k numeric PRIMARY KEY, v int)", "1.0", "1.00")]).await;
}

#[tokio::test]
async fn float_keys() {
    spelled(&[("CREATE TABLE $t (k float8 PRIMARY KEY, v int)", "'0'", "'-0'")]).await;
}

#[tokio::test]
async fn citext_keys() {
    spelled(&[("CREATE EXTENSION citext; CREATE TABLE $t (k citext PRIMARY KEY, v int)", "'abc'", "'ABC'")])
        .await;
}

#[tokio::test]
async fn keys_under_a_nondeterministic_collation() {
    spelled(&[(
        "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE $t (k text COLLATE loose PRIMARY KEY, v int)",
        "'abc'",
        "'ABC'",
    )])
    .await;
}

#[tokio::test]
async fn padded_keys() {
    spelled(&[
        ("CREATE TABLE $t (k char(5) PRIMARY KEY, v int)", "'ab'", "'ab   '"),
        ("CREATE TABLE $t (k bpchar PRIMARY KEY, v int)", "'ab'", "'ab   '"),
    ])
    .await;
}

#[tokio::test]
async fn interval_keys() {
    spelled(&[("CREATE TABLE $t (k interval PRIMARY KEY, v int)", "'1 mon'", "'30 days'")]).await;
}

#[tokio::test]
async fn array_composite_enum_and_range_keys() {
    spelled(&[
        ("CREATE TABLE $t (k numeric[] PRIMARY KEY, v int)", "'{1.0,NULL}'", "'{1.00,NULL}'"),
        (
            "CREATE TYPE pair AS (n numeric, \"T x\" text); CREATE TABLE $t (k pair PRIMARY KEY, v int)",
            "ROW(1.0, 'a,\"')::pair",
            "ROW(1.00, 'a,\"')::pair",
        ),
        (
            "CREATE TYPE \"Mood\" AS ENUM ('a', 'b c'); CREATE TABLE $t (k \"Mood\" PRIMARY KEY, v int)",
            "'a'",
            "'b c'",
        ),
        ("CREATE TABLE $t (k numrange PRIMARY KEY, v int)", "'[1.0,2)'", "'[1.00,2)'"),
        ("CREATE TABLE $t (k int4multirange PRIMARY KEY, v int)", "'{[1,2)}'", "'{[1,2),[4,5)}'"),
    ])
    .await;
}

#[tokio::test]
async fn domain_and_extension_keys() {
    spelled(&[
        (
            "CREATE DOMAIN cents AS numeric CHECK (VALUE > 0); CREATE TABLE $t (k cents PRIMARY KEY, v int)",
            "1.0",
            "1.00",
        ),
        ("CREATE EXTENSION ltree; CREATE TABLE $t (k ltree PRIMARY KEY, v int)", "'a.b'", "'a.c'"),
        ("CREATE EXTENSION hstore SCHEMA pg_catalog; CREATE TABLE $t (k hstore, v int, UNIQUE (k)); ALTER TABLE $t ALTER k SET NOT NULL, REPLICA IDENTITY USING INDEX $t_k_key", "'a=>1'", "'a=>2'"),
    ])
    .await;
}

#[tokio::test]
async fn keys_of_every_plain_type() {
    let plain = [
        ("uuid", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
        ("bytea", r"'\x00ff'", r"'\x00'"),
        ("bool", "true", "false"),
        ("\"char\"", "'a'", "'b'"),
        ("name", "'a'", "'b'"),
        ("date", "'4713-01-01 BC'", "'infinity'"),
        ("timestamptz", "'2000-01-01 00:00:00.000001+00'", "'-infinity'"),
        ("time", "'24:00:00'", "'00:00:00'"),
        ("timetz", "'12:00+02'", "'12:00+03'"),
        ("inet", "'10.0.0.1/8'", "'10.0.0.1'"),
        ("macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
        ("bit(3)", "B'101'", "B'010'"),
        ("varbit", "B'101'", "B''"),
        ("money", "'1.50'", "'-1.50'"),
        ("oid", "1", "4000000000"),
        ("regclass", "'pg_class'", "'pg_type'"),
        ("pg_lsn", "'0/1'", "'F/0'"),
        ("tsvector", "'a b'", "'b'"),
        ("jsonb", r#"'{"a": 1.0}'"#, r#"'{"a": 1.00}'"#),
    ];
    let tables = plain.map(|(kind, ..)| format!("CREATE TABLE $t (k {kind} PRIMARY KEY, v int)"));
    let keys: Vec<Keys> =
        tables.iter().zip(plain).map(|(table, (_, one, two))| (table.as_str(), one, two)).collect();
    let mut feed = Feed::of(&schema(&keys)).ways(&[Way::Sets]).start().await;
    // One type after the other: what the sets of one are refused for does not hide those of the next.
    for (n, (_, one, two)) in keys.iter().enumerate() {
        together(&feed, &spellings(&format!("t{n}"), one, two)).await;
        feed.applied().await;
    }
    feed.expect_exact().await;
    feed.end().await;
}
