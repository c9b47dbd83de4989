//! How events look. One set of options per topic prefix: a reader and a writer of the same topics use the same.

use std::sync::Arc;

use super::TableRoute;

/// Options of the encoder and of the decoder.
#[derive(Clone, Debug)]
pub struct Options {
    /// First part of every topic's name; `source.name`.
    pub prefix: String,
    /// `source.db`.
    pub database: String,
    pub values: Values,
    /// Keys and values wrapped as `{"schema":…,"payload":…}` (Kafka Connect's JsonConverter with schemas).
    pub schemas: bool,
    /// A delete is followed by a tombstone (same key, null value).
    pub tombstones: bool,
    /// `transaction` in every event, and BEGIN and END in the transaction topic. Merging topics back into transactions needs it.
    pub transactions: bool,
    /// The headers `__debezium.context.*` on row events.
    pub context_headers: bool,
    /// Tables that share topics.
    pub route: Option<Arc<TableRoute>>,
    /// Names this run in headers.
    pub run_id: String,
    /// The source's system identifier, in headers of transaction markers and heartbeats.
    pub system_identifier: String,
    /// The reader's epoch, in the header `walferry.epoch`.
    pub epoch: u64,
    /// `source.version`.
    pub version: String,
    /// Stands for a value that was not sent (unchanged TOAST).
    pub unavailable: String,
    /// The rest is for [`Values::Debezium`] alone. `decimal.handling.mode`.
    pub decimal: Decimal,
    /// `time.precision.mode`.
    pub time: TimePrecision,
    /// `binary.handling.mode`.
    pub binary: Binary,
    /// `interval.handling.mode`.
    pub interval: Interval,
    /// `hstore.handling.mode`.
    pub hstore: Hstore,
}

impl Options {
    #[must_use]
    pub fn new(prefix: impl Into<String>, database: impl Into<String>, values: Values) -> Options {
        Options {
            prefix: prefix.into(),
            database: database.into(),
            values,
            schemas: false,
            tombstones: true,
            transactions: true,
            context_headers: values == Values::Debezium,
            route: None,
            run_id: String::new(),
            system_identifier: String::new(),
            epoch: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unavailable: "__debezium_unavailable_value".to_owned(),
            decimal: Decimal::Precise,
            time: TimePrecision::Adaptive,
            binary: Binary::Bytes,
            interval: Interval::Numeric,
            hstore: Hstore::Json,
        }
    }

    /// How a logical message's content is written: like bytea in Debezium's values.
    pub(super) fn message_encoding(&self) -> Binary {
        match self.values {
            Values::Postgres => Binary::Bytes,
            Values::Debezium => self.binary,
        }
    }
}

/// How a column's value becomes JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    /// bool, integers and floats as JSON; everything else as a string in PostgreSQL's text form. Nothing is lost.
    Postgres,
    /// Debezium's encodings.
    Debezium,
}

/// `decimal.handling.mode`: numeric and money.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decimal {
    Precise,
    Double,
    String,
}

/// `time.precision.mode`: date, time and timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimePrecision {
    Adaptive,
    AdaptiveTimeMicroseconds,
    Connect,
    Isostring,
    Microseconds,
    Nanoseconds,
}

/// `binary.handling.mode`: bytea.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binary {
    Bytes,
    Base64,
    Base64UrlSafe,
    Hex,
}

/// `interval.handling.mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    Numeric,
    String,
}

/// `hstore.handling.mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hstore {
    Json,
    Map,
}
