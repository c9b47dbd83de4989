//! Values of every type and their extremes survive the copy and the stream, whatever the servers' settings are.

use crate::support::{Feed, Way};

/// Type and values, as SQL literals.
const VALUES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("numeric", &["0.00", "-1.50", "'NaN'", "1e131071", "1e-16383", "(repeat('9', 131072))::numeric"]),
    ("numeric(10,2)", &["1", "99999999.99"]),
    ("float4", &["'NaN'", "'Infinity'", "'-0'", "1e-45", "3.4028235e38", "0.1", "16777217"]),
    (
        "float8",
        &["'NaN'", "'-Infinity'", "'-0'", "5e-324", "1.7976931348623157e308", "0.1", "0.30000000000000004"],
    ),
    ("money", &["'1234.56'", "'-0.01'", "'92233720368547758.07'"]),
    (
        "text",
        &[
            "''",
            "' '",
            "E'\\\\N'",
            "E'\\\\.'",
            "E'a\\tb\\nc\\rd\\be\\ff\\vg\\\\h'",
            "'NULL'",
            "'Größe € 😀'",
            "'\"{},()'",
            "repeat('ä', 5000)",
        ],
    ),
    ("varchar(5)", &["'12345'", "'ä    '"]),
    ("char(5)", &["'a'", "''", "'äöü'"]),
    ("bpchar", &["'a  '", "''"]),
    ("\"char\"", &["'a'", "''", "E'\\\\'"]),
    ("name", &["'n'", "''"]),
    ("bytea", &["''", "'\\x00ff5c27'", "decode(repeat('00ff', 4000), 'hex')"]),
    ("date", &["'4713-01-01 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'", "'0001-01-01 BC'"]),
    ("time", &["'00:00'", "'24:00:00'", "'23:59:59.999999'"]),
    ("timetz", &["'24:00:00+15:59'", "'00:00-15:59:59'"]),
    (
        "timestamp",
        &[
            "'4713-01-01 00:00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'infinity'",
            "'-infinity'",
            "'2000-01-01 00:00:00.000001'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'4713-01-01 00:00:00+00 BC'",
            "'infinity'",
            "'2021-03-28 02:30:00 Europe/Berlin'",
            "'1880-01-01 00:00:00+00:53:28'",
        ],
    ),
    ("interval", &["'-1 year 2 mons -3 days 04:05:06.789'", "'178000000 years'", "'0'", "'1 mon -30 days'"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000000'"]),
    ("json", &["'{\"b\": 1, \"a\" : [1.0,  null], \"b\": 2}'", "'\"\\u0000\"'", "'1e400'"]),
    ("jsonb", &["'{\"b\": 1, \"a\": [1.00, null]}'", "'1e400'", "'\"\\\\\"'"]),
    ("xml", &["'<a b=\"c\">&lt;ä</a>'", "'text, no document'", "'<a/><b/>'", "''"]),
    ("inet", &["'10.0.0.1/8'", "'::1'", "'::ffff:1.2.3.4/128'"]),
    ("cidr", &["'10.0.0.0/8'", "'::/0'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(3)", &["B'101'", "B'000'"]),
    ("varbit", &["B''", "B'1010101'"]),
    ("point", &["'(1e-300,-0)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,2,3}'"]),
    ("lseg", &["'[(0,0),(0.1,0.30000000000000004)]'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("path", &["'[(0,0),(1,1)]'", "'((0,0),(1,1))'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", &["'<(0,0),1e-5>'"]),
    ("tsvector", &["'a:1A b:2,3 ''q u\\\\ote'''", "''"]),
    ("tsquery", &["'a & !b <-> c:*A'", "''"]),
    ("oid", &["4294967295"]),
    ("xid", &["'4294967295'"]),
    ("tid", &["'(4294967295,65535)'"]),
    ("pg_lsn", &["'FFFFFFFF/FFFFFFFF'"]),
    ("regclass", &["'pg_class'", "'public.plain'", "'\"odd \"\"name\"'"]),
    ("regtype", &["'int4'", "'mood'"]),
    ("regproc", &["'now'"]),
    ("regprocedure", &["'abs(int4)'"]),
    ("int4range", &["'empty'", "'[1,5)'", "'(,5)'", "'(,)'"]),
    ("numrange", &["'[1.0,1.50]'"]),
    ("tstzrange", &["'[2020-01-01 00:00+00,infinity)'", "'(-infinity,)'"]),
    ("daterange", &["'[infinity,infinity]'"]),
    ("int4[]", &["'{}'", "'{1,NULL,3}'", "'[0:2]={1,2,3}'", "'[-1:0][2:3]={{1,2},{3,4}}'", "'{{{1},{2}}}'"]),
    ("text[]", &["'{NULL,\"NULL\",\"\",\"{}\",\"a\\\"b\",\"c\\\\d\",\" e \",\"f,g\"}'"]),
    ("float8[]", &["'{NaN,-0,0.1,Infinity}'"]),
    ("bytea[]", &["ARRAY['\\x00'::bytea, '', NULL]"]),
    ("timestamptz[]", &["'{\"2000-01-01 00:00:00+00\",infinity}'"]),
    ("money[]", &["'{\"1,234.56\"}'"]),
    ("mood", &["'sad'", "'it''s \"ok\"'"]),
    ("mood[]", &["'{sad,NULL}'"]),
    ("pair", &["ROW(1.50, 'a,\"b\\c(')", "ROW(NULL, '')", "ROW(NULL, NULL)"]),
    ("nested", &["ROW(ROW(1.0, 'x')::pair, '{1,2}', 'sad')", "ROW(NULL, NULL, NULL)"]),
    ("nested[]", &["ARRAY[ROW(ROW(1.0, 'x\"')::pair, '{1,2}', 'sad')::nested, NULL]"]),
    ("positive", &["1.0", "1.00"]),
    ("short", &["'abc'", "''"]),
];
/// Before 12 floats inside of ranges print with more digits than they need: the same value, another text.
const FLOATS_INSIDE: &[(&str, &[&str])] = &[("floats", &["'[0.1,0.30000000000000004)'"])];

/// Types that came with 14.
const NEWER: &[(&str, &[&str])] = &[
    ("numeric", &["'Infinity'", "'-Infinity'"]),
    ("positive[]", &["'{1.0}'"]),
    ("pairs", &["ROW(1, 'x')::pair"]),
    ("int4multirange", &["'{}'", "'{[1,2),(,0)}'"]),
    ("tstzmultirange", &["'{[2020-01-01 00:00+00,infinity)}'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("pg_snapshot", &["'10:20:10,14'"]),
    ("jsonpath", &["'$.\"a\"[*] ? (@ > 1)'"]),
];

const TYPES: &str = "CREATE TABLE plain (id int PRIMARY KEY); CREATE TABLE \"odd \"\"name\" (id int PRIMARY KEY);
    CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"'); CREATE TYPE pair AS (n numeric, t text); CREATE TYPE nested AS (p pair, a int[], m mood);
    CREATE DOMAIN positive AS numeric CHECK (VALUE > 0); CREATE DOMAIN short AS varchar(3);
    CREATE TYPE floats AS RANGE (subtype = float8);";

/// One table for each type, with a key of its own, so that a type that fails is named.
fn schema(lists: &[&[(&str, &[&str])]]) -> (String, String) {
    let (mut schema, mut rows) = (TYPES.to_owned(), String::new());
    if lists.len() > 1 {
        schema.push_str("CREATE DOMAIN pairs AS pair;");
    }
    for (number, (kind, values)) in lists.iter().flat_map(|list| list.iter()).enumerate() {
        schema.push_str(&format!(
            "CREATE TABLE \"{number} {}\" (id int PRIMARY KEY, v {kind}, w {kind});",
            kind.replace('"', "\"\"")
        ));
        for (id, value) in values.iter().enumerate() {
            let cast = if kind.ends_with(')') { String::new() } else { format!("::{kind}") };
            rows.push_str(&format!(
                "INSERT INTO \"{number} {}\" VALUES (BASE + {id}, ({value}){cast}, NULL);",
                kind.replace('"', "\"\"")
            ));
        }
    }
    (schema, rows)
}

async fn survive(source: u32, target: u32, lists: &[&[(&str, &[&str])]], ways: &[Way]) {
    let (schema, rows) = schema(lists);
    let mut feed = Feed::of(&format!("{schema} {}", rows.replace("BASE", "0")))
        .majors(source, target)
        .ways(ways)
        .start()
        .await;
    feed.source(&rows.replace("BASE", "100")).await;
    let tables = lists.iter().flat_map(|list| list.iter()).enumerate();
    let update = tables.map(|(number, (kind, _))| {
        let name = format!("\"{number} {}\"", kind.replace('"', "\"\""));
        format!(
            "UPDATE {name} SET w = v WHERE id % 2 = 0; UPDATE {name} SET v = NULL, w = v WHERE id % 2 = 1;"
        )
    });
    feed.source(&update.collect::<String>()).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn every_type_and_its_extremes() {
    survive(15, 15, &[VALUES, FLOATS_INSIDE, NEWER], &[Way::Default, Way::Sets]).await;
}

#[tokio::test]
async fn every_type_from_10_to_18() {
    survive(10, 18, &[VALUES], &[Way::Sets]).await;
}

#[tokio::test]
async fn every_type_from_13_to_17() {
    survive(13, 17, &[VALUES, FLOATS_INSIDE], &[Way::Default]).await;
}

#[tokio::test]
async fn every_type_from_18_to_15() {
    survive(18, 15, &[VALUES, FLOATS_INSIDE, NEWER], &[Way::Sets]).await;
}

#[tokio::test]
async fn values_of_extensions() {
    let table = "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext; CREATE EXTENSION cube; CREATE EXTENSION isn; CREATE EXTENSION seg;
        CREATE TABLE t (id int PRIMARY KEY, h hstore, hs hstore[], c citext, l ext.ltree, q ext.lquery, u cube, i isbn13, s seg);";
    let row = "INSERT INTO t VALUES (BASE, '\"a \"=>NULL, \"b\\\"\"=>\"\"', ARRAY['a=>1'::hstore, NULL], 'Ab', 'top.x', '*.a{1,2}', '(0.1),(2)', '978-0-393-04002-9', '1.0 .. 1.50')";
    let mut feed = Feed::of(&format!("{table}{}", row.replace("BASE", "1"))).start().await;
    feed.source(&row.replace("BASE", "2")).await;
    feed.source("UPDATE t SET h = h || 'z=>1', c = 'AB'; UPDATE t SET id = id + 10").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn settings_of_either_database_change_no_value() {
    let settings = "ALTER DATABASE current SET datestyle = 'German'; ALTER DATABASE current SET timezone = 'Asia/Kolkata'; ALTER DATABASE current SET intervalstyle = 'sql_standard';
        ALTER DATABASE current SET extra_float_digits = -5; ALTER DATABASE current SET bytea_output = 'escape'; ALTER DATABASE current SET xmlbinary = 'hex';
        ALTER DATABASE current SET xmloption = 'document'; ALTER DATABASE current SET search_path = 'nowhere'; ALTER DATABASE current SET lc_monetary = 'C.UTF-8';
        ALTER DATABASE current SET standard_conforming_strings = off; ALTER DATABASE current SET array_nulls = off; ALTER DATABASE current SET client_encoding = 'LATIN1';
        ALTER DATABASE current SET default_transaction_isolation = 'serializable'; ALTER DATABASE current SET row_security = off; ALTER DATABASE current SET statement_timeout = '3s';
        ALTER DATABASE current SET default_transaction_read_only = on; ALTER DATABASE current SET escape_string_warning = on; ALTER DATABASE current SET quote_all_identifiers = on";
    let table = "CREATE TABLE public.t (id int PRIMARY KEY, d date, ts timestamptz, i interval, f float8, b bytea, x xml, a text[], s text, m money, r regclass);";
    let row = "SELECT BASE, '2001-02-03'::date, '2001-02-03 04:05:06.789+05:30'::timestamptz, '1 year 2 days -03:04:05'::interval, 0.1::float8 + 0.2, E'\\\\x00ff5c'::bytea, XMLPARSE(CONTENT 'no document'),
        ARRAY['NULL', NULL, E'a\\\\b'], E'a\\\\b''c', 1.5::numeric::money, 'public.t'::regclass";
    // The source's own application has to be able to write.
    let writable = settings.replace("read_only = on", "read_only = off");
    let mut feed = Feed::of(&format!("{table} INSERT INTO public.t {}; DO $$ BEGIN EXECUTE replace($s${writable}$s$, 'current', current_database()); END $$", row.replace("BASE", "1")))
        .into(&format!("{table} DO $$ BEGIN EXECUTE replace($s${settings}$s$, 'current', current_database()); END $$"))
        .start()
        .await;
    feed.source(&format!("INSERT INTO public.t {}", row.replace("BASE", "2"))).await;
    feed.source("UPDATE public.t SET id = id + 10").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn a_source_in_latin1() {
    let mut feed = Feed::of(
        "CREATE TABLE \"Größe\" (id int PRIMARY KEY, \"ß\" text); INSERT INTO \"Größe\" VALUES (1, 'äöü¤ÿ')",
    )
    .source_database("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    .start()
    .await;
    feed.source("INSERT INTO \"Größe\" VALUES (2, 'éèê'), (3, NULL); UPDATE \"Größe\" SET \"ß\" = \"ß\" || 'Ñ' WHERE id < 3").await;
    feed.source("UPDATE \"Größe\" SET id = 30 WHERE id = 3; DELETE FROM \"Größe\" WHERE id = 1").await;
    feed.expect_exact().await;
    feed.end().await;
}
