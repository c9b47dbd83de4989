use super::super::{Encoding, Scalar};
use crate::change::RelationColumn;
use crate::envelope::json::read::Value;
use crate::envelope::options::{Binary, Decimal, Hstore, Interval, Options, TimePrecision, Values};
use crate::envelope::types::{ColumnType, Kind};

const NUMERIC_10_2: i32 = (10 << 16 | 2) + 4;
const NUMERIC_3_MINUS_2: i32 = (3 << 16 | 0x7fe) + 4;

/// OID, name and modifier of a type, and values as it writes them.
const TYPES: &[(u32, &str, i32, &[&str])] = &[
    (16, "bool", -1, &["t", "f"]),
    (21, "int2", -1, &["-7"]),
    (23, "int4", -1, &["7"]),
    (20, "int8", -1, &["-9223372036854775808"]),
    (26, "oid", -1, &["4294967295"]),
    (700, "float4", -1, &["3.25", "NaN"]),
    (701, "float8", -1, &["0.1", "1e+300", "-Infinity"]),
    (1700, "numeric", -1, &["22.2222", "-1", "NaN"]),
    (1700, "numeric", NUMERIC_10_2, &["19.90", "-0.01", "Infinity"]),
    (1700, "numeric", NUMERIC_3_MINUS_2, &["12300"]),
    (790, "money", -1, &["$1,234.50", "-$0.01"]),
    (1082, "date", -1, &["2016-11-04", "0044-03-15 BC", "infinity"]),
    (1083, "time", -1, &["13:51:30.123456", "24:00:00"]),
    (1083, "time", 3, &["13:51:30.123"]),
    (1114, "timestamp", -1, &["2016-11-04 13:51:30.123456", "infinity"]),
    (1114, "timestamp", 3, &["2016-11-04 13:51:30.123", "-infinity"]),
    (1184, "timestamptz", 2, &["2016-11-04 13:51:30.12+00", "infinity"]),
    (1266, "timetz", -1, &["13:51:30+02"]),
    (1186, "interval", -1, &["1 mon 2 days 03:04:05", "-00:00:00.5"]),
    (17, "bytea", -1, &["\\x", "\\x00fbff"]),
    (1560, "bit", 1, &["1", "0"]),
    (1560, "bit", 12, &["000000000101", "000000000000"]),
    (1562, "varbit", -1, &["101"]),
    (1562, "varbit", 20, &["101"]),
    (99_999, "hstore", -1, &["\"k\"=>\"v\", \"n\"=>NULL", ""]),
    (600, "point", -1, &["(1,2.5)"]),
    (25, "text", -1, &["", "a \"b\" \\ {c}"]),
    (603, "box", -1, &["(1,1),(0,0)"]),
    (99_998, "geometry", -1, &["0101"]),
    (3802, "jsonb", -1, &["{\"a\": [1, null]}"]),
];

fn column(oid: u32, name: &str, type_modifier: i32, array: bool) -> ColumnType {
    ColumnType {
        name: "c".to_owned(),
        type_oid: oid,
        kind: Kind::Base,
        base_name: name.to_owned(),
        base_oid: oid,
        type_modifier,
        array,
        not_null: false,
        default: None,
        computed_default: false,
        labels: Vec::new(),
    }
}

/// Every mode at least once.
fn all_options() -> Vec<Options> {
    let times = [
        TimePrecision::Adaptive,
        TimePrecision::AdaptiveTimeMicroseconds,
        TimePrecision::Connect,
        TimePrecision::Isostring,
        TimePrecision::Microseconds,
        TimePrecision::Nanoseconds,
    ];
    let decimals = [Decimal::Precise, Decimal::Double, Decimal::String];
    let binaries = [Binary::Bytes, Binary::Base64, Binary::Base64UrlSafe, Binary::Hex];
    times
        .into_iter()
        .enumerate()
        .map(|(at, time)| {
            let mut options = Options::new("p", "d", Values::Debezium);
            options.time = time;
            options.decimal = decimals[at % decimals.len()];
            options.binary = binaries[at % binaries.len()];
            options.interval = [Interval::Numeric, Interval::String][at % 2];
            options.hstore = [Hstore::Json, Hstore::Map][at % 2];
            options
        })
        .collect()
}

