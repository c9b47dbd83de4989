//! The metrics: their names, and what each one counts. Whoever knows a number says it through the crate `metrics`, which costs nothing
//! until a process has been asked to show them (`--http`).
//!
//! Labels are names and codes, never values of rows. docs/monitoring.md has the same list, and a test compares.

use metrics::Unit;

/// Whether a number only grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

pub const BUILD: &str = "walferry_build_info";
pub const READY: &str = "walferry_ready";
pub const STEP: &str = "walferry_step";
pub const LAG_BYTES: &str = "walferry_lag_bytes";
pub const LAG_MS: &str = "walferry_lag_milliseconds";
pub const RETAINED_WAL: &str = "walferry_retained_wal_bytes";
pub const OLDEST_UNDELIVERED: &str = "walferry_oldest_undelivered_milliseconds";
pub const EVENTS: &str = "walferry_events_total";
pub const EVENT_BYTES: &str = "walferry_event_bytes_total";
pub const DEAD_LETTERS: &str = "walferry_dead_letters_total";
pub const ERRORS: &str = "walferry_errors_total";
pub const APPLIED_ROWS: &str = "walferry_applied_rows_total";
pub const APPLIED_TRANSACTIONS: &str = "walferry_applied_transactions_total";
pub const APPLIED_ODD: &str = "walferry_applied_odd_total";

/// All of them.
pub const ALL: &[Metric] = &[
    Metric {
        name: BUILD,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["version", "command", "run"],
        help: "Always 1; the labels say what runs here",
    },
    Metric {
        name: READY,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "1 while events can flow, as /readyz says it",
    },
    Metric {
        name: STEP,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["step"],
        help: "1 for the step that the run is in, 0 for those it has left",
    },
    Metric {
        name: LAG_BYTES,
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "WAL between the source's end and what has been delivered (applied, or acknowledged by Kafka)",
    },
    Metric {
        name: LAG_MS,
        kind: Kind::Gauge,
        unit: Unit::Milliseconds,
        labels: &[],
        help: "How long ago the far end was what the source is now; NaN while unknown",
    },
    Metric {
        name: RETAINED_WAL,
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "WAL that the slot keeps on the source's disk",
    },
    Metric {
        name: OLDEST_UNDELIVERED,
        kind: Kind::Gauge,
        unit: Unit::Milliseconds,
        labels: &[],
        help: "Age of the oldest event that has not been delivered; 0 when there is none, NaN while unknown",
    },
    Metric {
        name: EVENTS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["topic"],
        help: "Messages that Kafka has acknowledged",
    },
    Metric {
        name: EVENT_BYTES,
        kind: Kind::Counter,
        unit: Unit::Bytes,
        labels: &["topic"],
        help: "Bytes of their keys and values, before compression",
    },
    Metric {
        name: DEAD_LETTERS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Outbox events sent to the dead-letter topic",
    },
    Metric {
        name: ERRORS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["code"],
        help: "Errors that stopped the stream for a while, by the code that the log shows",
    },
    Metric {
        name: APPLIED_ROWS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["kind"],
        help: "Row changes applied to the target since the run began: insert, update, delete, truncate",
    },
    Metric {
        name: APPLIED_TRANSACTIONS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Source transactions applied to the target since the run began",
    },
    Metric {
        name: APPLIED_ODD,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["kind"],
        help: "Changes that met a target other than expected: missing (no row), overwritten (key was there), skipped",
    },
];
