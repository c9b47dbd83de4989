//! Debezium's handling modes: from configuration to the envelope.

use pipeline::envelope::{Binary, Decimal, Hstore, Interval, Options, TimePrecision};

use crate::config::{
    BinaryMode, Component, DebeziumSettings, DecimalMode, HstoreMode, IntervalMode, KafkaValues, Settings,
    TimeMode,
};

/// Sets them.
pub fn set(settings: &Settings, options: &mut Options) {
    let modes = &settings.debezium;
    options.decimal = match modes.decimal {
        DecimalMode::Precise => Decimal::Precise,
        DecimalMode::Double => Decimal::Double,
        DecimalMode::String => Decimal::String,
    };
    options.time = match modes.time {
        TimeMode::Adaptive => TimePrecision::Adaptive,
        TimeMode::AdaptiveTimeMicroseconds => TimePrecision::AdaptiveTimeMicroseconds,
        TimeMode::Connect => TimePrecision::Connect,
        TimeMode::Isostring => TimePrecision::Isostring,
        TimeMode::Microseconds => TimePrecision::Microseconds,
        TimeMode::Nanoseconds => TimePrecision::Nanoseconds,
    };
    options.binary = match modes.binary {
        BinaryMode::Bytes => Binary::Bytes,
        BinaryMode::Base64 => Binary::Base64,
        BinaryMode::Base64UrlSafe => Binary::Base64UrlSafe,
        BinaryMode::Hex => Binary::Hex,
    };
    options.interval = match modes.interval {
        IntervalMode::Numeric => Interval::Numeric,
        IntervalMode::String => Interval::String,
    };
    options.hstore = match modes.hstore {
        HstoreMode::Json => Hstore::Json,
        HstoreMode::Map => Hstore::Map,
    };
    options.unavailable.clone_from(&modes.unavailable);
}

/// Those that are not Debezium's defaults, to name the topics' form; empty where none is. What was written in one mode can't be read in
/// another.
pub fn named(settings: &Settings) -> String {
    if settings.kafka.values == KafkaValues::Postgres {
        return String::new();
    }
    let ours = settings.effective.iter().filter(|effective| {
        DebeziumSettings::FIELDS.iter().any(|field| {
            field.key == effective.key && field.key.ends_with(".mode") && field.default != effective.text
        })
    });
    ours.map(|effective| format!(",{}={}", effective.key, effective.text)).collect()
}