/// The text that is read from what is written of `text`.
fn read(encoding: &Encoding, json: &[u8]) -> String {
    let value = Value::read(json).unwrap();
    let read = encoding.read(&value).unwrap_or_else(|wrong| panic!("{encoding:?}: {wrong}")).unwrap();
    String::from_utf8(read.into_owned()).unwrap()
}

/// An array of one such element, its text quoted.
fn array(element: &str, delimiter: u8) -> String {
    let quoted = format!("\"{}\"", element.replace('\\', "\\\\").replace('"', "\\\""));
    format!("{{{quoted}{}{quoted}}}", char::from(delimiter))
}

/// By its name an encoding reads what it reads by the description, in every mode; without one, the JSON by itself says the text.
#[test]
fn a_name_is_all_that_reading_needs() {
    for options in all_options() {
        for (oid, name, modifier, texts) in TYPES {
            for of_array in [false, true] {
                let encoding =
                    Encoding::described(&options, &column(*oid, name, *modifier, of_array), *modifier);
                let plain = Encoding { scalar: Scalar::Text, array: false, delimiter: b',' };
                let name = encoding.name();
                let named = match &name {
                    Some(name) => Encoding::named(name).unwrap_or_else(|| panic!("{name}")),
                    None => plain,
                };
                assert_eq!(named.name(), name);
                for text in *texts {
                    let text = if of_array { array(text, encoding.delimiter) } else { (*text).to_owned() };
                    let mut json = Vec::new();
                    encoding.write(&mut json, text.as_bytes()).unwrap();
                    assert_eq!(read(&named, &json), read(&encoding, &json), "{name:?} {text}");
                }
            }
        }
    }
}

#[test]
fn names_are_as_documented() {
    let default = Options::new("p", "d", Values::Debezium);
    let name = |options: &Options, oid, name, modifier, array| {
        Encoding::described(options, &column(oid, name, modifier, array), modifier).name()
    };
    for (oid, type_name, modifier, array, expected) in [
        (23, "int4", -1, false, None),
        (23, "int4", -1, true, Some("plain[]")),
        (603, "box", -1, true, Some("plain[;]")),
        (99_998, "geometry", -1, true, Some("plain[:]")),
        (1700, "numeric", NUMERIC_10_2, false, Some("decimal(2)")),
        (1700, "numeric", NUMERIC_3_MINUS_2, true, Some("decimal(-2)[]")),
        (1700, "numeric", -1, false, Some("decimal")),
        (790, "money", -1, false, Some("decimal(2)")),
        (1082, "date", -1, false, Some("date(days)")),
        (1083, "time", 3, false, Some("time(ms)")),
        (1114, "timestamp", 3, false, Some("timestamp(ms)")),
        (1114, "timestamp", -1, true, Some("timestamp(us)[]")),
        (1184, "timestamptz", -1, false, Some("timestamptz")),
        (1266, "timetz", -1, false, None),
        (1186, "interval", -1, false, Some("interval(us)")),
        (17, "bytea", -1, false, Some("bytea(base64)")),
        (1560, "bit", 1, false, Some("bit")),
        (1560, "bit", 12, false, Some("bits(12)")),
        (1562, "varbit", 12, false, Some("bits")),
        (99_999, "hstore", -1, false, Some("hstore(json)")),
        (600, "point", -1, false, Some("point")),
    ] {
        assert_eq!(name(&default, oid, type_name, modifier, array).as_deref(), expected, "{type_name}");
    }
    let mut strings = default;
    strings.decimal = Decimal::String;
    strings.time = TimePrecision::Isostring;
    strings.interval = Interval::String;
    strings.hstore = Hstore::Map;
    strings.binary = Binary::Hex;
    for (oid, type_name, expected) in [
        (1700, "numeric", None),
        (790, "money", None),
        (1082, "date", Some("date(iso)")),
        (1083, "time", Some("time(iso)")),
        (1114, "timestamp", Some("timestamp(iso)")),
        (1186, "interval", None),
        (17, "bytea", Some("bytea(hex)")),
        (99_999, "hstore", Some("hstore(map)")),
    ] {
        assert_eq!(name(&strings, oid, type_name, -1, false).as_deref(), expected, "{type_name}");
    }
    strings.time = TimePrecision::Nanoseconds;
    assert_eq!(name(&strings, 1114, "timestamp", 3, false).as_deref(), Some("timestamp(ns)"));
}

