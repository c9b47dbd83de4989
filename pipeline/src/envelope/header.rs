//! Header names.

/// `<commit LSN>,<index>`, as in `16/B374D848,3`.
pub const POSITION: &str = "walferry.position";
/// The reader's epoch, decimal.
pub const EPOCH: &str = "walferry.epoch";
/// JSON array of the columns whose value was not sent (unchanged TOAST).
pub const UNCHANGED: &str = "walferry.unchanged";
/// Rows, with `values = "debezium"`: JSON object of the columns whose JSON can't be read back by itself, and how each was written.
pub const TYPES: &str = "walferry.types";
/// Rows: which types the columns had, as a hash. Another one after `ALTER COLUMN … TYPE`, which shows in nothing else where the names stay.
pub const VERSION: &str = "walferry.version";
/// END: `<end LSN>`, what progress stores.
pub const END: &str = "walferry.end";
/// BEGIN and END: commit time, microseconds since 1970, decimal. Heartbeats have none.
pub const COMMITTED_AT: &str = "walferry.committed_at";
/// BEGIN, END, heartbeat: the source's system identifier.
pub const SYSTEM: &str = "walferry.system";
/// BEGIN, END, heartbeat: the run's id.
pub const RUN: &str = "walferry.run";
/// Heartbeat: the slot that the events are read from.
pub const SLOT: &str = "walferry.slot";
/// Heartbeat: JSON array of the publications that are streamed.
pub const PUBLICATIONS: &str = "walferry.publications";
/// Heartbeat: the snapshot that the topics hold as `r` events: `<LSN>`, or `begun`.
pub const SNAPSHOT: &str = "walferry.snapshot";
/// Heartbeat: the source's timeline that was read, decimal.
pub const TIMELINE: &str = "walferry.timeline";
/// Heartbeat: `true` where a reader has made slot and publication itself, and no target is fed.
pub const FEED: &str = "walferry.feed";
/// Heartbeat of a reader: the form of its events as JSON.
pub const FORM: &str = "walferry.form";
/// Truncate: `<how many tables>` and the flags `cascade`, `restart_identity`, joined by commas. The events of one TRUNCATE follow each other.
pub const TRUNCATE: &str = "walferry.truncate";
/// On the delete (and tombstone) that a key change makes: the new key.
pub const NEW_KEY: &str = "__debezium.newkey";
/// On the create that a key change makes: the old key.
pub const OLD_KEY: &str = "__debezium.oldkey";

pub const CONTEXT_CONNECTOR_LOGICAL_NAME: &str = "__debezium.context.connectorLogicalName";
pub const CONTEXT_TASK_ID: &str = "__debezium.context.taskId";
pub const CONTEXT_CONNECTOR_NAME: &str = "__debezium.context.connectorName";
pub const CONTEXT_RUN_ID: &str = "__debezium.context.runId";
