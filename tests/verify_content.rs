//! What counts as the same, and what does not.

use writer::verify::{Kind, Options, Outcome, Side, VerifyTable, compare};

use crate::verify_rig::{Rig, differences, expect, options, params, table};

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_cancel_out_in_a_weaker_sum_are_found() {
    let rig = Rig::start(15, 15).await;
    rig.on_both(
        "CREATE TABLE swapped (id int PRIMARY KEY, v text);
         INSERT INTO swapped VALUES (1, 'a'), (2, 'b'), (3, 'c');
         CREATE TABLE doubled (v text); INSERT INTO doubled VALUES ('a');
         CREATE TABLE nulls (id int PRIMARY KEY, v text);
         CREATE TABLE shifted (id int PRIMARY KEY, a text, b text);
         CREATE TABLE columns (id int PRIMARY KEY);
         CREATE TABLE none ();
         INSERT INTO none DEFAULT VALUES",
    )
    .await;
    let rows = |order: &str| {
        format!(
            "INSERT INTO nulls SELECT * FROM (VALUES (1, NULL), (2, ''), (3, 'NULL'), (4, '\\N'), (5, '(,)'), (6, '\"\"')) v ORDER BY {order};
             INSERT INTO shifted VALUES (1, 'a', 'b,c'), (2, 'a\",\"b', ''), (3, NULL, 'x'), (4, '', 'x')"
        )
    };
    rig.source.sql("postgres", &rows("1")).await;
    rig.target.sql("postgres", &rows("1 DESC")).await;
    assert_eq!(rig.compare().await.outcome(), Outcome::Equal);

    rig.target
        .sql(
            "postgres",
            "UPDATE swapped SET v = CASE id WHEN 1 THEN 'b' ELSE 'a' END WHERE id < 3;
             INSERT INTO doubled VALUES ('z'), ('z');
             UPDATE nulls SET v = CASE id WHEN 1 THEN '' WHEN 2 THEN NULL WHEN 3 THEN 'null' ELSE v END;
             UPDATE shifted SET a = 'a,b', b = 'c' WHERE id = 1;
             UPDATE shifted SET a = '', b = 'x' WHERE id = 3;
             INSERT INTO none DEFAULT VALUES",
        )
        .await;
    let report = rig.compare().await;
    expect(table(&report, "swapped"), &["1", "2"], &[], &[]);
    expect(table(&report, "nulls"), &["1", "2", "3"], &[], &[]);
    expect(table(&report, "shifted"), &["1", "3"], &[], &[]);
    expect(table(&report, "columns"), &[], &[], &[]);
    // Two equal rows against none; without a key, by content and place.
    let doubled = table(&report, "doubled");
    assert_eq!((doubled.missing, doubled.extra, doubled.outcome), (0, 2, Outcome::Different));
    assert_eq!(doubled.differences[0].target_places, ["(0,2)", "(0,3)"]);
    assert_eq!((table(&report, "none").extra, table(&report, "none").missing), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_decides_for_every_type() {
    let rig = Rig::start(13, 18).await;
    let load = "SET timezone = 'UTC';
         CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN grade AS int CHECK (VALUE < 10);
         CREATE TABLE t (id int PRIMARY KEY, n numeric, f float8, r real, b bytea, a text[], j json, jb jsonb, ts timestamptz, i interval,
                         c char(5), m mood, p pair, g grade, u uuid, x xml, ran int4range, bits bit(5), ip inet, tsv tsvector, mon money, ch \"char\", \"sel\"\"ect\" int);
         INSERT INTO t VALUES
           (1, 1.0, 0.1, 0.3, '\\x00ff', '{a,NULL,\"NULL\",\"{\"}', '{\"a\": 1}', '{\"a\": 1}', '2024-01-01 12:00+00', '1 day 02:03:04', 'ab', 'sad',
            '(1,\"x,y\")', 3, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '<a/>', '[1,5)', B'10101', '10.0.0.1/8', 'a:1 b:2', 12.34, 'q', 1),
           (2, 'NaN', 'NaN', '-0', NULL, '[0:1]={1,2}', 'null', 'null', 'infinity', '-1 mon', '', 'happy', '(,)', NULL, NULL, NULL, 'empty', B'00000', '::1', '', -5, NULL, NULL),
           (3, 1e-20, '-Infinity', 1e30, '', '{}', '1', '1', '4000-01-01 BC', '0', '     ', NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, (-1)::\"char\", NULL)";
    rig.on_both(load).await;
    // The other defaults of each database must not show. They come after the rows, which the test's own sessions write.
    rig.source
        .sql(
            "postgres",
            "ALTER DATABASE postgres SET datestyle = 'German'; ALTER DATABASE postgres SET timezone = 'Asia/Tokyo';
             ALTER DATABASE postgres SET extra_float_digits = 0; ALTER DATABASE postgres SET statement_timeout = '1ms';
             ALTER ROLE postgres SET intervalstyle = 'sql_standard'",
        )
        .await;
    rig.target
        .sql(
            "postgres",
            "ALTER DATABASE postgres SET bytea_output = 'escape'; ALTER DATABASE postgres SET timezone = 'America/New_York';
             ALTER DATABASE postgres SET lock_timeout = '1ms'; ALTER DATABASE postgres SET idle_in_transaction_session_timeout = '1ms';
             ALTER DATABASE postgres SET transaction_timeout = '200ms'",
        )
        .await;
    let report = rig.compare().await;
    expect(table(&report, "t"), &[], &[], &[]);

    for (change, back) in [
        ("n = 1.00", "n = 1.0"),
        ("f = 0.1 + 1e-18", "f = 0.1"),
        ("j = '{\"a\":1}'", "j = '{\"a\": 1}'"),
        ("b = '\\x00fe'", "b = '\\x00ff'"),
        ("a = '{a,NULL,NULL,\"{\"}'", "a = '{a,NULL,\"NULL\",\"{\"}'"),
        ("ts = ts + interval '1 us'", "ts = '2024-01-01 12:00+00'"),
        ("i = '26:03:04'", "i = '1 day 02:03:04'"),
        ("p = '(1,\"x,z\")'", "p = '(1,\"x,y\")'"),
        ("\"sel\"\"ect\" = 2", "\"sel\"\"ect\" = 1"),
    ] {
        rig.target
            .sql(
                "postgres",
                &format!(
                    "SET transaction_timeout = 0; SET timezone = 'UTC'; UPDATE t SET {change} WHERE id = 1"
                ),
            )
            .await;
        let report = rig.compare().await;
        // A float8 that is the same number is the same.
        let same = change.starts_with("f =");
        expect(table(&report, "t"), if same { &[] } else { &["1"] }, &[], &[]);
        rig.target
            .sql(
                "postgres",
                &format!(
                    "SET transaction_timeout = 0; SET timezone = 'UTC'; UPDATE t SET {back} WHERE id = 1"
                ),
            )
            .await;
    }
    // Zeros of two signs are equal numbers and not the same value.
    rig.target.sql("postgres", "UPDATE t SET r = 0 WHERE id = 2").await;
    expect(table(&rig.compare().await, "t"), &["2"], &[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_of_a_server_before_12_are_compared_bit_by_bit() {
    let rig = Rig::start(10, 18).await;
    rig.on_both(
        "CREATE TYPE reading AS (at date, v float8); CREATE DOMAIN ratio AS float8; CREATE TYPE span AS RANGE (subtype = float8);
         CREATE TABLE t (id int PRIMARY KEY, f float8, r float4, fa float8[], p point, pa path, c reading, ca reading[], d ratio, s span,
                         n numeric, ch \"char\");
         INSERT INTO t SELECT i, i / 7.0::float8, i / 7.0::float4, ARRAY[[i / 3.0, NULL], [1, 2]], point(i / 3.0, 1e-300), '((0,0),(1,0.1))',
                row('2024-01-01'::date, i / 9.0::float8)::reading, ARRAY[row(NULL, i / 11.0::float8)::reading, NULL], i / 13.0, span(i / 3.0, NULL), i / 7.0, chr(64 + i % 60)
         FROM generate_series(1, 500) i;
         INSERT INTO t (id, f, r, fa) VALUES (-1, 'NaN', 'NaN', '{NaN,-0,Infinity}'), (-2, -'NaN'::float8, 'NaN', '{}'), (-3, NULL, NULL, NULL);
         CREATE TABLE k (f float8 PRIMARY KEY, v int); INSERT INTO k SELECT i / 7.0, i FROM generate_series(1, 50) i",
    )
    .await;
    let report = rig.compare().await;
    expect(table(&report, "t"), &[], &[], &[]);
    expect(table(&report, "k"), &[], &[], &[]);
    rig.target
        .sql(
            "postgres",
            "UPDATE t SET f = f + 1e-14 WHERE id = 3; UPDATE t SET fa[1][1] = fa[1][1] + 1e-13 WHERE id = 4;
             UPDATE t SET fa = '[0:1][1:2]={{1.6666666666666667,NULL},{1,2}}' WHERE id = 5;
             UPDATE t SET c.v = (c).v + 1e-14 WHERE id = 6; UPDATE t SET p = '(0,0)' WHERE id = 7; UPDATE t SET d = 1 WHERE id = 8;
             UPDATE t SET s = 'empty' WHERE id = 9; UPDATE t SET c = NULL WHERE id = 10; UPDATE t SET c = '(,)' WHERE id = 11",
        )
        .await;
    let report = rig.compare().await;
    expect(table(&report, "t"), &["10", "11", "3", "4", "5", "6", "7", "8", "9"], &[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_are_named() {
    let rig = Rig::start(15, 17).await;
    rig.on_both(
        "CREATE TABLE pairs (b int, a text, v int, PRIMARY KEY (a, b));
         INSERT INTO pairs VALUES (1, 'x', 1), (2, 'x', 1), (1, E'new\\nline', 1), (1, 'quo''te\"', 1), (1, '', 1), (1, 'back\\slash', 1);
         CREATE TABLE ids (id uuid PRIMARY KEY, v int);
         INSERT INTO ids VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1);
         CREATE TABLE \"we\"\"ird $1\nname\" (\"ke y\" text PRIMARY KEY, v int); INSERT INTO \"we\"\"ird $1\nname\" VALUES ('a', 1);
         CREATE TABLE t (t int PRIMARY KEY, x int, y int, k int, r int, v0 int[]); INSERT INTO t VALUES (1, 1, 1, 1, 1, '{1}')",
    )
    .await;
    rig.target
        .sql(
            "postgres",
            "UPDATE pairs SET v = 2 WHERE a LIKE 'new%' OR a LIKE 'quo%' OR a LIKE 'back%' OR a = ''; UPDATE ids SET v = 2;
             UPDATE \"we\"\"ird $1\nname\" SET v = 2; UPDATE t SET v0 = '{2}'",
        )
        .await;
    let report = rig.compare_with(&Options { values: true, ..options() }).await;
    expect(table(&report, "pairs"), &["new\nline|1", "quo'te\"|1", "back\\slash|1", "|1"], &[], &[]);
    assert_eq!(table(&report, "pairs").key, ["a", "b"]);
    expect(table(&report, "ids"), &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], &[], &[]);
    expect(table(&report, "we\"ird $1\nname"), &["a"], &[], &[]);
    expect(table(&report, "t"), &["1"], &[], &[]);
    let values = table(&report, "ids").differences[0].values.clone().unwrap();
    assert_eq!(values.source.unwrap(), [("v".to_owned(), Some("1".to_owned()))]);
    assert_eq!(values.target.unwrap(), [("v".to_owned(), Some("2".to_owned()))]);
    // Never values unless asked for.
    let quiet = rig.compare().await;
    assert!(
        quiet
            .tables
            .iter()
            .flat_map(|table| &table.differences)
            .all(|difference| difference.values.is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_go_by_name_and_types_may_differ_where_the_text_fits() {
    let rig = Rig::start(15, 18).await;
    rig.source
        .sql(
            "postgres",
            "CREATE TABLE c (id int PRIMARY KEY, a text, n int, d numeric(10,2), v varchar(9), ch char(4), j json, at timestamp, e text, sum int);
             INSERT INTO c SELECT g, 'a' || g, g, g / 3.0, 'v', 'ab', '{\"b\":1, \"a\":2}', '2024-01-01 01:02:03.456789', 'one', 2 * g
             FROM generate_series(1, 100) g;
             CREATE TABLE part (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
             CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
             CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
             INSERT INTO part SELECT g, '2023-12-01'::date + g, 'v' || g FROM generate_series(1, 60) g;
             CREATE TABLE plain (id int PRIMARY KEY, v text); INSERT INTO plain SELECT g, g FROM generate_series(1, 60) g;
             CREATE TABLE parent (id int PRIMARY KEY, v int); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
             INSERT INTO parent VALUES (1, 1); INSERT INTO child VALUES (2, 2);
             CREATE TABLE loose (a int, b text) PARTITION BY LIST (a); CREATE TABLE loose_1 PARTITION OF loose DEFAULT;
             INSERT INTO loose VALUES (1, 'x'), (2, 'y')",
        )
        .await;
    rig.target
        .sql(
            "postgres",
            "CREATE TYPE word AS ENUM ('one', 'two');
             CREATE TABLE c (extra int DEFAULT 7, sum int GENERATED ALWAYS AS (3) STORED, e word, at timestamp(3), j jsonb, ch varchar(9), v text, d numeric(12,4),
                             n bigint, a varchar(20), id bigint PRIMARY KEY, local text DEFAULT 'here');
             INSERT INTO c (id, a, n, d, v, ch, j, at, e)
             SELECT g, 'a' || g, g, round(g / 3.0, 2), 'v', 'ab', '{\"b\":1, \"a\":2}', '2024-01-01 01:02:03.456789', 'one'
             FROM generate_series(1, 100) g;
             CREATE TABLE part (v text, id int, at date, PRIMARY KEY (id, at));
             INSERT INTO part SELECT 'v' || g, g, '2023-12-01'::date + g FROM generate_series(1, 60) g;
             CREATE TABLE plain (id int PRIMARY KEY, v text) PARTITION BY HASH (id);
             CREATE TABLE plain_0 PARTITION OF plain FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE plain_1 PARTITION OF plain FOR VALUES WITH (MODULUS 2, REMAINDER 1);
             INSERT INTO plain SELECT g, g FROM generate_series(1, 60) g;
             CREATE TABLE parent (id int PRIMARY KEY, v int); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
             INSERT INTO parent VALUES (1, 1); INSERT INTO child VALUES (2, 2);
             CREATE TABLE loose (a int, b text) PARTITION BY LIST (a); CREATE TABLE loose_1 PARTITION OF loose DEFAULT;
             INSERT INTO loose VALUES (2, 'y'), (1, 'x')",
        )
        .await;
    let report = rig.compare().await;
    for name in ["c", "part", "plain", "parent", "child", "loose"] {
        expect(table(&report, name), &[], &[], &[]);
    }
    assert_eq!(table(&report, "c").generated_columns, ["sum"]);
    assert_eq!(report.tables.len(), 6);

    rig.target
        .sql(
            "postgres",
            "UPDATE c SET d = d + 0.0001 WHERE id = 5; UPDATE c SET ch = 'ac' WHERE id = 6; UPDATE c SET j = '{\"a\":1}' WHERE id = 7;
             UPDATE c SET extra = 8 WHERE id = 8; UPDATE part SET v = 'w' WHERE id = 40; DELETE FROM plain WHERE id = 12;
             UPDATE child SET v = 3; UPDATE loose SET b = 'z' WHERE a = 2",
        )
        .await;
    let report = rig.compare().await;
    expect(table(&report, "c"), &["5", "6", "7"], &[], &[]);
    expect(table(&report, "part"), &["40|2024-01-10"], &[], &[]);
    expect(table(&report, "plain"), &[], &["12"], &[]);
    expect(table(&report, "parent"), &[], &[], &[]);
    expect(table(&report, "child"), &["2"], &[], &[]);
    let loose = table(&report, "loose");
    assert_eq!((loose.changed, loose.missing, loose.extra), (0, 1, 1));
    let missing = loose.differences.iter().find(|d| d.kind == Kind::Missing).unwrap();
    assert_eq!(missing.source_places, ["public.loose_1 (0,2)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_filter_a_column_list_and_a_list_of_keys_narrow_what_is_compared() {
    let rig = Rig::start(15, 15).await;
    rig.on_both("CREATE TABLE t (id int PRIMARY KEY, keep bool, v text, hidden text)").await;
    rig.source
        .sql("postgres", "INSERT INTO t SELECT g, g % 2 = 0, 'v', 'h' FROM generate_series(1, 100) g")
        .await;
    rig.target
        .sql("postgres", "INSERT INTO t SELECT g, true, 'v', 'other' FROM generate_series(2, 100, 2) g")
        .await;
    let narrowed = async |keys: Option<Vec<&str>>| {
        let (source, target) = rig.sides().await;
        let mut tables = rig.tables(&source).await;
        let table: &mut VerifyTable = &mut tables[0];
        table.spec.filter = Some("keep".to_owned());
        table.spec.columns.retain(|column| column.name != "hidden");
        table.keys = keys.map(|keys| keys.iter().map(|key| vec![Some((*key).to_owned())]).collect());
        compare(source, target, &tables, &options(), &pipeline::Reporter::silent()).await.unwrap()
    };
    expect(table(&narrowed(None).await, "t"), &[], &[], &[]);
    rig.target
        .sql("postgres", "UPDATE t SET v = 'w' WHERE id IN (4, 6); DELETE FROM t WHERE id = 8; INSERT INTO t VALUES (9, true, 'v', '')")
        .await;
    expect(table(&narrowed(None).await, "t"), &["4", "6"], &["8"], &["9"]);
    // Only what was asked for; 1000 is nowhere, and so the same.
    let report = narrowed(Some(vec!["4", "9", "8", "10", "1000", "4"])).await;
    expect(table(&report, "t"), &["4"], &["8"], &["9"]);
    assert_eq!(differences(table(&report, "t")).len(), 3);
    assert_eq!((table(&report, "t").source_rows, table(&report, "t").target_rows), (Some(3), Some(3)));
    expect(table(&narrowed(Some(vec!["10", "12"])).await, "t"), &[], &[], &[]);
    expect(table(&narrowed(Some(vec![])).await, "t"), &[], &[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_count() {
    let rig = Rig::start(15, 18).await;
    rig.on_both(
        "CREATE TABLE t (id int PRIMARY KEY, note text, raw bytea);
         INSERT INTO t SELECT g, (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 4000) i), decode(repeat('00ff', 60000), 'hex')
         FROM generate_series(1, 20) g",
    )
    .await;
    expect(table(&rig.compare().await, "t"), &[], &[], &[]);
    rig.target.sql("postgres", "UPDATE t SET note = left(note, -1) || 'x' WHERE id = 7; UPDATE t SET raw = set_byte(raw, 99999, 3) WHERE id = 9").await;
    expect(table(&rig.compare().await, "t"), &["7", "9"], &[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_two_encodings_are_compared_by_their_characters() {
    let rig = Rig::start(15, 15).await;
    rig.source
        .sql(
            "postgres",
            "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        )
        .await;
    let load = "SET client_encoding = 'UTF8'; CREATE TABLE t (word text PRIMARY KEY, v text);
         INSERT INTO t VALUES ('größe', 'ä'), ('été', 'ö'), ('plain', 'ß'); CREATE TABLE loose (v text); INSERT INTO loose VALUES ('é'), ('è')";
    rig.source.sql("latin", load).await;
    rig.target.sql("postgres", load).await;
    let latin = || async {
        let source = Side::plain(params(&rig.source).with_dbname("latin"), "verify").await.unwrap();
        let target = Side::plain(params(&rig.target), "verify").await.unwrap();
        let tables = rig.tables(&source).await;
        compare(source, target, &tables, &options(), &pipeline::Reporter::silent()).await.unwrap()
    };
    let report = latin().await;
    expect(table(&report, "t"), &[], &[], &[]);
    expect(table(&report, "loose"), &[], &[], &[]);
    rig.target
        .sql("postgres", "UPDATE t SET v = 'a' WHERE word = 'größe'; DELETE FROM t WHERE word = 'été'")
        .await;
    expect(table(&latin().await, "t"), &["größe"], &["été"], &[]);
}