#[test]
fn other_names_are_none() {
    for name in [
        "",
        "plain",
        "[]",
        "decimal()",
        "decimal(x)",
        "decimal(2",
        "decimal(2))",
        "decimal(99999999999)",
        "date",
        "date(ms)",
        "time(days)",
        "timestamp(3)",
        "timestamptz(us)",
        "interval",
        "bytea",
        "bit(1)",
        "bits(83886081)",
        "bits(-1)",
        "hstore",
        "point()",
        "plain[,]",
        "plain[][]",
        "text",
        "decimal(2) ",
    ] {
        assert_eq!(Encoding::named(name), None, "{name}");
    }
}

/// What the stream says of a column now, whatever the catalogue said when the reader started.
#[test]
fn a_stale_description_gives_way_to_the_stream() {
    let options = Options::new("p", "d", Values::Debezium);
    let described = |type_oid, base_oid, name, modifier, array| ColumnType {
        type_oid,
        ..column(base_oid, name, modifier, array)
    };
    let now =
        |type_id, type_modifier| RelationColumn { name: "c".to_owned(), type_id, type_modifier, key: false };
    for (known, column, expected) in [
        (described(1114, 1114, "timestamp", 3, false), now(1114, 6), Some("timestamp(us)")),
        (described(1114, 1114, "timestamp", 3, false), now(1114, -1), Some("timestamp(us)")),
        (described(1700, 1700, "numeric", NUMERIC_10_2, false), now(1700, -1), Some("decimal")),
        (described(1082, 1082, "date", -1, false), now(1114, 3), Some("timestamp(ms)")),
        (described(1231, 1700, "numeric", NUMERIC_10_2, true), now(1231, -1), Some("decimal[]")),
        (described(1231, 1700, "numeric", -1, true), now(1231, NUMERIC_10_2), Some("decimal(2)[]")),
        (described(17, 17, "bytea", -1, false), now(25, -1), None),
        // A domain's modifier is in the catalogue alone; of another domain nothing is known.
        (described(70_000, 1700, "numeric", NUMERIC_10_2, false), now(70_000, -1), Some("decimal(2)")),
        (described(70_001, 1700, "numeric", NUMERIC_10_2, true), now(70_001, -1), Some("decimal(2)[]")),
        (described(70_000, 1700, "numeric", NUMERIC_10_2, false), now(70_002, -1), None),
        (described(70_003, 99_999, "hstore", -1, false), now(70_003, -1), Some("hstore(json)")),
    ] {
        let name = Encoding::of(&options, &column, Some(&known)).name();
        assert_eq!(name.as_deref(), expected, "{known:?} {column:?}");
    }
    // Without a description arrays of PostgreSQL's own types are arrays too.
    for (type_id, modifier, expected) in [
        (1007, -1, Some("plain[]")),
        (1020, -1, Some("plain[;]")),
        (1231, NUMERIC_10_2, Some("decimal(2)[]")),
        (791, -1, Some("decimal(2)[]")),
        (1187, -1, Some("interval(us)[]")),
        (143, -1, Some("plain[]")),
        (22, -1, None),
    ] {
        assert_eq!(Encoding::of(&options, &now(type_id, modifier), None).name().as_deref(), expected);
    }
}
