//! Connect schemas, and values under other settings, against captured ones (`tests/golden/schemas.tsv`, `columns.tsv`).

use std::collections::HashMap;

use pipeline::envelope::{Binary, Decimal, Hstore, Interval, Options, TimePrecision};
use serde_json::Value;

use super::capture::Capture;
use super::golden::Record;
use super::options;

/// What 3.6 has and the captured 3.3 has not.
const ORIGIN: &str = r#","optional":true,"field":"xmin"},{"type":"string","optional":true,"field":"origin"},{"type":"int64","optional":true,"field":"origin_lsn"}]"#;

fn settings(name: &str) -> Options {
    let mut options = options();
    options.schemas = true;
    match name {
        "strings" => {
            options.decimal = Decimal::String;
            options.time = TimePrecision::Isostring;
            options.interval = Interval::String;
            options.hstore = Hstore::Map;
            options.binary = Binary::Hex;
        }
        "connect" => {
            options.decimal = Decimal::Double;
            options.time = TimePrecision::Connect;
            options.binary = Binary::Base64;
        }
        "microseconds" => options.time = TimePrecision::Microseconds,
        "nanoseconds" => {
            options.time = TimePrecision::Nanoseconds;
            options.binary = Binary::Base64UrlSafe;
        }
        _ => {}
    }
    options
}

/// Schema and payload of `{"schema":…,"payload":…}`, as they are written.
fn split(text: &str) -> (&str, &str) {
    let rest = text.strip_prefix("{\"schema\":").unwrap_or_else(|| panic!("no schema: {text:.80}"));
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
    values.next().unwrap().unwrap();
    let (schema, rest) = rest.split_at(values.byte_offset());
    (schema, rest.strip_prefix(",\"payload\":").unwrap().strip_suffix('}').unwrap())
}

/// Why a column's schema or value is not Debezium's; None: it is.
fn difference(settings: &str, table: &str, column: &str) -> Option<&'static str> {
    match (table, column) {
        ("t_def", "e") => Some("the year 1970 is not the default of now()"),
        ("t_time", "d_inf" | "d_bc") | ("t_arr", "da" | "i2d") => Some("values that Debezium loses"),
        ("t_time", "t24" | "ts_inf" | "ts_ninf") if settings == "strings" => {
            Some("values that Debezium loses")
        }
        ("t_time", "ts_inf" | "ts_ninf" | "ts_big") if settings == "nanoseconds" => {
            Some("what nanoseconds cannot count is text, not what is left after an overflow")
        }
        ("t_net" | "t_rng" | "t_str", _) if settings == "strings" && !matches!(column, "ba" | "hs") => {
            Some("types that Debezium drops are text")
        }
        _ => None,
    }
}

fn first_row<'a>(records: &'a [Record], table: &str) -> &'a Record {
    records.iter().find(|record| record.topic == format!("srv.public.{table}")).unwrap()
}

#[tokio::test]
async fn columns_have_debezium_s_schemas_and_values() {
    let columns: Vec<Vec<&str>> =
        include_str!("../golden/columns.tsv").lines().map(|line| line.split('\t').collect()).collect();
    let mut wrong = Vec::new();
    let capture = Capture::take(false).await;
    for name in ["default", "strings", "connect", "microseconds", "nanoseconds"] {
        let records = capture.encode(settings(name));
        let mut compared = 0;
        for column in columns.iter().filter(|column| column[0] == name) {
            let [_, table, column, schema, value] = column[..] else { panic!("{column:?}") };
            let (ours, payload) = split(&first_row(&records, table).value);
            let payload: Value = serde_json::from_str(payload).unwrap();
            let found = ours.contains(schema);
            let same = payload["after"][column] == serde_json::from_str::<Value>(value).unwrap();
            compared += 1;
            match difference(name, table, column) {
                None if !found => wrong.push(format!("{name} {table}.{column}: no {schema}")),
                None if !same => {
                    wrong.push(format!("{name} {table}.{column}: {} for {value}", payload["after"][column]))
                }
                Some(reason) if found && same => {
                    wrong.push(format!("{table}.{column} is the same: {reason}"))
                }
                _ => {}
            }
        }
        assert!(compared > 0);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn envelopes_have_debezium_s_schemas() {
    let records = Capture::take(false).await.encode(settings("default"));
    let captured: HashMap<&str, (&str, &str)> = include_str!("../golden/schemas.tsv")
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            (fields[0], (fields[1], fields[2]))
        })
        .collect();
    assert_eq!(captured.len(), 6);
    for (topic, (key, value)) in captured {
        let record = records.iter().find(|record| record.topic == topic).unwrap();
        assert_eq!(split(&record.key).0, key, "{topic}");
        let value = value.replace(r#","optional":true,"field":"xmin"}]"#, ORIGIN);
        let ours = split(&record.value).0.to_owned();
        if topic.starts_with("srv.public.") {
            // `before` holds the key alone, so everything else in it is optional there.
            let after = |schema: &str| schema[schema.find(r#""field":"before"}"#).unwrap()..].to_owned();
            assert_eq!(after(&ours), after(&value), "{topic}");
        } else {
            assert_eq!(ours, value, "{topic}");
        }
    }
}
