//! Every kind of table and value, from each major to others, whole and in pieces.

use crate::support::oracle;
use crate::support::{Postgres, Walferry};

/// What every major from 10 on has.
const SCHEMA: &str = r#"
    CREATE SCHEMA "s ""1"; CREATE SCHEMA app;
    CREATE TYPE app.mood AS ENUM ('sad', 'it''s, "ok"');
    CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN app.tags AS text[];
    CREATE TYPE app.pair AS (a int, b text);
    CREATE TYPE app.floats AS RANGE (subtype = float8);
    CREATE TABLE "s ""1"."a table, with ; -- everything in its name and 63 bytes long ééé" (
        "select" int PRIMARY KEY, "quo""te" text, "$1" text DEFAULT 'x', "new
line" bool);
    INSERT INTO "s ""1"."a table, with ; -- everything in its name and 63 bytes long ééé" SELECT g, 'a"b\c' || chr(9) || chr(10), NULL, g % 2 = 0
        FROM generate_series(1, 1000) g;
    CREATE TABLE app.nothing ();
    INSERT INTO app.nothing SELECT FROM generate_series(1, 7);
    CREATE TABLE app.empty (id int PRIMARY KEY, v text);
    CREATE TABLE app.numbers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, i2 int2, i8 int8, r float4, d float8, n numeric, m numeric(10, 2), o oid, c money);
    INSERT INTO app.numbers (i2, i8, r, d, n, m, o, c) VALUES (1, -9223372036854775808, '-0', 'NaN', 'NaN', 12.3, 4294967295, 12.34),
        (NULL, 9223372036854775807, '1e-45', '-Infinity', ('1' || repeat('0', 5000))::numeric / 3, -0.01, 0, -0.01), (-32768, 0, '3.4028235e38', 4.9e-324, 1e-1000, 0, 1, 0);
    CREATE TABLE app.times (id int PRIMARY KEY, d date, t time, tz timetz, ts timestamp, tstz timestamptz, i interval);
    INSERT INTO app.times VALUES (1, '4713-01-01 BC', '24:00', '12:00+14', '-infinity', 'infinity', '-178000000 years'), (2, 'infinity', '00:00', '00:00-12', '294276-12-31', '2000-01-01 00:00:00.123456+02', '1 mon -1 day 00:00:01');
    CREATE TABLE app.kinds (id int PRIMARY KEY, m app.mood, ms app.mood[], p app.positive, tg app.tags, pr app.pair, prs app.pair[], f app.floats,
        r int4range, rs tstzrange[], a int[], aa text[][], j json, jb jsonb, x xml, b bytea, u uuid, ip inet, mac macaddr, bt bit(3), vb varbit, ch char(10), vc varchar(5),
        ts tsvector, tq tsquery, cl regclass, rt regtype, pt point, bx box, po polygon, nm name, qc "char");
    INSERT INTO app.kinds VALUES (1, 'sad', '{sad,"it''s, \"ok\""}', 1, '{a,NULL,"NULL"}', '(1,"x,y")', '{"(2,)"}', '[1.5,2)', '[1,5)', '{"[2000-01-01,)"}', '[0:1]={1,2}',
        '{{a,b},{c,"{}"}}', '{"a": "\u0000", "a":  1}', '{"k": [1, null]}', '<?xml version="1.0"?><a>é</a>', '\x00ff5c', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1/8',
        '08:00:2b:01:02:03', B'101', B'1', 'pad', 'abcde', 'a:1A b', 'a & !b', 'app.numbers', 'app.mood', '(1,-0)', '((1,2),(0,0))', '((0,0),(1,1),(1,0))', 'n', 'q'),
        (2, NULL, '{}', NULL, '{}', NULL, NULL, 'empty', 'empty', '{}', '{}', NULL, 'null', 'null', NULL, '', NULL, NULL, NULL, NULL, '', '', '', '', '', NULL, NULL, NULL, NULL, NULL, '', '');
    CREATE TABLE app.wide (id int PRIMARY KEY, v text, b bytea);
    ALTER TABLE app.wide ALTER v SET STORAGE EXTERNAL;
    INSERT INTO app.wide SELECT g, repeat(md5(g::text), 4000), decode(repeat(md5(g::text), 3000), 'hex') FROM generate_series(1, 60) g;
    CREATE TABLE app.many (id int, v text, w text);
    INSERT INTO app.many SELECT g, md5(g::text), repeat('y', g % 50) FROM generate_series(1, 60000) g;
    DELETE FROM app.many WHERE id BETWEEN 20000 AND 40000;
    ALTER TABLE app.many ADD COLUMN later int DEFAULT 42, DROP COLUMN w;
    INSERT INTO app.many SELECT g, 'again', g FROM generate_series(1, 100) g;
    CREATE TABLE app.parent (id int, v text); CREATE TABLE app.child (extra text) INHERITS (app.parent);
    INSERT INTO app.parent VALUES (1, 'parent'); INSERT INTO app.child VALUES (2, 'child', 'x'), (2, 'child', 'x');
    CREATE TABLE app.list (id int, k text) PARTITION BY LIST (k);
    CREATE TABLE app.list_a PARTITION OF app.list FOR VALUES IN ('a'); CREATE TABLE app.list_b (k text, gone int, id int); ALTER TABLE app.list_b DROP gone;
    ALTER TABLE app.list ATTACH PARTITION app.list_b FOR VALUES IN ('b');
    INSERT INTO app.list SELECT g, CASE WHEN g % 2 = 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 500) g;
    CREATE UNLOGGED TABLE app.unlogged AS SELECT g AS id FROM generate_series(1, 10) g;
