//! Every type of the table in docs/kafka.md: the same SQL read by Debezium's connector and by walferry.

use pipeline::envelope::{Binary, Decimal, Hstore, Interval, Options, TimePrecision, Values};
use serde_json::{Value, json};

use super::records;
use crate::envelope::assert_same;
use crate::envelope::capture::Capture;
use crate::envelope::golden::Record;
use crate::support::{Connect, Kafka, Postgres, Walferry};

/// Records that the SQL makes in the table's topic: 4 creates, an update, a delete and its tombstone.
const RECORDS: usize = 7;

/// Name, modes by Debezium's names, and the same for our encoder.
type Set = (&'static str, Vec<(&'static str, &'static str)>, fn(&mut Options));

/// Sets that together have every mode of every option.
fn sets() -> Vec<Set> {
    let decimal = "decimal.handling.mode";
    let (time, binary) = ("time.precision.mode", "binary.handling.mode");
    vec![
        (
            "strings",
            vec![
                (decimal, "string"),
                (time, "isostring"),
                (binary, "hex"),
                ("interval.handling.mode", "string"),
                ("hstore.handling.mode", "map"),
            ],
            |options| {
                options.decimal = Decimal::String;
                options.time = TimePrecision::Isostring;
                options.binary = Binary::Hex;
                options.interval = Interval::String;
                options.hstore = Hstore::Map;
            },
        ),
        ("connect", vec![(decimal, "double"), (time, "connect"), (binary, "base64")], |options| {
            options.decimal = Decimal::Double;
            options.time = TimePrecision::Connect;
            options.binary = Binary::Base64;
        }),
        ("adaptive", vec![(time, "adaptive_time_microseconds"), (binary, "base64-url-safe")], |options| {
            options.time = TimePrecision::AdaptiveTimeMicroseconds;
            options.binary = Binary::Base64UrlSafe;
        }),
        ("micros", vec![(time, "microseconds")], |options| options.time = TimePrecision::Microseconds),
        ("nanos", vec![(time, "nanoseconds")], |options| options.time = TimePrecision::Nanoseconds),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_are_those_of_debezium_in_every_mode() {
    let server = Postgres::builder(15).database("types").database("copy").start().await;
    server.sql("types", include_str!("types.sql")).await;
    let (kafka, connect) = (Kafka::shared().await, Connect::shared().await);
    let prefix = Kafka::prefix();
    connect.run(&prefix, &config(&server, &prefix, &[])).await;
    for (name, modes, _) in &sets() {
        let prefix = format!("{prefix}_{name}");
        connect.run(&prefix, &config(&server, &prefix, modes)).await;
    }
    let walferry = Walferry::new(&server.uri("types"), &server.uri("copy")).name("types");
    let ours = format!("{prefix}_w");
    let mut run = walferry
        .command("replicate")
        .args(&["--via", "kafka", "--brokers", &kafka.brokers(), "--prefix", &ours])
        .args(&["--values", "debezium", "--schemas"])
        .spawn();
    run.wait_for_step("live").await;
    let capture = Capture::of(&server, "types", false, include_str!("types_stream.sql")).await;

    // The defaults: the program itself, with schemas.
    let found = topic(kafka, &ours).await;
    let mut theirs = topic(kafka, &prefix).await;
    lossless(&mut theirs, NAN);
    assert_same(&found, &theirs);
    run.sigterm();
    // Every other mode: the same changes, encoded in it.
    for (name, _, set) in &sets() {
        let mut theirs = topic(kafka, &format!("{prefix}_{name}")).await;
        lossless(&mut theirs, differences(name));
        let mut options = Options::new("srv", "types", Values::Debezium);
        options.schemas = true;
        set(&mut options);
        let mut ours = capture.encode(options);
        ours.retain(|record| record.topic == "srv.public.v");
        ours.iter_mut().for_each(|record| record.headers.clear());
        assert_same(&ours, &theirs);
    }
    for (name, ..) in &sets() {
        connect.remove(&format!("{prefix}_{name}")).await;
    }
    connect.remove(&prefix).await;
    run.wait_exit().await;
}

/// In the events of the row with this id: what Debezium wrote, and what we write.
type Difference = (u32, &'static str, &'static str);

/// A numeric that is no number is kept.
const NAN: &[Difference] = &[(4, r#""n52":null,"nv":null"#, r#""n52":"NaN","nv":"NaN""#)];

/// What a set of modes loses in Debezium, and what stands there with us.
fn differences(set: &str) -> &'static [Difference] {
    match set {
        "strings" => &[
            // A numeric that is no number is written as PostgreSQL writes it; infinite timestamps, and the end of a day.
            (4, r#""n52":"NAN","nv":"NAN""#, r#""n52":"NaN","nv":"NaN""#),
            (3, r#""t":"00:00:00Z""#, r#""t":"24:00:00Z""#),
            (3, r#""ts":"+294247-01-10T04:00:25.2Z""#, r#""ts":"infinity""#),
            (4, r#""ts":"-290308-12-21T19:59:27.6Z""#, r#""ts":"-infinity""#),
        ],
        "connect" => &[],
        // An infinite timestamp is text, not a moment that it is not.
        "nanos" => &[
            (4, r#""n52":null,"nv":null"#, r#""n52":"NaN","nv":"NaN""#),
            (3, r#""ts":-29575808000,"#, r#""ts":"infinity","#),
            (4, r#""ts":22375808000,"#, r#""ts":"-infinity","#),
        ],
        _ => NAN,
    }
}

/// Makes of Debezium's events what ours must be.
fn lossless(theirs: &mut [Record], differences: &[Difference]) {
    theirs.iter_mut().for_each(|record| *record = record.clone().masked());
    // Members that Debezium has since 3.4.
    let (members, fields) = (r#","xmin":null}"#, r#"{"type":"int64","optional":true,"field":"xmin"}]"#);
    for record in theirs.iter_mut() {
        record.value = record
            .value
            .replace(members, r#","xmin":null,"origin":null,"origin_lsn":null}"#)
            .replace(fields, FIELDS);
        // A delete shows the key it has: the other columns' values are not known.
        if let Some(at) = record.value.find(r#""payload":{"before":{"id":2,"#) {
            let at = at + r#""payload":{"before":{"id":2"#.len();
            let end = at + record.value[at..].find(r#"},"after":null"#).unwrap();
            record.value.replace_range(at..end, "");
        }
    }
    for (id, lost, kept) in differences {
        let mut found = false;
        let key = format!("\"payload\":{{\"id\":{id}}}");
        for record in
            theirs.iter_mut().filter(|record| record.key.contains(&key) && record.value.contains(lost))
        {
            record.value = record.value.replace(lost, kept);
            found = true;
        }
        assert!(found, "no event has {lost}");
    }
}

const FIELDS: &str = concat!(
    r#"{"type":"int64","optional":true,"field":"xmin"},{"type":"string","optional":true,"field":"origin"},"#,
    r#"{"type":"int64","optional":true,"field":"origin_lsn"}]"#
);

fn config(server: &Postgres, prefix: &str, modes: &[(&str, &str)]) -> Value {
    let mut config = Connect::source(server, "types", prefix);
    config["snapshot.mode"] = json!("no_data");
    config["provide.transaction.metadata"] = json!("true");
    for (name, mode) in modes {
        config[*name] = json!(mode);
    }
    config
}

/// The table's topic as text, under a prefix that all share.
async fn topic(kafka: &Kafka, prefix: &str) -> Vec<Record> {
    let found = records(kafka, &format!("{prefix}.public.v"), RECORDS).await;
    let text = |bytes: &Option<Vec<u8>>| {
        let text = bytes.as_ref().map_or("null", |bytes| std::str::from_utf8(bytes).unwrap());
        text.replace(&format!("\"{prefix}."), "\"srv.")
            .replace(&format!("\"name\":\"{prefix}\""), "\"name\":\"srv\"")
    };
    let record = |record: &crate::support::kafka::Record| Record {
        topic: "srv.public.v".to_owned(),
        key: text(&record.key),
        value: text(&record.value),
        headers: Default::default(),
    };
    found.iter().map(record).collect()
}
