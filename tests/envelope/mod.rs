//! Events against those that Debezium made of the same SQL (`tests/golden`): a real server, our reader's stream, our encoder.

pub mod capture;
mod decoded;
pub mod differences;
pub mod golden;
mod schemas;
mod types;

use pipeline::envelope::{Binary, Decimal, Hstore, Interval, Options, TimePrecision, Values};

use capture::Capture;
use golden::Record;

fn options() -> Options {
    let mut options = Options::new("srv", "golden", Values::Debezium);
    options.run_id = "run".to_owned();
    options.system_identifier = "1".to_owned();
    options
}

/// Topic by topic, the same keys, values and headers in the same order, byte for byte after masking.
pub fn assert_same(ours: &[Record], theirs: &[Record]) {
    let ours = &golden::comparable(ours.iter().cloned().map(Record::masked).collect())[..];
    let topics = |records: &[Record]| {
        let mut topics: Vec<String> = records.iter().map(|record| record.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        topics
    };
    assert_eq!(topics(ours), topics(theirs));
    let mut wrong = Vec::new();
    for topic in topics(theirs) {
        let of = |records: &[Record]| -> Vec<Record> {
            records.iter().filter(|record| record.topic == topic).cloned().collect()
        };
        let (ours, theirs) = (of(ours), of(theirs));
        for (our, their) in ours.iter().zip(&theirs).filter(|(our, their)| our != their) {
            wrong.push(format!("ours   {our}\ntheirs {their}"));
        }
        if ours.len() != theirs.len() {
            wrong.push(format!("{topic}: {} events of ours, {} of theirs", ours.len(), theirs.len()));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn events_with_default_settings_are_debezium_s() {
    let ours = Capture::take(false).await.encode(options());
    let mut theirs = golden::read(include_str!("../golden/default.jsonl"));
    differences::apply(&mut theirs, differences::DEFAULT, false);
    assert_same(&ours, &theirs);
}

#[tokio::test]
async fn events_with_string_settings_are_debezium_s() {
    let mut options = options();
    options.transactions = false;
    options.decimal = Decimal::String;
    options.time = TimePrecision::Isostring;
    options.interval = Interval::String;
    options.hstore = Hstore::Map;
    options.binary = Binary::Hex;
    let ours = Capture::take(true).await.encode(options);
    let mut theirs = golden::read(include_str!("../golden/strings.jsonl"));
    differences::apply(&mut theirs, differences::STRINGS, true);
    assert_same(&ours, &theirs);
}