"#;

/// Generated columns: from 12 on.
const GENERATED: &str = "
    CREATE TABLE app.generated (a int, twice int GENERATED ALWAYS AS (a * 2) STORED, b text);
    INSERT INTO app.generated (a, b) SELECT g, 'g' FROM generate_series(1, 100) g;
    CREATE TABLE app.all_generated (twice int GENERATED ALWAYS AS (2) STORED);
    INSERT INTO app.all_generated DEFAULT VALUES;
    INSERT INTO app.all_generated DEFAULT VALUES;";

async fn arrives(source_major: u32, target_major: u32, settings: &[&str]) {
    let (source, target) = tokio::join!(
        Postgres::builder(source_major).database("app").start(),
        Postgres::builder(target_major).database("app").start()
    );
    source.sql("app", SCHEMA).await;
    if source_major >= 12 {
        source.sql("app", GENERATED).await;
    }
    if source_major >= 15 {
        // Of the same kind on both sides only from 14 on.
        source
            .sql(
                "app",
                "CREATE TABLE app.multi (m int4multirange); INSERT INTO app.multi VALUES ('{[1,2),[5,)}')",
            )
            .await;
    }
    let (from, to) = (source.uri("app"), target.uri("app"));
    Walferry::new(&from, &to).command("copy").args(settings).run().await.expect_code(0);
    oracle::expect_same(&from, &to).await;
}

#[tokio::test]
async fn from_10_to_18() {
    arrives(10, 18, &["--jobs", "2"]).await;
}

#[tokio::test]
async fn from_15_to_15_in_pieces() {
    arrives(15, 15, &["--jobs", "4", "--set", "copy.chunk_bytes_min=64kB"]).await;
}

#[tokio::test]
async fn from_18_to_15_in_pieces_as_text() {
    arrives(18, 15, &["--jobs", "3", "--set", "copy.chunk_bytes_min=64kB", "--set", "copy.binary=off"]).await;
}

#[tokio::test]
async fn from_13_to_17_one_at_a_time() {
    arrives(13, 17, &["--jobs", "1"]).await;
}

/// A table that arrives in one piece is frozen: no vacuum has to visit it again.
#[tokio::test]
async fn whole_tables_are_frozen() {
    let (source, target) = tokio::join!(
        Postgres::builder(15).database("app").start(),
        Postgres::builder(15).database("app").start()
    );
    source
        .sql("app", "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 5000) g")
        .await;
    target.sql("app", "CREATE EXTENSION pg_visibility").await;
    Walferry::new(&source.uri("app"), &target.uri("app")).command("copy").run().await.expect_code(0);
    let visible = "SELECT bool_and(all_visible AND all_frozen) AND count(*) > 1 FROM pg_visibility('t')";
    assert!(target.value::<bool>("app", visible).await);
}

/// Memory follows neither the table nor its rows.
#[tokio::test]
async fn a_long_row_is_passed_on_as_it_arrives() {
    let (source, target) = tokio::join!(
        Postgres::builder(15).database("app").start(),
        Postgres::builder(15).database("app").start()
    );
    source
        .sql(
            "app",
            "CREATE TABLE t (id int PRIMARY KEY, v text, n int); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
             INSERT INTO t SELECT g, CASE WHEN g % 2 = 0 THEN repeat('x', 60000000) ELSE 'short' END, g FROM generate_series(1, 4) g",
        )
        .await;
    for binary in ["on", "off"] {
        let mut running = Walferry::new(&source.uri("app"), &target.uri("app"))
            .command("copy")
            .args(&["--set", &format!("copy.binary={binary}")])
            .spawn();
        let mut peak = 0;
        while running.is_running() {
            peak = peak.max(running.peak_memory());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        running.wait_exit().await.expect_code(0);
        assert!((1..50_000_000).contains(&peak), "{peak} bytes with rows of 60 MB");
        oracle::expect_same(&source.uri("app"), &target.uri("app")).await;
        target.sql("app", "DROP TABLE t").await;
    }
}
